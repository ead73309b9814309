//! Damaged images: nothing panics, nothing hangs, nothing is written outside of the image (the device of the tests refuses that).

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use kernel::vfs::inode::{RenameFlags, XattrFlags};
use kernel::vfs::{FileSystem, FileType, Inode, NewNode, OpenFlags, SetAttr};

use crate::image::{Image, Mounted, attr, fallocate, make, mkdir, open, read_at, truncate, write_at};

fn fill(image: &Image) {
    let fs = image.mount();
    let root = fs.root();
    let dir = mkdir(&root, "dir");
    for index in 0..150 {
        make(&dir, &format!("some-rather-long-name-{index}"));
    }
    let f = make(&root, "f");
    for index in 0..40 {
        write_at(&f, index * 9000, &[1; 1000]).unwrap();
    }
    f.set_xattr(b"user.a", &[1; 50], XattrFlags::empty()).unwrap();
    f.set_xattr(b"user.b", &[2; 500], XattrFlags::empty()).unwrap();
    root.create(b"link", NewNode::Symlink(&[b'x'; 100]), attr(0o777))
        .unwrap();
    mkdir(&dir, "sub");
}

/// Everything that can be done to a node, whatever comes of it.
fn poke(inode: &Arc<dyn Inode>, depth: u32) {
    let _ = inode.metadata();
    let _ = inode.read_link();
    for name in inode.list_xattr().unwrap_or_default() {
        let _ = inode.get_xattr(&name);
    }
    match inode.kind() {
        FileType::Regular => {
            for at in [0, 5000, 200_000, 1 << 33] {
                let _ = read_at(inode, at, 3000);
            }
        }
        FileType::Directory => {
            let file = open(inode, OpenFlags::empty());
            let mut names = Vec::new();
            let mut pos = 0;
            for _ in 0..50 {
                let before = names.len();
                let _ = file.ops().read_dir(&file, pos, &mut |entry| {
                    pos = entry.next;
                    names.push(entry.name.to_vec());
                    names.len() < before + 20
                });
                if names.len() == before {
                    break;
                }
            }
            for name in names.iter().take(30) {
                if let Ok(child) = inode.lookup(name)
                    && depth < 3
                    && name != b"."
                    && name != b".."
                {
                    poke(&child, depth + 1);
                }
            }
        }
        _ => {}
    }
}

fn change(fs: &Mounted) {
    let root = fs.root();
    for name in ["f", "dir/some-rather-long-name-3"] {
        if let Ok(f) = fs.at(name)
            && f.kind() == FileType::Regular
        {
            let _ = write_at(&f, 3000, &[3; 9000]);
            let _ = fallocate(&f, 3, 10_000, 50_000);
            let _ = fallocate(&f, 0, 0, 90_000);
            let _ = fallocate(&f, 8, 8192, 8192);
            let _ = f.set_xattr(b"user.c", &[5; 300], XattrFlags::empty());
            let _ = truncate(&f, 20_000);
            let _ = f.set_attr(&SetAttr {
                uid: Some(5),
                ..SetAttr::default()
            });
        }
    }
    if let Ok(dir) = fs.at("dir")
        && dir.kind() == FileType::Directory
    {
        for index in 0..40 {
            let _ = dir.create(format!("new-{index}").as_bytes(), NewNode::Regular, attr(0o600));
            let _ = dir.unlink(format!("some-rather-long-name-{index}").as_bytes());
        }
        let _ = dir.rename(b"sub", &root, b"moved", RenameFlags::empty());
        let _ = root.rmdir(b"moved");
    }
    let _ = root.unlink(b"f");
    let _ = root.create(b"d2", NewNode::Directory, attr(0o700));
    let _ = fs.fs.sync();
    let _ = fs.fs.statfs();
}

#[test]
fn damaged_images_do_no_harm() {
    let rounds: u64 = std::env::var("EXT4_HOSTILE_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(60);
    for (kind, options) in [
        ("ext4", "-b 1024 -O ^metadata_csum,^has_journal"),
        ("ext4", "-b 4096 -O ^metadata_csum,uninit_bg"),
        ("ext2", "-b 1024"),
        ("ext4", "-b 1024"),
    ] {
        let image = Image::new(kind, options, 8);
        fill(&image);
        let good = std::fs::read(image.path()).unwrap();
        // What is not zero is worth damaging.
        let places: Vec<usize> = (0..good.len()).filter(|&at| good[at] != 0 && good[at] != 1).collect();
        for seed in 1..=rounds {
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut next = || {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                random >> 33
            };
            let mut bad = good.clone();
            for _ in 0..1 + next() % 12 {
                let at = places[next() as usize % places.len()];
                let width = 1 + next() as usize % 4;
                for byte in bad.iter_mut().skip(at).take(width) {
                    *byte = if next() % 3 == 0 { 0xff } else { next() as u8 };
                }
            }
            let file = std::fs::OpenOptions::new().write(true).open(image.path()).unwrap();
            file.write_all_at(&bad, 0).unwrap();
            drop(file);
            if let Ok(fs) = image.mount_with("", true) {
                poke(&fs.root(), 0);
                let _ = fs.end();
            }
            if let Ok(fs) = image.mount_with("errors=continue", false) {
                poke(&fs.root(), 0);
                change(&fs);
                let _ = fs.end();
            }
        }
    }
}
