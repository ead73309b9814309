//! Names of tmpfs that move, change places or go (`rename(2)`, `unlink(2)`).

use super::{Body, TmpInode};
use crate::vfs::inode::{NewAttr, RenameFlags};
use crate::vfs::{DevT, FileType, Mode};
use crate::{Errno, Result};

impl TmpInode {
    /// Moves `old` to `new` of `dir`, as [`Inode::rename`] says.
    pub(super) fn move_name(&self, old: &[u8], dir: &TmpInode, new: &[u8], flags: RenameFlags) -> Result<()> {
        if flags.contains(RenameFlags::EXCHANGE) {
            return self.exchange(old, dir, new);
        }
        let source = self.names()?.lock().get(old).cloned().ok_or(Errno::ENOENT)?;
        let target = dir.names()?.lock().get(new).cloned();
        let whiteout = match flags.contains(RenameFlags::WHITEOUT) {
            true => {
                self.fs.charge_inode()?;
                let (uid, gid) = (self.attr.lock().uid, self.attr.lock().gid);
                let attr = NewAttr {
                    mode: Mode::empty(),
                    uid,
                    gid,
                };
                Some(Self::make(
                    &self.fs,
                    FileType::CharDevice,
                    DevT::new(0, 0),
                    Body::Special,
                    attr,
                    1,
                ))
            }
            false => None,
        };
        if let Some(target) = &target {
            Self::retire(target)?;
            let replaced = dir.names()?.lock().replace(new, source.clone());
            dir.unlinked(target);
            drop(replaced);
        } else {
            dir.names()?.lock().insert(new, source.clone())?;
        }
        let removed = match whiteout {
            Some(whiteout) => self.names()?.lock().replace(old, whiteout),
            None => self.names()?.lock().remove(old),
        };
        drop(removed);
        if source.kind == FileType::Directory && !core::ptr::eq(self, dir) {
            source.set_parent(dir);
            self.add_links(-1);
            dir.add_links(1);
        }
        source.add_links(0);
        self.names_changed();
        dir.names_changed();
        Ok(())
    }

    /// Takes `victim`, whose name in this directory is gone, off its link count.
    pub(super) fn unlinked(&self, victim: &TmpInode) {
        if victim.kind == FileType::Directory {
            victim.add_links(-2);
            self.add_links(-1);
        } else {
            victim.add_links(-1);
        }
        self.names_changed();
    }

    /// Whether `victim` may lose its name; an empty directory is closed for new ones by this.
    pub(super) fn retire(victim: &TmpInode) -> Result<()> {
        if let Body::Directory(names) = &victim.body {
            let mut names = names.lock();
            if !names.is_empty() {
                return Err(Errno::ENOTEMPTY);
            }
            names.dead = true;
        }
        Ok(())
    }

    fn set_parent(&self, parent: &TmpInode) {
        if let Body::Directory(names) = &self.body {
            names.lock().parent = parent.this.clone();
        }
    }

    fn exchange(&self, old: &[u8], dir: &TmpInode, new: &[u8]) -> Result<()> {
        let find = |at: &TmpInode, name: &[u8]| at.names()?.lock().get(name).cloned().ok_or(Errno::ENOENT);
        let one = find(self, old)?;
        let two = find(dir, new)?;
        let displaced = self.names()?.lock().replace(old, two.clone());
        drop(displaced);
        let displaced = dir.names()?.lock().replace(new, one.clone());
        drop(displaced);
        if !core::ptr::eq(self, dir) {
            for (moved, from, to) in [(&one, self, dir), (&two, dir, self)] {
                if moved.kind == FileType::Directory {
                    moved.set_parent(to);
                    from.add_links(-1);
                    to.add_links(1);
                }
            }
        }
        one.add_links(0);
        two.add_links(0);
        self.names_changed();
        dir.names_changed();
        Ok(())
    }
}
