//! The virtual file system: inodes, names, mounts, open files, descriptors.
//!
//! * [`inode`]: what a file system implements ([`Inode`], [`FileSystem`]).
//! * [`file`]: an open file description ([`File`]) and what stands behind it ([`FileOps`]).
//! * [`attr`]: metadata, times, owners, modes.
//! * [`poll`]: readiness; [`epoll`], [`eventfd`].
//! * [`dentry`], [`path`], [`walk`], [`namei`]: names, places, the way from a text to a place, changing names. [`permission`]: who may.
//! * [`super_block`], [`mount`], [`registry`]: instances, where they are mounted, what kinds there are.
//! * [`fd_table`], [`fs_context`]: what a task holds. [`open`]: from a place to an open file.
//! * [`pipe`], [`anon`], [`lock`]: files without a directory, locks. [`calls`]: the system calls.
//!
//! Names are bytes. Nothing outside of [`calls`] and ioctls knows guest pointers.

pub mod acl;
pub mod anon;
pub mod attr;
pub mod calls;
pub mod dentry;
pub mod epoll;
pub mod eventfd;
pub mod fasync;
pub mod fd_table;
pub mod file;
pub mod fs_context;
pub mod inode;
pub mod ioctl;
pub mod lease;
pub mod limits;
pub mod lock;
pub mod mount;
pub mod mount_options;
pub mod namei;
pub mod open;
pub mod path;
pub mod permission;
pub mod pipe;
pub mod poll;
pub mod registry;
pub mod rw;
pub mod super_block;
pub mod walk;

pub use attr::{DevT, FileType, Metadata, Mode, SetAttr, StatFs, TimesFrom, Timespec};
pub use file::{Access, File, FileOps, OpenFlags};
pub use inode::{FileSystem, FileSystemType, Inode, InodeState, NewNode};
pub use limits::raise;
pub use path::Path;
pub use poll::{PollEvents, PollTable};

#[cfg(test)]
mod mount_tests;
