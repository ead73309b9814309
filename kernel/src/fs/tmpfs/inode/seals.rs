//! Seals (`fcntl(2)`: `F_ADD_SEALS`): what can never be done to a file again.

use super::TmpInode;
use crate::{Errno, Result};

/// `F_SEAL_SEAL`: no more seals.
pub const SEAL_SEAL: u32 = 1;
/// `F_SEAL_SHRINK`.
pub const SEAL_SHRINK: u32 = 2;
/// `F_SEAL_GROW`.
pub const SEAL_GROW: u32 = 4;
/// `F_SEAL_WRITE`.
pub const SEAL_WRITE: u32 = 8;
/// `F_SEAL_FUTURE_WRITE`.
pub const SEAL_FUTURE_WRITE: u32 = 16;
/// `F_SEAL_EXEC`.
pub const SEAL_EXEC: u32 = 32;

impl TmpInode {
    /// `F_GET_SEALS`; `EINVAL` for what is no regular file.
    pub fn seals(&self) -> Result<u32> {
        self.content()?;
        Ok(self.attr.lock().seals)
    }

    /// `F_ADD_SEALS`. `EPERM` when sealed against seals, `EBUSY` for a seal against writing while a mapping may write.
    pub fn add_seals(&self, seals: u32) -> Result<()> {
        // Under the contents' lock, so that no write is under way.
        let _content = self.content()?.write();
        let mut attr = self.attr.lock();
        if attr.seals & SEAL_SEAL != 0 {
            return Err(Errno::EPERM);
        }
        if seals & SEAL_WRITE != 0 && crate::mm::writers::writable_mappings(self) != 0 {
            return Err(Errno::EBUSY);
        }
        attr.seals |= seals;
        Ok(())
    }

    /// The file may be sealed (`MFD_ALLOW_SEALING`).
    pub(in crate::fs::tmpfs) fn allow_seals(&self) {
        self.attr.lock().seals = 0;
    }

    pub(super) fn check_resize(&self, from: u64, to: u64) -> Result<()> {
        let seals = self.attr.lock().seals;
        let forbidden = (to < from && seals & SEAL_SHRINK != 0) || (to > from && seals & SEAL_GROW != 0);
        if forbidden { Err(Errno::EPERM) } else { Ok(()) }
    }
}
