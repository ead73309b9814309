//! The system calls on files, by family. Arguments are checked here; rules and work are beside this folder.
//!
//! * [`open`], [`io`], [`descriptor`], [`fcntl`], [`ioctl`], [`sync`]: on descriptors.
//! * [`stat`], [`attributes`], [`names`], [`directory`]: on names. [`at`]: where the `*at` calls start.

pub mod at;
pub mod attributes;
pub mod descriptor;
pub mod directory;
pub mod fcntl;
pub mod io;
pub mod ioctl;
pub mod names;
pub mod open;
pub mod stat;
pub mod sync;
