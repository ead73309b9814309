//! Safe wrappers of host system calls, one file by family. Errors are the host's numbers as [`Errno`](crate::Errno); `EINTR` is retried inside unless
//! said otherwise.

pub mod image;
pub mod mem;
pub mod random;
pub(crate) mod sys;

pub use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
