//! What is in a mounted file system.

use std::collections::BTreeMap;
use std::sync::Arc;

use ext4::Result;
use kernel::vfs::inode::Link;
use kernel::vfs::{FileType, Inode};

use crate::image::{Mounted, list, read_at};

/// What a path leads to.
pub enum Thing {
    Dir,
    File {
        ino: u64,
        links: u32,
        data: Vec<u8>,
        xattrs: BTreeMap<String, Vec<u8>>,
    },
    Link(Vec<u8>),
}

/// A tree, by paths without a leading slash; without `lost+found`.
#[derive(Default)]
pub struct Found {
    pub things: BTreeMap<String, Thing>,
}

impl Found {
    /// Reads everything.
    pub fn of(fs: &Mounted) -> Result<Self> {
        let mut found = Self::default();
        found.read(&fs.root(), "")?;
        Ok(found)
    }

    fn read(&mut self, dir: &Arc<dyn Inode>, base: &str) -> Result<()> {
        for name in list(dir) {
            let path = format!("{base}{name}");
            if path == "lost+found" {
                continue;
            }
            let inode = dir.lookup(name.as_bytes())?;
            let thing = match inode.kind() {
                FileType::Directory => {
                    self.read(&inode, &format!("{path}/"))?;
                    Thing::Dir
                }
                FileType::Symlink => match inode.read_link()? {
                    Link::Text(text) => Thing::Link(text),
                    Link::Object(_) => return Err(ext4::Errno::EUCLEAN),
                },
                _ => file(&inode)?,
            };
            self.things.insert(path, thing);
        }
        Ok(())
    }

    /// Paths and kinds, for the one who must find out.
    pub fn shape(&self) -> Vec<String> {
        self.things
            .iter()
            .map(|(path, thing)| match thing {
                Thing::Dir => format!("{path}/"),
                Thing::File { ino, links, data, .. } => format!("{path} #{ino} x{links} {}b", data.len()),
                Thing::Link(text) => format!("{path} -> {} bytes", text.len()),
            })
            .collect()
    }
}

fn file(inode: &Arc<dyn Inode>) -> Result<Thing> {
    let metadata = inode.metadata()?;
    let mut xattrs = BTreeMap::new();
    for name in inode.list_xattr()? {
        xattrs.insert(String::from_utf8_lossy(&name).into_owned(), inode.get_xattr(&name)?);
    }
    Ok(Thing::File {
        ino: metadata.ino,
        links: metadata.nlink,
        data: read_at(inode, 0, metadata.size as usize)?,
        xattrs,
    })
}
