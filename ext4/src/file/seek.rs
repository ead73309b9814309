//! `SEEK_DATA`, `SEEK_HOLE`: by the map. What is dirty is written first, so that promised blocks count as the data they are.

use kernel::vfs::file::SeekTarget;

use crate::inode::Inode;
use crate::layout::inode::Flags;
use crate::map::{self, Kind};
use crate::{Errno, Result};

impl Inode {
    pub(crate) fn seek(&self, pos: u64, target: SeekTarget) -> Result<u64> {
        let _data = self.data.read();
        let len = self.len_now();
        if pos >= len {
            return Err(Errno::ENXIO);
        }
        if self.has(Flags::INLINE_DATA) {
            return Ok(if target == SeekTarget::Data { pos } else { len });
        }
        if self.fs.is_writable()
            && let Some(cache) = self.cache_now()
            && cache.dirty_bytes() > 0
        {
            cache.write_back(0..u64::MAX)?;
        }
        let size = self.fs.block_size();
        let meta = self.fs.meta.read();
        let mut block = pos / size;
        while block * size < len {
            let found = map::lookup(&self.fs, &meta, self, block, u64::MAX)?;
            let is_data = found.kind == Kind::Written;
            if is_data == (target == SeekTarget::Data) {
                return Ok((block * size).max(pos));
            }
            block += found.len;
        }
        match target {
            SeekTarget::Data => Err(Errno::ENXIO),
            SeekTarget::Hole => Ok(len),
        }
    }
}
