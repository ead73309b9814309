//! Directory entries and the limit on descriptors.

use std::collections::BTreeSet;
use std::sync::Arc;

use kernel::vfs::file::DirEntry;
use kernel::vfs::{File, FileType, Inode};

use crate::{TempDir, open, read_only};

/// All entries from `pos` on, `step` a call.
fn list(file: &File, mut pos: u64, step: usize) -> Vec<(Vec<u8>, u64, Option<FileType>, u64)> {
    let mut all = Vec::new();
    loop {
        let before = all.len();
        let mut emit = |entry: DirEntry<'_>| {
            if all.len() - before == step {
                return false;
            }
            all.push((entry.name.to_vec(), entry.ino, entry.kind, entry.next));
            true
        };
        file.ops().read_dir(file, pos, &mut emit).unwrap();
        match all.last() {
            Some(last) if all.len() > before => pos = last.3,
            _ => return all,
        }
    }
}

#[test]
fn every_entry_comes_once_however_small_the_steps() {
    let dir = TempDir::new();
    for i in 0..3000 {
        dir.write(&format!("a-rather-long-name-{i}"), "");
    }
    dir.mkdir("sub");
    let fs = dir.mount();
    let file = open(&fs.root(), read_only()).unwrap();
    for step in [1, 7, 100_000] {
        let entries = list(&file, 0, step);
        assert_eq!(entries.len(), 3003);
        let names: BTreeSet<_> = entries.iter().map(|entry| entry.0.clone()).collect();
        assert_eq!(names.len(), 3003);
        assert!(names.contains(&b"."[..]) && names.contains(&b".."[..]));
    }
    for (name, ino, kind, _) in list(&file, 0, 100_000) {
        if name == b"." || name == b".." {
            assert_eq!(ino, fs.root().ino(), "nothing above the root shows");
        } else {
            let inode = fs.root().lookup(&name).unwrap();
            assert_eq!((inode.ino(), Some(inode.kind())), (ino, kind));
        }
    }
}

#[test]
fn a_position_leads_back_to_the_same_place() {
    let dir = TempDir::new();
    for i in 0..500 {
        dir.write(&format!("f{i}"), "");
    }
    let fs = dir.mount();
    let file = open(&fs.root(), read_only()).unwrap();
    let all = list(&file, 0, 100_000);
    for at in [0, 1, 250, 499] {
        let rest = list(&file, all[at].3, 100_000);
        assert_eq!(rest, all[at + 1..]);
    }
    // Another open directory takes the position too.
    let other = open(&fs.root(), read_only()).unwrap();
    assert_eq!(list(&other, all[250].3, 13), all[251..]);
}

#[test]
fn rewinding_shows_what_is_there_now() {
    let dir = TempDir::new();
    let fs = dir.mount();
    let file = open(&fs.root(), read_only()).unwrap();
    assert_eq!(list(&file, 0, 10).len(), 2);
    dir.write("new", "");
    assert_eq!(list(&file, 0, 10).len(), 3);
    fs.root().unlink(b"new").unwrap();
    assert_eq!(list(&file, 0, 10).len(), 2);
}

#[test]
fn more_inodes_than_descriptors_can_be_held_and_used() {
    let dir = TempDir::new();
    for i in 0..100 {
        dir.mkdir(&format!("d{i}"));
        for j in 0..5 {
            dir.mkdir(&format!("d{i}/s{j}"));
            dir.write(&format!("d{i}/s{j}/f"), "data");
        }
    }
    let options = hostfs::HostfsArgs {
        root: dir.path().to_str().unwrap().into(),
        append: false,
    };
    let fs = hostfs::HostFs::with_anchor_limit(&options, 20).unwrap();
    let root: Arc<dyn Inode> = kernel::vfs::FileSystem::root(&*fs);
    let mut held = Vec::new();
    for i in 0..100 {
        let d = root.lookup(format!("d{i}").as_bytes()).unwrap();
        for j in 0..5 {
            let s = d.lookup(format!("s{j}").as_bytes()).unwrap();
            held.push(s.lookup(b"f").unwrap());
            held.push(s);
        }
        held.push(d);
    }
    assert_eq!(fs.usage().0, 1 + 100 + 1000);
    assert!(fs.usage().1 <= 21, "{} anchors", fs.usage().1);
    for inode in &held {
        inode.metadata().unwrap();
        if inode.kind() == FileType::Regular {
            let file = open(inode, read_only()).unwrap();
            assert_eq!(crate::read_at(&file, 0, 10).unwrap(), b"data");
        } else {
            assert!(inode.lookup(b"f").is_ok() || inode.lookup(b"s0").is_ok());
        }
    }
    assert!(fs.usage().1 <= 21, "{} anchors", fs.usage().1);
    drop(held);
    drop(root);
    assert_eq!(fs.usage().0, 1);
    kernel::vfs::FileSystem::unmount(&*fs).unwrap();
    assert_eq!(fs.usage(), (0, 0));
}

#[test]
fn a_tree_deeper_than_any_stack_is_let_go() {
    let dir = TempDir::new();
    let options = hostfs::HostfsArgs {
        root: dir.path().to_str().unwrap().into(),
        append: false,
    };
    let fs = hostfs::HostFs::with_anchor_limit(&options, 16).unwrap();
    let mut here: Arc<dyn Inode> = kernel::vfs::FileSystem::root(&*fs);
    let mut above = vec![here.clone()];
    for _ in 0..2000 {
        here = here
            .create(b"d", kernel::vfs::NewNode::Directory, crate::attr(0o755))
            .unwrap();
        above.push(here.clone());
    }
    // Every anchor on the way was closed: it is found again from the top.
    assert_eq!(here.metadata().unwrap().kind, FileType::Directory);
    above.clear();
    assert_eq!(fs.usage().0, 2001, "the deepest holds all above it");
    let small = std::thread::Builder::new().stack_size(64 * 1024);
    small.spawn(move || drop(here)).unwrap().join().unwrap();
    assert_eq!(fs.usage().0, 1);
    kernel::vfs::FileSystem::unmount(&*fs).unwrap();
    assert_eq!(fs.usage(), (0, 0));
}
