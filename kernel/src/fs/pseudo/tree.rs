//! [`Tree`]: a directory that the kernel adds entries to and takes them from.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use arch_um::sync::{SpinLock, order};

use super::{Attributes, Body, Dir, FixedLink, Node};
use crate::vfs::FileType;
use crate::{Errno, Result};

/// A directory of named nodes, listed by name.
pub struct Tree {
    entries: SpinLock<BTreeMap<Vec<u8>, Entry>>,
}

struct Entry {
    node: Node,
    /// The same directory as a tree, to add to.
    tree: Option<Arc<Tree>>,
}

impl Tree {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            entries: SpinLock::new(&order::INODE_CACHE, BTreeMap::new()),
        })
    }

    /// Adds `node` as `name`, replacing what was there.
    pub fn add(&self, name: &str, node: Node) {
        let old = self
            .entries
            .lock()
            .insert(name.as_bytes().to_vec(), Entry { node, tree: None });
        drop(old);
    }

    /// Adds a file whose contents `show` writes.
    pub fn text(&self, name: &str, mode: u32, show: impl Fn(&mut super::Seq) -> Result<()> + Send + Sync + 'static) {
        self.add(name, Node::text(mode, show));
    }

    /// Adds a symbolic link to a fixed text.
    pub fn link(&self, name: &str, target: &str) {
        self.add(name, Node::link(Arc::new(FixedLink(target.as_bytes().to_vec()))));
    }

    /// The directory `name`, made (0555) when it is not there. Replaces anything else of that name.
    pub fn dir(&self, name: &str) -> Arc<Tree> {
        self.dir_with(name, 0o555)
    }

    /// As [`dir`](Self::dir) with permission bits.
    pub fn dir_with(&self, name: &str, mode: u32) -> Arc<Tree> {
        let fresh = Tree::new();
        let node = Node {
            attributes: Attributes::root(mode),
            ..Node::dir(fresh.clone())
        };
        let mut entries = self.entries.lock();
        if let Some(found) = entries.get(name.as_bytes()).and_then(|entry| entry.tree.clone()) {
            return found;
        }
        let old = entries.insert(
            name.as_bytes().to_vec(),
            Entry {
                node,
                tree: Some(fresh.clone()),
            },
        );
        drop(entries);
        drop(old);
        fresh
    }

    /// The directory at `path` below this one, each part made when it is not there.
    pub fn path(self: &Arc<Self>, path: &str) -> Arc<Tree> {
        path.split('/')
            .filter(|part| !part.is_empty())
            .fold(self.clone(), |dir, part| dir.dir(part))
    }

    /// Removes `name`, a directory with all in it.
    pub fn remove(&self, name: &str) {
        let gone = self.entries.lock().remove(name.as_bytes());
        drop(gone);
    }

    /// Whether `name` is there.
    pub fn has(&self, name: &str) -> bool {
        self.entries.lock().contains_key(name.as_bytes())
    }
}

impl Dir for Tree {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        self.entries
            .lock()
            .get(name)
            .map(|entry| entry.node.clone())
            .ok_or(Errno::ENOENT)
    }

    fn list(&self, show: &mut dyn FnMut(&[u8], u64, FileType)) -> Result<()> {
        let entries: Vec<(Vec<u8>, u64, FileType)> = self
            .entries
            .lock()
            .iter()
            .map(|(name, entry)| (name.clone(), entry.node.ino, entry.node.body.kind()))
            .collect();
        for (name, ino, kind) in &entries {
            show(name, *ino, *kind);
        }
        Ok(())
    }

    fn subdirectories(&self) -> u32 {
        self.entries
            .lock()
            .values()
            .filter(|entry| matches!(entry.node.body, Body::Dir(_)))
            .count() as u32
    }
}
