//! What a model run does: each operation on the file system and on the model, and whether both agree on its outcome.

use std::collections::BTreeMap;

use ext4::Errno;
use kernel::vfs::NewNode;
use kernel::vfs::inode::{RenameFlags, XattrFlags};

use super::{Body, DEEPEST, Model, Node, SPAN, dir_of};
use crate::image::{Mounted, attr, fallocate, truncate, write_at};

impl Model {
    pub(super) fn write(&mut self, fs: &Mounted) {
        let Some((inode, body)) = self.pick_file(fs) else {
            return;
        };
        let at = self.random.below(SPAN);
        let len = match self.random.below(4) {
            0 => self.random.below(60_000),
            1 => self.random.below(10),
            _ => self.random.below(6000),
        } + 1;
        let seed = self.random.next();
        let data: Vec<u8> = (0..len).map(|i| (i.wrapping_mul(seed) >> 7) as u8).collect();
        let done = write_at(&inode, at, &data);
        self.note(body, format!("write {at} {len}: {done:?}"));
        match done {
            Ok(written) => {
                let file = &mut self.bodies[body].data;
                let end = at as usize + written.count;
                if file.len() < end {
                    file.resize(end, 0);
                }
                file[at as usize..end].copy_from_slice(&data[..written.count]);
            }
            Err(error) => assert_eq!(error, Errno::ENOSPC),
        }
    }

    pub(super) fn truncate(&mut self, fs: &Mounted) {
        let Some((inode, body)) = self.pick_file(fs) else {
            return;
        };
        let size = self.random.below(SPAN);
        self.note(body, format!("truncate {size}"));
        truncate(&inode, size).unwrap();
        self.bodies[body].data.resize(size as usize, 0);
    }

    pub(super) fn fallocate(&mut self, fs: &Mounted) {
        let Some((inode, body)) = self.pick_file(fs) else {
            return;
        };
        let mode = [0, 1, 3, 3, 16, 17, 8, 32][self.random.below(8) as usize];
        let (mut at, mut len) = (self.random.below(SPAN), self.random.below(50_000) + 1);
        if matches!(mode, 8 | 32) {
            (at, len) = (at / 4096 * 4096, (len / 4096 + 1) * 4096);
        }
        let end = (at + len) as usize;
        let done = fallocate(&inode, mode, at, len);
        self.note(body, format!("fallocate {mode} {at} {len}: {done:?}"));
        if !self.extents && mode != 3 {
            assert_eq!(done, Err(Errno::EOPNOTSUPP));
            return;
        }
        self.bodies[body].preallocated |= matches!(mode, 0 | 1 | 16 | 17);
        let file = &mut self.bodies[body].data;
        let (size, at) = (file.len(), at as usize);
        match done {
            Err(Errno::ENOSPC) if matches!(mode, 0 | 1) => return,
            Err(Errno::EINVAL) => {
                assert!((mode == 8 && end >= size) || (mode == 32 && at >= size));
                return;
            }
            // Zeroed before space ran out.
            Err(Errno::ENOSPC) if matches!(mode, 16 | 17) => {
                file[at.min(size)..end.min(size)].fill(0);
                return;
            }
            other => other.unwrap(),
        }
        match mode {
            0 if end > size => file.resize(end, 0),
            3 | 17 => file[at.min(size)..end.min(size)].fill(0),
            16 => {
                file[at.min(size)..end.min(size)].fill(0);
                file.resize(size.max(end), 0);
            }
            8 => drop(file.drain(at..end)),
            32 => drop(file.splice(at..at, std::iter::repeat_n(0, len as usize))),
            _ => {}
        }
    }

    pub(super) fn create(&mut self, fs: &Mounted) {
        let dir = self.pick_dir();
        let name = self.pick_name();
        let exists = dir_of(&mut self.root, &dir).contains_key(&name);
        let target = vec![b't'; self.random.below(200) as usize + 1];
        let kind = self.random.below(10);
        let node = match kind {
            0..2 => NewNode::Directory,
            2 => NewNode::Symlink(&target),
            _ => NewNode::Regular,
        };
        let parent = fs.at(&dir.join("/")).unwrap();
        match parent.create(name.as_bytes(), node, attr(0o644)) {
            Ok(_) => assert!(!exists),
            Err(Errno::EEXIST) => return assert!(exists),
            Err(error) => return assert_eq!(error, Errno::ENOSPC),
        }
        let made = match kind {
            0..2 => Node::Dir(BTreeMap::new()),
            2 => Node::Link(target),
            _ => {
                self.bodies.push(Body::default());
                Node::File(self.bodies.len() - 1)
            }
        };
        dir_of(&mut self.root, &dir).insert(name, made);
    }

    pub(super) fn remove(&mut self, fs: &Mounted) {
        let dir = self.pick_dir();
        let name = self.pick_present(&dir);
        let parent = fs.at(&dir.join("/")).unwrap();
        let names = dir_of(&mut self.root, &dir);
        let expected = match names.get(&name) {
            None => Err(Errno::ENOENT),
            Some(Node::Dir(inner)) if !inner.is_empty() => Err(Errno::ENOTEMPTY),
            _ => Ok(()),
        };
        let done = match names.get(&name) {
            Some(Node::Dir(_)) => parent.rmdir(name.as_bytes()),
            _ => parent.unlink(name.as_bytes()),
        };
        assert_eq!(done, expected);
        if done.is_ok() {
            names.remove(&name);
        }
    }

    pub(super) fn rename(&mut self, fs: &Mounted) {
        let (from, to) = (self.pick_dir(), self.pick_dir());
        let old = self.pick_present(&from);
        let new = if self.random.below(2) == 0 {
            self.pick_present(&to)
        } else {
            self.pick_name()
        };
        let exchange = self.random.below(5) == 0;
        let source = dir_of(&mut self.root, &from).get(&old).cloned();
        let target = dir_of(&mut self.root, &to).get(&new).cloned();
        // What the VFS refuses before the file system is asked.
        let within = |dir: &[String], base: &[String], name: &String| {
            dir.len() > base.len() && dir.starts_with(base) && dir[base.len()] == *name
        };
        let Some(source) = source else { return };
        // `debugfs` dumps to the host, whose paths have an end.
        let is_deep = |dir: &[String], node: &Node| dir.len() + node.height() > DEEPEST;
        if is_deep(&to, &source) || exchange && target.as_ref().is_some_and(|target| is_deep(&from, target)) {
            return;
        }
        if within(&to, &from, &old) || within(&from, &to, &new) || (from == to && old == new) {
            return;
        }
        let flags = if exchange {
            RenameFlags::EXCHANGE
        } else {
            RenameFlags::empty()
        };
        let expected = match (&source, &target, exchange) {
            (_, None, true) => Err(Errno::ENOENT),
            (_, _, true) | (_, None, _) => Ok(()),
            (Node::File(a), Some(Node::File(b)), _) if a == b => return,
            (Node::Dir(_), Some(Node::Dir(inner)), _) if !inner.is_empty() => Err(Errno::ENOTEMPTY),
            (Node::Dir(_), Some(Node::Dir(_)), _) => Ok(()),
            (Node::Dir(_), Some(_), _) => Err(Errno::ENOTDIR),
            (_, Some(Node::Dir(_)), _) => Err(Errno::EISDIR),
            _ => Ok(()),
        };
        let done = fs.at(&from.join("/")).unwrap().rename(
            old.as_bytes(),
            &fs.at(&to.join("/")).unwrap(),
            new.as_bytes(),
            flags,
        );
        if done == Err(Errno::ENOSPC) {
            return;
        }
        assert_eq!(done, expected, "{from:?} {old} {to:?} {new}");
        if done.is_err() {
            return;
        }
        if exchange {
            dir_of(&mut self.root, &from).insert(old, target.unwrap());
        } else {
            dir_of(&mut self.root, &from).remove(&old);
        }
        dir_of(&mut self.root, &to).insert(new, source);
    }

    pub(super) fn link(&mut self, fs: &Mounted) {
        let Some((inode, body)) = self.pick_file(fs) else {
            return;
        };
        let dir = self.pick_dir();
        let name = self.pick_name();
        let exists = dir_of(&mut self.root, &dir).contains_key(&name);
        match fs.at(&dir.join("/")).unwrap().link(name.as_bytes(), &inode) {
            Ok(()) => {
                assert!(!exists);
                dir_of(&mut self.root, &dir).insert(name, Node::File(body));
            }
            Err(Errno::EEXIST) => assert!(exists),
            Err(error) => assert_eq!(error, Errno::ENOSPC),
        }
    }

    pub(super) fn xattr(&mut self, fs: &Mounted) {
        let Some((inode, body)) = self.pick_file(fs) else {
            return;
        };
        let name = format!("user.a{}", self.random.below(6));
        let value = vec![self.random.next() as u8; self.random.below(300) as usize];
        if self.random.below(3) == 0 {
            let there = self.bodies[body].xattrs.remove(&name).is_some();
            let expected = if there { Ok(()) } else { Err(Errno::ENODATA) };
            assert_eq!(inode.remove_xattr(name.as_bytes()), expected);
            return;
        }
        match inode.set_xattr(name.as_bytes(), &value, XattrFlags::empty()) {
            Ok(()) => drop(self.bodies[body].xattrs.insert(name, value)),
            Err(error) => assert_eq!(error, Errno::ENOSPC),
        }
    }

    pub(super) fn open(&mut self, fs: &Mounted) {
        if self.open.len() < 5
            && let Some(found) = self.pick_file(fs)
        {
            self.open.push(found);
        }
    }

    pub(super) fn unnamed(&mut self, fs: &Mounted) {
        let dir = self.pick_dir();
        if let Ok(inode) = fs.at(&dir.join("/")).unwrap().create_unnamed(attr(0o600)) {
            self.bodies.push(Body::default());
            self.open.push((inode, self.bodies.len() - 1));
        }
    }
}
