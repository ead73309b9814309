//! `FS_IOC_FIEMAP`: where a file lies on its disk.

use alloc::vec::Vec;

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
/// The last extent of the file.
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

pub(super) fn run(inode: &Inode, arg: u64) -> Result<usize> {
    let mut head = [0; HEAD];
    UserAddr(arg).read(&mut head)?;
    let word = |at: usize| u64::from(get32(&head, at)) | u64::from(get32(&head, at + 4)) << 32;
    let (start, len, flags, room) = (word(0), word(8), get32(&head, 16), get32(&head, 24) as usize);
    let known = SYNC | XATTR | CACHE;
    if flags & !known != 0 {
        // The flags that are not known go back.
        put32(&mut head, 16, flags & !known);
        UserAddr(arg).write(&head)?;
        return Err(Errno::EBADR);
    }
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    if flags & SYNC != 0 && inode.fs.is_writable() {
        inode.write_out()?;
    }
    let extents = if flags & XATTR != 0 {
        inode.attribute_extent()?.into_iter().collect()
    } else {
        let room = if room == 0 { usize::MAX } else { room };
        inode.extents(start, start.saturating_add(len), room)?
    };
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

    /// The runs that touch the bytes `start..end`, at most `room` of them.
    pub(crate) fn extents(&self, start: u64, end: u64, room: usize) -> Result<Vec<Extent>> {
        let size = self.fs.block_size();
        let mut out: Vec<Extent> = Vec::new();
        if self.has(Flags::INLINE_DATA) {
            out.push(Extent {
                logical: 0,
                physical: self.table_byte()? + BLOCK_AT as u64,
                len: self.len_now(),
                flags: LAST | DATA_INLINE | NOT_ALIGNED,
            });
            return Ok(out);
        }
        let most = map::most_blocks(&self.fs, self);
        let last = end.div_ceil(size).min(most);
        let meta = self.fs.meta.read();
        let mut at = start / size;
        let mut more = false;
        while at < most {
            // Beyond the range only whether there is more matters.
            let found = map::lookup(&self.fs, &meta, self, at, most - at)?;
            let (kind, mut len) = (found.kind, found.len);
            let mut extent = Extent {
                logical: at * size,
                physical: found.block * size,
                len: len * size,
                flags: if kind == Kind::Unwritten { UNWRITTEN } else { 0 },
            };
            let mut is_there = kind != Kind::Hole;
            if kind == Kind::Hole {
                let gap = self.promise.lock().missing(at..at + len).first().cloned();
                let promised = match gap {
                    Some(gap) if gap.start > at => gap.start - at,
                    Some(gap) => {
                        len = gap.end - at;
                        0
                    }
                    None => len,
                };
                if promised > 0 {
                    len = promised;
                    extent.len = len * size;
                    extent.flags = UNKNOWN | DELALLOC;
                    is_there = true;
                } else if at + len >= self.len_now().div_ceil(size) && found.len >= most - at {
                    break;
                }
            }
            if is_there {
                if at >= last || out.len() == room {
                    more = true;
                    break;
                }
                match out.last_mut() {
                    Some(before)
                        if before.flags == extent.flags
                            && before.logical + before.len == extent.logical
                            && (before.physical + before.len == extent.physical || extent.flags & UNKNOWN != 0) =>
                    {
                        before.len += extent.len;
                    }
                    _ => out.push(extent),
                }
            }
            at += len;
        }
        if !more && let Some(extent) = out.last_mut() {
            extent.flags |= LAST;
        }
        Ok(out)
    }
}
