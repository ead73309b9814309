//! An open file description ([`File`]) and what stands behind it ([`FileOps`]).
//!
//! A [`File`] is what `dup` and `fork` share: position, status flags, the path it was opened by. A [`FileOps`] is the object that moves data:
//! a file system's, a pipe end, a terminal, a socket, an epoll instance.
//!
//! Lock order: `File::position` is taken before any lock of the [`FileOps`].

use alloc::sync::Arc;
use core::any::Any;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use arch_um::sync::{Mutex, MutexGuard, SpinLock, order};
use bitflags::bitflags;

use super::fasync::FileOwner;
use super::poll::{PollEvents, PollTable};
use crate::io::{Sink, Source};
use crate::page_cache::Pattern;
use crate::syscall::Context;
use crate::task::Cred;
use crate::{Errno, Result};

bitflags! {
    /// `open(2)`'s flags, x86-64 numbers. `O_ACCMODE` is read with [`OpenFlags::access`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OpenFlags: u32 {
        /// Write only.
        const WRONLY = 0o1;
        /// Read and write.
        const RDWR = 0o2;
        /// Make the file.
        const CREAT = 0o100;
        /// It must be new.
        const EXCL = 0o200;
        /// Do not become the controlling terminal.
        const NOCTTY = 0o400;
        /// Empty it.
        const TRUNC = 0o1000;
        /// Every write at the end.
        const APPEND = 0o2000;
        /// Do not wait.
        const NONBLOCK = 0o4000;
        /// Data on stable storage before write returns.
        const DSYNC = 0o10000;
        /// `SIGIO` on readiness.
        const ASYNC = 0o20000;
        /// Around the page cache.
        const DIRECT = 0o40000;
        /// Accepted, always on for 64-bit programs.
        const LARGEFILE = 0o100000;
        /// Must be a directory.
        const DIRECTORY = 0o200000;
        /// Must not be a symlink.
        const NOFOLLOW = 0o400000;
        /// Do not touch the access time.
        const NOATIME = 0o1000000;
        /// Close on exec (a descriptor flag).
        const CLOEXEC = 0o2000000;
        /// With `DSYNC`: metadata too.
        const SYNC_BIT = 0o4000000;
        /// A name only.
        const PATH = 0o10000000;
        /// A file without a name (with `DIRECTORY`).
        const TMPFILE_BIT = 0o20000000;
        const _ = !0;
    }

    /// What may be done through a description.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Access: u32 {
        /// `read`.
        const READ = 1;
        /// `write`.
        const WRITE = 2;
    }
}

impl OpenFlags {
    /// The access of `O_ACCMODE`; the odd value 3 (ioctl only) gives neither.
    pub fn access(self) -> Access {
        match self.bits() & 3 {
            0 => Access::READ,
            1 => Access::WRITE,
            2 => Access::READ | Access::WRITE,
            _ => Access::empty(),
        }
    }
}

/// How a file's position works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekKind {
    /// Bytes at offsets.
    Offset,
    /// A stream: `lseek` and `pread` give `ESPIPE`, the position argument is meaningless.
    Stream,
}

/// Where a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteAt {
    /// At this offset.
    Offset(u64),
    /// At the end of the file, whatever it is when the data arrives (`O_APPEND`).
    End,
}

/// `lseek(2)`'s searching forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekTarget {
    /// `SEEK_DATA`.
    Data,
    /// `SEEK_HOLE`.
    Hole,
}

/// One directory entry on its way out.
pub struct DirEntry<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Inode number.
    pub ino: u64,
    /// Its type, `None` for unknown.
    pub kind: Option<super::FileType>,
    /// The position behind it: where a later `getdents64` goes on (`d_off`).
    pub next: u64,
}

/// How a mapping of a file is backed.
pub enum MapBacking {
    /// Map this host file directly (hostfs, memfd of tmpfs or of a page cache): private or shared, at the same offset.
    Host {
        /// A descriptor with no more rights than the mapping needs.
        fd: Arc<arch_um::host::OwnedFd>,
        /// Offset in the host file of the file's byte 0.
        base: u64,
    },
    /// Zeroed anonymous memory, private or shared (`/dev/zero`).
    Zero,
    /// The contents must be read in before a page can be used: the page cache of a disk file system.
    Cached(Arc<dyn PageSource>),
}

/// A file whose pages live in a host memory file and are filled on demand.
pub trait PageSource: Send + Sync {
    /// The memory file and the offset of the file's byte 0 in it. `EMFILE`, `ENOMEM`: the host gives none.
    fn memory(&self) -> Result<(Arc<arch_um::host::OwnedFd>, u64)>;
    /// Makes the pages of `start..end` (bytes, page aligned) valid; returns how far they are valid. `EIO` from the disk; a range past the end
    /// of file yields less than asked. `pattern`: what is known of the faults to come (`madvise(2)`).
    fn fill(&self, start: u64, end: u64, pattern: Pattern) -> Result<u64>;
    /// Whether the page at byte `at` is in memory (`mincore(2)`).
    fn is_cached(&self, at: u64) -> bool;
    /// A guest is about to write to this range through a shared mapping. `ENOSPC`, `EIO`: it may not (`SIGBUS`).
    fn make_room(&self, start: u64, end: u64) -> Result<()>;
    /// A guest wrote through a shared mapping somewhere in this range: it is dirty now.
    fn dirtied(&self, start: u64, end: u64);
}

/// What stands behind an open file. The defaults are those of "cannot do that".
pub trait FileOps: Send + Sync {
    /// For users who need the concrete type (`epoll` on an epoll, terminals).
    fn as_any(&self) -> &dyn Any;

    /// Whether it sends `SIGIO` with `O_ASYNC`: pipes, terminals, sockets.
    fn can_signal(&self) -> bool {
        false
    }

    /// How positions work.
    fn seek_kind(&self) -> SeekKind {
        SeekKind::Offset
    }

    /// Reads at `pos` (ignored by streams). 0 at the end. Blocks, unless `file` is non-blocking: `EAGAIN`.
    fn read_at(&self, _file: &File, _pos: u64, _dst: &mut dyn Sink) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Writes. Returns the count and, for [`WriteAt::End`], the caller finds the new position as `returned end`.
    fn write_at(&self, _file: &File, _pos: WriteAt, _src: &mut dyn Source) -> Result<Written> {
        Err(Errno::EINVAL)
    }

    /// Directory entries from position `pos` on (0 = start; other values are a former `next`). `emit` returning false ends the walk before
    /// that entry is consumed. `.` and `..` included.
    fn read_dir(&self, _file: &File, _pos: u64, _emit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        Err(Errno::ENOTDIR)
    }

    /// Where the file ends, for `SEEK_END`: the inode's size, unless (block devices) the inode does not know it.
    fn end(&self, file: &File) -> Result<u64> {
        file.inode().map_or(Ok(0), |inode| Ok(inode.metadata()?.size))
    }

    /// What /proc/PID/fdinfo adds, whole lines.
    fn fdinfo(&self) -> Option<alloc::string::String> {
        None
    }

    /// `lseek(2)` for those whose positions are not bytes at offsets (`/dev/null`, `/dev/kmsg`): the new position. None: the usual rules.
    fn lseek(&self, _file: &File, _offset: i64, _whence: u32) -> Option<Result<u64>> {
        None
    }

    /// `SEEK_DATA`/`SEEK_HOLE` at or behind `pos`; `ENXIO` past the end.
    fn seek(&self, _pos: u64, _target: SeekTarget) -> Result<u64> {
        Err(Errno::EINVAL)
    }

    /// `ioctl(2)`. `arg` is the raw third argument.
    fn ioctl(&self, _cx: &Context, _file: &File, _cmd: u32, _arg: u64) -> Result<usize> {
        Err(Errno::ENOTTY)
    }

    /// Whether [`poll`](Self::poll) can ever change its answer. What is always ready cannot be watched: `epoll_ctl(2)` gives `EPERM`.
    fn announces(&self) -> bool {
        false
    }

    /// What is ready now; with a table, also registers on the queues that will announce a change. Regular files are always ready.
    fn poll(&self, _file: &File, _table: Option<&mut PollTable>) -> PollEvents {
        PollEvents::IN | PollEvents::OUT | PollEvents::RDNORM | PollEvents::WRNORM
    }

    /// `mmap(2)`: `writable` for a shared mapping that may be written. `ENODEV` when it cannot be mapped.
    fn map(&self, _file: &File, _writable: Access) -> Result<MapBacking> {
        Err(Errno::ENODEV)
    }

    /// `fsync(2)`: contents and metadata on stable storage.
    fn sync(&self, _file: &File) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// `fdatasync(2)`.
    fn sync_data(&self, file: &File) -> Result<()> {
        self.sync(file)
    }

    /// `fallocate(2)`, raw mode bits; they are known and compatible.
    fn fallocate(&self, _file: &File, _mode: u32, _offset: u64, _len: u64) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// `copy_file_range(2)` without the data passing through the kernel: up to `len` bytes from `pos` on to `target_pos` of `target`; 0 at
    /// the end. `EXDEV` and `EOPNOTSUPP` make the caller copy through memory.
    fn copy_range(&self, _file: &File, _pos: u64, _target: &File, _target_pos: u64, _len: usize) -> Result<usize> {
        Err(Errno::EXDEV)
    }

    /// One descriptor of this description is closed (`close(2)` reports the error; the description may live on).
    fn flush(&self, _file: &File) -> Result<()> {
        Ok(())
    }

    /// What the program will do with the bytes `range` (`posix_fadvise(2)`, `madvise(2)`, `readahead(2)`); the end may lie behind the file's.
    fn advise(&self, _file: &File, _range: Range<u64>, _advice: Advice) -> Result<()> {
        Ok(())
    }

    /// The status flags changed by `fcntl(F_SETFL)`.
    fn flags_changed(&self, _file: &File, _flags: OpenFlags) -> Result<()> {
        Ok(())
    }
}

/// What a program says of its use of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// How this open file will be read.
    Pattern(Pattern),
    /// The bytes are wanted soon.
    WillNeed,
    /// They are not wanted again.
    DontNeed,
}

/// The outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes taken.
    pub count: usize,
    /// The position behind them.
    pub end: u64,
}

/// Descriptions in use (`/proc/sys/fs/file-nr`).
static OPEN_FILES: AtomicUsize = AtomicUsize::new(0);

/// How many descriptions are in use.
pub fn open_files() -> usize {
    OPEN_FILES.load(Ordering::Relaxed)
}

/// What an open file claims of its inode (`ETXTBSY`, leases).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing.
    None,
    /// It only reads.
    Read,
    /// It may write: the file cannot be run.
    Write,
    /// It is being run: the file cannot be opened for writing.
    Execute,
}

/// An open file description. Shared by descriptors (`dup`, `fork`) and by mappings.
pub struct File {
    id: u64,
    claim: Claim,
    ops: Arc<dyn FileOps>,
    path: Option<super::Path>,
    access: Access,
    flags: AtomicU32,
    position: Mutex<u64>,
    owner: Arc<SpinLock<FileOwner>>,
    /// With `O_ASYNC`: what tells the owner.
    signals: SpinLock<Option<PollTable>>,
    cred: Arc<Cred>,
}

impl File {
    /// A description over `ops`, opened as `path` with `flags` (creation flags are forgotten here).
    pub fn new(ops: Arc<dyn FileOps>, path: Option<super::Path>, flags: OpenFlags, cred: Arc<Cred>) -> Arc<Self> {
        Self::with_claim(ops, path, flags, cred, Claim::None)
    }

    /// As [`new`](Self::new), for who has taken `claim` on the inode of `path` ([`InodeState::claim`](super::InodeState::claim)); it is given
    /// back with the description.
    pub fn with_claim(
        ops: Arc<dyn FileOps>,
        path: Option<super::Path>,
        flags: OpenFlags,
        cred: Arc<Cred>,
        claim: Claim,
    ) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        OPEN_FILES.fetch_add(1, Ordering::Relaxed);
        let status =
            flags - (OpenFlags::CREAT | OpenFlags::EXCL | OpenFlags::NOCTTY | OpenFlags::TRUNC | OpenFlags::CLOEXEC);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            claim,
            ops,
            path,
            access: if flags.contains(OpenFlags::PATH) {
                Access::empty()
            } else {
                flags.access()
            },
            flags: AtomicU32::new(status.bits()),
            position: Mutex::new(&order::FILE, 0),
            owner: Arc::new(SpinLock::new(&order::LEAF, FileOwner::default())),
            signals: SpinLock::new(&order::LEAF, None),
            cred,
        })
    }

    /// Its identity: who owns an OFD or `flock` lock, what an epoll entry speaks of. Never used again.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether it was opened with `O_PATH`: a place, not a file.
    #[inline]
    pub fn is_path_only(&self) -> bool {
        self.flags().contains(OpenFlags::PATH)
    }

    /// What stands behind it.
    pub fn ops(&self) -> &Arc<dyn FileOps> {
        &self.ops
    }

    /// The operations as the concrete type `T` (a terminal, an epoll instance), if they are one.
    pub fn ops_as<T: Any>(&self) -> Option<&T> {
        self.ops.as_any().downcast_ref()
    }

    /// The path it was opened by; none for pipes, sockets and other nameless objects.
    pub fn path(&self) -> Option<&super::Path> {
        self.path.as_ref()
    }

    /// The inode behind it, if it has a name.
    pub fn inode(&self) -> Option<Arc<dyn super::Inode>> {
        self.path.as_ref().map(|path| path.inode())
    }

    /// Who opened it.
    pub fn cred(&self) -> &Arc<Cred> {
        &self.cred
    }

    /// Status flags now.
    pub fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Changes the status flags in `mask` to those of `flags` (`fcntl(F_SETFL)`, `ioctl(FIONBIO)`).
    pub fn set_flags(&self, mask: OpenFlags, flags: OpenFlags) {
        let update = |old| Some(old & !mask.bits() | flags.bits() & mask.bits());
        let _ = self.flags.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// Whether operations must not wait.
    pub fn is_nonblocking(&self) -> bool {
        self.flags().contains(OpenFlags::NONBLOCK)
    }

    /// What it has claimed of its inode.
    pub fn claim(&self) -> Claim {
        self.claim
    }

    /// What may be done through it.
    pub fn access(&self) -> Access {
        self.access
    }

    /// `EBADF` unless it was opened for `access`.
    pub fn require(&self, access: Access) -> Result<()> {
        if self.access.contains(access) {
            Ok(())
        } else {
            Err(Errno::EBADF)
        }
    }

    /// The position; hold the guard over a whole `read` or `write` so that threads sharing it do not interleave.
    pub fn position(&self) -> MutexGuard<'_, u64> {
        self.position.lock()
    }

    /// The position at this moment, 0 while somebody moves it (/proc/PID/fdinfo).
    pub fn position_now(&self) -> u64 {
        self.position.try_lock().map_or(0, |position| *position)
    }

    /// Who gets `SIGIO`.
    pub fn owner(&self) -> &Arc<SpinLock<FileOwner>> {
        &self.owner
    }

    /// Turns `SIGIO` on or off after the status flags have changed; `fd` is the descriptor it will name.
    pub fn follow_async(self: &Arc<Self>, fd: super::fd_table::Fd) {
        let on = self.flags().contains(OpenFlags::ASYNC) && self.ops.can_signal();
        let table = on.then(|| super::fasync::start(self, fd));
        let old = core::mem::replace(&mut *self.signals.lock(), table);
        drop(old);
    }

    /// Reads at `pos` into kernel memory until `buf` is full or the file ends (exec, loop devices). Does not move the position.
    pub fn read_exact_at(&self, pos: u64, buf: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            let mut sink = crate::io::SliceSink::new(&mut buf[filled..]);
            match self.ops.read_at(self, pos + filled as u64, &mut sink)? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(filled)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        OPEN_FILES.fetch_sub(1, Ordering::Relaxed);
        if let Some(path) = &self.path {
            let inode = path.dentry.inode();
            super::lock::release_description(&**inode, self.id);
            super::lease::release_description(&**inode, self.id);
            inode.state().release(self.claim);
        }
    }
}
