//! Names: make, link, remove, rename; identity over all of it.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::sync::Arc;

use kernel::Errno;
use kernel::vfs::inode::{Link, RenameFlags};
use kernel::vfs::{DevT, FileType, NewNode, OpenFlags};

use crate::{TempDir, attr, is_root, make, open, read_at, read_only, refused, write_at};

#[test]
fn looking_up_twice_gives_the_same_inode() {
    let dir = TempDir::new();
    dir.write("a", "1");
    std::fs::hard_link(dir.join("a"), dir.join("b")).unwrap();
    let fs = dir.mount();
    let first = fs.at("a").unwrap();
    assert!(Arc::ptr_eq(&first, &fs.at("a").unwrap()));
    assert!(Arc::ptr_eq(&first, &fs.at("b").unwrap()));
    assert_eq!(first.metadata().unwrap().nlink, 2);
}

#[test]
fn a_file_the_host_replaced_is_another_inode_and_the_old_name_does_not_revalidate() {
    let dir = TempDir::new();
    dir.write("a", "old");
    let fs = dir.mount();
    let old = fs.at("a").unwrap();
    assert!(fs.root().revalidate(b"a", &old));
    dir.write("b", "new");
    std::fs::rename(dir.join("b"), dir.join("a")).unwrap();
    assert!(!fs.root().revalidate(b"a", &old));
    let new = fs.at("a").unwrap();
    assert!(!Arc::ptr_eq(&old, &new));
    // Nothing held the old one on the host: it is stale, and never the new one's data.
    assert_eq!(refused(old.metadata()), Errno::ESTALE);
    assert_eq!(refused(open(&old, read_only())), Errno::ESTALE);
}

#[test]
fn every_kind_of_node_can_be_made_on_the_host() {
    let dir = TempDir::new();
    let fs = dir.mount();
    let root = fs.root();
    make(&root, "file");
    root.create(b"dir", NewNode::Directory, attr(0o1777)).unwrap();
    root.create(b"fifo", NewNode::Fifo, attr(0o600)).unwrap();
    root.create(b"socket", NewNode::Socket, attr(0o755)).unwrap();
    let link = root
        .create(b"link", NewNode::Symlink(b"../anywhere"), attr(0o777))
        .unwrap();
    assert!(dir.join("fifo").metadata().unwrap().file_type().is_fifo());
    assert!(dir.join("socket").metadata().unwrap().file_type().is_socket());
    assert_eq!(dir.join("dir").metadata().unwrap().mode() & 0o7777, 0o1777);
    assert_eq!(dir.join("file").metadata().unwrap().mode() & 0o7777, 0o644);
    assert!(matches!(link.read_link().unwrap(), Link::Text(text) if text == b"../anywhere"));
    assert_eq!(fs.at("fifo").unwrap().kind(), FileType::Fifo);
    assert_eq!(
        refused(root.create(b"file", NewNode::Regular, attr(0o600))),
        Errno::EEXIST
    );
    assert_eq!(
        refused(root.create(b"dir", NewNode::Directory, attr(0o600))),
        Errno::EEXIST
    );
    let device = root.create(b"null", NewNode::CharDevice(DevT::new(1, 3)), attr(0o666));
    match device {
        Ok(null) => assert_eq!(null.metadata().unwrap().rdev, DevT::new(1, 3)),
        Err(error) => assert_eq!(error, Errno::EPERM),
    }
}

#[test]
fn the_mode_is_the_one_asked_for_whatever_the_hosts_umask() {
    let dir = TempDir::new();
    let fs = dir.mount();
    for mode in [0o666, 0o777, 0o4755, 0o2750, 0o000] {
        let name = format!("f{mode:o}");
        let made = fs.root().create(name.as_bytes(), NewNode::Regular, attr(mode)).unwrap();
        assert_eq!(dir.join(&name).metadata().unwrap().mode() & 0o7777, mode);
        assert_eq!(made.walk_metadata().unwrap().mode.bits(), mode);
    }
}

#[test]
fn root_on_the_host_gives_new_files_to_the_guests_user() {
    if !is_root() {
        return;
    }
    let dir = TempDir::new();
    let fs = dir.mount();
    let mut owner = attr(0o4755);
    (owner.uid, owner.gid) = (1234, 5678);
    let root = fs.root();
    for (name, node) in [
        ("file", NewNode::Regular),
        ("dir", NewNode::Directory),
        ("link", NewNode::Symlink(b"x")),
        ("fifo", NewNode::Fifo),
    ] {
        let made = root.create(name.as_bytes(), node, owner).unwrap();
        let stat = dir.join(name).symlink_metadata().unwrap();
        assert_eq!((stat.uid(), stat.gid()), (1234, 5678), "{name}");
        assert_eq!(made.metadata().unwrap().uid, 1234);
    }
    assert_eq!(dir.join("file").metadata().unwrap().mode() & 0o7777, 0o4755);
}

#[test]
fn a_new_file_without_permissions_can_be_written_by_its_maker() {
    let dir = TempDir::new();
    let fs = dir.mount();
    let made = fs.root().create(b"locked", NewNode::Regular, attr(0o444)).unwrap();
    let file = open(&made, OpenFlags::WRONLY).unwrap();
    assert_eq!(write_at(&file, 0, b"object").unwrap().count, 6);
    assert_eq!(dir.read("locked"), "object");
}

#[test]
fn an_unlinked_file_lives_while_it_is_held() {
    let dir = TempDir::new();
    dir.write("held", "still here");
    dir.write("open", "still open");
    let fs = dir.mount();
    let (held, opened) = (fs.at("held").unwrap(), fs.at("open").unwrap());
    let file = open(&opened, read_only()).unwrap();
    fs.root().unlink(b"held").unwrap();
    fs.root().unlink(b"open").unwrap();
    assert_eq!(refused(fs.at("held")), Errno::ENOENT);
    assert_eq!(held.metadata().unwrap().nlink, 0);
    assert_eq!(
        read_at(&open(&held, read_only()).unwrap(), 0, 100).unwrap(),
        b"still here"
    );
    assert_eq!(read_at(&file, 6, 100).unwrap(), b"open");
    assert_eq!(refused(fs.root().unlink(b"held")), Errno::ENOENT);
}

#[test]
fn directories_are_removed_only_when_empty() {
    let dir = TempDir::new();
    dir.mkdir("d");
    dir.write("d/f", "");
    let fs = dir.mount();
    assert_eq!(refused(fs.root().rmdir(b"d")), Errno::ENOTEMPTY);
    assert_eq!(refused(fs.root().unlink(b"d")), Errno::EISDIR);
    fs.at("d").unwrap().unlink(b"f").unwrap();
    fs.root().rmdir(b"d").unwrap();
    assert!(!dir.join("d").exists());
}

#[test]
fn rename_moves_replaces_swaps_and_keeps_identity() {
    let dir = TempDir::new();
    dir.mkdir("sub");
    dir.write("a", "A");
    dir.write("b", "B");
    dir.write("sub/c", "C");
    let fs = dir.mount();
    let (root, sub) = (fs.root(), fs.at("sub").unwrap());
    let (a, b, c) = (fs.at("a").unwrap(), fs.at("b").unwrap(), fs.at("sub/c").unwrap());
    assert_eq!(
        refused(root.rename(b"a", &root, b"b", RenameFlags::NOREPLACE)),
        Errno::EEXIST
    );
    root.rename(b"a", &root, b"b", RenameFlags::EXCHANGE).unwrap();
    assert!(Arc::ptr_eq(&a, &fs.at("b").unwrap()) && Arc::ptr_eq(&b, &fs.at("a").unwrap()));
    assert_eq!(a.metadata().unwrap().size, 1);
    root.rename(b"b", &sub, b"c", RenameFlags::empty()).unwrap();
    assert!(Arc::ptr_eq(&a, &fs.at("sub/c").unwrap()));
    assert_eq!(dir.read("sub/c"), "A");
    // The file that was replaced lives on, without a name.
    assert_eq!(c.metadata().unwrap().nlink, 0);
    assert_eq!(read_at(&open(&c, read_only()).unwrap(), 0, 9).unwrap(), b"C");
    assert_eq!(read_at(&open(&a, read_only()).unwrap(), 0, 9).unwrap(), b"A");
    assert_eq!(
        refused(root.rename(b"sub", &sub, b"x", RenameFlags::empty())),
        Errno::EINVAL
    );
}

#[test]
fn renaming_one_of_two_names_of_a_file_onto_the_other_does_nothing() {
    let dir = TempDir::new();
    dir.write("a", "A");
    std::fs::hard_link(dir.join("a"), dir.join("b")).unwrap();
    let fs = dir.mount();
    let a = fs.at("a").unwrap();
    fs.root().rename(b"a", &fs.root(), b"b", RenameFlags::empty()).unwrap();
    assert!(dir.join("a").exists() && dir.join("b").exists());
    assert_eq!(a.metadata().unwrap().nlink, 2);
}

#[test]
fn files_get_more_names_and_symlinks_too() {
    let dir = TempDir::new();
    dir.write("a", "A");
    symlink("nowhere", dir.join("l")).unwrap();
    let fs = dir.mount();
    let (root, a, l) = (fs.root(), fs.at("a").unwrap(), fs.at("l").unwrap());
    root.link(b"a2", &a).unwrap();
    root.link(b"l2", &l).unwrap();
    assert_eq!(
        dir.join("a").metadata().unwrap().ino(),
        dir.join("a2").metadata().unwrap().ino()
    );
    assert_eq!(std::fs::read_link(dir.join("l2")).unwrap().to_str(), Some("nowhere"));
    assert_eq!(refused(root.link(b"a2", &a)), Errno::EEXIST);
    root.unlink(b"a").unwrap();
    assert_eq!(a.metadata().unwrap().nlink, 1);
    assert_eq!(read_at(&open(&a, read_only()).unwrap(), 0, 9).unwrap(), b"A");
}

#[test]
fn a_nameless_file_can_be_written_read_and_named() {
    let dir = TempDir::new();
    let fs = dir.mount();
    let made = match fs.root().create_unnamed(attr(0o640)) {
        Err(Errno::EOPNOTSUPP) => return,
        result => result.unwrap(),
    };
    let file = open(&made, OpenFlags::RDWR).unwrap();
    write_at(&file, 0, b"tmp").unwrap();
    drop(file);
    assert_eq!(made.metadata().unwrap().nlink, 0);
    assert_eq!(read_at(&open(&made, read_only()).unwrap(), 0, 9).unwrap(), b"tmp");
    fs.root().link(b"named", &made).unwrap();
    assert_eq!(dir.read("named"), "tmp");
    assert_eq!(dir.join("named").metadata().unwrap().mode() & 0o777, 0o640);
    assert!(Arc::ptr_eq(&made, &fs.at("named").unwrap()));
    // No writing descriptor is left open: the host may execute the file.
    std::fs::set_permissions(dir.join("named"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let error = std::process::Command::new(dir.join("named"))
        .status()
        .err()
        .and_then(|error| error.raw_os_error());
    assert_ne!(error, Some(Errno::ETXTBSY.code()));
}

#[test]
fn what_the_guest_wrote_and_closed_can_be_executed_by_the_host() {
    let dir = TempDir::new();
    let fs = dir.mount();
    let made = fs.root().create(b"run", NewNode::Regular, attr(0o755)).unwrap();
    let file = open(&made, OpenFlags::RDWR).unwrap();
    write_at(&file, 0, b"#!/bin/sh\nexit 7\n").unwrap();
    drop(file);
    let status = std::process::Command::new(dir.join("run")).status().unwrap();
    assert_eq!(status.code(), Some(7));
    drop(made);
}

#[test]
fn long_symlinks_are_read_whole_and_long_names_refused() {
    let dir = TempDir::new();
    let fs = dir.mount();
    let target = vec![b'x'; 4000];
    let link = fs
        .root()
        .create(b"long", NewNode::Symlink(&target), attr(0o777))
        .unwrap();
    assert!(matches!(link.read_link().unwrap(), Link::Text(text) if text == target));
    assert_eq!(refused(fs.root().lookup(&[b'n'; 256])), Errno::ENAMETOOLONG);
    assert_eq!(refused(fs.at("long").unwrap().lookup(b"x")), Errno::ENOTDIR);
}
