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
