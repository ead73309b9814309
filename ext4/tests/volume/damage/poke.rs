//! Everything that can be done to a damaged file system, whatever comes of it.

use std::sync::Arc;

use ext4::{Errno, Result};
use kernel::vfs::inode::{RenameFlags, XattrFlags};
use kernel::vfs::{FileSystem, FileType, Inode, NewNode, OpenFlags, SetAttr};

use crate::image::{Mounted, attr, fallocate, make, mkdir, read_at, truncate, try_open, write_at};

/// What a whole image has: a directory with a tree, a file in pieces, attributes inside and outside of the inode, links.
pub fn fill(fs: &Mounted) {
    let root = fs.root();
    let dir = mkdir(&root, "dir");
    for index in 0..150 {
        make(&dir, &format!("some-rather-long-name-{index}"));
    }
    let f = make(&root, "f");
    for index in 0..40 {
        write_at(&f, index * 9000, &[1; 1000]).unwrap();
    }
    write_at(&f, 3_000_000, &[2; 3000]).unwrap();
    f.set_xattr(b"user.a", &[1; 50], XattrFlags::empty()).unwrap();
    f.set_xattr(b"user.b", &[2; 500], XattrFlags::empty()).unwrap();
    root.create(b"link", NewNode::Symlink(&[b'x'; 100]), attr(0o777))
        .unwrap();
    mkdir(&dir, "sub");
    fs.fs.sync().unwrap();
    // What a crash leaves for the next mount to do.
    let nameless = root.create_unnamed(attr(0o600)).unwrap();
    write_at(&nameless, 0, &[3; 20_000]).unwrap();
    for index in 100..120 {
        dir.unlink(format!("some-rather-long-name-{index}").as_bytes()).unwrap();
    }
    fs.fs.sync().unwrap();
}

/// Does things and keeps the errors.
#[derive(Default)]
pub struct Poke {
    pub errors: Vec<Errno>,
}

impl Poke {
    fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.errors.push(error)).ok()
    }

    /// Reads whatever there is.
    pub fn read(&mut self, fs: &Mounted) {
        self.look_at(&fs.root(), 0);
        self.note(fs.fs.statfs());
    }

    fn look_at(&mut self, inode: &Arc<dyn Inode>, depth: u32) {
        self.note(inode.metadata());
        if inode.kind() == FileType::Symlink {
            self.note(inode.read_link());
        }
        for name in self.note(inode.list_xattr()).unwrap_or_default() {
            self.note(inode.get_xattr(&name));
        }
        match inode.kind() {
            FileType::Regular => {
                for at in [0, 5000, 200_000, 3_000_000, 1 << 33] {
                    self.note(read_at(inode, at, 3000));
                }
            }
            FileType::Directory if depth < 4 => self.look_into(inode, depth),
            _ => {}
        }
    }

    fn look_into(&mut self, dir: &Arc<dyn Inode>, depth: u32) {
        // Damage may look like a feature that we do not have.
        let Some(file) = self.note(try_open(dir, OpenFlags::empty())) else {
            return;
        };
        let mut names = Vec::new();
        let mut pos = 0;
        for _ in 0..50 {
            let before = names.len();
            let listed = file.ops().read_dir(&file, pos, &mut |entry| {
                pos = entry.next;
                names.push(entry.name.to_vec());
                names.len() < before + 20
            });
            self.note(listed);
            if names.len() == before {
                break;
            }
        }
        for name in names.iter().take(60).filter(|name| *name != b"." && *name != b"..") {
            if let Some(child) = self.note(dir.lookup(name)) {
                self.look_at(&child, depth + 1);
            }
        }
    }

    /// Changes whatever can be changed.
    pub fn change(&mut self, fs: &Mounted) {
        let root = fs.root();
        for name in ["f", "dir/some-rather-long-name-3"] {
            if let Some(f) = self.note(fs.at(name))
                && f.kind() == FileType::Regular
            {
                self.change_file(&f);
            }
        }
        if let Some(dir) = self.note(fs.at("dir"))
            && dir.kind() == FileType::Directory
        {
            for index in 0..40 {
                self.note(dir.create(format!("new-{index}").as_bytes(), NewNode::Regular, attr(0o600)));
                self.note(dir.unlink(format!("some-rather-long-name-{index}").as_bytes()));
            }
            self.note(dir.rename(b"sub", &root, b"moved", RenameFlags::empty()));
            self.note(root.rmdir(b"moved"));
        }
        self.note(root.unlink(b"f"));
        if let Some(big) = self.note(root.create(b"big", NewNode::Regular, attr(0o600))) {
            self.note(write_at(&big, 0, &vec![7; 600_000]));
        }
        self.note(root.create(b"d2", NewNode::Directory, attr(0o700)));
        self.note(fs.fs.sync());
        self.note(fs.fs.statfs());
    }

    fn change_file(&mut self, f: &Arc<dyn Inode>) {
        self.note(write_at(f, 3000, &[3; 9000]));
        self.note(fallocate(f, 3, 10_000, 50_000));
        self.note(fallocate(f, 0, 0, 90_000));
        self.note(fallocate(f, 8, 8192, 8192));
        self.note(f.set_xattr(b"user.c", &[5; 300], XattrFlags::empty()));
        self.note(f.remove_xattr(b"user.b"));
        self.note(truncate(f, 20_000));
        self.note(f.set_attr(&SetAttr {
            uid: Some(5),
            ..SetAttr::default()
        }));
        if let Some(file) = self.note(try_open(f, OpenFlags::RDWR)) {
            self.note(file.ops().sync(&file));
        }
    }
}
