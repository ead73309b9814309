//! An open directory of a pseudo file system: its list is made at position 0 and kept, so that a slow reader sees each entry once.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use arch_um::sync::{SpinLock, order};

use super::Dir;
use crate::Result;
use crate::vfs::file::DirEntry;
use crate::vfs::{File, FileOps, FileType};

struct Listed {
    name: Vec<u8>,
    ino: u64,
    kind: FileType,
}

/// An open directory.
pub(super) struct DirFile {
    dir: Arc<dyn Dir>,
    ino: u64,
    list: SpinLock<Option<Arc<Vec<Listed>>>>,
}

impl DirFile {
    pub(super) fn new(dir: Arc<dyn Dir>, ino: u64) -> Self {
        Self {
            dir,
            ino,
            list: SpinLock::new(&order::LEAF, None),
        }
    }

    fn list(&self, pos: u64) -> Result<Arc<Vec<Listed>>> {
        let kept = self.list.lock().clone();
        if let (Some(list), true) = (kept, pos > 0) {
            return Ok(list);
        }
        let mut list = Vec::new();
        self.dir.list(&mut |name, ino, kind| {
            list.push(Listed {
                name: name.to_vec(),
                ino,
                kind,
            })
        })?;
        let list = Arc::new(list);
        let old = self.list.lock().replace(list.clone());
        drop(old);
        Ok(list)
    }
}

impl FileOps for DirFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_dir(&self, _file: &File, pos: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        let list = self.list(pos)?;
        let dots = [&b"."[..], b".."].map(|name| (name, self.ino, FileType::Directory));
        let named = list.iter().map(|entry| (entry.name.as_slice(), entry.ino, entry.kind));
        for (index, (name, ino, kind)) in dots.into_iter().chain(named).enumerate() {
            let at = index as u64;
            if at >= pos
                && !emit(DirEntry {
                    name,
                    ino,
                    kind: Some(kind),
                    next: at + 1,
                })
            {
                break;
            }
        }
        Ok(())
    }
}
