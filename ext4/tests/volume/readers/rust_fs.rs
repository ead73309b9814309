//! The crate `rust-fs-ext4`, mounted read-only: names, contents, links and attributes. Directories without extents it (0.8.0) lists only block by block.

use std::collections::BTreeMap;
use std::sync::Arc;

use fs_ext4::block_io::FileDevice;
use fs_ext4::dir::{DirBlockIter, DirEntry, DirEntryType};
use fs_ext4::error::Error;
use fs_ext4::fs::Filesystem;
use fs_ext4::inode::InodeFlags;

use crate::image::Image;
use crate::tree::{Thing, Tree};

/// The root directory's number.
const ROOT: u32 = 2;

pub fn read(image: &Image) -> Result<Option<Tree>, String> {
    let mut tree = Tree::default();
    let done = FileDevice::open_path(image.path())
        .and_then(|device| Filesystem::mount(Arc::new(device)))
        .and_then(|fs| directory(&fs, ROOT, "", &mut tree));
    done.map_err(|error| format!("{error:?}"))?;
    Ok(Some(tree))
}

fn entries(fs: &Filesystem, ino: u32) -> Result<Vec<DirEntry>, Error> {
    let (inode, _) = fs.read_inode_verified(ino)?;
    if inode.flags & InodeFlags::EXTENTS.bits() != 0 {
        return fs.read_dir_ino(ino);
    }
    let mut all = Vec::new();
    for block in 0..inode.size / u64::from(fs.sb.block_size()) {
        if let Some(number) = fs.map_inode_logical(&inode, block)? {
            for entry in DirBlockIter::new(&fs.read_block(number)?, true) {
                all.push(entry?);
            }
        }
    }
    Ok(all)
}

fn directory(fs: &Filesystem, ino: u32, base: &str, tree: &mut Tree) -> Result<(), Error> {
    for entry in entries(fs, ino)? {
        let name = String::from_utf8_lossy(&entry.name).into_owned();
        let path = format!("{base}{name}");
        if name == "." || name == ".." || path == "lost+found" {
            continue;
        }
        let thing = match entry.file_type {
            DirEntryType::Directory => {
                directory(fs, entry.inode, &format!("{path}/"), tree)?;
                Thing::Dir
            }
            DirEntryType::Symlink => Thing::Link(fs.read_link_ino(entry.inode)?),
            _ => file(fs, entry.inode)?,
        };
        tree.things.insert(path, thing);
    }
    Ok(())
}

fn file(fs: &Filesystem, ino: u32) -> Result<Thing, Error> {
    let (inode, raw) = fs.read_inode_verified(ino)?;
    let mut data = vec![0; inode.size as usize];
    let mut done = 0;
    while done < data.len() {
        match fs.read_ino(ino, done as u64, &mut data[done..])? {
            0 => break,
            count => done += count,
        }
    }
    data.truncate(done);
    let attributes = fs_ext4::xattr::read_all_resolved(fs, &inode, &raw)?;
    let xattrs: BTreeMap<_, _> = attributes.into_iter().map(|entry| (entry.name, entry.value)).collect();
    Ok(Thing::File {
        ino: Some(u64::from(ino)),
        links: Some(u32::from(inode.links_count)),
        data: Some(data),
        xattrs: Some(xattrs),
    })
}
