//! A jail: the kernel runs in a `chroot` without /proc, as people confine UML.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use hostfs::HostfsArgs;
use kernel::vfs::inode::XattrFlags;
use kernel::vfs::{Mode, SetAttr, Timespec};

use crate::{TempDir, is_root, make, open, read_at, read_only};

/// Tells the child, which is this test in a process of its own, where to go.
const JAIL: &str = "HOSTFS_TEST_JAIL";

#[test]
fn everything_but_a_nameless_file_works_without_the_hosts_proc() {
    if let Some(jail) = std::env::var_os(JAIL) {
        std::os::unix::fs::chroot(&jail).unwrap();
        std::env::set_current_dir("/").unwrap();
        return inside();
    }
    if !is_root() {
        return;
    }
    let dir = TempDir::new();
    let name = "jail::everything_but_a_nameless_file_works_without_the_hosts_proc";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(JAIL, dir.path())
        .output();
    let child = child.unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert!(dir.join("moved").exists());
}

fn inside() {
    assert!(!std::path::Path::new("/proc").exists());
    let fs = crate::mount(HostfsArgs::default(), &[]).unwrap();
    let root = fs.root();
    make(&root, "f");
    root.create(b"d", kernel::vfs::NewNode::Directory, crate::attr(0o755))
        .unwrap();
    std::fs::write("/f", "jailed").unwrap();
    let f = fs.at("f").unwrap();
    root.link(b"g", &f).unwrap();
    for name in ["f", "d"] {
        let time = Timespec { sec: 1000, nsec: 5 };
        let change = SetAttr {
            mode: Some(Mode::from_bits_retain(0o700)),
            mtime: Some(time),
            ..SetAttr::default()
        };
        fs.at(name).unwrap().set_attr(&change).unwrap();
        let stat = std::fs::metadata(format!("/{name}")).unwrap();
        assert_eq!(
            (stat.mode() & 0o7777, stat.mtime(), stat.mtime_nsec()),
            (0o700, 1000, 5),
            "{name}"
        );
        match fs
            .at(name)
            .unwrap()
            .set_xattr(b"user.jail", b"yes", XattrFlags::empty())
        {
            Err(kernel::Errno::EOPNOTSUPP) => {}
            result => result.unwrap(),
        }
    }
    f.set_attr(&SetAttr {
        size: Some(4),
        ..SetAttr::default()
    })
    .unwrap();
    assert_eq!(read_at(&open(&f, read_only()).unwrap(), 0, 99).unwrap(), b"jail");
    root.rename(b"f", &root, b"moved", kernel::vfs::inode::RenameFlags::empty())
        .unwrap();
}
