//! The crate `ext4-view`: names, contents and symlinks.
//!
//! It reads no attributes, counts no links, and (1.0.0) takes unwritten extents for written ones, block 0 for a block of pointers where a block map has
//! a hole, and an inode of 128 bytes for a damaged one.

use ext4_view::{Ext4, FileType};

use crate::image::Image;
use crate::tree::{Thing, Tree};

pub fn read(image: &Image) -> Result<Option<Tree>, String> {
    let mut tree = Tree::default();
    let done = Ext4::load_from_path(image.path()).and_then(|fs| directory(&fs, "", &mut tree));
    match done.map_err(|error| error.to_string()) {
        Ok(()) => Ok(Some(tree)),
        Err(error) if is_unknown(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether it gives up for want of a feature.
fn is_unknown(error: &str) -> bool {
    error.contains("unsupported features") || error.contains("is truncated: size=128")
}

fn directory(fs: &Ext4, base: &str, tree: &mut Tree) -> Result<(), ext4_view::Ext4Error> {
    for entry in fs.read_dir(format!("/{base}").as_str())? {
        let entry = entry?;
        let name = entry.file_name().display().to_string();
        let path = format!("{base}{name}");
        if name == "." || name == ".." || path == "lost+found" {
            continue;
        }
        let absolute = format!("/{path}");
        let thing = match entry.file_type()? {
            FileType::Directory => {
                directory(fs, &format!("{path}/"), tree)?;
                Thing::Dir
            }
            FileType::Symlink => Thing::Link(fs.read_link(absolute.as_str())?.as_ref().to_vec()),
            _ => Thing::File {
                ino: None,
                links: None,
                data: Some(contents(fs, &absolute)),
                xattrs: None,
            },
        };
        tree.things.insert(path, thing);
    }
    Ok(())
}

/// A file's contents, or what the reader has against them: some it cannot read, and those are not compared.
fn contents(fs: &Ext4, path: &str) -> Vec<u8> {
    fs.read(path).unwrap_or_else(|error| error.to_string().into_bytes())
}
