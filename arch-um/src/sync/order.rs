//! The order of all locks, outermost first: a lock may be taken only while every lock already held has a smaller rank.
//!
//! Ranks leave gaps so that a class can be put between two others. Two locks of one class nest only through `lock_nested`, where the
//! caller names its own rule (parent before child, lower address first). Locks inside this room's scheduler, timers and wait queues are
//! below everything here and take part in no order: nothing is called while they are held.

/// A kind of lock: all locks of one class play the same role. See the list in this module.
#[derive(Debug)]
pub struct LockClass {
    /// What `lockdep` prints.
    pub name: &'static str,
    /// Place in the order: outer locks have smaller ranks.
    pub rank: u16,
}

impl LockClass {
    /// A class of its own, for a lock that no list entry fits. Prefer adding it to this file.
    pub const fn new(name: &'static str, rank: u16) -> LockClass {
        LockClass { name, rank }
    }
}

macro_rules! classes {
    ($($name:ident = $rank:literal, $why:literal;)*) => {
        $(#[doc = $why] pub static $name: LockClass = LockClass::new(stringify!($name), $rank);)*

        /// Every class of the list, outermost first.
        pub static ALL: &[&LockClass] = &[$(&$name),*];
    };
}

classes! {
    REBOOT = 10, "Held over the whole way down; takes everything below.";
    CGROUP = 20, "Control group hierarchy: attaching tasks walks the process tree.";
    NAMESPACE = 30, "Creation and death of namespaces.";
    EXEC = 40, "One exec or credential change at a time per process (`cred_guard_mutex`): outer to everything of that process.";
    FILE = 50, "An open file's position (`f_pos_lock`): taken by `read(2)`, `getdents64(2)` before anything of the file, its directory or contents.";
    DISK_CONFIG = 52, "Adding and removing disks on host files: opens the files, registers and unregisters below.";
    DEVICE_REGISTRY = 60, "Registered devices and drivers: probing opens files and creates nodes.";
    MODULES = 70, "The list of modules and kernel parameters.";
    TTY = 100, "A terminal's configuration and hang-up (`tty_lock`): sends signals to sessions below.";
    TTY_LDISC = 110, "Line discipline of a terminal: taken by every read and write.";
    TTY_LINE = 120, "A line's channel on the host: opened inside the first open of its terminal.";
    SUPER = 140, "A superblock's mount, umount, freeze and remount (`s_umount`).";
    MOUNTS = 150, "The mount tree (`namespace_sem`): path walks read it, mount and umount change it.";
    RENAME = 160, "One cross-directory rename at a time per file system: outer to the directories.";
    DIRECTORY = 170, "A directory's contents (`i_rwsem` of a parent): nested by ancestor, then address.";
    INODE = 180, "A file's contents and size (`i_rwsem` of a non-directory): taken inside its directory.";
    FILE_LOCKS = 200, "POSIX, OFD and flock locks and leases of an inode.";
    PIPE = 210, "A pipe's ring.";
    SOCKET = 220, "A socket (`lock_sock`): nested listener before child, lower address first.";
    SOCKET_PEER = 230, "The peer of a connected local socket, taken under its own.";
    NETDEV = 240, "Network devices and addresses (`rtnl`).";
    EPOLL = 260, "An epoll instance: polls files, so outer to the locks their poll takes.";
    IPC = 280, "System V and POSIX message queues, semaphores, shared memory.";
    MM = 300, "An address space (`mmap_lock`): faults come while files are being copied from, so below the file locks.";
    MAPPING = 310, "The mappings of one file (`i_mmap_rwsem`): truncation walks address spaces.";
    JOURNAL = 340, "A journalling file system's running transaction.";
    FS = 350, "A file system's own tables (allocation, inode tables).";
    FS_INNER = 360, "What a file system takes under `FS`: groups, bitmaps, extent caches.";
    JOURNAL_STATE = 370, "Which blocks belong to which transaction: noted while a file system's tables are locked.";
    BLOCK_DEVICE = 380, "Opening, claiming and resizing a block device.";
    BLOCK_QUEUE = 390, "A block device's request queue.";
    PAGE_CACHE = 400, "What is known of cached pages: short, for those of a disk are asked under the locks of the file system on it.";
    FUTEX = 410, "A futex hash bucket: the word is read under it, the tasks below it are woken.";
    PROCESS_TREE = 430, "Parents, children, sessions, groups and thread lists (`tasklist_lock`).";
    PID_TABLE = 440, "Process numbers to tasks.";
    PROCESS = 450, "One process: limits, timers, accounting, stop state (`task_lock` and `signal_struct`).";
    SIGHAND = 460, "Signal handlers and pending queues of a thread group (`siglock`).";
    SIGNAL_ACTIONS = 463, "What a thread group does on each signal: read while a signal is queued.";
    TASK_SIGNALS = 466, "One task's signal mask and private queue, under its group's.";
    CRED = 470, "Credentials and key rings of a task.";
    FD_TABLE = 480, "A file descriptor table: closing happens after it is released.";
    FS_STRUCT = 490, "Root, working directory and umask of a process.";
    DCACHE = 510, "Names and their inodes: parent before child.";
    INODE_CACHE = 520, "The table of inodes in memory.";
    INODE_ATTR = 530, "An inode's attributes (`i_lock`): times, mode, link count.";
    NOTIFY = 540, "inotify and fanotify marks and queues.";
    TIMER = 560, "POSIX timers, timerfd, alarm clocks.";
    TTY_BUFFER = 580, "Bytes between a terminal's driver and its line discipline: the I/O thread fills it.";
    DEVICE = 590, "A driver's private state.";
    DRIVER = 600, "What a driver takes under `DEVICE`: the host side of a line, a transport, a ring.";
    MEMORY = 620, "Accounting of memory and swap.";
    RANDOM = 630, "The random generator.";
    STATISTICS = 640, "Counters.";
    EXIT = 660, "Hooks for the way out.";
    CONSOLE = 680, "The list of consoles.";
    PRINTK = 690, "The kernel log: may be written with anything above held.";
    CONSOLE_OUTPUT = 695, "Bytes of a line on their way to the host: the kernel log writes there while it holds its own locks.";
    SCHED_RQ = 700, "A policy's run queues: waking is allowed under all locks above.";
    EPOLL_READY = 705, "The ready list of an epoll instance: taken by wake-up callbacks, so under whatever the waker holds.";
    WAIT_QUEUE = 710, "A wait queue's list, where one is kept by hand.";
    LEAF = 900, "Takes nothing below, ever.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_by_rank_without_ties() {
        assert!(ALL.windows(2).all(|w| w[0].rank < w[1].rank));
    }
}
