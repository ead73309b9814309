//! tmpfs and the walk over it, without a guest: the rules against expectations, and random changes against a model.

extern crate std;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::options::Options;
use super::*;
use crate::io::{SliceSink, SliceSource};
use crate::task::Cred;
use crate::vfs::file::SeekTarget;
use crate::vfs::inode::RenameFlags;
use crate::vfs::mount::{Mount, MountFlags};
use crate::vfs::super_block::SuperBlock;
use crate::vfs::walk::{self, WalkContext, WalkFlags};
use crate::vfs::{Mode, NewNode, Path, namei};

/// A world of its own: an unmounted instance whose root is the walker's root.
fn world() -> WalkContext {
    let block = SuperBlock::of(TmpFs::new("tmpfs", Options::unlimited(0o755)), false);
    let root = block.root().clone();
    let mount = Mount::new(block, root, b"test".to_vec(), MountFlags::empty());
    WalkContext {
        cred: Cred::root(),
        root: Path::root_of(&mount),
    }
}

fn user(world: &WalkContext, uid: u32) -> WalkContext {
    let mut cred = (*Cred::root()).clone();
    cred.uid = uid;
    cred.euid = uid;
    cred.fsuid = uid;
    cred.fsgid = uid;
    cred.effective = crate::task::Capabilities::empty();
    WalkContext {
        cred: Arc::new(cred),
        root: world.root.clone(),
    }
}

fn find(world: &WalkContext, text: &str) -> Result<Path> {
    walk::lookup(world, &world.root, text.as_bytes(), WalkFlags::FOLLOW)
}

fn make(world: &WalkContext, text: &str, node: NewNode<'_>) -> Result<()> {
    let parent = walk::lookup_parent(world, &world.root, text.as_bytes(), WalkFlags::empty())?;
    let name = namei::new_name(&parent, node.kind())?;
    namei::create(&parent.dir, name, node, Mode::from_bits_truncate(0o755), &world.cred).map(|_| ())
}

fn parent_of(world: &WalkContext, text: &str) -> Result<walk::Parent> {
    walk::lookup_parent(world, &world.root, text.as_bytes(), WalkFlags::empty())
}

fn rename(world: &WalkContext, old: &str, new: &str, flags: RenameFlags) -> Result<()> {
    namei::rename(&parent_of(world, old)?, &parent_of(world, new)?, flags, &world.cred)
}

fn unlink(world: &WalkContext, text: &str) -> Result<()> {
    namei::unlink(&parent_of(world, text)?, &world.cred)
}

fn rmdir(world: &WalkContext, text: &str) -> Result<()> {
    namei::rmdir(&parent_of(world, text)?, &world.cred)
}

#[test]
fn a_walk_follows_links_and_stays_below_the_root() {
    let world = world();
    make(&world, "/a", NewNode::Directory).unwrap();
    make(&world, "/a/b", NewNode::Directory).unwrap();
    make(&world, "/a/b/file", NewNode::Regular).unwrap();
    make(&world, "/up", NewNode::Symlink(b"../../../a/./b/")).unwrap();
    let file = find(&world, "/up/file").unwrap();
    assert_eq!(file.text(&world.root).0, b"/a/b/file");
    assert!(find(&world, "/a/../../a/b/..//b/file").unwrap().same_as(&file));
    assert_eq!(find(&world, "/a/b/file/").err(), Some(Errno::ENOTDIR));
    assert_eq!(find(&world, "/a/b/file/x").err(), Some(Errno::ENOTDIR));
    assert_eq!(find(&world, "").err(), Some(Errno::ENOENT));
    assert_eq!(find(&world, &"x".repeat(256)).err(), Some(Errno::ENAMETOOLONG));
    assert_eq!(find(&world, &"a/".repeat(2100)).err(), Some(Errno::ENAMETOOLONG));
    assert_eq!(find(&world, &"x".repeat(255)).err(), Some(Errno::ENOENT));
}

#[test]
fn a_circle_of_symlinks_is_eloop_and_forty_are_not() {
    let world = world();
    make(&world, "/loop", NewNode::Symlink(b"loop")).unwrap();
    assert_eq!(find(&world, "/loop").err(), Some(Errno::ELOOP));
    make(&world, "/l0", NewNode::Symlink(b"/")).unwrap();
    for at in 1..=40 {
        make(
            &world,
            &format!("/l{at}"),
            NewNode::Symlink(format!("l{}", at - 1).as_bytes()),
        )
        .unwrap();
    }
    assert!(find(&world, "/l39").is_ok());
    assert_eq!(find(&world, "/l40").err(), Some(Errno::ELOOP));
}

#[test]
fn resolve_flags_hold_the_walker_back() {
    let world = world();
    make(&world, "/jail", NewNode::Directory).unwrap();
    make(&world, "/jail/in", NewNode::Directory).unwrap();
    make(&world, "/jail/abs", NewNode::Symlink(b"/in")).unwrap();
    make(&world, "/out", NewNode::Regular).unwrap();
    let jail = find(&world, "/jail").unwrap();
    let go = |text: &[u8], flags| walk::lookup(&world, &jail, text, flags | WalkFlags::FOLLOW);
    assert_eq!(go(b"../out", WalkFlags::BENEATH).err(), Some(Errno::EXDEV));
    assert_eq!(go(b"abs", WalkFlags::BENEATH).err(), Some(Errno::EXDEV));
    assert_eq!(go(b"../out", WalkFlags::IN_ROOT).err(), Some(Errno::ENOENT));
    assert!(go(b"abs", WalkFlags::IN_ROOT).is_ok());
    assert!(go(b"in/..", WalkFlags::BENEATH).is_ok());
    assert_eq!(go(b"abs", WalkFlags::NO_SYMLINKS).err(), Some(Errno::ELOOP));
}

#[test]
fn mode_bits_and_the_sticky_bit_hold_users_back() {
    let world = world();
    make(&world, "/tmp", NewNode::Directory).unwrap();
    let tmp = find(&world, "/tmp").unwrap().inode();
    let mode = |bits| crate::vfs::SetAttr {
        mode: Some(Mode::from_bits_truncate(bits)),
        ..Default::default()
    };
    tmp.set_attr(&mode(0o1777)).unwrap();
    let (one, two) = (user(&world, 1), user(&world, 2));
    make(&one, "/tmp/file", NewNode::Regular).unwrap();
    assert_eq!(unlink(&two, "/tmp/file"), Err(Errno::EPERM));
    assert_eq!(make(&two, "/file", NewNode::Regular), Err(Errno::EACCES));
    assert_eq!(
        rename(&two, "/tmp/file", "/tmp/other", RenameFlags::empty()),
        Err(Errno::EPERM)
    );
    assert_eq!(unlink(&one, "/tmp/file"), Ok(()));
    tmp.set_attr(&mode(0o700)).unwrap();
    assert_eq!(find(&one, "/tmp/x").err(), Some(Errno::EACCES));
}

#[test]
fn an_unlinked_file_lives_on_and_shows_as_deleted() {
    let world = world();
    make(&world, "/file", NewNode::Regular).unwrap();
    let file = find(&world, "/file").unwrap();
    unlink(&world, "/file").unwrap();
    assert_eq!(file.display(&world.root), b"/file (deleted)");
    assert_eq!(file.inode().metadata().unwrap().nlink, 0);
    assert_eq!(find(&world, "/file").err(), Some(Errno::ENOENT));
    make(&world, "/file", NewNode::Regular).unwrap();
    assert_ne!(find(&world, "/file").unwrap().inode().ino(), file.inode().ino());
}

#[test]
fn rename_refuses_what_posix_refuses() {
    let world = world();
    for dir in ["/a", "/a/b", "/full", "/full/x", "/empty"] {
        make(&world, dir, NewNode::Directory).unwrap();
    }
    make(&world, "/file", NewNode::Regular).unwrap();
    let plain = RenameFlags::empty();
    assert_eq!(rename(&world, "/a", "/a/b/c", plain), Err(Errno::EINVAL));
    assert_eq!(rename(&world, "/a/b", "/a", plain), Err(Errno::ENOTEMPTY));
    assert_eq!(rename(&world, "/a", "/full", plain), Err(Errno::ENOTEMPTY));
    assert_eq!(rename(&world, "/a", "/file", plain), Err(Errno::ENOTDIR));
    assert_eq!(rename(&world, "/file", "/empty", plain), Err(Errno::EISDIR));
    assert_eq!(rename(&world, "/file", "/new/", plain), Err(Errno::ENOTDIR));
    assert_eq!(
        rename(&world, "/a", "/empty", RenameFlags::NOREPLACE),
        Err(Errno::EEXIST)
    );
    assert_eq!(rename(&world, "/a", "/empty", plain), Ok(()));
    assert!(find(&world, "/empty/b").is_ok());
    assert_eq!(rename(&world, "/file", "/empty/b", RenameFlags::EXCHANGE), Ok(()));
    assert!(find(&world, "/file").unwrap().dentry.is_dir());
    assert_eq!(find(&world, "/empty").unwrap().inode().metadata().unwrap().nlink, 2);
    assert_eq!(find(&world, "/").unwrap().inode().metadata().unwrap().nlink, 5);
}

#[test]
fn a_deep_tree_goes_away_without_a_deep_stack() {
    let world = world();
    let mut at = world.root.clone();
    for _ in 0..20_000 {
        let dentry = namei::create(
            &at,
            b"d",
            NewNode::Directory,
            Mode::from_bits_truncate(0o755),
            &world.cred,
        )
        .unwrap();
        at.dentry = dentry;
    }
    drop(at);
    drop(world);
}

#[test]
fn size_limits_give_enospc_and_take_back_what_is_freed() {
    let mut options = Options::unlimited(0o755);
    options.pages = Some(4);
    let fs = TmpFs::new("tmpfs", options);
    let mut content = content::Content::new();
    let data = vec![1; 5 * 4096];
    // What fits is written, the rest is not.
    assert_eq!(content.write(&fs, 0, &mut SliceSource::new(&data)), Ok(4 * 4096));
    assert_eq!(
        content.write(&fs, 1 << 20, &mut SliceSource::new(&data)),
        Err(Errno::ENOSPC)
    );
    content.punch(&fs, 4096, 8192).unwrap();
    assert_eq!(content.seek(0, SeekTarget::Hole), Ok(4096));
    assert_eq!(content.seek(4096, SeekTarget::Data), Ok(8192));
    assert_eq!(content.write(&fs, 1 << 20, &mut SliceSource::new(&data[..10])), Ok(10));
    content.resize(&fs, 0).unwrap();
    assert_eq!(fs.statfs().unwrap().bfree, 4);
}

/// One step of the model test of contents.
#[derive(Clone, Debug)]
enum Change {
    Write(u64, usize, u8),
    Resize(u64),
    Punch(u64, u64),
    Map,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (0u64..300_000, 0usize..100_000, 1u8..).prop_map(|(at, len, byte)| Change::Write(at, len, byte)),
        2 => (0u64..300_000).prop_map(Change::Resize),
        2 => (0u64..300_000, 0u64..200_000).prop_map(|(at, len)| Change::Punch(at, at + len)),
        1 => Just(Change::Map),
    ]
}

/// One step of the model test of names.
#[derive(Clone, Debug)]
enum Step {
    Dir(String),
    File(String),
    Unlink(String),
    Rmdir(String),
    Rename(String, String),
    Swap(String, String),
    Look(String),
}

fn some_path() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof!["a", "b", "c"], 1..4).prop_map(|names| format!("/{}", names.join("/")))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => some_path().prop_map(Step::Dir),
        3 => some_path().prop_map(Step::File),
        1 => some_path().prop_map(Step::Unlink),
        1 => some_path().prop_map(Step::Rmdir),
        3 => (some_path(), some_path()).prop_map(|(old, new)| Step::Rename(old, new)),
        1 => (some_path(), some_path()).prop_map(|(old, new)| Step::Swap(old, new)),
        1 => some_path().prop_map(Step::Look),
    ]
}

/// The tree as a map from path to "is a directory".
#[derive(Default)]
struct Model(BTreeMap<String, bool>);

impl Model {
    fn parent(path: &str) -> &str {
        &path[..path.rfind('/').unwrap_or(0)]
    }

    fn has_parent(&self, path: &str) -> bool {
        let parent = Self::parent(path);
        parent.is_empty() || self.0.get(parent) == Some(&true)
    }

    fn make(&mut self, path: &str, is_dir: bool) -> bool {
        let ok = self.has_parent(path) && !self.0.contains_key(path);
        if ok {
            self.0.insert(path.to_string(), is_dir);
        }
        ok
    }

    fn is_empty_dir(&self, path: &str) -> bool {
        let prefix = format!("{path}/");
        self.0.get(path) == Some(&true) && !self.0.keys().any(|other| other.starts_with(&prefix))
    }

    fn take(&mut self, path: &str) -> Vec<(String, bool)> {
        let prefix = format!("{path}/");
        let moved: Vec<String> = self
            .0
            .keys()
            .filter(|other| *other == path || other.starts_with(&prefix))
            .cloned()
            .collect();
        moved
            .into_iter()
            .filter_map(|name| {
                self.0
                    .remove(&name)
                    .map(|is_dir| (name[path.len()..].to_string(), is_dir))
            })
            .collect()
    }

    fn put(&mut self, path: &str, entries: Vec<(String, bool)>) {
        self.0.extend(
            entries
                .into_iter()
                .map(|(rest, is_dir)| (format!("{path}{rest}"), is_dir)),
        );
    }

    fn rename(&mut self, old: &str, new: &str) -> bool {
        let Some(&is_dir) = self.0.get(old) else { return false };
        if !self.has_parent(old) || !self.has_parent(new) || new.starts_with(&format!("{old}/")) {
            return false;
        }
        if old == new {
            return true;
        }
        if let Some(&target) = self.0.get(new)
            && (is_dir != target || (target && !self.is_empty_dir(new)))
        {
            return false;
        }
        if old.starts_with(&format!("{new}/")) {
            return false;
        }
        self.0.remove(new);
        let moved = self.take(old);
        self.put(new, moved);
        true
    }

    fn swap(&mut self, old: &str, new: &str) -> bool {
        let nested = new.starts_with(&format!("{old}/")) || old.starts_with(&format!("{new}/"));
        if !self.0.contains_key(old) || !self.0.contains_key(new) || nested {
            return false;
        }
        let one = self.take(old);
        let two = self.take(new);
        self.put(new, one);
        self.put(old, two);
        true
    }
}

/// Every path below the root, read from the file system itself.
fn dump(inode: &Arc<dyn Inode>, at: &str, out: &mut BTreeMap<String, bool>) {
    let mut names = Vec::new();
    let file = crate::vfs::File::new(
        inode.clone().open(crate::vfs::OpenFlags::empty()).unwrap(),
        None,
        crate::vfs::OpenFlags::empty(),
        Cred::root(),
    );
    file.ops()
        .read_dir(&file, 2, &mut |entry| {
            names.push(String::from_utf8(entry.name.to_vec()).unwrap());
            true
        })
        .unwrap();
    for name in names {
        let child = inode.lookup(name.as_bytes()).unwrap();
        let path = format!("{at}/{name}");
        let is_dir = child.kind() == crate::vfs::FileType::Directory;
        out.insert(path.clone(), is_dir);
        if is_dir {
            dump(&child, &path, out);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn contents_are_what_was_written(changes in proptest::collection::vec(change(), 1..24)) {
        let fs = TmpFs::new("tmpfs", Options::unlimited(0o755));
        let mut content = content::Content::new();
        let mut model: Vec<u8> = Vec::new();
        for change in changes {
            match change {
                Change::Write(at, len, byte) => {
                    let data = vec![byte; len];
                    prop_assert_eq!(content.write(&fs, at, &mut SliceSource::new(&data)), Ok(len));
                    if len > 0 {
                        let end = at as usize + len;
                        model.resize(model.len().max(end), 0);
                        model[at as usize..end].fill(byte);
                    }
                }
                Change::Resize(size) => {
                    content.resize(&fs, size).unwrap();
                    model.resize(size as usize, 0);
                }
                Change::Punch(start, end) => {
                    content.punch(&fs, start, end).unwrap();
                    let end = model.len().min(end as usize);
                    if (start as usize) < end {
                        model[start as usize..end].fill(0);
                    }
                }
                Change::Map => drop(content.host_memory(&fs).unwrap()),
            }
            prop_assert_eq!(content.size(), model.len() as u64);
            let mut got = vec![0xee; model.len() + 1];
            let mut sink = SliceSink::new(&mut got);
            prop_assert_eq!(content.read(0, &mut sink), Ok(model.len()));
            prop_assert!(got[..model.len()] == model[..]);
        }
        content.release(&fs);
        prop_assert_eq!(fs.pages.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn names_are_what_the_model_says(steps in proptest::collection::vec(step(), 1..60)) {
        let world = world();
        let mut model = Model::default();
        for step in steps {
            let (got, expected) = match &step {
                Step::Dir(path) => (make(&world, path, NewNode::Directory).is_ok(), model.make(path, true)),
                Step::File(path) => (make(&world, path, NewNode::Regular).is_ok(), model.make(path, false)),
                Step::Unlink(path) => {
                    let expected = model.0.get(path) == Some(&false);
                    if expected { model.0.remove(path); }
                    (unlink(&world, path).is_ok(), expected)
                }
                Step::Rmdir(path) => {
                    let expected = model.is_empty_dir(path);
                    if expected { model.0.remove(path); }
                    (rmdir(&world, path).is_ok(), expected)
                }
                Step::Rename(old, new) => (rename(&world, old, new, RenameFlags::empty()).is_ok(), model.rename(old, new)),
                Step::Swap(old, new) => {
                    let expected = if old == new { model.0.contains_key(old) } else { model.swap(old, new) };
                    (rename(&world, old, new, RenameFlags::EXCHANGE).is_ok(), expected)
                }
                Step::Look(path) => (find(&world, path).is_ok(), model.0.contains_key(path)),
            };
            prop_assert_eq!(got, expected, "{:?}", step);
        }
        let mut seen = BTreeMap::new();
        dump(&world.root.inode(), "", &mut seen);
        prop_assert_eq!(seen.iter().collect::<Vec<_>>(), model.0.iter().collect::<Vec<_>>());
        for path in model.0.keys() {
            prop_assert_eq!(find(&world, path).unwrap().text(&world.root).0, path.as_bytes());
        }
    }
}
