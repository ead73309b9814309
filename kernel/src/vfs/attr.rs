//! Metadata: types, modes, device numbers, times (`inode(7)`, `stat(2)`, `statfs(2)`).

use bitflags::bitflags;

/// A point in time: seconds since the epoch and nanoseconds below 10⁹.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timespec {
    /// Seconds since 1970-01-01 UTC; negative before.
    pub sec: i64,
    /// Nanoseconds, 0..=999_999_999.
    pub nsec: u32,
}

impl Timespec {
    /// The wall clock now, as seen by the guest.
    pub fn now() -> Self {
        let (sec, nsec) = arch_um::time::realtime();
        Self { sec, nsec }
    }
}

/// A device number (`makedev(3)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DevT {
    /// Driver.
    pub major: u32,
    /// Unit.
    pub minor: u32,
}

impl DevT {
    /// The device with these numbers.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// The 64-bit form of `st_dev` and `mknod(2)`.
    pub const fn encode(self) -> u64 {
        let (major, minor) = (self.major as u64, self.minor as u64);
        (minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12 | (major & !0xfff) << 32
    }

    /// Reads the 64-bit form.
    pub const fn decode(dev: u64) -> Self {
        Self {
            major: ((dev >> 8 & 0xfff) | (dev >> 32 & !0xfff)) as u32,
            minor: ((dev & 0xff) | (dev >> 12 & !0xff)) as u32,
        }
    }
}

/// What kind of file an inode is; never changes during its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// `S_IFREG`.
    Regular,
    /// `S_IFDIR`.
    Directory,
    /// `S_IFLNK`.
    Symlink,
    /// `S_IFCHR`.
    CharDevice,
    /// `S_IFBLK`.
    BlockDevice,
    /// `S_IFIFO`.
    Fifo,
    /// `S_IFSOCK`.
    Socket,
}

impl FileType {
    /// The `S_IFMT` bits.
    pub const fn mode_bits(self) -> u32 {
        match self {
            Self::Fifo => 0o010000,
            Self::CharDevice => 0o020000,
            Self::Directory => 0o040000,
            Self::BlockDevice => 0o060000,
            Self::Regular => 0o100000,
            Self::Symlink => 0o120000,
            Self::Socket => 0o140000,
        }
    }

    /// The type in `mode`'s `S_IFMT` bits; none for a value Linux does not define.
    pub const fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & 0o170000 {
            0o010000 => Self::Fifo,
            0o020000 => Self::CharDevice,
            0o040000 => Self::Directory,
            0o060000 => Self::BlockDevice,
            0o100000 => Self::Regular,
            0o120000 => Self::Symlink,
            0o140000 => Self::Socket,
            _ => return None,
        })
    }

    /// `d_type` of `getdents64(2)`.
    pub const fn dirent_type(self) -> u8 {
        (self.mode_bits() >> 12) as u8
    }
}

bitflags! {
    /// Permission bits and set-id bits, 0o7777.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Mode: u32 {
        /// Set-user-ID.
        const SETUID = 0o4000;
        /// Set-group-ID.
        const SETGID = 0o2000;
        /// Sticky.
        const STICKY = 0o1000;
        /// Owner may read.
        const OWNER_READ = 0o400;
        /// Owner may write.
        const OWNER_WRITE = 0o200;
        /// Owner may execute.
        const OWNER_EXEC = 0o100;
        /// Group may read.
        const GROUP_READ = 0o040;
        /// Group may write.
        const GROUP_WRITE = 0o020;
        /// Group may execute.
        const GROUP_EXEC = 0o010;
        /// Others may read.
        const OTHER_READ = 0o004;
        /// Others may write.
        const OTHER_WRITE = 0o002;
        /// Others may execute.
        const OTHER_EXEC = 0o001;
    }
}

/// All that `stat(2)` and `statx(2)` report.
#[derive(Clone, Copy, Debug)]
pub struct Metadata {
    /// The device the file lives on.
    pub dev: DevT,
    /// Inode number.
    pub ino: u64,
    /// File type.
    pub kind: FileType,
    /// Permission and set-id bits.
    pub mode: Mode,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The device this file stands for, if it is one.
    pub rdev: DevT,
    /// Length in bytes.
    pub size: u64,
    /// Preferred I/O size in bytes.
    pub blksize: u32,
    /// Space used, in units of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: Timespec,
    /// Last change of the contents.
    pub mtime: Timespec,
    /// Last change of the inode.
    pub ctime: Timespec,
    /// Birth, where the file system knows it.
    pub btime: Option<Timespec>,
}

/// A change of attributes: each `Some` is set, in one step. The caller has checked permission and cleared set-id bits where due.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// `chmod(2)`.
    pub mode: Option<Mode>,
    /// `chown(2)`, owner.
    pub uid: Option<u32>,
    /// `chown(2)`, group.
    pub gid: Option<u32>,
    /// `truncate(2)`.
    pub size: Option<u64>,
    /// `utimensat(2)`, access time.
    pub atime: Option<Timespec>,
    /// `utimensat(2)`, modification time.
    pub mtime: Option<Timespec>,
    /// Where the two times come from.
    pub times: TimesFrom,
}

/// Where times that are set come from: "now" may be set on what is append-only, any other not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimesFrom {
    /// Both are now.
    #[default]
    Clock,
    /// At least one was chosen.
    Caller,
}

/// `statfs(2)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct StatFs {
    /// Magic number (`EXT4_SUPER_MAGIC` …).
    pub magic: u64,
    /// Block size in bytes.
    pub bsize: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub bfree: u64,
    /// Blocks free for unprivileged users.
    pub bavail: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub ffree: u64,
    /// File system id.
    pub fsid: u64,
    /// Longest name, in bytes.
    pub namelen: u64,
    /// Fragment size in bytes; 0 means `bsize`.
    pub frsize: u64,
}

/// The mode of a file to be made: what was asked for, and the umask over it. Whether a set-group-ID bit may stay goes by what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewMode {
    /// Asked for.
    pub wanted: Mode,
    /// Bits that the umask takes.
    pub umask: Mode,
}

impl From<Mode> for NewMode {
    /// Without an umask.
    fn from(wanted: Mode) -> Self {
        Self {
            wanted,
            umask: Mode::empty(),
        }
    }
}
