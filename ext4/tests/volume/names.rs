//! Names: create, link, unlink, rename, large directories.

use std::collections::BTreeSet;

use ext4::Errno;
use kernel::vfs::inode::{Link, RenameFlags};
use kernel::vfs::{DevT, FileSystem, FileType, NewNode};

use crate::image::{ALL, Image, attr, list, make, mkdir, read_at, refused, write_at};

#[test]
fn every_kind_of_node_is_made_and_found_again() {
    for (kind, options) in ALL {
        let image = Image::new(kind, options, 16);
        {
            let fs = image.mount();
            let root = fs.root();
            make(&root, "file");
            let dir = mkdir(&root, "dir");
            let node = |name: &str, node| root.create(name.as_bytes(), node, attr(0o600)).unwrap();
            node("char", NewNode::CharDevice(DevT::new(5, 1)));
            node("block", NewNode::BlockDevice(DevT::new(259, 70000)));
            node("fifo", NewNode::Fifo);
            node("socket", NewNode::Socket);
            node("fast", NewNode::Symlink(b"short"));
            node("slow", NewNode::Symlink(&[b'l'; 500]));
            assert_eq!(
                refused(root.create(b"dir", NewNode::Regular, attr(0o600))),
                Errno::EEXIST
            );
            assert_eq!(refused(root.rmdir(b"file")), Errno::ENOTDIR);
            assert_eq!(refused(root.unlink(b"dir")), Errno::EISDIR);
            mkdir(&dir, "inner");
            assert_eq!(refused(root.rmdir(b"dir")), Errno::ENOTEMPTY);
            assert_eq!(dir.metadata().unwrap().nlink, 3);
        }
        image.check();
        let fs = image.mount();
        assert_eq!(fs.at("char").unwrap().metadata().unwrap().rdev, DevT::new(5, 1));
        assert_eq!(fs.at("block").unwrap().metadata().unwrap().rdev, DevT::new(259, 70000));
        assert_eq!(fs.at("fifo").unwrap().kind(), FileType::Fifo);
        assert_eq!(fs.at("socket").unwrap().kind(), FileType::Socket);
        assert!(matches!(fs.at("slow").unwrap().read_link().unwrap(), Link::Text(text) if text == [b'l'; 500]));
        assert!(matches!(fs.at("fast").unwrap().read_link().unwrap(), Link::Text(text) if text == b"short"));
        for name in ["char", "block", "fifo", "socket", "fast", "slow", "file"] {
            fs.root().unlink(name.as_bytes()).unwrap();
        }
        fs.at("dir").unwrap().rmdir(b"inner").unwrap();
        fs.root().rmdir(b"dir").unwrap();
        drop(fs);
        image.check();
    }
}

#[test]
fn a_directory_grows_an_index_and_loses_its_names_again() {
    for (kind, options) in ALL {
        let image = Image::new(kind, options, 48);
        let name = |index: usize| format!("{index}-{}", "n".repeat(index * 7 % 120));
        {
            let fs = image.mount();
            let dir = mkdir(&fs.root(), "d");
            for index in 0..4000 {
                make(&dir, &name(index));
            }
            for index in (0..4000).step_by(3) {
                dir.unlink(name(index).as_bytes()).unwrap();
            }
            let wanted: BTreeSet<String> = (0..4000).filter(|index| index % 3 != 0).map(name).collect();
            assert_eq!(list(&dir), wanted.iter().cloned().collect::<Vec<_>>());
            dir.lookup(name(1).as_bytes()).unwrap();
            assert_eq!(refused(dir.lookup(name(3).as_bytes())), Errno::ENOENT);
        }
        image.check();
        if options == "-b 4096" {
            let shown = image.debugfs("htree_dump /d");
            assert!(shown.contains("Root node dump"), "{shown}");
        }
        {
            let fs = image.mount();
            let dir = fs.at("d").unwrap();
            for index in (0..4000).filter(|index| index % 3 != 0) {
                dir.unlink(name(index).as_bytes()).unwrap();
            }
            assert!(list(&dir).is_empty());
            fs.root().rmdir(b"d").unwrap();
        }
        image.check();
    }
}

#[test]
fn our_hashes_are_those_of_debugfs() {
    for version in ["half_md4", "tea", "legacy"] {
        let image = Image::new("ext4", "-b 1024 -O ^metadata_csum", 16);
        image.debugfs_write(&format!("set_super_value def_hash_version {version}"));
        {
            let fs = image.mount();
            let dir = mkdir(&fs.root(), "d");
            for index in 0..300 {
                make(&dir, &format!("\u{e4}-{index}-{}", "\u{df}".repeat(index % 40)));
            }
        }
        // e2fsck computes the hash of every name of an index.
        image.check();
        assert!(image.debugfs("htree_dump /d").contains("Root node dump"));
    }
}

#[test]
fn rename_in_all_its_forms() {
    for (kind, options) in ALL {
        let image = Image::new(kind, options, 16);
        {
            let fs = image.mount();
            let root = fs.root();
            let (a, b) = (mkdir(&root, "a"), mkdir(&root, "b"));
            let f = make(&a, "f");
            write_at(&f, 0, b"from f").unwrap();
            make(&b, "g");
            let none = RenameFlags::empty();
            assert_eq!(refused(a.rename(b"f", &b, b"g", RenameFlags::NOREPLACE)), Errno::EEXIST);
            a.rename(b"f", &b, b"g", none).unwrap();
            assert_eq!(read_at(&b.lookup(b"g").unwrap(), 0, 99).unwrap(), b"from f");
            assert_eq!(refused(a.lookup(b"f")), Errno::ENOENT);
            let sub = mkdir(&a, "sub");
            a.rename(b"sub", &b, b"moved", none).unwrap();
            assert_eq!((a.metadata().unwrap().nlink, b.metadata().unwrap().nlink), (2, 3));
            mkdir(&sub, "x");
            mkdir(&a, "full");
            assert_eq!(refused(a.rename(b"full", &b, b"moved", none)), Errno::ENOTEMPTY);
            sub.rmdir(b"x").unwrap();
            a.rename(b"full", &b, b"moved", none).unwrap();
            b.rename(b"g", &root, b"moved-file", none).unwrap();
            root.rename(b"moved-file", &b, b"moved", RenameFlags::EXCHANGE).unwrap();
            assert_eq!(root.lookup(b"moved-file").unwrap().kind(), FileType::Directory);
            assert_eq!(b.metadata().unwrap().nlink, 2);
            b.rename(b"moved", &b, b"again", RenameFlags::WHITEOUT).unwrap();
            let white = b.lookup(b"moved").unwrap();
            assert_eq!(
                (white.kind(), white.metadata().unwrap().rdev),
                (FileType::CharDevice, DevT::new(0, 0))
            );
        }
        image.check();
    }
}

#[test]
fn files_without_names_live_while_they_are_used() {
    for (kind, options) in ALL {
        let image = Image::new(kind, options, 16);
        {
            let fs = image.mount();
            let free = fs.fs.statfs().unwrap().bfree;
            let root = fs.root();
            let f = make(&root, "f");
            write_at(&f, 0, &[7; 300_000]).unwrap();
            fs.fs.sync().unwrap();
            root.unlink(b"f").unwrap();
            assert_eq!(read_at(&f, 299_999, 9).unwrap(), [7]);
            write_at(&f, 300_000, &[8; 100]).unwrap();
            drop(f);
            let unnamed = root.create_unnamed(attr(0o600)).unwrap();
            write_at(&unnamed, 0, b"nameless").unwrap();
            drop(unnamed);
            fs.fs.sync().unwrap();
            assert_eq!(fs.fs.statfs().unwrap().bfree, free);
            let unnamed = root.create_unnamed(attr(0o600)).unwrap();
            write_at(&unnamed, 0, b"now named").unwrap();
            root.link(b"name", &unnamed).unwrap();
        }
        image.check();
        let fs = image.mount();
        assert_eq!(fs.read("name"), b"now named");
    }
}

#[test]
fn orphans_of_a_crash_are_buried_at_the_next_mount() {
    for (kind, options) in ALL {
        let image = Image::new(kind, options, 16);
        let fs = image.mount();
        let root = fs.root();
        let free = fs.fs.statfs().unwrap().bfree;
        let (one, two) = (make(&root, "one"), make(&root, "two"));
        write_at(&one, 0, &[1; 100_000]).unwrap();
        write_at(&two, 0, &[2; 100_000]).unwrap();
        fs.fs.sync().unwrap();
        root.unlink(b"one").unwrap();
        root.unlink(b"two").unwrap();
        fs.fs.sync().unwrap();
        // No unmount: the instance is left as it stands.
        std::mem::forget((one, two, fs));
        {
            let fs = image.mount();
            assert_eq!(fs.fs.statfs().unwrap().bfree, free, "{kind} {options}");
        }
        image.check();
    }
}
