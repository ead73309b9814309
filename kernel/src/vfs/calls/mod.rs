//! The system calls on files, by family. Arguments are checked here; rules and work are beside this folder.
//!
//! * [`open`], [`io`], [`descriptor`], [`fcntl`], [`ioctl`], [`sync`]: on descriptors.
//! * [`poll`], with [`timeout`]: waiting for readiness; epoll is in `vfs::epoll`.  * [`mount`]: `mount(2)` and its relatives.  * [`mount_api`]: the new mount interface.
//! * [`transfer`]: between descriptors.  * [`xattr`].  * [`left_out`]: what is not here.
//! * [`stat`], [`attributes`], [`names`], [`directory`]: on names. [`at`]: where the `*at` calls start.

pub mod at;
pub mod attributes;
pub mod descriptor;
pub mod directory;
pub mod fcntl;
pub mod io;
pub mod ioctl;
pub mod left_out;
pub mod mount;
pub mod mount_api;
pub mod names;
pub mod open;
pub mod poll;
pub mod stat;
pub mod sync;
pub mod timeout;
pub mod transfer;
pub mod xattr;
