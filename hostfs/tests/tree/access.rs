//! Rights: the guest's owner and mode changes, and the host's own answer.

use std::os::unix::fs::MetadataExt;

use kernel::Errno;
use kernel::vfs::{Mode, SetAttr};

use crate::{TempDir, is_root, refused};

#[test]
fn modes_reach_the_host_on_open_and_closed_files() {
    let dir = TempDir::new();
    dir.write("f", "");
    let fs = dir.mount();
    let f = fs.at("f").unwrap();
    let chmod = |bits| {
        f.set_attr(&SetAttr {
            mode: Some(Mode::from_bits_retain(bits)),
            ..SetAttr::default()
        })
    };
    chmod(0o6755).unwrap();
    assert_eq!(dir.join("f").metadata().unwrap().mode() & 0o7777, 0o6755);
    let file = crate::open(&f, crate::read_only()).unwrap();
    chmod(0o600).unwrap();
    assert_eq!(dir.join("f").metadata().unwrap().mode() & 0o7777, 0o600);
    assert_eq!(f.walk_metadata().unwrap().mode.bits(), 0o600);
    drop(file);
}

#[test]
fn owners_change_as_far_as_the_host_allows() {
    let dir = TempDir::new();
    dir.write("f", "");
    std::os::unix::fs::symlink("f", dir.join("l")).unwrap();
    let fs = dir.mount();
    for name in ["f", "l"] {
        let inode = fs.at(name).unwrap();
        let result = inode.set_attr(&SetAttr {
            uid: Some(4321),
            gid: Some(8765),
            ..SetAttr::default()
        });
        if is_root() {
            result.unwrap();
            let stat = dir.join(name).symlink_metadata().unwrap();
            assert_eq!((stat.uid(), stat.gid()), (4321, 8765), "{name}");
        } else {
            assert_eq!(refused(result), Errno::EPERM);
        }
    }
}

#[test]
fn the_hosts_answer_on_access_follows_the_mode() {
    let dir = TempDir::new();
    dir.mkdir("d");
    let fs = dir.mount();
    let d = fs.at("d").unwrap();
    d.host_access(7).unwrap();
    d.set_attr(&SetAttr {
        mode: Some(Mode::empty()),
        ..SetAttr::default()
    })
    .unwrap();
    if is_root() {
        d.host_access(7).unwrap();
    } else {
        assert_eq!(refused(d.host_access(1)), Errno::EACCES);
    }
    d.set_attr(&SetAttr {
        mode: Some(Mode::from_bits_retain(0o700)),
        ..SetAttr::default()
    })
    .unwrap();
    d.host_access(1).unwrap();
}

#[test]
fn access_to_a_file_is_the_hosts_answer_opened_or_not() {
    let dir = TempDir::new();
    dir.write("f", "");
    let fs = dir.mount();
    let f = fs.at("f").unwrap();
    f.host_access(6).unwrap();
    let file = crate::open(&f, crate::read_only()).unwrap();
    f.set_attr(&SetAttr {
        mode: Some(Mode::from_bits_retain(0o400)),
        ..SetAttr::default()
    })
    .unwrap();
    f.host_access(4).unwrap();
    if !is_root() {
        assert_eq!(refused(f.host_access(2)), Errno::EACCES);
    }
    assert_eq!(f.found_metadata().unwrap().mode.bits(), 0o400);
    drop(file);
}

#[test]
fn statfs_shows_the_hosts_space_under_umls_number() {
    let dir = TempDir::new();
    let fs = dir.mount();
    let stat = fs.fs.statfs().unwrap();
    assert_eq!(stat.magic, 0x00c0_ffee);
    assert!(stat.blocks > 0 && stat.bsize > 0 && stat.namelen >= 143);
    fs.fs.sync().unwrap();
}

#[test]
fn proc_mounts_shows_the_path_below_the_root() {
    let dir = TempDir::new();
    dir.mkdir("sub");
    assert_eq!(
        dir.mount_with(false, &[("/sub", None)]).unwrap().fs.show_options(),
        ",/sub"
    );
    assert_eq!(dir.mount().fs.show_options(), "");
}
