//! Projects, and other words about inodes that programs rarely ask for.

use ext4::Errno;
use kernel::vfs::inode::RenameFlags;
use kernel::vfs::{FileSystem, SetAttr, TimesFrom, Timespec};

use crate::image::{Image, make, mkdir, refused};

#[test]
fn new_files_belong_to_the_project_of_their_directory_and_others_stay_outside() {
    let image = Image::new("ext4", "-O project", 16);
    image.debugfs_write("mkdir /dir");
    image.debugfs_write("set_inode_field /dir flags 0x20080000");
    image.debugfs_write("set_inode_field /dir projid 4711");
    {
        let fs = image.mount();
        let dir = fs.at("dir").unwrap();
        let outside = make(&fs.root(), "outside");
        make(&dir, "inside");
        mkdir(&dir, "sub");
        let none = RenameFlags::empty();
        assert_eq!(refused(dir.link(b"link", &outside)), Errno::EXDEV);
        assert_eq!(
            refused(fs.root().rename(b"outside", &dir, b"moved", none)),
            Errno::EXDEV
        );
        let swap = RenameFlags::EXCHANGE;
        assert_eq!(
            refused(fs.root().rename(b"outside", &dir, b"inside", swap)),
            Errno::EXDEV
        );
        dir.rename(b"inside", &dir, b"renamed", none).unwrap();
        dir.rename(b"sub", &fs.root(), b"sub", none).unwrap();
    }
    image.check();
    for (path, project, inherits) in [
        ("/dir/renamed", 4711, false),
        ("/sub", 4711, true),
        ("/outside", 0, false),
    ] {
        let shown = image.debugfs(&format!("stat {path}"));
        assert!(shown.contains(&format!("Project: {project:5}")), "{shown}");
        assert_eq!(shown.contains("Flags: 0x20080000"), inherits, "{shown}");
    }
}

#[test]
fn an_append_only_file_takes_the_clocks_times_and_no_others() {
    let image = Image::new("ext4", "", 16);
    make(&image.mount().root(), "log");
    image.debugfs_write("set_inode_field /log flags 0x80020");
    let fs = image.mount();
    let log = fs.at("log").unwrap();
    let time = Some(Timespec { sec: 1, nsec: 0 });
    let attr = |times| SetAttr {
        atime: time,
        mtime: time,
        times,
        ..SetAttr::default()
    };
    assert_eq!(refused(log.set_attr(&attr(TimesFrom::Caller))), Errno::EPERM);
    log.set_attr(&attr(TimesFrom::Clock)).unwrap();
}

#[test]
fn the_super_block_knows_where_it_was_mounted_last() {
    let image = Image::new("ext4", "", 16);
    image.mount().fs.placed(b"/mnt/somewhere");
    image.mount_read_only().fs.placed(b"/elsewhere");
    let told = image.dump();
    assert!(told.contains("Last mounted on:          /mnt/somewhere\n"), "{told}");
    image.check();
}
