//! `inline_data`: small contents in the inode: the first 60 bytes in `i_block`, the rest in the attribute `system.data`.

use alloc::vec::Vec;

use super::SYSTEM;
use crate::inode::Inode;
use crate::layout::inode::Flags;
use crate::{Errno, Result};

impl Inode {
    /// The contents of a file that lies in its inode: `i_block`, then the attribute.
    pub(crate) fn inline_data(&self) -> Result<Vec<u8>> {
        let mut bytes = self.core.lock().block.to_vec();
        let (inner, outer) = self.attributes()?;
        if let Some(rest) = inner.find(SYSTEM, b"data").or_else(|| outer.find(SYSTEM, b"data")) {
            bytes.extend_from_slice(&self.value(rest)?);
        }
        Ok(bytes)
    }

    /// Before contents change: they may not lie in the inode. File systems with `inline_data` are not mounted for writing.
    pub(crate) fn leave_inline(&self) -> Result<()> {
        if self.has(Flags::INLINE_DATA) {
            Err(Errno::EOPNOTSUPP)
        } else {
            Ok(())
        }
    }
}
