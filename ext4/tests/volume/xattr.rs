//! Extended attributes.

use ext4::Errno;
use kernel::vfs::inode::XattrFlags;

use crate::image::{ALL, Image, make, mkdir, refused};

#[test]
fn attributes_in_the_inode_and_in_the_block() {
    for (kind, options) in ALL {
        let image = Image::new(kind, options, 16);
        {
            let fs = image.mount();
            let f = make(&fs.root(), "f");
            let none = XattrFlags::empty();
            f.set_xattr(b"user.small", b"in the inode", none).unwrap();
            f.set_xattr(b"user.large", &[b'x'; 600], none).unwrap();
            f.set_xattr(b"trusted.t", b"", none).unwrap();
            f.set_xattr(b"security.s", &[1, 2, 3], none).unwrap();
            assert_eq!(
                refused(f.set_xattr(b"user.small", b"", XattrFlags::CREATE)),
                Errno::EEXIST
            );
            assert_eq!(
                refused(f.set_xattr(b"user.none", b"", XattrFlags::REPLACE)),
                Errno::ENODATA
            );
            assert_eq!(refused(f.set_xattr(b"user.huge", &[0; 5000], none)), Errno::ENOSPC);
            assert_eq!(refused(f.set_xattr(b"strange.x", b"", none)), Errno::EOPNOTSUPP);
            f.set_xattr(b"user.small", b"changed", none).unwrap();
            f.remove_xattr(b"trusted.t").unwrap();
            assert_eq!(refused(f.get_xattr(b"trusted.t")), Errno::ENODATA);
        }
        image.check();
        let shown = image.debugfs("ea_get /f user.small");
        assert!(shown.contains("changed"), "{shown}");
        let fs = image.mount();
        let f = fs.at("f").unwrap();
        assert_eq!(f.get_xattr(b"user.large").unwrap(), [b'x'; 600]);
        assert_eq!(f.get_xattr(b"security.s").unwrap(), [1, 2, 3]);
        let mut names = f.list_xattr().unwrap();
        names.sort();
        assert_eq!(names, [&b"security.s"[..], b"user.large", b"user.small"]);
        drop(f);
        fs.root().unlink(b"f").unwrap();
        drop(fs);
        image.check();
    }
}

#[test]
fn access_lists_keep_the_mode_company() {
    let image = Image::new("ext4", "", 16);
    {
        let fs = image.mount();
        let f = make(&fs.root(), "f");
        let entry =
            |tag: u16, perm: u16, id: u32| [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat();
        let list = [
            2u32.to_le_bytes().to_vec(),
            entry(1, 7, u32::MAX),
            entry(2, 5, 1000),
            entry(4, 0, u32::MAX),
            entry(0x10, 5, u32::MAX),
            entry(0x20, 0, u32::MAX),
        ]
        .concat();
        f.set_xattr(b"system.posix_acl_access", &list, XattrFlags::empty())
            .unwrap();
        assert_eq!(f.get_xattr(b"system.posix_acl_access").unwrap(), list);
        assert_eq!(f.metadata().unwrap().mode.bits(), 0o750);
        assert_eq!(
            refused(f.set_xattr(b"system.posix_acl_default", &list, XattrFlags::empty())),
            Errno::EACCES
        );
        assert_eq!(
            refused(f.set_xattr(b"system.posix_acl_access", &list[..20], XattrFlags::empty())),
            Errno::EINVAL
        );
    }
    image.check();
}

#[test]
fn default_lists_are_inherited() {
    let image = Image::new("ext4", "", 16);
    {
        let fs = image.mount();
        let dir = mkdir(&fs.root(), "dir");
        let entry =
            |tag: u16, perm: u16, id: u32| [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat();
        let list = [
            2u32.to_le_bytes().to_vec(),
            entry(1, 7, u32::MAX),
            entry(2, 7, 1000),
            entry(4, 5, u32::MAX),
            entry(0x10, 7, u32::MAX),
            entry(0x20, 0, u32::MAX),
        ]
        .concat();
        dir.set_xattr(b"system.posix_acl_default", &list, XattrFlags::empty())
            .unwrap();
        let f = make(&dir, "f");
        assert_eq!(f.metadata().unwrap().mode.bits(), 0o640);
        assert!(f.get_xattr(b"system.posix_acl_access").is_ok());
        assert_eq!(refused(f.get_xattr(b"system.posix_acl_default")), Errno::ENODATA);
        let sub = mkdir(&dir, "sub");
        assert_eq!(sub.get_xattr(b"system.posix_acl_default").unwrap(), list);
        assert_eq!(sub.metadata().unwrap().mode.bits(), 0o750);
    }
    image.check();
}

/// The inodes that hold values, by what e2fsck says of the image without the file.
fn free_inodes(image: &Image) -> String {
    let text = image.dump();
    text.lines()
        .find(|line| line.starts_with("Free inodes:"))
        .unwrap()
        .to_owned()
}

#[test]
fn large_values_lie_in_inodes_of_their_own_and_go_with_the_last_reference() {
    for options in ["-b 1024 -O ea_inode", "-b 4096 -O ea_inode,^metadata_csum"] {
        let image = Image::new("ext4", options, 16);
        let none = XattrFlags::empty();
        let large: Vec<u8> = (0..20_001u32).map(|at| (at / 3) as u8).collect();
        make(&image.mount().root(), "f");
        let before = free_inodes(&image);
        {
            let fs = image.mount();
            let f = fs.at("f").unwrap();
            f.set_xattr(b"user.large", &large, none).unwrap();
            f.set_xattr(b"user.largest", &[7; 65_536], none).unwrap();
            f.set_xattr(b"user.small", b"small", none).unwrap();
            assert_eq!(f.get_xattr(b"user.large").unwrap(), large);
            // Others in the same place change, it stays.
            f.set_xattr(b"user.small", b"changed", none).unwrap();
        }
        image.check();
        {
            let fs = image.mount();
            let f = fs.at("f").unwrap();
            assert_eq!(f.get_xattr(b"user.large").unwrap(), large);
            assert_eq!(f.get_xattr(b"user.largest").unwrap(), [7; 65_536]);
            // Linux checks the hashes.
            drop(f);
            drop(fs);
            if let Some(host) = crate::linux::Host::mount(&image.copy(), "rw") {
                let shown = std::process::Command::new("python3")
                    .arg("-c")
                    .arg("import os,sys; sys.stdout.buffer.write(os.getxattr(sys.argv[1], 'user.large'))")
                    .arg(host.at("f"))
                    .output();
                if let Ok(shown) = shown {
                    assert_eq!(shown.stdout, large, "{}", String::from_utf8_lossy(&shown.stderr));
                }
            }
        }
        {
            let fs = image.mount();
            let f = fs.at("f").unwrap();
            f.set_xattr(b"user.large", &[1; 30_000], none).unwrap();
            f.remove_xattr(b"user.largest").unwrap();
            f.set_xattr(b"user.small", &[2; 9000], none).unwrap();
        }
        image.check();
        assert_ne!(free_inodes(&image), before);
        image.mount().root().unlink(b"f").unwrap();
        image.check();
        make(&image.mount().root(), "f");
        assert_eq!(free_inodes(&image), before);
    }
}
