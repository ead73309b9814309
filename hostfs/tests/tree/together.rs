//! Several tasks in one tree at once.

use std::sync::Arc;

use kernel::Errno;
use kernel::vfs::inode::RenameFlags;
use kernel::vfs::{FileSystem, Inode, NewNode, OpenFlags};

use crate::{TempDir, append, attr, open, read_at, read_only, write_at};

#[test]
fn names_descriptors_and_inodes_add_up_after_much_ado() {
    let dir = TempDir::new();
    let options = hostfs::HostfsArgs {
        root: dir.path().to_str().unwrap().into(),
        append: false,
    };
    let fs = hostfs::HostFs::with_anchor_limit(&options, 16).unwrap();
    let root = FileSystem::root(&*fs);
    let dirs: Vec<Arc<dyn Inode>> = (0..24)
        .map(|i| {
            root.create(format!("d{i}").as_bytes(), NewNode::Directory, attr(0o755))
                .unwrap()
        })
        .collect();
    // Others may be faster at each step; nothing else may go wrong.
    let lost = |error: Errno| {
        assert!(
            matches!(error, Errno::ENOENT | Errno::EEXIST | Errno::ESTALE),
            "{error:?}"
        )
    };
    std::thread::scope(|scope| {
        for worker in 0..4u64 {
            let dirs = &dirs;
            scope.spawn(move || {
                let mut random = worker.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                let mut next = |limit: usize| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    (random % limit as u64) as usize
                };
                for _ in 0..2000 {
                    let (here, there) = (&dirs[next(dirs.len())], &dirs[next(dirs.len())]);
                    let (name, other) = (format!("f{}", next(3)), format!("f{}", next(3)));
                    let result = match next(6) {
                        0 | 1 => here
                            .create(name.as_bytes(), NewNode::Regular, attr(0o444))
                            .and_then(|made| {
                                let file = open(&made, OpenFlags::RDWR)?;
                                write_at(&file, 0, b"text").map(drop)
                            }),
                        2 => here.lookup(name.as_bytes()).and_then(|found| {
                            let file = open(&found, read_only())?;
                            let text = read_at(&file, 0, 9)?;
                            assert!(text.is_empty() || text == b"text");
                            found.metadata().map(drop)
                        }),
                        3 => here.unlink(name.as_bytes()),
                        4 => here.rename(name.as_bytes(), there, other.as_bytes(), RenameFlags::empty()),
                        _ => here
                            .lookup(name.as_bytes())
                            .and_then(|found| there.link(other.as_bytes(), &found)),
                    };
                    result.unwrap_or_else(lost);
                }
            });
        }
    });
    drop((dirs, root));
    assert_eq!(fs.usage().0, 1);
    fs.unmount().unwrap();
    assert_eq!(fs.usage(), (0, 0));
}

#[test]
fn appends_of_several_tasks_do_not_overlap() {
    let dir = TempDir::new();
    dir.write("log", "");
    let fs = dir.mount();
    let log = fs.at("log").unwrap();
    let ends: Vec<u64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let file = open(&log, OpenFlags::WRONLY | OpenFlags::APPEND).unwrap();
                scope.spawn(move || {
                    (0..200)
                        .map(|_| append(&file, b"line\n").unwrap().end)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let mut sorted = ends;
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=800).map(|line| line * 5).collect::<Vec<u64>>());
    assert_eq!(dir.read("log"), "line\n".repeat(800));
}
