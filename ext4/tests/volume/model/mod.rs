//! Random operations against a model in memory: after each round the contents are compared, `e2fsck` finds nothing, other people's readers find
//! the same, and so does the next mount.

mod ops;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::vfs::{FileSystem, Inode};

use crate::campaign::{Campaign, chosen, setting};
use crate::image::{ALL, Image, Mounted, read_all};
use crate::random::Random;
use crate::readers::{Holes, READERS, Reader};
use crate::tree::{Thing, Tree};

/// Largest offset that operations touch.
const SPAN: u64 = 400_000;

/// Most directories above a file.
const DEEPEST: usize = 12;

/// A file of the model: several names may lead to it.
#[derive(Clone, Default)]
struct Body {
    data: Vec<u8>,
    xattrs: BTreeMap<String, Vec<u8>>,
    /// Some of it may lie in unwritten extents.
    preallocated: bool,
    /// What was done to it, for the one who must find out.
    history: Vec<String>,
}

#[derive(Clone)]
enum Node {
    File(usize),
    Dir(BTreeMap<String, Node>),
    Link(Vec<u8>),
}

impl Node {
    /// Levels of directories below and with it.
    fn height(&self) -> usize {
        match self {
            Self::Dir(names) => 1 + names.values().map(Self::height).max().unwrap_or(0),
            _ => 0,
        }
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

    /// Something was done to a file.
    fn note(&mut self, body: usize, what: String) {
        let history = &mut self.bodies[body].history;
        if history.len() > 40 {
            history.remove(0);
        }
        history.push(what);
    }

    /// Forgets the contents of what nobody can reach any more.
    fn forget_the_dead(&mut self) {
        let mut alive: BTreeSet<usize> = self.open.iter().map(|(_, body)| *body).collect();
        alive.extend(self.links().keys());
        for (body, state) in self.bodies.iter_mut().enumerate() {
            if !alive.contains(&body) {
                *state = Body::default();
            }
        }
    }

    /// The files that have names, with how many.
    fn links(&self) -> BTreeMap<usize, u32> {
        let mut counts = BTreeMap::new();
        let mut dirs = vec![&self.root];
        while let Some(names) = dirs.pop() {
            for node in names.values() {
                match node {
                    Node::File(body) => *counts.entry(*body).or_default() += 1,
                    Node::Dir(inner) => dirs.push(inner),
                    Node::Link(_) => {}
                }
            }
        }
        counts
    }

    /// What a reader should find.
    fn tree(&self, holes: Holes) -> Tree {
        let links = self.links();
        let mut tree = Tree::default();
        let mut dirs = vec![(String::new(), &self.root)];
        while let Some((base, names)) = dirs.pop() {
            for (name, node) in names {
                let path = format!("{base}{name}");
                let thing = match node {
                    Node::Dir(inner) => {
                        dirs.push((format!("{path}/"), inner));
                        Thing::Dir
                    }
                    Node::Link(text) => Thing::Link(text.clone()),
                    Node::File(number) => {
                        let body = &self.bodies[*number];
                        // Without extents, what the inode itself points to.
                        let has_simple_map = self.extents || body.data.len() <= 12 * 1024;
                        let is_readable = holes == Holes::Zeros || !body.preallocated && has_simple_map;
                        Thing::File {
                            ino: None,
                            links: Some(links[number]),
                            data: is_readable.then(|| body.data.clone()),
                            xattrs: Some(body.xattrs.clone()),
                        }
                    }
                };
                tree.things.insert(path, thing);
            }
        }
        tree
    }

    fn compare_one(&mut self, fs: &Mounted) {
        if let Some((inode, body)) = self.pick_file(fs) {
            self.same(&inode, body);
        }
    }

    fn compare(&self, fs: &Mounted) {
        self.found(&Tree::of(fs).unwrap(), "ours", Holes::Zeros);
        for (inode, body) in &self.open {
            self.same(inode, *body);
        }
    }

    /// Panics unless `reader` has found what the model has; with what was done to the file.
    fn found(&self, tree: &Tree, reader: &str, holes: Holes) {
        if let Err(text) = tree.is(&self.tree(holes)) {
            let path = text.split([':', ' ']).next().unwrap_or_default();
            let body = path.split('/').try_fold(None, |at: Option<&Node>, name| match at {
                None => Some(self.root.get(name)),
                Some(Node::Dir(inner)) => Some(inner.get(name)),
                _ => None,
            });
            let history = match body {
                Some(Some(Node::File(body))) => &self.bodies[*body].history[..],
                _ => &[],
            };
            panic!("{reader}: {text} after {history:#?}");
        }
    }

    fn same(&self, inode: &Arc<dyn Inode>, body: usize) {
        let (data, wanted) = (read_all(inode), &self.bodies[body]);
        assert!(data == wanted.data, "contents differ after {:#?}", wanted.history);
    }
}

fn path_of(dir: &[String], name: &str) -> String {
    format!("{}/{name}", dir.join("/"))
}

/// A run: how many operations in how many mounts, and who reads the image in between.
struct Run {
    kind: &'static str,
    options: String,
    /// `mount -o`.
    mounted: &'static str,
    megabytes: u64,
    seed: u64,
    steps: u64,
    mounts: u64,
    readers: &'static [Reader],
}

impl Run {
    fn go(&self) {
        let image = Image::new(self.kind, &self.options, self.megabytes);
        let mut model = Model {
            root: BTreeMap::new(),
            bodies: Vec::new(),
            open: Vec::new(),
            random: Random::new(self.seed),
            extents: self.kind == "ext4",
        };
        for _ in 0..self.mounts {
            let fs = image.mount_with(self.mounted, false).unwrap();
            model.compare(&fs);
            for step in 0..self.steps / self.mounts {
                model.step(&fs);
                if step % 500 == 0 {
                    model.forget_the_dead();
                }
            }
            model.compare(&fs);
            model.open.clear();
            drop(fs);
            image.check();
            for reader in self.readers {
                let tree = (reader.read)(&image).unwrap_or_else(|text| panic!("{}: {text}", reader.name));
                if let Some(tree) = tree {
                    model.found(&tree, reader.name, reader.holes);
                }
            }
        }
        model.compare(&image.mount());
    }
}

fn run(kind: &'static str, options: &str, megabytes: u64, seed: u64, readers: &'static [Reader]) {
    Run {
        kind,
        options: options.into(),
        mounted: "",
        megabytes,
        seed,
        steps: 600,
        mounts: 3,
        readers,
    }
    .go();
}

#[test]
fn random_operations_leave_what_the_model_says() {
    for (kind, options) in ALL {
        for seed in 1..3 {
            run(kind, options, 64, seed, &READERS);
        }
    }
}

#[test]
fn random_operations_on_a_small_disk_run_out_of_space_in_order() {
    for (kind, options) in ALL {
        for seed in 101..103 {
            run(kind, &format!("{options} -m 0"), 6, seed, &[]);
        }
    }
}

/// Who knows such a disk: only debugfs reads directories in inodes.
fn readers_of(options: &str) -> &'static [Reader] {
    if options.contains("inline_data") {
        &READERS[..1]
    } else {
        &READERS
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
        run("ext4", options, 48, 7, &READERS);
    }
    for options in [
        "-b 4096 -O inline_data",
        "-b 1024 -I 1024 -O inline_data,^metadata_csum",
    ] {
        run("ext4", options, 48, 7, readers_of(options));
    }
    run("ext4", "-b 1024 -O ^has_journal", 32, 8, &READERS);
    run("ext2", "-b 1024 -I 256", 32, 9, &READERS);
}

#[test]
fn random_operations_with_all_data_in_the_journal() {
    for (seed, kind, options, megabytes) in [
        (21, "ext4", "-b 4096", 64),
        (22, "ext4", "-b 1024 -m 0", 8),
        (23, "ext3", "-b 1024", 32),
    ] {
        Run {
            kind,
            options: options.into(),
            mounted: "data=journal",
            megabytes,
            seed,
            steps: 600,
            mounts: 3,
            readers: &READERS,
        }
        .go();
    }
}

/// The kinds of disk of the long runs: type, words for `mke2fs`.
const KINDS: [(&str, &str); 8] = [
    ("ext4", "-b 1024"),
    ("ext3", "-b 1024"),
    ("ext4", "-b 4096"),
    ("ext3", "-b 4096"),
    (
        "ext4",
        "-b 1024 -O large_dir,ea_inode,inline_data,orphan_file,fast_commit,metadata_csum_seed,sparse_super2",
    ),
    ("ext3", "-b 1024 -I 256 -O meta_bg,^resize_inode"),
    (
        "ext4",
        "-b 4096 -O large_dir,ea_inode,inline_data,orphan_file,fast_commit,metadata_csum_seed,sparse_super2",
    ),
    ("ext3", "-b 4096 -I 256 -O meta_bg,^resize_inode"),
];

#[test]
#[ignore = "many operations take long: cargo xtask judge ext4 model"]
fn at_scale() {
    let steps = setting("EXT4_MODEL_STEPS", 20_000);
    let run = |number: u64| {
        let (kind, options) = KINDS[(number % 8) as usize];
        Run {
            kind,
            options: options.into(),
            mounted: "",
            megabytes: 64,
            seed: 1000 + number,
            steps,
            mounts: 4,
            readers: readers_of(options),
        }
        .go();
        Ok(steps)
    };
    Campaign {
        units: "operations",
        row: &|number| {
            let (kind, options) = KINDS[(number % 8) as usize];
            format!("{kind} {options}")
        },
        run: &run,
    }
    .judge(chosen(setting("EXT4_JUDGE_COUNT", 80)));
}
