//! Several threads at once: no deadlock, every file as its thread left it.

use kernel::vfs::inode::RenameFlags;
use kernel::vfs::{FileSystem, Mode, OpenFlags, SetAttr};

use crate::image::{Image, make, mkdir, open, read_all, truncate, write_at};

#[test]
fn threads_in_directories_of_their_own_do_not_disturb_each_other() {
    for (kind, options) in [("ext4", "-b 4096"), ("ext4", "-b 1024 -J size=1"), ("ext2", "-b 1024")] {
        let image = Image::new(kind, options, 64);
        {
            let fs = image.mount();
            let dirs: Vec<_> = (0..4).map(|index| mkdir(&fs.root(), &format!("t{index}"))).collect();
            std::thread::scope(|scope| {
                for (thread, dir) in dirs.iter().enumerate() {
                    let fs = &fs;
                    scope.spawn(move || {
                        for round in 0..60u64 {
                            let f = make(dir, &format!("f{round}"));
                            let data = vec![(thread * 60) as u8 + round as u8; 1000 + round as usize * 777];
                            write_at(&f, round * 100, &data).unwrap();
                            match round % 6 {
                                0 => {
                                    let file = open(&f, OpenFlags::RDWR);
                                    file.ops().sync(&file).unwrap();
                                }
                                1 => truncate(&f, round * 100 + 500).unwrap(),
                                2 => dir.unlink(format!("f{round}").as_bytes()).unwrap(),
                                3 => {
                                    let (old, new) = (format!("f{round}"), format!("g{round}"));
                                    dir.rename(old.as_bytes(), dir, new.as_bytes(), RenameFlags::empty())
                                        .unwrap();
                                }
                                4 => fs.fs.sync().unwrap(),
                                _ => drop(fs.fs.statfs().unwrap()),
                            }
                        }
                    });
                }
            });
            for (thread, dir) in dirs.iter().enumerate() {
                for round in (0..60u64).filter(|round| round % 6 != 2) {
                    let name = if round % 6 == 3 {
                        format!("g{round}")
                    } else {
                        format!("f{round}")
                    };
                    let data = read_all(&dir.lookup(name.as_bytes()).unwrap());
                    let (hole, rest) = data.split_at(round as usize * 100);
                    assert!(hole.iter().all(|&byte| byte == 0));
                    assert!(rest.len() >= 500 && rest.iter().all(|&byte| byte == (thread * 60) as u8 + round as u8));
                }
            }
        }
        image.check();
    }
}

#[test]
fn an_inode_that_is_loaded_while_it_changes_and_goes_is_not_an_old_one() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let image = Image::new("ext4", "-b 4096", 16);
    {
        let fs = image.mount();
        let root = fs.root();
        make(&root, "f");
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Loads it and lets go, again and again.
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    drop(root.lookup(b"f").unwrap());
                }
            });
            for round in 0..20_000u32 {
                let mode = Mode::from_bits_truncate(round % 0o1000);
                let change = SetAttr {
                    mode: Some(mode),
                    ..SetAttr::default()
                };
                root.lookup(b"f").unwrap().set_attr(&change).unwrap();
                let now = root.lookup(b"f").unwrap().metadata().unwrap().mode;
                if now.bits() & 0o777 != mode.bits() {
                    over.store(true, Ordering::Relaxed);
                    panic!("round {round}: {:o} instead of {:o}", now.bits(), mode.bits());
                }
            }
            over.store(true, Ordering::Relaxed);
        });
    }
    image.check();
}
