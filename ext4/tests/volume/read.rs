//! Images that others made: what `mke2fs -d` stored is read back.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use ext4::Errno;
use kernel::vfs::FileType;
use kernel::vfs::inode::Link;

use crate::image::{ALL, Image, refused};

/// A host directory with one of each, gone with the value.
struct Tree(PathBuf);

impl Tree {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!(
            "ext4-tree-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("dir/deep/deeper")).unwrap();
        std::fs::write(path.join("small"), "hello").unwrap();
        let big: Vec<u8> = (0..3_000_001u32).map(|i| (i / 7) as u8).collect();
        std::fs::write(path.join("dir/big"), big).unwrap();
        symlink("small", path.join("fast")).unwrap();
        symlink("x/".repeat(60), path.join("slow")).unwrap();
        std::fs::create_dir(path.join("many")).unwrap();
        for index in 0..3000 {
            std::fs::write(
                path.join(format!("many/name-{index}-{}", "y".repeat(index % 50))),
                index.to_string(),
            )
            .unwrap();
        }
        Self(path)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_mke2fs_stored_is_read_back() {
    let tree = Tree::new();
    for (kind, options) in ALL {
        let image = Image::new(kind, &format!("{options} -d {}", tree.0.display()), 48);
        // Indexes the large directory.
        let _ = Command::new("/usr/sbin/e2fsck")
            .args(["-fyD"])
            .arg(image.path())
            .output()
            .unwrap();
        let before = std::fs::read(image.path()).unwrap();
        {
            let fs = image.mount_read_only();
            assert_eq!(fs.read("small"), b"hello");
            assert_eq!(fs.read("dir/big"), std::fs::read(tree.0.join("dir/big")).unwrap());
            let text = |path: &str| match fs.at(path).unwrap().read_link().unwrap() {
                Link::Text(text) => text,
                Link::Object(_) => panic!("a text"),
            };
            assert_eq!(text("fast"), b"small");
            assert_eq!(text("slow"), "x/".repeat(60).into_bytes());
            let mut names: Vec<String> = std::fs::read_dir(tree.0.join("many"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            assert_eq!(fs.list("many"), names);
            for name in names.iter().step_by(37) {
                assert_eq!(
                    fs.read(&format!("many/{name}")),
                    std::fs::read(tree.0.join("many").join(name)).unwrap()
                );
            }
            assert_eq!(refused(fs.at("many/none")), Errno::ENOENT);
            assert_eq!(fs.list(""), ["dir", "fast", "lost+found", "many", "slow", "small"]);
            assert_eq!(fs.at("dir/deep").unwrap().kind(), FileType::Directory);
            assert_eq!(
                refused(
                    fs.root()
                        .create(b"x", kernel::vfs::NewNode::Regular, crate::image::attr(0o600))
                ),
                Errno::EROFS
            );
        }
        assert!(
            before == std::fs::read(image.path()).unwrap(),
            "a read-only mount wrote"
        );
    }
}

#[test]
fn kinds_take_what_linux_lets_them_take() {
    let ext4 = Image::new("ext4", "", 16);
    assert_eq!(refused(ext4.mount_as("ext2", "", true)), Errno::EINVAL);
    assert_eq!(refused(ext4.mount_as("ext3", "", true)), Errno::EINVAL);
    let ext3 = Image::new("ext3", "", 16);
    assert!(ext3.mount_as("ext2", "", true).is_ok());
    assert!(ext3.mount_as("ext4", "", true).is_ok());
    let ext2 = Image::new("ext2", "", 16);
    assert_eq!(refused(ext2.mount_as("ext3", "", true)), Errno::EINVAL);
    assert!(ext2.mount_as("ext4", "", true).is_ok());
    assert_eq!(refused(ext2.mount_with("nonsense", true)), Errno::EINVAL);
    assert_eq!(refused(ext2.mount_with("data=ordered", true)), Errno::EINVAL);
}

#[test]
fn features_that_cannot_be_kept_right_are_read_only() {
    for options in ["-O bigalloc", "-O quota", "-O mmp", "-O casefold", "-O project,quota"] {
        let image = Image::new("ext4", options, 32);
        assert_eq!(refused(image.mount_with("", false)), Errno::EROFS, "{options}");
        let fs = image.mount_read_only();
        assert_eq!(fs.list(""), ["lost+found"], "{options}");
    }
}
