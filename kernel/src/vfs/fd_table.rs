//! Descriptors: small integers for open file descriptions.

use alloc::sync::Arc;

use super::file::File;
use crate::{Errno, Result};

/// A file descriptor as a guest gave it; any value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fd(pub i32);

/// The descriptors of a task; shared with `CLONE_FILES`.
pub struct FdTable {}

impl FdTable {
    /// A copy of its own (`fork(2)`).
    pub fn fork(&self) -> Arc<Self> {
        Arc::new(Self {})
    }

    /// Gives `file` the lowest free descriptor. `EMFILE`.
    pub fn install(&self, _file: Arc<File>, _flags: super::OpenFlags) -> Result<Fd> {
        Err(Errno::EMFILE)
    }

    /// Closes `fd`; `EBADF`.
    pub fn close(&self, _fd: Fd) -> Result<()> {
        Err(Errno::EBADF)
    }

    /// The description behind `fd`, opened with `O_PATH` or not; `EBADF`.
    pub fn get_any(&self, fd: Fd) -> Result<Arc<File>> {
        self.get(fd)
    }

    /// The description behind `fd`; `EBADF`, also for `O_PATH` descriptors.
    pub fn get(&self, _fd: Fd) -> Result<Arc<File>> {
        Err(Errno::EBADF)
    }
}
