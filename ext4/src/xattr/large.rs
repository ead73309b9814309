//! Values in inodes of their own (`ea_inode`; ext4 disk layout, "Extended Attribute Value Inodes"): a hash over the value in the access time, a count of
//! references in change time and version. Files that share an attribute block share its values.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use kernel::vfs::FileType;
use kernel::vfs::Timespec;

use super::block;
use super::set::{Attribute, Set, Value};
use crate::inode::Inode;
use crate::inode::load::{Which, extra_isize};
use crate::inode::orphan::ORPHAN_CREDITS;
use crate::layout::checksum::crc32c;
use crate::layout::features::Incompat;
use crate::layout::inode::{BLOCK_LEN, Core, Flags};
use crate::map::{self, Kind, extent};
use crate::space::inodes::Near;
use crate::transaction::Tx;
use crate::{Errno, Result};

/// Largest value (`XATTR_SIZE_MAX`).
const MOST: usize = 64 << 10;

impl Inode {
    /// Blocks that a value of this length can change in an inode of its own.
    pub(super) fn large_credits(&self, len: usize) -> u32 {
        let blocks = len as u64 / self.fs.block_size() + 1;
        blocks as u32 + 40 + ORPHAN_CREDITS
    }

    /// The inode of a value.
    fn holder(&self, ino: u32) -> Result<Arc<Inode>> {
        let holder = self.fs.inode(ino, Which::Any)?;
        if holder.has(Flags::EA_INODE) {
            Ok(holder)
        } else {
            Err(self.bad_attributes())
        }
    }

    pub(super) fn large_value(&self, ino: u32, len: u32) -> Result<Vec<u8>> {
        let holder = self.holder(ino)?;
        if len as usize > MOST || u64::from(len) > holder.len_now() {
            return Err(self.bad_attributes());
        }
        let mut bytes = vec![0; len as usize];
        let size = self.fs.block_size() as usize;
        for (at, part) in bytes.chunks_mut(size).enumerate() {
            let found = map::lookup_settled(&self.fs, &holder, at as u64, 1)?;
            if found.kind == Kind::Written {
                let block = self.fs.file_block(found.block)?.snapshot();
                part.copy_from_slice(&block[..part.len()]);
            }
        }
        Ok(bytes)
    }

    /// Puts a value into an inode of its own, with one reference. `ENOSPC`, also where the feature is off.
    pub(super) fn make_large(&self, tx: &mut Tx<'_>, value: &[u8]) -> Result<Value> {
        let fs = &self.fs;
        let geometry = &fs.geometry;
        if !geometry.incompat.contains(Incompat::EA_INODE) || value.len() > MOST {
            return Err(Errno::ENOSPC);
        }
        let hash = crc32c(geometry.csum_seed, value);
        let group = (self.number() - 1) / geometry.inodes_per_group;
        let ino = tx.allocate_inode(Near::File(group))?;
        let (uid, gid) = {
            let core = self.core.lock();
            (core.uid, core.gid)
        };
        let time = |sec: u32| Timespec {
            sec: i64::from(sec as i32),
            nsec: 0,
        };
        let mut core = Core {
            mode: (FileType::Regular.mode_bits() | 0o600) as u16,
            uid,
            gid,
            nlink: 1,
            disk_size: value.len() as u64,
            sectors: 0,
            atime: time(hash),
            ctime: time(0),
            mtime: time(0),
            crtime: None,
            dtime: 0,
            flags: Flags::EA_INODE,
            block: [0; BLOCK_LEN],
            generation: fs.next_generation(),
            xattr_block: 0,
            extra_isize: extra_isize(geometry),
            project: 0,
            version: 1,
        };
        if geometry.has_extents() {
            core.flags |= Flags::EXTENTS;
            extent::init(&mut core.block);
        }
        let holder = Inode::new(fs.clone(), ino, FileType::Regular, core);
        fs.inodes.lock().insert(ino, Arc::downgrade(&holder));
        let filled = self.fill(tx, &holder, value);
        if filled.is_err() {
            holder.core.lock().nlink = 0;
            tx.orphan_add(&holder)?;
        }
        tx.write_inode(&holder)?;
        filled.map(|()| Value::Inode {
            ino,
            len: value.len() as u32,
            hash,
        })
    }

    fn fill(&self, tx: &mut Tx<'_>, holder: &Inode, value: &[u8]) -> Result<()> {
        let size = self.fs.block_size() as usize;
        let blocks = value.len().div_ceil(size);
        let mut done = 0;
        while done < blocks {
            let goal = map::goal(&self.fs, &tx.meta, holder, done as u64);
            let run = tx.allocate_new(goal, (blocks - done) as u32)?;
            map::insert(tx, holder, done as u64, run, Kind::Written)?;
            for (block, part) in (run.first..).zip(value[done * size..].chunks(size).take(run.count as usize)) {
                let mut bytes = part.to_vec();
                bytes.resize(size, 0);
                tx.handle.overwrite(block, &bytes)?;
            }
            done += run.count as usize;
        }
        Ok(())
    }

    /// Blocks that a value of its attributes adds to the space it uses.
    fn large_blocks(&self, len: u32) -> u64 {
        u64::from(len).div_ceil(self.fs.block_size())
    }

    /// The same for all of its values.
    pub(crate) fn large_blocks_of_all(&self) -> Result<u64> {
        let (inner, outer) = self.attributes()?;
        let blocks = |attribute: &Attribute| match attribute.value {
            Value::Inode { len, .. } => self.large_blocks(len),
            Value::Here(_) => 0,
        };
        Ok(inner.list.iter().chain(&outer.list).map(blocks).sum())
    }

    /// This inode uses a value, or does not any more.
    pub(super) fn charge(&self, len: u32, by: Refer) {
        let sectors = self.large_blocks(len) * (self.fs.block_size() / 512);
        let mut core = self.core.lock();
        core.sectors = match by {
            Refer::More => core.sectors + sectors,
            Refer::Less => core.sectors.saturating_sub(sectors),
        };
    }

    pub(super) fn charge_for(&self, attribute: &Attribute) {
        if let Value::Inode { len, .. } = attribute.value {
            self.charge(len, Refer::More);
        }
    }

    /// One reference more or less to a value; without any it goes.
    pub(super) fn refer(&self, tx: &mut Tx<'_>, ino: u32, by: Refer) -> Result<()> {
        let holder = self.holder(ino)?;
        let is_unused = {
            let mut core = holder.core.lock();
            let count = u64::from(core.ctime.sec as u32) << 32 | u64::from(core.version as u32);
            let count = match by {
                Refer::More => count.saturating_add(1),
                Refer::Less => count.saturating_sub(1),
            };
            core.ctime.sec = i64::from((count >> 32) as u32 as i32);
            core.version = core.version >> 32 << 32 | u64::from(count as u32);
            if count == 0 {
                core.nlink = 0;
            }
            count == 0
        };
        if is_unused {
            tx.orphan_add(&holder)?;
        }
        tx.write_inode(&holder)
    }

    /// The file goes: the values that only it refers to go too.
    pub(crate) fn drop_large_values(&self) -> Result<()> {
        loop {
            let (inner, outer) = self.attributes()?;
            let block = self.core.lock().xattr_block;
            let own = block != 0 && block::users(self, block)? == 1;
            let mut all = inner.list.iter().chain(outer.list.iter().filter(|_| own));
            let Some(large) = all.find(|attribute| matches!(attribute.value, Value::Inode { .. })) else {
                return Ok(());
            };
            let mut tx = Tx::begin_anyway(&self.fs, super::SET_CREDITS)?;
            self.put(
                &mut tx,
                large.index,
                &large.name,
                None,
                kernel::vfs::inode::XattrFlags::empty(),
            )?;
            tx.write_inode(self)?;
        }
    }
}

/// See [`Inode::refer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refer {
    More,
    Less,
}

/// The inodes that values of `set` lie in.
pub(super) fn holders(set: &Set) -> Vec<u32> {
    let ino = |attribute: &Attribute| match attribute.value {
        Value::Inode { ino, .. } => Some(ino),
        Value::Here(_) => None,
    };
    set.list.iter().filter_map(ino).collect()
}
