//! Nothing leads out of the mounted directory.

use std::os::unix::fs::symlink;

use kernel::Errno;
use kernel::vfs::inode::Link;
use kernel::vfs::{FileSystem, FileType};

use crate::{TempDir, make, open, read_at, read_only, refused};

#[test]
fn a_name_is_one_component_and_never_the_parent() {
    let dir = TempDir::new();
    dir.mkdir("d");
    dir.write("d/f", "");
    let fs = dir.mount();
    for name in ["..", ".", "", "d/f", "/etc", "d\0f"] {
        assert_eq!(refused(fs.root().lookup(name.as_bytes())), Errno::EINVAL, "{name:?}");
        let made = fs
            .root()
            .create(name.as_bytes(), kernel::vfs::NewNode::Regular, crate::attr(0o600));
        assert_eq!(refused(made), Errno::EINVAL, "{name:?}");
        assert_eq!(refused(fs.root().unlink(name.as_bytes())), Errno::EINVAL, "{name:?}");
    }
}

#[test]
fn symlinks_are_read_not_followed() {
    let dir = TempDir::new();
    symlink("/etc", dir.join("out")).unwrap();
    let fs = dir.mount();
    let out = fs.at("out").unwrap();
    assert_eq!(out.kind(), FileType::Symlink);
    assert!(matches!(out.read_link().unwrap(), Link::Text(text) if text == b"/etc"));
    assert_eq!(refused(out.lookup(b"passwd")), Errno::ENOTDIR);
    assert_eq!(refused(open(&out, read_only())), Errno::ENXIO);
}

#[test]
fn a_directory_swapped_for_a_symlink_by_the_host_does_not_lead_out() {
    let (dir, outside) = (TempDir::new(), TempDir::new());
    dir.mkdir("d");
    dir.write("d/f", "inside");
    outside.write("f", "secret");
    let fs = dir.mount();
    let (d, f) = (fs.at("d").unwrap(), fs.at("d/f").unwrap());
    std::fs::rename(dir.join("d"), dir.join("moved")).unwrap();
    symlink(outside.path(), dir.join("d")).unwrap();
    assert!(!fs.root().revalidate(b"d", &d));
    // The inode in hand is still the old directory.
    assert_eq!(read_at(&open(&f, read_only()).unwrap(), 0, 99).unwrap(), b"inside");
    make(&d, "new");
    assert!(dir.join("moved/new").exists() && !outside.join("new").exists());
}

#[test]
fn a_file_swapped_for_a_symlink_by_the_host_is_not_opened() {
    let (dir, outside) = (TempDir::new(), TempDir::new());
    dir.write("f", "inside");
    outside.write("secret", "secret");
    let fs = dir.mount();
    let f = fs.at("f").unwrap();
    std::fs::remove_file(dir.join("f")).unwrap();
    symlink(outside.join("secret"), dir.join("f")).unwrap();
    assert!(open(&f, read_only()).is_err());
    assert!(
        f.set_attr(&kernel::vfs::SetAttr {
            size: Some(0),
            ..Default::default()
        })
        .is_err()
    );
    assert_eq!(outside.read("secret"), "secret");
}

#[test]
fn the_mount_option_stays_below_the_root_of_the_command_line() {
    let (dir, outside) = (TempDir::new(), TempDir::new());
    dir.mkdir("in");
    dir.write("in/here", "");
    outside.write("here", "");
    let out = outside.path().to_str().unwrap();
    symlink("in", dir.join("relative")).unwrap();
    symlink("/in", dir.join("absolute")).unwrap();
    symlink(out, dir.join("escape")).unwrap();
    for path in ["/in", "/relative", "/absolute", "/../../in", "in"] {
        let fs = dir
            .mount_with(false, &[("hostfs", Some(path))])
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(fs.at("here").is_ok(), "{path}");
    }
    for path in ["/escape", out, &format!("/../../../../{out}")] {
        assert_eq!(
            dir.mount_with(false, &[("hostfs", Some(path))]).err(),
            Some(Errno::ENOENT),
            "{path}"
        );
    }
    assert_eq!(dir.mount_with(false, &[("/in/here", None)]).err(), Some(Errno::ENOTDIR));
    assert_eq!(dir.mount_with(false, &[("/none", None)]).err(), Some(Errno::ENOENT));
    assert_eq!(dir.mount_with(false, &[("bogus", None)]).err(), Some(Errno::EINVAL));
}

#[test]
fn directories_the_host_moved_below_each_other_do_not_hold_each_other() {
    let dir = TempDir::new();
    std::fs::create_dir_all(dir.join("a/b")).unwrap();
    let options = hostfs::HostfsArgs {
        root: dir.path().to_str().unwrap().into(),
        append: false,
    };
    let fs = hostfs::HostFs::with_anchor_limit(&options, 100).unwrap();
    let root = FileSystem::root(&*fs);
    let a = root.lookup(b"a").unwrap();
    let b = a.lookup(b"b").unwrap();
    b.metadata().unwrap();
    assert_eq!(refused(b.lookup(b"x")), Errno::ENOENT);
    std::fs::rename(dir.join("a/b"), dir.join("b")).unwrap();
    std::fs::rename(dir.join("a"), dir.join("b/a")).unwrap();
    let again = b.lookup(b"a").unwrap();
    assert!(std::sync::Arc::ptr_eq(&a, &again));
    again.metadata().unwrap();
    drop((a, b, again, root));
    assert_eq!(fs.usage().0, 1);
    fs.unmount().unwrap();
}

#[test]
fn files_of_different_host_devices_have_different_devices() {
    let fs = crate::mount(hostfs::HostfsArgs::default(), &[]).unwrap();
    let (root, proc) = (
        fs.root().metadata().unwrap(),
        fs.at("proc/version").unwrap().metadata().unwrap(),
    );
    assert_eq!(root.dev, fs.fs.dev());
    assert_ne!(root.dev, proc.dev);
}

#[test]
fn fifos_sockets_and_devices_of_the_host_are_never_opened() {
    let dir = TempDir::new();
    let fs = dir.mount();
    let fifo = fs
        .root()
        .create(b"fifo", kernel::vfs::NewNode::Fifo, crate::attr(0o600))
        .unwrap();
    assert_eq!(refused(open(&fifo, read_only())), Errno::ENXIO);
    // A regular file that the host swapped for a FIFO neither waits nor opens.
    dir.write("f", "");
    let f = fs.at("f").unwrap();
    std::fs::rename(dir.join("fifo"), dir.join("f")).unwrap();
    assert_eq!(refused(open(&f, read_only())), Errno::ESTALE);
}
