//! The attribute block. Inodes with the same attributes may share one (others make such blocks); a change gives the inode a block of its own.

use alloc::sync::Arc;

use super::large::{Refer, holders};
use super::set::{Hashes, MAGIC, Set};
use crate::buffer::Buffer;
use crate::inode::Inode;
use crate::instance::Ext4;
use crate::journal::Freed;
use crate::layout::checksum::crc32c;
use crate::layout::{get32, put32};
use crate::transaction::Tx;
use crate::{Errno, Result};

/// Bytes before the entries.
pub(crate) const HEAD: usize = 32;

fn checksum(fs: &Ext4, block: u64, bytes: &[u8]) -> u32 {
    let crc = crc32c(fs.geometry.csum_seed, &block.to_le_bytes());
    let crc = crc32c(crc32c(crc, &bytes[..0x10]), &[0; 4]);
    crc32c(crc, &bytes[0x14..])
}

/// A block with its attributes, checked.
pub(crate) fn read(inode: &Inode, block: u64) -> Result<(Arc<Buffer>, Set)> {
    let fs = &inode.fs;
    let buffer = fs.file_block(block)?;
    fs.check_once(&buffer, |bytes| checksum(fs, block, bytes) == get32(bytes, 0x10))?;
    let bytes = buffer.snapshot();
    if get32(&bytes, 0) != MAGIC || get32(&bytes, 8) != 1 {
        return Err(inode.error(format_args!("bad block {block}")));
    }
    let set = Set::parse_block(&bytes).ok_or_else(|| inode.bad_attributes())?;
    Ok((buffer, set))
}

fn change(tx: &mut Tx<'_>, buffer: &Arc<Buffer>, change: impl FnOnce(&mut [u8])) -> Result<()> {
    let fs = tx.fs;
    tx.modify(buffer, |bytes| {
        change(bytes);
        if fs.geometry.has_csum() {
            let crc = checksum(fs, buffer.block(), bytes);
            put32(bytes, 0x10, crc);
        }
    })?;
    fs.set_checked(buffer.block());
    Ok(())
}

/// Inodes that use a block.
pub(super) fn users(inode: &Inode, block: u64) -> Result<u32> {
    Ok(read(inode, block)?.0.read(|bytes| get32(bytes, 4)))
}

/// One user of a block less; the last one frees it. The inode's count of space follows.
pub(crate) fn release(tx: &mut Tx<'_>, inode: &Inode, block: u64) -> Result<()> {
    let (buffer, _) = read(inode, block)?;
    let users = buffer.read(|bytes| get32(bytes, 4));
    if users > 1 {
        change(tx, &buffer, |bytes| put32(bytes, 4, users - 1))?;
    } else {
        tx.free(block, 1, Freed::Metadata)?;
    }
    let mut core = inode.core.lock();
    core.sectors = core.sectors.saturating_sub(inode.fs.block_size() / 512);
    Ok(())
}

/// The inode's block has these attributes now. The caller stores the inode.
pub(crate) fn replace(tx: &mut Tx<'_>, inode: &Inode, set: &Set) -> Result<()> {
    let fs = &inode.fs;
    let old = inode.core.lock().xattr_block;
    if set.list.is_empty() {
        if old != 0 {
            if users(inode, old)? > 1 {
                // What the caller takes back belongs to the others.
                for ino in holders(&read(inode, old)?.1) {
                    inode.refer(tx, ino, Refer::More)?;
                }
            }
            release(tx, inode, old)?;
            inode.core.lock().xattr_block = 0;
        }
        return Ok(());
    }
    let own = if old == 0 {
        None
    } else {
        let (buffer, _) = read(inode, old)?;
        (buffer.read(|bytes| get32(bytes, 4)) == 1).then_some(buffer)
    };
    let buffer = match own {
        Some(buffer) => buffer,
        None => {
            let group = (inode.number() - 1) / fs.geometry.inodes_per_group;
            let run = tx.allocate_new(fs.geometry.group_start(group), 1)?;
            if !fs.geometry.has_extents() && run.first > u64::from(u32::MAX) {
                return Err(Errno::ENOSPC);
            }
            if old != 0 {
                // The block's values are referred to by it, and now by its copy as well.
                for ino in holders(&read(inode, old)?.1) {
                    inode.refer(tx, ino, Refer::More)?;
                }
                release(tx, inode, old)?;
            }
            let mut core = inode.core.lock();
            core.xattr_block = run.first;
            core.sectors += fs.block_size() / 512;
            drop(core);
            tx.handle.create(run.first)?
        }
    };
    change(tx, &buffer, |bytes| {
        bytes[..HEAD].fill(0);
        let hash = set.store(bytes, HEAD, Hashes::Stored);
        put32(bytes, 0, MAGIC);
        put32(bytes, 4, 1);
        put32(bytes, 8, 1);
        put32(bytes, 12, hash);
    })
}
