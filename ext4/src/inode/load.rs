//! Inodes from the disk, checked; the table of those in memory; new ones.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use kernel::vfs::inode::{NewAttr, NewNode};
use kernel::vfs::{FileType, Timespec};

use super::Inode;
use crate::buffer::Buffer;
use crate::damage::Culprit;
use crate::instance::Ext4;
use crate::layout::features::Compat;
use crate::layout::geometry::Geometry;
use crate::layout::inode::{BLOCK_LEN, Core, Flags, INHERITED, OLD_SIZE, is_sealed};
use crate::map::extent;
use crate::space::inodes::Near;
use crate::transaction::Tx;
use crate::{Errno, Result};

/// The root directory.
pub(crate) const ROOT: u32 = 2;
/// The resize inode: not a file, never shown.
const FIRST_SHOWN: u32 = 11;

/// Which inodes may be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those that names lead to.
    Named,
    /// Also those without names: orphans, the system's own files.
    Any,
}

/// A block of the inode table as it stood at one moment.
struct Seen {
    ino: u32,
    buffer: Arc<Buffer>,
    bytes: Arc<Vec<u8>>,
    /// Where in the block.
    at: usize,
}

impl Ext4 {
    /// The inode of this number. `EUCLEAN` for one that cannot be, `ESTALE` for a free one.
    pub(crate) fn inode(&self, ino: u32, which: Which) -> Result<Arc<Inode>> {
        if which == Which::Named
            && ino != ROOT
            && (ino < FIRST_SHOWN.min(self.geometry.first_ino) || ino > self.geometry.size.inodes())
        {
            return Err(self.error(format_args!("bad inode number: {ino}")));
        }
        loop {
            let known = self.inodes.lock().get(&ino).and_then(Weak::upgrade);
            if let Some(found) = known {
                return Ok(found);
            }
            let seen = self.look_at(ino)?;
            let core = self.core_in(&seen)?;
            let kind = self.check_core(ino, &core, which)?;
            let me = self.me.upgrade().ok_or(Errno::ESTALE)?;
            if let Some(inode) = self.enter(&seen, Inode::new(me, ino, kind, core)) {
                return Ok(inode);
            }
        }
    }

    /// Puts an inode into the table unless it has come there by another way. None when it has come, changed and gone again: `fresh` is too old.
    fn enter(&self, seen: &Seen, fresh: Arc<Inode>) -> Option<Arc<Inode>> {
        let entered = {
            let mut table = self.inodes.lock();
            match table.get(&seen.ino).and_then(Weak::upgrade) {
                Some(other) => Some(other),
                None if seen.buffer.is_still(&seen.bytes) => {
                    table.insert(seen.ino, Arc::downgrade(&fresh));
                    return Some(fresh);
                }
                None => None,
            }
        };
        // Nobody has used it, so it has no file to bury.
        fresh.core.lock().mode = 0;
        entered
    }

    fn look_at(&self, ino: u32) -> Result<Seen> {
        let (block, at) = self.table_place(ino)?;
        let buffer = self.buffers.get(block)?;
        Ok(Seen {
            ino,
            bytes: buffer.snapshot(),
            buffer,
            at,
        })
    }

    /// The fields of an inode on the disk.
    pub(crate) fn read_core(&self, ino: u32) -> Result<Core> {
        self.core_in(&self.look_at(ino)?)
    }

    fn core_in(&self, seen: &Seen) -> Result<Core> {
        let raw = &seen.bytes[seen.at..seen.at + self.geometry.inode_size as usize];
        if !is_sealed(raw, seen.ino, &self.geometry) {
            let culprit = Culprit {
                ino: seen.ino,
                block: 0,
            };
            return Err(self.report(culprit, Errno::EBADMSG, format_args!("iget: checksum invalid")));
        }
        Ok(Core::parse(raw, &self.geometry))
    }

    /// The bytes of an inode as they lie in the table.
    pub(crate) fn raw_inode(&self, ino: u32) -> Result<Vec<u8>> {
        let (block, at) = self.table_place(ino)?;
        let size = self.geometry.inode_size as usize;
        Ok(self.buffers.get(block)?.read(|bytes| bytes[at..at + size].to_vec()))
    }

    fn check_core(&self, ino: u32, core: &Core, which: Which) -> Result<FileType> {
        let wrong = |what: &str| self.error_of(ino, format_args!("iget: {what}"));
        if core.nlink == 0 && (which == Which::Named || core.mode == 0) {
            return if ino == ROOT {
                Err(wrong("root inode unallocated"))
            } else {
                Err(Errno::ESTALE)
            };
        }
        let kind = match FileType::from_mode(u32::from(core.mode)) {
            Some(kind) => kind,
            None if which == Which::Any => FileType::Regular,
            None => return Err(wrong(&alloc::format!("bogus i_mode ({:o})", core.mode))),
        };
        let geometry = &self.geometry;
        let room = geometry.inode_size as usize - OLD_SIZE;
        if usize::from(core.extra_isize) > room || !core.extra_isize.is_multiple_of(4) {
            return Err(wrong(&alloc::format!(
                "bad extra_isize {} (inode size {})",
                core.extra_isize,
                geometry.inode_size
            )));
        }
        if core.disk_size > i64::MAX as u64 {
            return Err(wrong(&alloc::format!("bad i_size value: {}", core.disk_size as i64)));
        }
        if core.xattr_block != 0 && !self.is_file_space(core.xattr_block, 1) {
            return Err(wrong(&alloc::format!(
                "bad extended attribute block {}",
                core.xattr_block
            )));
        }
        if core.flags.contains(Flags::EXTENTS) && !geometry.has_extents() {
            return Err(wrong("extents flag without the extents feature"));
        }
        if kind == FileType::Directory && ino == ROOT && core.disk_size == 0 {
            return Err(wrong("root directory is empty"));
        }
        Ok(kind)
    }
}

/// The extra fields a new inode has room for.
pub(crate) fn extra_isize(geometry: &Geometry) -> u16 {
    let room = geometry.inode_size.saturating_sub(OLD_SIZE as u32) as u16;
    let wanted = if geometry.want_extra_isize >= 28 {
        geometry.want_extra_isize
    } else {
        32
    };
    (wanted & !3).min(room)
}

impl Tx<'_> {
    /// A new inode in `dir`, in no directory yet: `nlink` is 2 for a directory, 1 for others, 0 for a file without a name. Not stored yet.
    pub(crate) fn new_inode(
        &mut self,
        dir: &Inode,
        node: &NewNode<'_>,
        attr: NewAttr,
        nlink: u32,
    ) -> Result<Arc<Inode>> {
        let fs = dir.fs.clone();
        let kind = node.kind();
        let group = (dir.number() - 1) / fs.geometry.inodes_per_group;
        let is_top = dir.number() == ROOT || dir.has(Flags::TOPDIR);
        let near = match kind {
            FileType::Directory if is_top => Near::TopDirectory,
            FileType::Directory => Near::Directory(group),
            _ => Near::File(group),
        };
        let ino = self.allocate_inode(near)?;
        let now = Timespec::now();
        let extra_isize = extra_isize(&fs.geometry);
        let (inherited, project) = {
            let core = dir.core.lock();
            let mut flags = core.flags & INHERITED;
            if kind != FileType::Directory {
                flags -= Flags::DIRSYNC | Flags::TOPDIR | Flags::PROJINHERIT;
            }
            if !matches!(kind, FileType::Regular | FileType::Directory) {
                flags &= Flags::NODUMP | Flags::NOATIME;
            }
            (
                flags,
                if core.flags.contains(Flags::PROJINHERIT) {
                    core.project
                } else {
                    0
                },
            )
        };
        let mut core = Core {
            mode: (kind.mode_bits() | attr.mode.bits()) as u16,
            uid: attr.uid,
            gid: if fs.options.lock().group_id {
                dir.core.lock().gid
            } else {
                attr.gid
            },
            nlink,
            disk_size: 0,
            sectors: 0,
            atime: now,
            ctime: now,
            mtime: now,
            crtime: (extra_isize >= 24).then_some(now),
            dtime: 0,
            flags: inherited,
            block: [0; BLOCK_LEN],
            generation: fs.next_generation(),
            xattr_block: 0,
            extra_isize,
            project,
            version: 1,
        };
        let has_blocks = match node {
            NewNode::Regular | NewNode::Directory => true,
            NewNode::Symlink(text) => text.len() >= BLOCK_LEN,
            _ => false,
        };
        if has_blocks && fs.geometry.has_extents() {
            core.flags |= Flags::EXTENTS;
            extent::init(&mut core.block);
        }
        match node {
            NewNode::CharDevice(dev) | NewNode::BlockDevice(dev) => core.set_device(*dev),
            NewNode::Symlink(text) if text.len() < BLOCK_LEN => {
                core.block[..text.len()].copy_from_slice(text);
                core.disk_size = text.len() as u64;
            }
            _ => {}
        }
        let inode = Inode::new(fs.clone(), ino, kind, core);
        fs.inodes.lock().insert(ino, Arc::downgrade(&inode));
        Ok(inode)
    }
}

/// Whether directories of this file system get an index.
pub(crate) fn indexes_directories(fs: &Ext4) -> bool {
    fs.geometry.compat.contains(Compat::DIR_INDEX)
}
