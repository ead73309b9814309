//! Safe wrappers of host system calls, one file by family. Errors are the host's numbers as [`Errno`](crate::Errno); `EINTR` is retried inside unless
//! said otherwise.

pub mod at;
pub mod auxv;
pub mod dirent;
pub mod fd;
pub mod file_io;
pub(crate) mod heap;
pub mod image;
pub mod lock;
pub mod mem;
mod name;
pub mod process;
pub mod random;
pub mod ring;
pub mod statx;
pub(crate) mod sys;
pub mod tty;
pub mod xattr;

pub use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

pub use process::{allowed_cpus, core_limit, process_exists, raise_descriptor_limit, total_memory};
pub use statx::HostTime;
