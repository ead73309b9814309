//! The virtual file system: inodes, names, mounts, open files, descriptors.
//!
//! * [`inode`]: what a file system implements ([`Inode`], [`FileSystem`]).
//! * [`file`]: an open file description ([`File`]) and what stands behind it ([`FileOps`]).
//! * [`attr`]: metadata, times, owners, modes.
//! * [`poll`]: readiness.
//!
//! Names are bytes. Nothing here knows registers or guest pointers; that is `syscall`'s edge.

pub mod attr;
pub mod dentry;
pub mod fd_table;
pub mod file;
pub mod fs_context;
pub mod inode;
pub mod mount;
pub mod path;
pub mod poll;

pub use attr::{DevT, FileType, Metadata, Mode, SetAttr, StatFs, Timespec};
pub use file::{Access, File, FileOps, OpenFlags};
pub use inode::{FileSystem, FileSystemType, Inode, InodeState, NewNode};
pub use path::Path;
pub use poll::{PollEvents, PollTable};
