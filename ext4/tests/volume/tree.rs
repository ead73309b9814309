//! What is in a file system: by our driver's word here, by others' in `readers`.

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
        /// Its number and how many names it has, where the reader tells.
        ino: Option<u64>,
        links: Option<u32>,
        /// `None`: whoever tells this does not know.
        data: Option<Vec<u8>>,
        /// `None`: whoever read this does not read attributes.
        xattrs: Option<BTreeMap<String, Vec<u8>>>,
    },
    Link(Vec<u8>),
}

/// A tree, by paths without a leading slash; without `lost+found`.
#[derive(Default)]
pub struct Tree {
    pub things: BTreeMap<String, Thing>,
}

impl Tree {
    /// Reads everything.
    pub fn of(fs: &Mounted) -> Result<Self> {
        let mut tree = Self::default();
        tree.read(&fs.root(), "")?;
        Ok(tree)
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

    /// Whether it is `wanted`, in all that both know.
    pub fn is(&self, wanted: &Self) -> std::result::Result<(), String> {
        if let Some(path) = self.things.keys().find(|path| !wanted.things.contains_key(*path)) {
            return Err(format!("{path} is there"));
        }
        for (path, wanted) in &wanted.things {
            let found = self.things.get(path).ok_or_else(|| format!("{path} is missing"))?;
            found.is(wanted).map_err(|text| format!("{path}: {text}"))?;
        }
        Ok(())
    }

    /// Paths and kinds, for the one who must find out.
    pub fn shape(&self) -> Vec<String> {
        self.things
            .iter()
            .map(|(path, thing)| match thing {
                Thing::Dir => format!("{path}/"),
                Thing::File { ino, links, data, .. } => {
                    format!("{path} {ino:?} {links:?} {:?} bytes", data.as_ref().map(Vec::len))
                }
                Thing::Link(text) => format!("{path} -> {} bytes", text.len()),
            })
            .collect()
    }
}

impl Thing {
    fn is(&self, wanted: &Self) -> std::result::Result<(), String> {
        match (self, wanted) {
            (Self::Dir, Self::Dir) => Ok(()),
            (Self::Link(a), Self::Link(b)) if a == b => Ok(()),
            (
                Self::File {
                    links, data, xattrs, ..
                },
                Self::File {
                    links: links2,
                    data: data2,
                    xattrs: xattrs2,
                    ..
                },
            ) => {
                if links.zip(*links2).is_some_and(|(a, b)| a != b) {
                    return Err(format!("{links:?} names, not {links2:?}"));
                }
                if xattrs.as_ref().zip(xattrs2.as_ref()).is_some_and(|(a, b)| a != b) {
                    return Err(format!("attributes {xattrs:?}, not {xattrs2:?}"));
                }
                let Some((data, data2)) = data.as_ref().zip(data2.as_ref()).filter(|(a, b)| a != b) else {
                    return Ok(());
                };
                let at = data.iter().zip(data2).position(|(a, b)| a != b);
                let some = |data: &Vec<u8>| data.iter().skip(at.unwrap_or(0)).take(16).copied().collect::<Vec<_>>();
                let (len, len2) = (data.len(), data2.len());
                let (some, some2) = (some(data), some(data2));
                Err(format!("{len} bytes, not {len2}; at {at:?} {some:x?}, not {some2:x?}"))
            }
            _ => Err("another kind of file, or another text".into()),
        }
    }
}

fn file(inode: &Arc<dyn Inode>) -> Result<Thing> {
    let metadata = inode.metadata()?;
    let mut xattrs = BTreeMap::new();
    for name in inode.list_xattr()? {
        xattrs.insert(String::from_utf8_lossy(&name).into_owned(), inode.get_xattr(&name)?);
    }
    Ok(Thing::File {
        ino: Some(metadata.ino),
        links: Some(metadata.nlink),
        data: Some(read_at(inode, 0, metadata.size as usize)?),
        xattrs: Some(xattrs),
    })
}
