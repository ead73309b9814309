//! The system calls on files, by family. Arguments are checked here; rules and work are beside this folder.
//!
//! * [`open`], [`io`], [`descriptor`], [`fcntl`], [`ioctl`], [`sync`]: on descriptors.
//! * [`poll`], with [`timeout`]: waiting for readiness; epoll is in `vfs::epoll`.  * [`mount`]: `mount(2)` and its relatives.
//! * [`stat`], [`attributes`], [`names`], [`directory`]: on names. [`at`]: where the `*at` calls start.

pub mod at;
pub mod attributes;
pub mod descriptor;
pub mod directory;
pub mod fcntl;
pub mod io;
pub mod ioctl;
pub mod mount;
pub mod names;
pub mod open;
pub mod poll;
pub mod stat;
pub mod sync;
pub mod timeout;
