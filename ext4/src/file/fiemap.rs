//! `FS_IOC_FIEMAP`: where a file lies on its disk.

use alloc::vec::Vec;
use core::cmp::Ordering;

use kernel::user::UserAddr;

use crate::inode::Inode;
use crate::layout::inode::{BLOCK_AT, Flags, OLD_SIZE};
use crate::layout::{get32, put32};
use crate::map::{self, Kind};
use crate::{Errno, Result};

/// Bytes of the request, and of each extent behind it.
const HEAD: usize = 32;
const EXTENT: usize = 56;
/// What a request may ask for: write dirty data first; the attributes' place instead of the contents'; have the map in memory, which it is.
const SYNC: u32 = 1;
const XATTR: u32 = 2;
const CACHE: u32 = 4;
/// Extents that a caller may have room for.
const MOST: u32 = u32::MAX / EXTENT as u32;
/// The last extent of the file or, as Linux has it, of the range that was asked for.
const LAST: u32 = 1;
/// Dirty data without a place.
const UNKNOWN: u32 = 2;
const DELALLOC: u32 = 4;
/// The data is not at a whole block.
const NOT_ALIGNED: u32 = 0x100;
const DATA_INLINE: u32 = 0x200;
/// Reads as zeros.
const UNWRITTEN: u32 = 0x800;

/// A run of a file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub logical: u64,
    pub physical: u64,
    pub len: u64,
    pub flags: u32,
}

/// `EINVAL` for an empty range or room for more extents than there can be, `EFBIG` behind the largest file, `EBADR` for unknown flags, which go back.
pub(super) fn run(inode: &Inode, arg: u64) -> Result<usize> {
    let mut head = [0; HEAD];
    UserAddr(arg).read(&mut head)?;
    let word = |at: usize| u64::from(get32(&head, at)) | u64::from(get32(&head, at + 4)) << 32;
    let (start, len, flags, room) = (word(0), word(8), get32(&head, 16), get32(&head, 24));
    if room > MOST {
        return Err(Errno::EINVAL);
    }
    let end = inode.mappable(start, len)?;
    let known = SYNC | XATTR | CACHE;
    if flags & !known != 0 {
        put32(&mut head, 16, flags & !known);
        UserAddr(arg).write(&head)?;
        return Err(Errno::EBADR);
    }
    if flags & SYNC != 0 && inode.fs.is_writable() {
        inode.write_out()?;
    }
    let room = room as usize;
    let extents = if flags & XATTR != 0 {
        inode.attribute_extent()?.into_iter().collect()
    } else {
        inode.extents(start, end, if room == 0 { usize::MAX } else { room })?
    };
    put32(&mut head, 16, flags & SYNC);
    put32(&mut head, 20, extents.len() as u32);
    UserAddr(arg).write(&head)?;
    if room == 0 {
        return Ok(0);
    }
    for (index, extent) in extents.iter().enumerate() {
        let mut raw = [0; EXTENT];
        raw[..8].copy_from_slice(&extent.logical.to_le_bytes());
        raw[8..16].copy_from_slice(&extent.physical.to_le_bytes());
        raw[16..24].copy_from_slice(&extent.len.to_le_bytes());
        put32(&mut raw, 40, extent.flags);
        UserAddr(arg).offset((HEAD + index * EXTENT) as u64).write(&raw)?;
    }
    Ok(0)
}

impl Inode {
    /// Where it lies in the inode table, in bytes of the device.
    fn table_byte(&self) -> Result<u64> {
        let (block, at) = self.fs.table_place(self.number())?;
        Ok(block * self.fs.block_size() + at as u64)
    }

    /// Where its attributes are: in the inode if there are any, else in a block.
    fn attribute_extent(&self) -> Result<Option<Extent>> {
        let (inner, outer) = self.attributes()?;
        let (extra_isize, block) = {
            let core = self.core.lock();
            (u64::from(core.extra_isize), core.xattr_block)
        };
        let size = self.fs.block_size();
        Ok(if !inner.list.is_empty() {
            let from = OLD_SIZE as u64 + extra_isize;
            Some(Extent {
                logical: 0,
                physical: self.table_byte()? + from,
                len: u64::from(self.fs.geometry.inode_size) - from,
                flags: LAST | DATA_INLINE | NOT_ALIGNED,
            })
        } else if !outer.list.is_empty() {
            Some(Extent {
                logical: 0,
                physical: block * size,
                len: size,
                flags: LAST,
            })
        } else {
            None
        })
    }

    /// The end of the range `start..start + len` within what a map can hold.
    fn mappable(&self, start: u64, len: u64) -> Result<u64> {
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        let most = map::most_blocks(&self.fs, self) * self.fs.block_size();
        match start.cmp(&most) {
            Ordering::Less => Ok(start.saturating_add(len).min(most)),
            Ordering::Equal => Err(Errno::EINVAL),
            Ordering::Greater => Err(Errno::EFBIG),
        }
    }

    /// The runs of the bytes `start..end`, cut to the blocks that these touch; at most `room` of them.
    pub(crate) fn extents(&self, start: u64, end: u64, room: usize) -> Result<Vec<Extent>> {
        let size = self.fs.block_size();
        let mut out: Vec<Extent> = Vec::new();
        if self.has(Flags::INLINE_DATA) {
            let len = self.len_now();
            if start < len {
                out.push(Extent {
                    logical: 0,
                    physical: self.table_byte()? + BLOCK_AT as u64,
                    len,
                    flags: LAST | DATA_INLINE | NOT_ALIGNED,
                });
            }
            return Ok(out);
        }
        let last = end.div_ceil(size);
        let meta = self.fs.meta.read();
        let mut at = start / size;
        while at < last {
            let mut found = map::lookup(&self.fs, &meta, self, at, last - at)?;
            let mut flags = match found.kind {
                Kind::Unwritten => UNWRITTEN,
                Kind::Written | Kind::Hole => 0,
            };
            let mut is_there = found.kind != Kind::Hole;
            if found.kind == Kind::Hole {
                let gap = self.promise.lock().missing(at..at + found.len).first().cloned();
                (is_there, found.len) = match gap {
                    Some(gap) if gap.start == at => (false, gap.end - at),
                    Some(gap) => (true, gap.start - at),
                    None => (true, found.len),
                };
                flags = UNKNOWN | DELALLOC;
            }
            if is_there {
                let fresh = Extent {
                    logical: at * size,
                    physical: if flags & UNKNOWN != 0 { 0 } else { found.block * size },
                    len: found.len * size,
                    flags,
                };
                let is_full = out.len() == room;
                match out.last_mut().filter(|before| before.joins(&fresh)) {
                    Some(before) => before.len += fresh.len,
                    // There is more than fits: none of these is the last.
                    None if is_full => return Ok(out),
                    None => out.push(fresh),
                }
            }
            at += found.len;
        }
        if let Some(extent) = out.last_mut() {
            extent.flags |= LAST;
        }
        Ok(out)
    }
}

impl Extent {
    /// Whether `next` only continues this.
    fn joins(&self, next: &Self) -> bool {
        let follows = self.physical + self.len == next.physical || next.flags & UNKNOWN != 0;
        self.flags == next.flags && self.logical + self.len == next.logical && follows
    }
}
