//! Numbers of the ioctls that files of every kind know (`ioctl_list(2)`). The call itself is in `calls::ioctl`.

/// Bytes to read.
pub const FIONREAD: u32 = 0x541b;
/// Set or clear `O_NONBLOCK`.
pub const FIONBIO: u32 = 0x5421;
/// Set or clear `O_ASYNC`.
pub const FIOASYNC: u32 = 0x5452;
/// Clear close-on-exec.
pub const FIONCLEX: u32 = 0x5450;
/// Set close-on-exec.
pub const FIOCLEX: u32 = 0x5451;
/// Size of a file, directory or symlink.
pub const FIOQSIZE: u32 = 0x5460;
/// Block number of a file's block (not known to any file system here).
pub const FIBMAP: u32 = 1;
/// Block size of the file system.
pub const FIGETBSZ: u32 = 2;
/// Share all blocks of another file.
pub const FICLONE: u32 = 0x4004_9409;
/// Share a range of blocks of another file.
pub const FICLONERANGE: u32 = 0x4020_940d;
/// Share ranges that are equal.
pub const FIDEDUPERANGE: u32 = 0xc018_9436;
/// Where a file lies on its disk.
pub const FS_IOC_FIEMAP: u32 = 0xc020_660b;
