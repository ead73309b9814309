//! Workloads: random operations of a flavour on a disk that records, told to a [`History`].

use std::sync::Arc;

use ext4::fault::FaultDevice;
use ext4::{Errno, Result};
use kernel::vfs::inode::{RenameFlags, XattrFlags};
use kernel::vfs::{FileSystem, Inode, NewNode, OpenFlags};

use super::flavours::{self, Op};
use super::history::{History, Names, Node, SHIFT};
use crate::image::{Mounted, attr, fallocate, open, truncate, write_at};
use crate::random::Random;

/// Largest offset that operations touch.
const SPAN: u64 = 48_000;

/// A workload under way.
struct Work<'a> {
    fs: &'a Mounted,
    disk: &'a FaultDevice,
    history: History,
    random: Random,
    open: Vec<(Arc<dyn Inode>, usize)>,
    next: u64,
}

/// Does `steps` operations of a flavour and says what it did.
pub fn run(fs: &Mounted, disk: &FaultDevice, flavour: usize, seed: u64, steps: u64) -> History {
    let mut work = Work {
        fs,
        disk,
        history: History::new(),
        random: Random::new(seed),
        open: Vec::new(),
        next: 0,
    };
    if flavours::fills_up(flavour) {
        work.fill_up();
    }
    for _ in 0..steps {
        let op = flavours::choose(flavour, &mut work.random);
        work.history.begin(disk.requests());
        match work.step(op) {
            Ok(()) | Err(Errno::ENOSPC) => {}
            Err(error) => panic!("{op:?}: {error}"),
        }
    }
    work.history
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() {
        name.into()
    } else {
        format!("{dir}/{name}")
    }
}

impl Work<'_> {
    fn step(&mut self, op: Op) -> Result<()> {
        match op {
            Op::Create => self.create(),
            Op::Mkdir => self.mkdir(),
            Op::Symlink => self.symlink(),
            Op::Link => self.link(),
            Op::Remove => self.remove(),
            Op::Rename => self.rename(),
            Op::Replace => self.replace(),
            Op::Write => self.write(),
            Op::Truncate => self.truncate(),
            Op::Fallocate => self.fallocate(),
            Op::Xattr => self.xattr(),
            Op::Nameless => self.nameless(),
            Op::Close => {
                self.open.pop();
                Ok(())
            }
            Op::Fsync => self.fsync(),
            Op::Sync => {
                self.fs.fs.sync()?;
                self.history.all_synced(self.disk.requests());
                Ok(())
            }
        }
    }

    /// Leaves little space.
    fn fill_up(&mut self) {
        self.history.begin(self.disk.requests());
        let (block, free) = self.fs.fs.statfs().map(|s| (s.bsize, s.bavail)).expect("counts");
        let Ok((inode, body)) = self.make("ballast") else {
            return;
        };
        let len = (free * block).saturating_sub(300_000);
        // ext3 has no fallocate: this is written.
        let data = vec![7; len as usize];
        let done = write_at(&inode, 0, &data).map_or(0, |written| written.count);
        self.history.change(body, |body| body.data = data[..done].to_vec());
    }

    fn paths(&self, want: impl Fn(&Node) -> bool) -> Vec<String> {
        let names: &Names = self.history.names();
        names
            .iter()
            .filter(|(_, node)| want(node))
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// A directory, `""` for the root.
    fn dir(&mut self) -> String {
        let dirs = self.paths(|node| *node == Node::Dir);
        if dirs.is_empty() || self.random.below(3) == 0 {
            return String::new();
        }
        self.random.of(&dirs).clone()
    }

    fn fresh(&mut self) -> String {
        self.next += 1;
        let name = format!("n{}{}", self.next, "-long".repeat(self.random.below(20) as usize));
        join(&self.dir(), &name)
    }

    fn parent(&self, path: &str) -> Result<(Arc<dyn Inode>, String)> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.fs.at(dir)?, name.to_owned()))
    }

    /// A file to work on: by one of its names, or one held open; a new one when there is none.
    fn file(&mut self) -> Result<(Arc<dyn Inode>, usize)> {
        if !self.open.is_empty() && self.random.below(4) == 0 {
            return Ok(self.random.of(&self.open).clone());
        }
        let files = self.paths(|node| matches!(node, Node::File(_)));
        if files.is_empty() {
            let path = self.fresh();
            return self.make(&path);
        }
        let path = self.random.of(&files).clone();
        let body = self.body_at(&path).expect("it was listed as a file");
        Ok((self.fs.at(&path)?, body))
    }

    fn body_at(&self, path: &str) -> Option<usize> {
        match self.history.names().get(path) {
            Some(Node::File(body)) => Some(*body),
            _ => None,
        }
    }

    fn make(&mut self, path: &str) -> Result<(Arc<dyn Inode>, usize)> {
        let (dir, name) = self.parent(path)?;
        let inode = dir.create(name.as_bytes(), NewNode::Regular, attr(0o644))?;
        let body = self.history.make();
        self.history
            .rename(&[body], |names| drop(names.insert(path.into(), Node::File(body))));
        Ok((inode, body))
    }

    fn create(&mut self) -> Result<()> {
        let path = self.fresh();
        self.make(&path).map(drop)
    }

    fn mkdir(&mut self) -> Result<()> {
        let path = self.fresh();
        let (dir, name) = self.parent(&path)?;
        dir.create(name.as_bytes(), NewNode::Directory, attr(0o755))?;
        self.history.rename(&[], |names| drop(names.insert(path, Node::Dir)));
        Ok(())
    }

    fn symlink(&mut self) -> Result<()> {
        let path = self.fresh();
        let text = vec![b't'; self.random.below(300) as usize + 1];
        let (dir, name) = self.parent(&path)?;
        dir.create(name.as_bytes(), NewNode::Symlink(&text), attr(0o777))?;
        self.history
            .rename(&[], |names| drop(names.insert(path, Node::Link(text))));
        Ok(())
    }

    fn link(&mut self) -> Result<()> {
        let (inode, body) = self.file()?;
        if !self.history.names().values().any(|node| *node == Node::File(body)) {
            return Ok(());
        }
        let path = self.fresh();
        let (dir, name) = self.parent(&path)?;
        dir.link(name.as_bytes(), &inode)?;
        self.history
            .rename(&[body], |names| drop(names.insert(path, Node::File(body))));
        Ok(())
    }

    /// Whether a directory has something in it.
    fn is_busy(&self, path: &str) -> bool {
        let inside = format!("{path}/");
        self.history.names().keys().any(|name| name.starts_with(&inside))
    }

    fn remove(&mut self) -> Result<()> {
        let paths = self.paths(|_| true);
        let Some(path) = (!paths.is_empty()).then(|| self.random.of(&paths).clone()) else {
            return Ok(());
        };
        self.remove_path(&path)
    }

    fn remove_path(&mut self, path: &str) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        if self.history.names().get(path) == Some(&Node::Dir) {
            if self.is_busy(path) {
                return Ok(());
            }
            dir.rmdir(name.as_bytes())?;
        } else {
            dir.unlink(name.as_bytes())?;
        }
        let touched = Vec::from_iter(self.body_at(path));
        self.history.rename(&touched, |names| drop(names.remove(path)));
        Ok(())
    }

    /// To a new place, or over what may be replaced.
    fn rename(&mut self) -> Result<()> {
        let paths = self.paths(|_| true);
        if paths.is_empty() {
            return Ok(());
        }
        let old = self.random.of(&paths).clone();
        let new = if self.random.below(2) == 0 {
            self.fresh()
        } else {
            self.random.of(&paths).clone()
        };
        self.rename_path(&old, &new)
    }

    fn rename_path(&mut self, old: &str, new: &str) -> Result<()> {
        let names = self.history.names();
        let (source, target) = (names[old].clone(), names.get(new).cloned());
        let same_kind = target
            .as_ref()
            .is_none_or(|node| (*node == Node::Dir) == (source == Node::Dir));
        let below = |a: &str, b: &str| a == b || a.starts_with(&format!("{b}/"));
        if !same_kind
            || below(new, old)
            || below(old, new)
            || self.is_busy(new)
            || target.as_ref() == Some(&source) && source != Node::Dir
        {
            return Ok(());
        }
        let ((from, first), (to, second)) = (self.parent(old)?, self.parent(new)?);
        from.rename(first.as_bytes(), &to, second.as_bytes(), RenameFlags::empty())?;
        let touched: Vec<usize> = [old, new].iter().filter_map(|path| self.body_at(path)).collect();
        let inside = format!("{old}/");
        self.history.rename(&touched, |names| {
            let moved: Vec<String> = names.keys().filter(|path| path.starts_with(&inside)).cloned().collect();
            for path in moved {
                let node = names.remove(&path).expect("it was just there");
                names.insert(format!("{new}/{}", &path[inside.len()..]), node);
            }
            names.remove(old);
            names.insert(new.into(), source);
        });
        Ok(())
    }

    fn replace(&mut self) -> Result<()> {
        let fresh = self.fresh();
        let files = self.paths(|node| matches!(node, Node::File(_)));
        let (inode, body) = self.make(&fresh)?;
        self.write_to(&inode, body)?;
        let file = open(&inode, OpenFlags::RDWR);
        file.ops().sync(&file)?;
        self.history.file_synced(body, self.disk.requests());
        if files.is_empty() {
            return Ok(());
        }
        // Its own operation: what was acknowledged above is about the name it has now.
        self.history.begin(self.disk.requests());
        let target = self.random.of(&files).clone();
        self.rename_path(&fresh, &target)
    }

    fn write(&mut self) -> Result<()> {
        let (inode, body) = self.file()?;
        self.write_to(&inode, body)
    }

    fn write_to(&mut self, inode: &Arc<dyn Inode>, body: usize) -> Result<()> {
        let at = match self.random.below(3) {
            0 => self.history.body(body).data.len() as u64,
            1 => 0,
            _ => self.random.below(SPAN),
        };
        let most = *self.random.of(&[20_000, 3000, 3000]);
        let len = 1 + self.random.below(most);
        let salt = self.random.next();
        // Neither zero nor anything that a used or discarded block holds.
        let data: Vec<u8> = (0..len)
            .map(|i| ((i / 5).wrapping_mul(salt) >> 9) as u8 % 150 + 1)
            .collect();
        let count = write_at(inode, at, &data)?.count;
        self.history
            .change(body, |body| body.write(at as usize, &data[..count]));
        Ok(())
    }

    fn truncate(&mut self) -> Result<()> {
        let (inode, body) = self.file()?;
        let size = self.random.below(SPAN);
        truncate(&inode, size)?;
        self.history.change(body, |body| body.data.resize(size as usize, 0));
        Ok(())
    }

    fn fallocate(&mut self) -> Result<()> {
        let (inode, body) = self.file()?;
        let mode = *self.random.of(&[0, 1, 3, 3, 16, 17, 8, 32]);
        let (mut at, mut len) = (self.random.below(SPAN), self.random.below(20_000) + 1);
        if matches!(mode, 8 | 32) {
            let unit = SHIFT as u64;
            (at, len) = (at / unit * unit, (len / unit + 1) * unit);
        }
        let size = self.history.body(body).data.len();
        let (from, end) = (at as usize, (at + len) as usize);
        match fallocate(&inode, mode, at, len) {
            Ok(()) => {}
            // Zeroed before space ran out.
            Err(Errno::ENOSPC) if matches!(mode, 16 | 17) => {
                self.history
                    .change(body, |body| body.data[from.min(size)..end.min(size)].fill(0));
                return Ok(());
            }
            Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOSPC) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.history.change(body, |body| {
            body.shifts += u32::from(matches!(mode, 8 | 32));
            let data = &mut body.data;
            if matches!(mode, 3 | 16 | 17) {
                data[from.min(size)..end.min(size)].fill(0);
            }
            match mode {
                0 | 16 => data.resize(size.max(end), 0),
                8 => drop(data.drain(from..end)),
                32 => drop(data.splice(from..from, std::iter::repeat_n(0, end - from))),
                _ => {}
            }
        });
        Ok(())
    }

    fn xattr(&mut self) -> Result<()> {
        let (inode, body) = self.file()?;
        let name = format!("user.a{}", self.random.below(4));
        let value = vec![self.random.next() as u8; self.random.below(700) as usize];
        if self.random.below(3) != 0 {
            inode.set_xattr(name.as_bytes(), &value, XattrFlags::empty())?;
            self.history.change(body, |body| drop(body.xattrs.insert(name, value)));
        } else if self.history.body(body).xattrs.contains_key(&name) {
            inode.remove_xattr(name.as_bytes())?;
            self.history.change(body, |body| drop(body.xattrs.remove(&name)));
        }
        Ok(())
    }

    fn nameless(&mut self) -> Result<()> {
        if self.open.len() > 4 {
            self.open.remove(0);
        }
        if self.random.below(2) == 0 {
            let dir = self.dir();
            let inode = self.fs.at(&dir)?.create_unnamed(attr(0o600))?;
            let body = self.history.make();
            self.open.push((inode.clone(), body));
            return self.write_to(&inode, body);
        }
        let files = self.paths(|node| matches!(node, Node::File(_)));
        let Some(path) = (!files.is_empty()).then(|| self.random.of(&files).clone()) else {
            return Ok(());
        };
        let body = self.body_at(&path).expect("it was listed as a file");
        self.open.push((self.fs.at(&path)?, body));
        self.remove_path(&path)
    }

    fn fsync(&mut self) -> Result<()> {
        let (inode, body) = self.file()?;
        let file = open(&inode, OpenFlags::RDWR);
        file.ops().sync(&file)?;
        self.history.file_synced(body, self.disk.requests());
        Ok(())
    }
}
