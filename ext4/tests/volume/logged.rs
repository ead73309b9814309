//! File data in the journal: it is there, e2fsck and Linux bring it home, and nothing comes back that was freed.

use std::sync::Arc;

use ext4::fault::FaultDevice;
use kernel::vfs::{FileSystem, Inode};

use crate::image::{Image, make, read_all, write_at};
use crate::linux::Host;
use crate::sync::{disk, mount, sync};

/// What the disk holds after a loss of power, as an image file.
fn lost(device: &FaultDevice) -> Image {
    Image::of("ext4", &device.crash(3))
}

fn root(fs: &Arc<ext4::Ext4>) -> Arc<dyn Inode> {
    FileSystem::root(&**fs)
}

/// Blocks that begin as blocks of a journal do must be escaped there.
fn contents() -> Vec<u8> {
    let mut data = vec![b'd'; 50_000];
    data[4096..4100].copy_from_slice(&0xc03b_3998u32.to_be_bytes());
    data[8192..8200].copy_from_slice(&[0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, 2]);
    data
}

#[test]
fn others_replay_data_that_we_have_logged() {
    for options in ["-b 4096", "-b 1024 -O ^metadata_csum"] {
        let image = Image::new("ext4", options, 24);
        write_at(&make(&image.mount().root(), "f"), 0, &[1; 30_000]).unwrap();
        let device = disk(&image);
        let fs = mount(&device, "data=journal");
        let f = root(&fs).lookup(b"f").unwrap();
        write_at(&f, 0, &contents()).unwrap();
        sync(&f);
        let cut = lost(&device);
        let (fsck, linux) = (cut.copy(), cut.copy());
        // The data has not been home yet: without the journal it is not there.
        cut.debugfs_write("feature ^needs_recovery");
        assert_ne!(
            read_all(&cut.mount_with("noload", true).unwrap().at("f").unwrap()),
            contents()
        );
        fsck.repair();
        assert_eq!(fsck.mount().read("f"), contents(), "e2fsck's replay");
        if let Some(host) = Host::mount(&linux, "rw") {
            assert_eq!(std::fs::read(host.at("f")).unwrap(), contents(), "Linux's replay");
        }
        // And read back from memory before it is home.
        drop(f);
        assert_eq!(read_all(&root(&fs).lookup(b"f").unwrap()), contents());
        fs.unmount().unwrap();
    }
}

#[test]
fn a_file_that_logs_its_data_leaves_nothing_behind_for_the_next_owner_of_its_blocks() {
    let image = Image::new("ext4", "-b 4096", 24);
    image.debugfs_write("mkdir /logs");
    image.debugfs_write("set_inode_field /logs flags 0x84000");
    let device = disk(&image);
    let fs = mount(&device, "");
    let dir = root(&fs).lookup(b"logs").unwrap();
    let old = make(&dir, "old");
    write_at(&old, 0, &[b'o'; 40_960]).unwrap();
    sync(&old);
    let before = lost(&device);
    before.repair();
    let blocks = before.debugfs("blocks /logs/old");
    drop(old);
    dir.unlink(b"old").unwrap();
    fs.sync().unwrap();
    fs.sync().unwrap();
    // Not logged: its data goes to the disk at once.
    let new = make(&root(&fs), "new");
    write_at(&new, 0, &[b'n'; 409_600]).unwrap();
    sync(&new);
    let cut = lost(&device);
    cut.repair();
    let taken = cut.debugfs("blocks /new");
    let first = blocks.split_whitespace().next().unwrap();
    assert!(
        taken.split_whitespace().any(|block| block == first),
        "{first} is not used again: {taken}"
    );
    assert_eq!(cut.mount().read("new"), [b'n'; 409_600]);
    fs.unmount().unwrap();
}
