//! A full disk, and what it leaves behind.

use std::sync::Arc;

use ext4::Errno;
use kernel::vfs::inode::{RenameFlags, XattrFlags};
use kernel::vfs::{FileSystem, Inode, NewNode};

use crate::image::{ALL, Image, Mounted, attr, fallocate, make, mkdir, read_at, refused, write_at};

/// Takes all that may be taken: the rest of the disk in one call where the kind can.
fn fill(fs: &Mounted) -> Arc<dyn Inode> {
    let all = make(&fs.root(), "all");
    match fallocate(&all, 0, 0, 1 << 30) {
        Err(Errno::EOPNOTSUPP) => {
            let mut at = 0;
            while let Ok(written) = write_at(&all, at, &[7; 4096]) {
                at = written.end;
            }
            fs.fs.sync().unwrap();
        }
        told => assert_eq!(told, Err(Errno::ENOSPC)),
    }
    // What was too little for data and its map.
    let mut rest = 0;
    while fs
        .root()
        .create(
            format!("rest{rest}").as_bytes(),
            NewNode::Symlink(&[b'l'; 200]),
            attr(0o777),
        )
        .is_ok()
    {
        rest += 1;
    }
    all
}

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

#[test]
fn a_full_disk_takes_what_needs_no_block() {
    let features = ("ext4", "-b 4096 -O inline_data,ea_inode -I 256");
    for (kind, options) in ALL.into_iter().chain([features]) {
        let image = Image::new(kind, options, 16);
        {
            let fs = image.mount();
            let dir = mkdir(&fs.root(), "dir");
            let f = make(&dir, "f");
            let set = |value: &[u8], flags| f.set_xattr(b"user.big", &[&[b'x'; 300], value].concat(), flags);
            set(b"before", XattrFlags::CREATE).unwrap();
            // Names enough that the directory has an index or at least room.
            (0..100).for_each(|at| drop(make(&dir, &format!("name{at}"))));
            (0..50).for_each(|at| dir.unlink(format!("name{at}").as_bytes()).unwrap());
            let all = fill(&fs);
            let told = format!("{kind} {options}");
            assert_eq!(fs.fs.statfs().unwrap().bavail, 0, "{told}");

            set(b"behind", XattrFlags::REPLACE).expect(&told);
            assert!(f.get_xattr(b"user.big").unwrap().ends_with(b"behind"));
            (0..50).for_each(|at| drop(make(&dir, &format!("n{at}"))));
            dir.link(b"second", &f).expect(&told);
            dir.rename(b"f", &dir, b"g", RenameFlags::empty()).expect(&told);
            dir.create(b"short", NewNode::Symlink(b"g"), attr(0o777)).expect(&told);
            // These do need one.
            if !options.contains("inline_data") {
                assert_eq!(
                    refused(dir.create(b"sub", NewNode::Directory, attr(0o755))),
                    Errno::ENOSPC
                );
            }
            assert_eq!(
                refused(dir.create(b"long", NewNode::Symlink(&[b'l'; 200]), attr(0o777))),
                Errno::ENOSPC
            );
            assert_eq!(
                refused(write_at(&make(&dir, "w"), 0, &[1; 5000])),
                Errno::ENOSPC,
                "{told}"
            );
            // A directory that must grow does not, and what it has stays.
            let mut made = 0;
            let stop = loop {
                match dir.create(format!("{made:0200}").as_bytes(), NewNode::Regular, attr(0o600)) {
                    Ok(_) => made += 1,
                    Err(error) => break error,
                }
            };
            assert_eq!(stop, Errno::ENOSPC, "{told}");
            for at in 0..made {
                dir.lookup(format!("{at:0200}").as_bytes()).expect(&told);
            }
            assert_eq!(refused(dir.lookup(b"long")), Errno::ENOENT);
            drop(all);
            fs.root().unlink(b"all").unwrap();
            mkdir(&dir, "sub");
        }
        image.check();
    }
}

#[test]
fn fallocate_on_a_disk_that_becomes_full_tells_by_the_size_how_far_it_came() {
    let image = Image::new("ext4", "-b 4096", 16);
    {
        let fs = image.mount();
        let all = fill(&fs);
        let got = all.metadata().unwrap();
        assert!(got.size > 8 << 20, "{}", got.size);
        assert!(got.blocks * 512 >= got.size);
    }
    image.check();
}
