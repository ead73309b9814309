//! Crashes that were not survived once.

use ext4::fault::FaultDevice;
use kernel::vfs::{FileSystem, OpenFlags};

use crate::image::{Image, attr, make, mount, open, read_all, truncate, write_at};

#[test]
fn a_file_without_a_name_that_is_truncated_is_freed_after_a_crash() {
    let image = Image::new("ext4", "-b 1024", 8);
    let base = image.load();
    let disk = FaultDevice::new(base.clone());
    let fs = mount("ext4", disk.clone(), "", false).unwrap();
    let nameless = fs.root().create_unnamed(attr(0o600)).unwrap();
    let named = make(&fs.root(), "named");
    for file in [&nameless, &named] {
        write_at(file, 0, &[1; 50_000]).unwrap();
        let file = open(file, OpenFlags::RDWR);
        file.ops().sync(&file).unwrap();
    }
    fs.root().unlink(b"named").unwrap();
    truncate(&nameless, 10_000).unwrap();
    truncate(&named, 10_000).unwrap();
    fs.fs.sync().unwrap();
    let crashed = disk.crash(1);
    drop((nameless, named, fs));
    let disk = FaultDevice::new(crashed);
    mount("ext4", disk.clone(), "", false).unwrap().end().unwrap();
    image.show(&disk.image(), &base);
    image.check();
}

#[test]
fn an_asynchronous_commit_shows_nothing_that_lay_on_the_disk_before() {
    const OPTIONS: &str = "data=writeback,journal_async_commit,journal_checksum";
    let base = Image::new_on_used("ext3", "-b 1024 -J size=1", 8).load();
    let disk = FaultDevice::new(base.clone());
    disk.record();
    let fs = mount("ext3", disk.clone(), OPTIONS, false).unwrap();
    write_at(&make(&fs.root(), "f"), 0, &[1; 15_000]).unwrap();
    fs.fs.sync().unwrap();
    drop(fs);
    let again = FaultDevice::new(base);
    for request in disk.recorded() {
        request.repeat(&again).unwrap();
        for seed in 0..10 {
            let fs = mount("ext3", FaultDevice::new(again.crash(seed)), OPTIONS, false);
            // A super block in pieces is refused.
            let Ok(fs) = fs else { continue };
            let data = fs.at("f").map(|f| read_all(&f)).unwrap_or_default();
            assert!(data.iter().all(|&byte| byte == 1), "after seed {seed}");
        }
    }
}

#[test]
fn asynchronous_commits_are_refused_with_ordered_data() {
    let image = Image::new("ext4", "-b 1024", 8);
    let refused = image.mount_with("journal_async_commit", false).err();
    assert_eq!(refused, Some(ext4::Errno::EINVAL));
    image.mount_with("journal_async_commit,data=journal", false).unwrap();
}
