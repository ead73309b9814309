//! Mounts in the one tree of this test process: each test works below a directory of its own.

extern crate std;

use alloc::sync::Arc;

use super::inode::MountSource;
use super::mount::{self, Deep, MountFlags};
use super::walk::{self, WalkContext, WalkFlags};
use super::{Mode, NewNode, Path, namei};
use crate::Result;

fn find(text: &str) -> Result<Path> {
    let walk = WalkContext::kernel();
    walk::lookup(&walk, &walk.root, text.as_bytes(), WalkFlags::FOLLOW)
}

fn mkdir(text: &str) {
    let walk = WalkContext::kernel();
    let parent = walk::lookup_parent(&walk, &walk.root, text.as_bytes(), WalkFlags::empty()).unwrap();
    let name = namei::new_name(&parent, super::FileType::Directory).unwrap();
    namei::create(
        &parent.dir,
        name,
        NewNode::Directory,
        Mode::from_bits_truncate(0o755),
        &walk.cred,
    )
    .unwrap();
}

fn mount_tmpfs(text: &str) -> Arc<mount::Mount> {
    crate::fs::init();
    let source = MountSource {
        source: b"none".to_vec(),
        ..MountSource::default()
    };
    mount::mount_at("tmpfs", &source, MountFlags::NOSUID, text.as_bytes()).unwrap()
}

#[test]
fn a_mount_covers_its_place_and_dotdot_leaves_it() {
    mkdir("/m1");
    mkdir("/m1/hidden");
    let mount = mount_tmpfs("/m1");
    assert!(find("/m1/hidden").is_err());
    assert!(find("/m1").unwrap().is_mount_root());
    assert!(find("/m1/..").unwrap().same_as(&find("/").unwrap()));
    mkdir("/m1/inner");
    assert_eq!(find("/m1/inner").unwrap().text(&find("/").unwrap()).0, b"/m1/inner");
    let lines = mount::mounts(&find("/").unwrap());
    let line = lines.iter().find(|line| line.id == mount.id()).unwrap();
    assert_eq!(
        (&line.point[..], &line.root[..], line.fs_type),
        (&b"/m1"[..], &b"/"[..], "tmpfs")
    );
    assert!(line.mount_options().starts_with("rw,nosuid"));
    let change = mount::change();
    assert!(!mount::is_busy(&mount, 1));
    change.detach(&mount);
    drop(change);
    assert!(find("/m1/hidden").is_ok());
}

#[test]
fn one_instance_is_not_mounted_twice_on_one_place() {
    mkdir("/t1");
    crate::fs::init();
    let source = MountSource::default();
    let mount = |at: &[u8]| mount::mount_at("sysfs", &source, MountFlags::empty(), at).map(drop);
    assert_eq!(mount(b"/t1"), Ok(()));
    assert_eq!(mount(b"/t1"), Err(crate::Errno::EBUSY));
    mount_tmpfs("/t1");
    assert_eq!(mount(b"/t1"), Ok(()), "something else lies between");
    assert_eq!(mount(b"/t1"), Err(crate::Errno::EBUSY));
    mount_tmpfs("/t1");
    mount_tmpfs("/t1");
}

#[test]
fn a_bind_shows_the_same_files_and_a_deep_one_the_mounts_below() {
    for dir in ["/b1", "/b2", "/b3"] {
        mkdir(dir);
    }
    mount_tmpfs("/b1");
    mkdir("/b1/sub");
    mount_tmpfs("/b1/sub");
    mkdir("/b1/sub/leaf");
    let from = find("/b1").unwrap();
    super::calls::mount::bind(&from, &find("/b2").unwrap(), Deep::No).unwrap();
    super::calls::mount::bind(&from, &find("/b3").unwrap(), Deep::Yes).unwrap();
    assert!(find("/b2/sub").is_ok());
    assert!(find("/b2/sub/leaf").is_err());
    assert!(find("/b3/sub/leaf").is_ok());
    assert!(Arc::ptr_eq(
        &find("/b3/sub/leaf").unwrap().dentry,
        &find("/b1/sub/leaf").unwrap().dentry
    ));
}

#[test]
fn a_moved_mount_takes_along_what_hangs_below() {
    for dir in ["/v1", "/v2"] {
        mkdir(dir);
    }
    mount_tmpfs("/v1");
    mkdir("/v1/sub");
    mount_tmpfs("/v1/sub");
    mkdir("/v1/sub/leaf");
    super::calls::mount::move_mount(&find("/v1").unwrap(), &find("/v2").unwrap()).unwrap();
    assert!(find("/v1/sub").is_err());
    assert!(find("/v2/sub/leaf").is_ok());
    let inside = find("/v2/sub").unwrap();
    assert!(super::calls::mount::move_mount(&find("/v2").unwrap(), &inside).is_err());
}
