//! A full disk, and what it leaves behind.

use ext4::Errno;
use kernel::vfs::{FileSystem, NewNode};

use crate::image::{ALL, Image, attr, make, read_at, write_at};

#[test]
fn a_full_disk_is_told_by_write_and_takes_data_again_after_unlink() {
    for (kind, options) in ALL {
        let image = Image::new(kind, options, 16);
        {
            let fs = image.mount();
            let root = fs.root();
            let f = make(&root, "f");
            let mut at = 0;
            let told = loop {
                match write_at(&f, at, &[5; 65_536]) {
                    Ok(written) if written.count > 0 => at = written.end,
                    Ok(_) => panic!("a write of nothing"),
                    Err(error) => break error,
                }
            };
            assert_eq!(told, Errno::ENOSPC, "{kind} {options}");
            assert!(at > 4 << 20);
            fs.fs.sync().unwrap();
            assert_eq!(read_at(&f, at - 1, 2).unwrap(), [5]);
            drop(f);
            root.unlink(b"f").unwrap();
            let g = make(&root, "g");
            write_at(&g, 0, &[6; 4 << 20]).unwrap();
            fs.fs.sync().unwrap();
        }
        image.check();
    }
}

#[test]
fn running_out_of_inodes_leaves_the_disk_clean() {
    for (kind, options) in ALL {
        let image = Image::new(kind, &format!("{options} -N 64"), 16);
        {
            let fs = image.mount();
            let root = fs.root();
            let mut made = 0;
            let told = loop {
                match root.create(format!("d{made}").as_bytes(), NewNode::Directory, attr(0o700)) {
                    Ok(_) => made += 1,
                    Err(error) => break error,
                }
            };
            assert_eq!(told, Errno::ENOSPC);
            assert!(made > 20);
            assert_eq!(fs.fs.statfs().unwrap().ffree, 0);
            root.rmdir(b"d0").unwrap();
            make(&root, "fits");
        }
        image.check();
    }
}

#[test]
fn a_disk_full_of_directories_is_clean() {
    for (kind, options) in ALL {
        let image = Image::new(kind, &format!("{options} -N 20000 -m 0"), 16);
        {
            let fs = image.mount();
            let mut dir = fs.root();
            let mut made = 0;
            while let Ok(next) = dir.create(format!("d{made}").as_bytes(), NewNode::Directory, attr(0o700)) {
                made += 1;
                if made % 50 == 0 {
                    dir = next;
                }
            }
            assert!(made > 300);
        }
        image.check();
    }
}
