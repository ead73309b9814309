//! Crashes that were not survived once.

use ext4::fault::FaultDevice;
use kernel::vfs::{FileSystem, OpenFlags};

use crate::image::{Image, attr, make, mount, open, truncate, write_at};

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
