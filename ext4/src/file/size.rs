//! `truncate(2)` both ways, and taking ranges out of the page cache.

use core::ops::Range;
use core::sync::atomic::Ordering;

use kernel::io::SliceSink;
use kernel::page_cache::PAGE;
use kernel::vfs::file::PageSource;

use crate::inode::Inode;
use crate::inode::attributes::INODE_CREDITS;
use crate::inode::orphan::ORPHAN_CREDITS;
use crate::layout::features::RoCompat;
use crate::layout::inode::Flags;
use crate::map;
use crate::transaction::Tx;
use crate::xattr::inline::Home;
use crate::{Errno, Result};

impl Inode {
    /// The largest size this file may have.
    pub(crate) fn most_bytes(&self) -> u64 {
        let by_map = map::most_blocks(&self.fs, self).saturating_mul(self.fs.block_size());
        // Block maps count space in units of 512 bytes, in 32 bits unless `huge_file`.
        let by_count = if self.has(Flags::EXTENTS) || self.fs.geometry.ro_compat.contains(RoCompat::HUGE_FILE) {
            u64::MAX
        } else {
            (u64::from(u32::MAX) << 9) - (64 << 20)
        };
        by_map.min(by_count).min(i64::MAX as u64 - PAGE)
    }

    /// `truncate(2)`.
    pub(crate) fn set_size(&self, size: u64) -> Result<()> {
        let _data = self.data.write();
        if size > self.most_bytes() {
            return Err(Errno::EFBIG);
        }
        if self.settle_home(size)? == Home::Inode {
            return self.resize_inline(size);
        }
        let old = self.len_now();
        if size >= old {
            self.grow_to(size)?;
        } else {
            self.shrink_to(size)?;
        }
        Ok(())
    }

    /// The size becomes `size`, with zeros behind the old end. Contents are locked.
    pub(crate) fn grow_to(&self, size: u64) -> Result<()> {
        let old = self.len_now();
        self.zero_behind(old)?;
        let mut tx = Tx::begin(&self.fs, INODE_CREDITS + 1)?;
        self.touch();
        if size > old {
            self.set_len(size);
            self.announce_large(&mut tx, size)?;
        }
        tx.write_inode(self)?;
        drop(tx);
        self.memory_grew(old)
    }

    /// What guests wrote behind the end through mappings must not show when the file grows.
    pub(crate) fn zero_behind(&self, end: u64) -> Result<()> {
        if self.mapped.load(Ordering::Acquire)
            && !end.is_multiple_of(PAGE)
            && let Some(cache) = self.cache_now()
        {
            cache.truncated(end)?;
        }
        Ok(())
    }

    /// Mappings of a cache must find memory up to the end of file, which was `old`.
    pub(crate) fn memory_grew(&self, old: u64) -> Result<()> {
        match self.cache_now() {
            Some(cache) if self.mapped.load(Ordering::Acquire) => cache.grew(old),
            _ => Ok(()),
        }
    }

    /// The first file of 2 GiB sets a feature flag, as Linux does.
    pub(crate) fn announce_large(&self, tx: &mut Tx<'_>, size: u64) -> Result<()> {
        use crate::layout::{get32, put32};
        if size <= 0x7fff_ffff || self.fs.geometry.ro_compat.contains(RoCompat::LARGE_FILE) || self.fs.geometry.rev == 0
        {
            return Ok(());
        }
        let (block, at) = self.fs.geometry.super_place();
        let flags = self.fs.buffers.get(block)?.read(|bytes| get32(bytes, at + 0x64));
        if flags & RoCompat::LARGE_FILE.bits() != 0 {
            return Ok(());
        }
        tx.change_super(|raw| put32(raw, 0x64, flags | RoCompat::LARGE_FILE.bits()))
    }

    fn shrink_to(&self, size: u64) -> Result<()> {
        let fs = &self.fs;
        // What lies behind the new end in its last block becomes zero, on the disk too.
        if !size.is_multiple_of(fs.block_size()) {
            self.load_page(size - 1)?;
        }
        self.size.store(size, Ordering::Release);
        self.mark_dirty();
        if let Some(cache) = self.cache_now() {
            cache.truncated(size)?;
            if !size.is_multiple_of(fs.block_size()) {
                let page = size / PAGE * PAGE;
                PageSource::dirtied(&*cache, page, page + PAGE);
            }
        }
        let keep = size.div_ceil(fs.block_size());
        self.unpromise(keep..u64::MAX);
        {
            let mut tx = Tx::begin(fs, INODE_CREDITS + ORPHAN_CREDITS)?;
            self.touch();
            {
                let mut core = self.core.lock();
                core.disk_size = core.disk_size.min(size);
            }
            if self.core.lock().sectors == 0 {
                tx.write_inode(self)?;
                drop(tx);
                self.mark_dirty();
                return Ok(());
            }
            tx.orphan_add(self)?;
            tx.write_inode(self)?;
        }
        self.cut_blocks(keep)?;
        let mut tx = Tx::begin_anyway(fs, INODE_CREDITS + ORPHAN_CREDITS)?;
        // A file without a name was on the list before, and stays there.
        if self.nlink() > 0 {
            tx.orphan_remove(self)?;
        }
        tx.write_inode(self)?;
        drop(tx);
        self.mark_dirty();
        Ok(())
    }

    /// The page of byte `at` is in the cache.
    pub(crate) fn load_page(&self, at: u64) -> Result<()> {
        let mut byte = [0];
        self.cache().read(at, &mut SliceSink::new(&mut byte)).map(drop)
    }

    /// Makes the bytes `range` zero: whole blocks lose their space, the rest is overwritten. Contents are locked.
    pub(crate) fn punch(&self, range: Range<u64>) -> Result<()> {
        let size = self.fs.block_size();
        let len = self.len_now();
        for edge in [range.start, range.end] {
            if !edge.is_multiple_of(PAGE) && edge < len {
                self.load_page(edge)?;
            }
        }
        // Behind the end of file nothing of the last block is worth keeping.
        let (bytes, last) = if range.end >= len {
            (len.next_multiple_of(PAGE), range.end.div_ceil(size))
        } else {
            (range.end, range.end / size)
        };
        let bytes = range.start..bytes.max(range.start);
        // Pages zeroed in part are written back even if the rest fails.
        self.mark_dirty();
        if let Some(cache) = self.cache_now() {
            cache.zeroed(bytes.clone())?;
        }
        let blocks = range.start.div_ceil(size)..last;
        if blocks.start < blocks.end {
            self.unpromise(blocks.clone());
            self.cut_range(blocks.start, blocks.end.min(map::most_blocks(&self.fs, self)))?;
            // A guest's fault may have read the old blocks in between.
            if self.mapped.load(Ordering::Acquire)
                && let Some(cache) = self.cache_now()
            {
                cache.zeroed(bytes)?;
            }
        }
        Ok(())
    }
}
