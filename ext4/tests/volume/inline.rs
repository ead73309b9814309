//! `inline_data`: small files and directories in their inodes; they grow out of them, and e2fsck, debugfs and Linux see the same.

use std::sync::Arc;

use kernel::vfs::Inode;
use kernel::vfs::inode::{RenameFlags, XattrFlags};

use crate::image::{Image, fallocate, list, make, mkdir, read_all, refused, truncate, write_at};
use crate::linux::{Host, same, tree};

const KINDS: [&str; 3] = [
    "-b 4096 -O inline_data",
    "-b 1024 -I 512 -O inline_data,^metadata_csum",
    "-b 1024 -O inline_data,^dir_index",
];

fn is_inline(image: &Image, path: &str) -> bool {
    let shown = image.debugfs(&format!("stat {path}"));
    assert!(shown.contains("Flags: 0x"), "{shown}");
    shown.contains("Flags: 0x1000")
}

/// Something that makes a file outgrow its inode.
type Change = fn(&Arc<dyn Inode>);

fn put(file: &Arc<dyn Inode>, at: u64, data: &[u8]) {
    assert_eq!(write_at(file, at, data).unwrap().count, data.len());
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + len) as u8 | 1).collect()
}

/// e2fsck finds nothing, and Linux reads the same tree.
fn judge(image: &Image) {
    image.check();
    let ours = tree(&image.mount_read_only());
    if let Some(host) = Host::mount(&image.copy(), "rw") {
        same(&ours, &host.tree(), "Linux");
    }
}

#[test]
fn files_lie_in_their_inodes_while_they_fit() {
    for options in KINDS {
        let image = Image::new("ext4", options, 16);
        let sizes = [0, 1, 59, 60, 61, 64, 100, 128, 129, 200, 400, 500, 5000];
        {
            let fs = image.mount();
            for size in sizes {
                let file = make(&fs.root(), &format!("f{size}"));
                write_at(&file, 0, &bytes(size)).unwrap();
                assert_eq!(read_all(&file), bytes(size));
                if size > 0 {
                    assert!(file.metadata().unwrap().blocks > 0, "not to be taken for a hole");
                }
            }
        }
        judge(&image);
        let inner = if options.contains("512") { 384 } else { 128 };
        for size in sizes {
            let path = format!("/f{size}");
            assert_eq!(read_all(&image.mount_read_only().at(&path).unwrap()), bytes(size));
            if size > 0 {
                assert_eq!(is_inline(&image, &path), size <= inner, "{options} {path}");
            }
        }
    }
}

#[test]
fn files_leave_their_inodes_with_all_they_hold() {
    let grow: [(&str, Change); 8] = [
        ("append", |f| put(f, 50, &[8; 4000])),
        ("far", |f| put(f, 100_000, b"far")),
        ("truncate", |f| truncate(f, 3000).unwrap()),
        ("fallocate", |f| fallocate(f, 0, 0, 10_000).unwrap()),
        ("punch", |f| fallocate(f, 3, 10, 20).unwrap()),
        ("shorter", |f| {
            truncate(f, 20).unwrap();
            truncate(f, 90).unwrap();
        }),
        ("empty", |f| {
            truncate(f, 0).unwrap();
            put(f, 0, &[9; 9000]);
        }),
        ("within", |f| {
            put(f, 30, &[7; 40]);
            f.set_xattr(b"user.a", &[1; 30], XattrFlags::empty()).unwrap();
            put(f, 40, &[6; 80]);
        }),
    ];
    for options in KINDS {
        for mounted in ["", "data=journal"] {
            let image = Image::new("ext4", options, 16);
            let plain = Image::new("ext4", "", 16);
            for (fs, remount) in [(&image, true), (&image, false), (&plain, false)] {
                for (name, change) in grow {
                    let name = format!("{name}-{remount}");
                    {
                        let mount = fs.mount_with(mounted, false).unwrap();
                        let Ok(file) = mount.root().create(
                            name.as_bytes(),
                            kernel::vfs::NewNode::Regular,
                            crate::image::attr(0o644),
                        ) else {
                            continue;
                        };
                        write_at(&file, 0, &bytes(70)).unwrap();
                        if !remount {
                            change(&file);
                        }
                    }
                    if remount {
                        let mount = fs.mount_with(mounted, false).unwrap();
                        change(&mount.at(&name).unwrap());
                    }
                }
            }
            judge(&image);
            // What a file system without the feature says.
            let (here, there) = (tree(&image.mount_read_only()), tree(&plain.mount_read_only()));
            for (name, _) in grow {
                for remount in ["true", "false"] {
                    let found = &here[&format!("/{name}-{remount}")];
                    assert_eq!(
                        found,
                        &there[&format!("/{name}-false")],
                        "{options} {mounted} {name} {remount}"
                    );
                }
            }
        }
    }
}

#[test]
fn directories_lie_in_their_inodes_while_they_fit() {
    for options in KINDS {
        let image = Image::new("ext4", options, 16);
        let mut names: Vec<String> = Vec::new();
        {
            let fs = image.mount();
            let dir = mkdir(&fs.root(), "dir");
            let other = mkdir(&fs.root(), "other");
            assert!(list(&dir).is_empty());
            for at in 0..40 {
                let name = format!("name-{at}");
                if at % 5 == 4 {
                    let gone = names.remove(0);
                    dir.unlink(gone.as_bytes()).unwrap();
                }
                make(&dir, &name);
                names.push(name);
                names.sort();
                assert_eq!(list(&dir), names, "{options}");
            }
            let sub = mkdir(&other, "sub");
            make(&sub, "x");
            other.rename(b"sub", &dir, b"moved", RenameFlags::empty()).unwrap();
            sub.rename(b"x", &sub, b"y", RenameFlags::empty()).unwrap();
            make(&other, "a");
            make(&other, "b");
            other.rename(b"a", &other, b"b", RenameFlags::EXCHANGE).unwrap();
            other.rename(b"a", &other, b"b", RenameFlags::empty()).unwrap();
            assert_eq!(list(&other), ["b"]);
            assert!(sub.lookup(b"..").is_ok_and(|up| up.ino() == dir.ino()) || sub.lookup(b"..").is_err());
            assert_eq!(refused(dir.rmdir(b"moved")), ext4::Errno::ENOTEMPTY);
            sub.unlink(b"y").unwrap();
            dir.rmdir(b"moved").unwrap();
            mkdir(&other, "stays");
        }
        judge(&image);
        assert!(is_inline(&image, "/other") && is_inline(&image, "/other/stays"));
        assert!(!is_inline(&image, "/dir"));
        let fs = image.mount();
        assert_eq!(fs.list("dir"), names);
    }
}

#[test]
fn what_linux_keeps_inline_can_be_changed() {
    let image = Image::new("ext4", "-b 4096 -O inline_data", 16);
    {
        let Some(host) = Host::mount(&image, "rw") else { return };
        for size in [10, 60, 61, 100, 150] {
            std::fs::write(host.at(&format!("f{size}")), bytes(size)).unwrap();
        }
        std::fs::create_dir(host.at("d")).unwrap();
        for name in ["one", "two", "three"] {
            std::fs::write(host.at(&format!("d/{name}")), name).unwrap();
        }
    }
    {
        let fs = image.mount();
        assert_eq!(fs.list("d"), ["one", "three", "two"]);
        for size in [10, 60, 61, 100, 150] {
            let file = fs.at(&format!("f{size}")).unwrap();
            assert_eq!(read_all(&file), bytes(size));
            write_at(&file, 5, b"changed").unwrap();
        }
        let d = fs.at("d").unwrap();
        d.unlink(b"two").unwrap();
        make(&d, "a name that is longer than the one that was here");
        make(&d, "and another one, so that there is no room any more for it");
        make(&d, "last");
    }
    judge(&image);
}
