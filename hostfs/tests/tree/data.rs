//! Contents: read, write, append, holes, mappings; coherent with the host at every step.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};

use arch_um::host::AsRawFd;
use kernel::Errno;
use kernel::vfs::file::{MapBacking, SeekTarget};
use kernel::vfs::{Access, Inode, OpenFlags, SetAttr, Timespec};

use crate::{TempDir, append, is_root, make, open, read_at, read_only, refused, write_at};

#[test]
fn guest_and_host_see_each_others_writes_at_once() {
    let dir = TempDir::new();
    dir.write("f", "0123456789");
    let fs = dir.mount();
    let file = open(&fs.at("f").unwrap(), OpenFlags::RDWR).unwrap();
    assert_eq!(read_at(&file, 2, 3).unwrap(), b"234");
    let host = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(dir.join("f"))
        .unwrap();
    host.write_all_at(b"host", 2).unwrap();
    assert_eq!(read_at(&file, 0, 100).unwrap(), b"01host6789");
    let written = write_at(&file, 6, b"guest").unwrap();
    assert_eq!((written.count, written.end), (5, 11));
    assert_eq!(dir.read("f"), "01hostguest");
    assert_eq!(read_at(&file, 11, 1).unwrap(), b"");
    assert_eq!(read_at(&file, 1 << 40, 1).unwrap(), b"");
    assert_eq!(refused(read_at(&file, u64::MAX, 1)), Errno::EINVAL);
}

#[test]
fn large_transfers_pass_in_pieces() {
    let dir = TempDir::new();
    let fs = dir.mount();
    let file = open(&make(&fs.root(), "big"), OpenFlags::RDWR).unwrap();
    let data: Vec<u8> = (0..3_000_001u32).map(|i| (i / 7) as u8).collect();
    assert_eq!(write_at(&file, 5, &data).unwrap().count, data.len());
    assert_eq!(read_at(&file, 5, data.len() + 10).unwrap(), data);
    assert_eq!(dir.join("big").metadata().unwrap().len(), data.len() as u64 + 5);
}

#[test]
fn appends_go_to_the_end_wherever_it_is() {
    let dir = TempDir::new();
    dir.write("log", "one\n");
    let fs = dir.mount();
    let file = open(&fs.at("log").unwrap(), OpenFlags::WRONLY | OpenFlags::APPEND).unwrap();
    assert_eq!(append(&file, b"two\n").unwrap().end, 8);
    let mut host = std::fs::OpenOptions::new().append(true).open(dir.join("log")).unwrap();
    std::io::Write::write_all(&mut host, b"host\n").unwrap();
    let written = append(&file, b"three\n").unwrap();
    assert_eq!((written.count, written.end), (6, 19));
    assert_eq!(dir.read("log"), "one\ntwo\nhost\nthree\n");
}

#[test]
fn holes_stay_holes() {
    let dir = TempDir::new();
    let fs = dir.mount();
    let made = make(&fs.root(), "sparse");
    made.set_attr(&SetAttr {
        size: Some(1 << 30),
        ..SetAttr::default()
    })
    .unwrap();
    let file = open(&made, OpenFlags::RDWR).unwrap();
    write_at(&file, 512 << 20, b"data").unwrap();
    let stat = made.metadata().unwrap();
    assert_eq!(stat.size, 1 << 30);
    assert!(stat.blocks * 512 < 1 << 20);
    assert_eq!(dir.join("sparse").metadata().unwrap().blocks(), stat.blocks);
    let ops = file.ops();
    assert_eq!(ops.seek(0, SeekTarget::Data).unwrap(), 512 << 20);
    assert_eq!(ops.seek(0, SeekTarget::Hole).unwrap(), 0);
    assert_eq!(refused(ops.seek(1 << 30, SeekTarget::Data)), Errno::ENXIO);
    // Punching a hole over the data, keeping the size.
    match ops.fallocate(&file, 3, 512 << 20, 4096) {
        Err(Errno::EOPNOTSUPP) => {}
        result => {
            result.unwrap();
            assert_eq!(read_at(&file, 512 << 20, 4).unwrap(), [0; 4]);
            assert_eq!(made.metadata().unwrap().size, 1 << 30);
        }
    }
}

#[test]
fn truncation_reaches_the_host_open_or_not() {
    let dir = TempDir::new();
    dir.write("f", "0123456789");
    let fs = dir.mount();
    let f = fs.at("f").unwrap();
    f.set_attr(&SetAttr {
        size: Some(4),
        ..SetAttr::default()
    })
    .unwrap();
    assert_eq!(dir.read("f"), "0123");
    let file = open(&f, OpenFlags::WRONLY).unwrap();
    f.set_attr(&SetAttr {
        size: Some(2),
        ..SetAttr::default()
    })
    .unwrap();
    assert_eq!(dir.read("f"), "01");
    assert_eq!(f.metadata().unwrap().size, 2);
    drop(file);
}

#[test]
fn a_mapping_gets_no_more_rights_than_it_needs() {
    let dir = TempDir::new();
    dir.write("f", "mapped");
    let fs = dir.mount();
    let mode = |backing: MapBacking| {
        let MapBacking::Host { fd, base } = backing else {
            panic!("mapped from the host file")
        };
        assert_eq!(base, 0);
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
        let flags = info
            .lines()
            .find_map(|line| line.strip_prefix("flags:"))
            .unwrap()
            .trim()
            .to_owned();
        u32::from_str_radix(&flags, 8).unwrap() & 3
    };
    let f = fs.at("f").unwrap();
    let writer = open(&f, OpenFlags::RDWR).unwrap();
    assert_eq!(mode(writer.ops().map(&writer, Access::READ).unwrap()), 0);
    assert_eq!(
        mode(writer.ops().map(&writer, Access::READ | Access::WRITE).unwrap()),
        2
    );
    let reader = open(&f, read_only()).unwrap();
    assert_eq!(mode(reader.ops().map(&reader, Access::READ).unwrap()), 0);
    assert!(matches!(reader.ops().map(&reader, Access::WRITE), Err(Errno::EACCES)));
}

#[test]
fn synchronous_direct_and_plain_descriptions_share_one_file() {
    let dir = TempDir::new();
    let fs = dir.mount();
    let made = make(&fs.root(), "f");
    let sync = OpenFlags::RDWR | OpenFlags::DSYNC | OpenFlags::SYNC_BIT;
    let file = open(&made, sync).unwrap();
    assert_eq!(write_at(&file, 0, &[7; 4096]).unwrap().count, 4096);
    file.ops().sync(&file).unwrap();
    file.ops().sync_data(&file).unwrap();
    match open(&made, OpenFlags::RDWR | OpenFlags::DIRECT) {
        // tmpfs before Linux 6.6 and others have no direct I/O.
        Err(Errno::EINVAL) => {}
        direct => {
            let direct = direct.unwrap();
            assert_eq!(write_at(&direct, 4096, &[8; 8192]).unwrap().count, 8192);
            assert_eq!(read_at(&direct, 4096, 4096).unwrap(), [8; 4096]);
            // A disk wants whole blocks; tmpfs takes anything.
            assert!(matches!(write_at(&direct, 1, b"x"), Err(Errno::EINVAL) | Ok(_)));
            direct.ops().flags_changed(&direct, OpenFlags::RDWR).unwrap();
            assert_eq!(write_at(&direct, 1, b"x").unwrap().count, 1);
        }
    }
}

#[test]
fn copying_a_range_stays_on_the_host() {
    let dir = TempDir::new();
    dir.write("from", "0123456789");
    let fs = dir.mount();
    let from = open(&fs.at("from").unwrap(), read_only()).unwrap();
    let to = open(&make(&fs.root(), "to"), OpenFlags::WRONLY).unwrap();
    match from.ops().copy_range(&from, 2, &to, 1, 4) {
        Err(Errno::EXDEV | Errno::EOPNOTSUPP) => {}
        result => {
            assert_eq!(result.unwrap(), 4);
            assert_eq!(dir.read("to"), "\x002345");
        }
    }
}

#[test]
fn times_have_nanoseconds_also_on_symlinks() {
    let dir = TempDir::new();
    dir.write("f", "");
    std::os::unix::fs::symlink("f", dir.join("l")).unwrap();
    let fs = dir.mount();
    let time = |nsec| Timespec {
        sec: 1_000_000_000,
        nsec,
    };
    for (name, inode) in [("f", fs.at("f").unwrap()), ("l", fs.at("l").unwrap())] {
        inode
            .set_attr(&SetAttr {
                mtime: Some(time(123_456_789)),
                ..SetAttr::default()
            })
            .unwrap();
        let before = inode.metadata().unwrap().atime;
        inode
            .set_attr(&SetAttr {
                mtime: Some(time(987_654_321)),
                ..SetAttr::default()
            })
            .unwrap();
        let stat = dir.join(name).symlink_metadata().unwrap();
        assert_eq!(
            (stat.mtime(), stat.mtime_nsec()),
            (1_000_000_000, 987_654_321),
            "{name}"
        );
        assert_eq!(inode.metadata().unwrap().atime, before);
    }
}

#[test]
fn an_append_only_tree_grows_and_loses_nothing() {
    let dir = TempDir::new();
    dir.write("log", "old");
    dir.write("other", "x");
    let fs = dir.mount_with(true, &[]).unwrap();
    let (root, log) = (fs.root(), fs.at("log").unwrap());
    let file = open(&log, OpenFlags::RDWR).unwrap();
    assert_eq!(write_at(&file, 0, b"new").unwrap().end, 6);
    assert_eq!(dir.read("log"), "oldnew");
    assert_eq!(refused(root.unlink(b"log")), Errno::EPERM);
    assert_eq!(
        refused(log.set_attr(&SetAttr {
            size: Some(0),
            ..SetAttr::default()
        })),
        Errno::EPERM
    );
    assert_eq!(refused(file.ops().map(&file, Access::WRITE)), Errno::EACCES);
    let replace = root.rename(b"other", &root, b"log", kernel::vfs::inode::RenameFlags::empty());
    assert_eq!(refused(replace), Errno::EPERM);
}

#[test]
fn a_file_that_may_only_be_written_is_opened_for_that() {
    if is_root() {
        return;
    }
    let dir = TempDir::new();
    dir.write("drop", "");
    std::fs::set_permissions(dir.join("drop"), std::os::unix::fs::PermissionsExt::from_mode(0o200)).unwrap();
    let fs = dir.mount();
    let drop_box = fs.at("drop").unwrap();
    assert_eq!(refused(open(&drop_box, read_only())), Errno::EACCES);
    assert_eq!(refused(open(&drop_box, OpenFlags::RDWR)), Errno::EACCES);
    assert_eq!(
        write_at(&open(&drop_box, OpenFlags::WRONLY).unwrap(), 0, b"x")
            .unwrap()
            .count,
        1
    );
}

#[test]
fn files_of_the_hosts_proc_can_be_read() {
    let fs = crate::mount(hostfs::HostfsArgs::default(), &[("/proc", None)]).unwrap();
    let file = open(&fs.at("version").unwrap(), read_only()).unwrap();
    let mut text = String::new();
    std::fs::File::open("/proc/version")
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(read_at(&file, 0, 100_000).unwrap(), text.as_bytes());
    let mut host = std::fs::File::open("/proc/version").unwrap();
    host.seek(SeekFrom::Start(6)).unwrap();
    assert_eq!(read_at(&file, 6, 7).unwrap(), &text.as_bytes()[6..13]);
}

#[test]
fn extended_attributes_are_the_hosts() {
    let dir = TempDir::new();
    dir.write("f", "");
    dir.mkdir("d");
    let fs = dir.mount();
    for inode in [fs.at("f").unwrap(), fs.at("d").unwrap()] {
        xattr_round_trip(&*inode);
    }
    // user.* is refused on symlinks by the host; what matters is that the link itself is asked, not its target.
    std::os::unix::fs::symlink("f", dir.join("l")).unwrap();
    let link = fs.at("l").unwrap();
    assert!(
        link.set_xattr(b"user.test", b"v", kernel::vfs::inode::XattrFlags::empty())
            .is_err()
    );
    assert_eq!(refused(fs.at("f").unwrap().get_xattr(b"user.test")), Errno::ENODATA);
}

fn xattr_round_trip(inode: &dyn Inode) {
    use kernel::vfs::inode::XattrFlags;
    let name = b"user.hostfs.test";
    let big = vec![b'v'; 2000];
    match inode.set_xattr(name, &big, XattrFlags::CREATE) {
        Err(Errno::EOPNOTSUPP) => return,
        result => result.unwrap(),
    }
    assert_eq!(refused(inode.set_xattr(name, b"", XattrFlags::CREATE)), Errno::EEXIST);
    assert_eq!(inode.get_xattr(name).unwrap(), big);
    inode.set_xattr(name, b"short", XattrFlags::REPLACE).unwrap();
    assert_eq!(inode.get_xattr(name).unwrap(), b"short");
    assert!(inode.list_xattr().unwrap().contains(&name.to_vec()));
    inode.remove_xattr(name).unwrap();
    assert_eq!(refused(inode.get_xattr(name)), Errno::ENODATA);
}
