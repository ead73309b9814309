//! hostfs: directories of the host as a file system (`mount -t hostfs none /mnt -o /path`, `rootfstype=hostfs`).
//!
//! An inode is a host file by identity (device, number, birth time, type). It is reached by a descriptor of its parent and one name, never by a
//! path: what the host renames or replaces by symlinks cannot lead a guest out of the mounted directory. There is no cache of data or names: reads,
//! writes and mappings go to the host's own file, so guest and host see each other's changes at once.
//!
//! * [`args`]: `hostfs=` and the mount options.  * `fs`: the type and a mounted instance.  * `table`: inodes by identity.
//! * `inode`: a host file, its attributes.  * `descriptors`: what it keeps open.  * `anchor`: which inodes hold a descriptor, and the limit.
//! * `names`: what a directory does.  * `file`, `dir`: open files and directories.  * `buffer`: memory that data passes through.
//!
//! Rights: the guest's are checked by the VFS with the host's owners and modes as they are; the host's own rules hold on top, because every
//! operation is the host's, done with the rights of the user who started the kernel. Its errors reach the guest unchanged. One rule is ours:
//! a procfs of the host is read-only and the memory of its processes closed, for the kernel itself is one of them (`descriptors`).
//!
//! Lock order: the spin locks here (table, anchors, an inode's node, buffers) are leaves, none is held over a host call. `HostInode::append`
//! and the entries of an open directory are sleeping locks of class `INODE`: data is copied to and from guests under them.
#![forbid(unsafe_code)]

mod anchor;
pub mod args;
mod buffer;
mod descriptors;
mod dir;
mod file;
mod fs;
mod inode;
mod names;
mod table;

pub use args::HostfsArgs;
pub use fs::{HostFs, HostFsType, register};
pub use inode::HostInode;
