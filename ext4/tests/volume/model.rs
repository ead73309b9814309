//! Random operations against a model in memory: after each round the contents are compared, mounted anew, compared again, and `e2fsck` finds
//! nothing. `EXT4_MODEL_ROUNDS` and `EXT4_MODEL_OPS` make it longer than a test run should be.

use std::collections::BTreeMap;
use std::sync::Arc;

use ext4::Errno;
use kernel::vfs::inode::{Link, RenameFlags, XattrFlags};
use kernel::vfs::{FileSystem, FileType, Inode, NewNode};

use crate::image::{ALL, Image, Mounted, attr, fallocate, list, read_at, truncate, write_at};

/// Largest offset that operations touch.
const SPAN: u64 = 400_000;

/// A file of the model: several names may lead to it.
#[derive(Clone, Default)]
struct Body {
    data: Vec<u8>,
    xattrs: BTreeMap<String, Vec<u8>>,
    /// What was done to it, for the one who must find out.
    history: Vec<String>,
}

#[derive(Clone)]
enum Node {
    File(usize),
    Dir(BTreeMap<String, Node>),
    Link(Vec<u8>),
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // xorshift64*, Vigna 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

struct Model {
    root: BTreeMap<String, Node>,
    bodies: Vec<Body>,
    open: Vec<(Arc<dyn Inode>, usize)>,
    random: Random,
    extents: bool,
}

fn dir_of<'a>(root: &'a mut BTreeMap<String, Node>, path: &[String]) -> &'a mut BTreeMap<String, Node> {
    path.iter().fold(root, |dir, name| match dir.get_mut(name) {
        Some(Node::Dir(inner)) => inner,
        _ => panic!("a directory of the model"),
    })
}

impl Model {
    fn pick_dir(&mut self) -> Vec<String> {
        let mut path = Vec::new();
        let mut at = &self.root;
        while self.random.below(3) != 0 {
            let dirs: Vec<_> = at.iter().filter(|(_, node)| matches!(node, Node::Dir(_))).collect();
            if dirs.is_empty() || path.len() > 6 {
                break;
            }
            let (name, node) = dirs[self.random.below(dirs.len() as u64) as usize];
            let Node::Dir(inner) = node else { break };
            path.push(name.clone());
            at = inner;
        }
        path
    }

    fn pick_name(&mut self) -> String {
        let number = self.random.below(60);
        format!("n{number}{}", "-long".repeat((number % 7) as usize * 6))
    }

    /// A name that is in `dir`, most of the time.
    fn pick_present(&mut self, dir: &[String]) -> String {
        let names: Vec<String> = dir_of(&mut self.root, dir).keys().cloned().collect();
        if names.is_empty() || self.random.below(20) == 0 {
            return self.pick_name();
        }
        names[self.random.below(names.len() as u64) as usize].clone()
    }

    /// A file to work on, with its body: by a name or one held open.
    fn pick_file(&mut self, fs: &Mounted) -> Option<(Arc<dyn Inode>, usize)> {
        if !self.open.is_empty() && self.random.below(6) == 0 {
            let at = self.random.below(self.open.len() as u64) as usize;
            return Some(self.open[at].clone());
        }
        let dir = self.pick_dir();
        let name = self.pick_present(&dir);
        match dir_of(&mut self.root, &dir).get(&name) {
            Some(&Node::File(body)) => Some((fs.at(&path_of(&dir, &name)).unwrap(), body)),
            _ => None,
        }
    }

    fn step(&mut self, fs: &Mounted) {
        match self.random.below(100) {
            0..25 => self.write(fs),
            25..33 => self.truncate(fs),
            33..45 => self.fallocate(fs),
            45..60 => self.create(fs),
            60..70 => self.remove(fs),
            70..80 => self.rename(fs),
            80..84 => self.link(fs),
            84..92 => self.xattr(fs),
            92..95 => self.open(fs),
            95..97 => self.unnamed(fs),
            97 => drop(self.open.pop()),
            98 => fs.fs.sync().unwrap(),
            _ => self.compare_one(fs),
        }
    }

    fn write(&mut self, fs: &Mounted) {
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
        self.bodies[body].history.push(format!("write {at} {len}: {done:?}"));
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

    fn truncate(&mut self, fs: &Mounted) {
        let Some((inode, body)) = self.pick_file(fs) else {
            return;
        };
        let size = self.random.below(SPAN);
        self.bodies[body].history.push(format!("truncate {size}"));
        truncate(&inode, size).unwrap();
        self.bodies[body].data.resize(size as usize, 0);
    }

    fn fallocate(&mut self, fs: &Mounted) {
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
        self.bodies[body]
            .history
            .push(format!("fallocate {mode} {at} {len}: {done:?}"));
        if !self.extents && mode != 3 {
            assert_eq!(done, Err(Errno::EOPNOTSUPP));
            return;
        }
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

    fn create(&mut self, fs: &Mounted) {
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

    fn remove(&mut self, fs: &Mounted) {
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

    fn rename(&mut self, fs: &Mounted) {
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

    fn link(&mut self, fs: &Mounted) {
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

    fn xattr(&mut self, fs: &Mounted) {
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

    fn open(&mut self, fs: &Mounted) {
        if self.open.len() < 5
            && let Some(found) = self.pick_file(fs)
        {
            self.open.push(found);
        }
    }

    fn unnamed(&mut self, fs: &Mounted) {
        let dir = self.pick_dir();
        if let Ok(inode) = fs.at(&dir.join("/")).unwrap().create_unnamed(attr(0o600)) {
            self.bodies.push(Body::default());
            self.open.push((inode, self.bodies.len() - 1));
        }
    }

    fn compare_one(&mut self, fs: &Mounted) {
        if let Some((inode, body)) = self.pick_file(fs) {
            same(&inode, &self.bodies[body], "one");
        }
    }

    fn compare(&self, fs: &Mounted) {
        self.compare_dir(&fs.root(), &self.root, "");
        for (inode, body) in &self.open {
            same(inode, &self.bodies[*body], "open");
        }
    }

    fn compare_dir(&self, dir: &Arc<dyn Inode>, names: &BTreeMap<String, Node>, path: &str) {
        let mut found = list(dir);
        found.retain(|name| name != "lost+found");
        assert_eq!(found, names.keys().cloned().collect::<Vec<_>>(), "{path}");
        for (name, node) in names {
            let path = format!("{path}/{name}");
            let inode = dir.lookup(name.as_bytes()).unwrap();
            match node {
                Node::Dir(inner) => self.compare_dir(&inode, inner, &path),
                Node::File(body) => same(&inode, &self.bodies[*body], &path),
                Node::Link(text) => {
                    assert_eq!(inode.kind(), FileType::Symlink);
                    assert!(matches!(inode.read_link().unwrap(), Link::Text(found) if found == *text));
                }
            }
        }
    }
}

fn path_of(dir: &[String], name: &str) -> String {
    format!("{}/{name}", dir.join("/"))
}

fn same(inode: &Arc<dyn Inode>, body: &Body, path: &str) {
    assert_eq!(inode.metadata().unwrap().size, body.data.len() as u64, "{path}");
    let data = read_at(inode, 0, body.data.len()).unwrap();
    if data != body.data {
        let at = data.iter().zip(&body.data).position(|(a, b)| a != b).unwrap_or(0);
        let some = at..(at + 16).min(data.len()).min(body.data.len());
        panic!(
            "{path}: differs at {at} of {}: {:?}, not {:?} after {:#?}",
            body.data.len(),
            &data[some.clone()],
            &body.data[some],
            &body.history[body.history.len().saturating_sub(40)..]
        );
    }
    for (name, value) in &body.xattrs {
        assert!(inode.get_xattr(name.as_bytes()).unwrap() == *value, "{path} {name}");
    }
    assert_eq!(inode.list_xattr().unwrap().len(), body.xattrs.len(), "{path}");
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

fn run(kind: &'static str, options: &str, megabytes: u64, seed: u64) {
    let image = Image::new(kind, options, megabytes);
    let mut model = Model {
        root: BTreeMap::new(),
        bodies: Vec::new(),
        open: Vec::new(),
        random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
        extents: kind == "ext4",
    };
    let steps = setting("EXT4_MODEL_OPS", 600);
    let turns = 3;
    for turn in 0..turns {
        {
            let fs = image.mount();
            model.compare(&fs);
            for _ in 0..steps / turns {
                model.step(&fs);
            }
            model.compare(&fs);
            model.open.clear();
        }
        println!("{kind} {options} seed {seed} turn {turn}");
        image.check();
    }
    let fs = image.mount();
    model.compare(&fs);
}

#[test]
fn random_operations_leave_what_the_model_says() {
    for (kind, options) in ALL {
        for seed in 1..=setting("EXT4_MODEL_ROUNDS", 2) {
            run(kind, options, 64, seed);
        }
    }
}

#[test]
fn random_operations_on_a_small_disk_run_out_of_space_in_order() {
    for (kind, options) in ALL {
        for seed in 101..=100 + setting("EXT4_MODEL_ROUNDS", 2) {
            run(kind, &format!("{options} -m 0"), 6, seed);
        }
    }
}

#[test]
fn random_operations_on_unusual_layouts() {
    for options in [
        "-b 1024 -g 1024 -O meta_bg,^resize_inode",
        "-b 1024 -g 2048 -O sparse_super2",
        "-b 4096 -I 128",
        "-b 1024 -O ^dir_index",
        "-b 1024 -O large_dir,^flex_bg",
        "-b 4096 -O orphan_file,fast_commit",
        "-b 1024 -O ^64bit,^metadata_csum,^uninit_bg,^sparse_super,^resize_inode",
        "-b 4096 -E lazy_itable_init=1 -O ea_inode",
    ] {
        run("ext4", options, 48, 7);
    }
    run("ext4", "-b 1024 -O ^has_journal", 32, 8);
    run("ext2", "-b 1024 -I 256", 32, 9);
}
