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
    /// The description behind `fd`; `EBADF`, also for `O_PATH` descriptors.
    pub fn get(&self, _fd: Fd) -> Result<Arc<File>> {
        Err(Errno::EBADF)
    }
}
