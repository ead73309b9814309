//! Open files and directories of tmpfs: the inode itself.

use core::any::Any;

use super::{SEAL_FUTURE_WRITE, SEAL_GROW, SEAL_WRITE, TmpInode};
use crate::fs::tmpfs::directory::FIRST;
use crate::io::{Sink, Source};
use crate::vfs::file::{Access, DirEntry, MapBacking, SeekTarget, WriteAt, Written};
use crate::vfs::{File, FileOps, FileType};
use crate::{Errno, Result};

/// Names read per turn of the directory's lock.
const LIST_BATCH: usize = 64;

impl FileOps for TmpInode {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, _file: &File, pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        self.content()?.read().read(pos, dst)
    }

    fn write_at(&self, _file: &File, pos: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let mut content = self.content()?.write();
        let pos = match pos {
            WriteAt::Offset(pos) => pos,
            WriteAt::End => content.size(),
        };
        let seals = self.attr.lock().seals;
        if seals & (SEAL_WRITE | SEAL_FUTURE_WRITE) != 0 {
            return Err(Errno::EPERM);
        }
        let grows = pos.saturating_add(src.remaining() as u64) > content.size();
        if grows && seals & SEAL_GROW != 0 {
            return Err(Errno::EPERM);
        }
        let count = content.write(&self.fs, pos, src)?;
        drop(content);
        if count > 0 {
            self.names_changed();
        }
        Ok(Written {
            count,
            end: pos + count as u64,
        })
    }

    fn read_dir(&self, _file: &File, pos: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        let names = self.names()?;
        let directory = Some(FileType::Directory);
        if pos == 0
            && !emit(DirEntry {
                name: b".",
                ino: self.ino,
                kind: directory,
                next: 1,
            })
        {
            return Ok(());
        }
        if pos <= 1 {
            let parent = names.lock().parent.upgrade();
            let ino = parent.map_or(self.ino, |parent| parent.ino);
            if !emit(DirEntry {
                name: b"..",
                ino,
                kind: directory,
                next: FIRST,
            }) {
                return Ok(());
            }
        }
        let mut at = pos.max(FIRST);
        loop {
            let batch = names.lock().list(at, LIST_BATCH);
            if batch.is_empty() {
                return Ok(());
            }
            for (position, name, inode) in batch {
                let entry = DirEntry {
                    name: &name,
                    ino: inode.ino,
                    kind: Some(inode.kind),
                    next: position + 1,
                };
                if !emit(entry) {
                    return Ok(());
                }
                at = position + 1;
            }
        }
    }

    fn seek(&self, pos: u64, target: SeekTarget) -> Result<u64> {
        self.content()?.read().seek(pos, target)
    }

    fn map(&self, _file: &File, writable: Access) -> Result<MapBacking> {
        let mut content = self.content().map_err(|_| Errno::ENODEV)?.write();
        let sealed = self.attr.lock().seals & (SEAL_WRITE | SEAL_FUTURE_WRITE) != 0;
        if sealed && writable.contains(Access::WRITE) {
            return Err(Errno::EPERM);
        }
        Ok(MapBacking::Host {
            fd: content.host_memory(&self.fs)?,
            base: 0,
        })
    }

    fn sync(&self, _file: &File) -> Result<()> {
        Ok(())
    }

    fn fallocate(&self, _file: &File, mode: u32, offset: u64, len: u64) -> Result<()> {
        const KEEP_SIZE: u32 = 1;
        const PUNCH_HOLE: u32 = 2;
        if mode & !(KEEP_SIZE | PUNCH_HOLE) != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut content = self.content().map_err(|_| Errno::ENODEV)?.write();
        let end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
        let seals = self.attr.lock().seals;
        if mode & PUNCH_HOLE != 0 {
            if seals & (SEAL_WRITE | SEAL_FUTURE_WRITE) != 0 {
                return Err(Errno::EPERM);
            }
            content.punch(&self.fs, offset, end)?;
        } else {
            let grows = mode & KEEP_SIZE == 0 && end > content.size();
            if grows && seals & SEAL_GROW != 0 {
                return Err(Errno::EPERM);
            }
            if grows {
                // First the size, then the pages: a memfd has pages only below it.
                let old = content.size();
                content.resize(&self.fs, end)?;
                if let Err(error) = content.allocate(&self.fs, offset, end) {
                    content.resize(&self.fs, old)?;
                    return Err(error);
                }
            } else {
                content.allocate(&self.fs, offset, end)?;
            }
        }
        drop(content);
        self.names_changed();
        Ok(())
    }
}
