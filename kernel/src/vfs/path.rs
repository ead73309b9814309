//! [`Path`]: a place in the mount tree, a name in a mount. Walks are in `walk`, mounts in `mount`, names in `dentry`.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::dentry::Dentry;
use super::inode::Inode;
use super::mount::Mount;

/// A dentry as seen through one mount.
#[derive(Clone)]
pub struct Path {
    /// The mount it is seen through.
    pub mount: Arc<Mount>,
    /// The name.
    pub dentry: Arc<Dentry>,
}

/// How a path's text relates to the root it was composed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It leads there.
    Reachable,
    /// It led there; the name is removed.
    Deleted,
    /// The place is not below that root (another mount tree, outside of a chroot).
    Unreachable,
    /// The place has no directory (`pipe:[7]`).
    Anonymous,
}

impl Path {
    /// The root of `mount`.
    pub fn root_of(mount: &Arc<Mount>) -> Path {
        Path {
            mount: mount.clone(),
            dentry: mount.root().clone(),
        }
    }

    /// The file it names.
    pub fn inode(&self) -> Arc<dyn Inode> {
        self.dentry.inode().clone()
    }

    /// Whether both are the same place.
    pub fn same_as(&self, other: &Path) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount) && Arc::ptr_eq(&self.dentry, &other.dentry)
    }

    /// Whether it is the root of its mount.
    pub fn is_mount_root(&self) -> bool {
        Arc::ptr_eq(&self.dentry, self.mount.root())
    }

    /// The place's text as seen by someone whose root is `root`, and what it is worth. Never empty.
    pub fn text(&self, root: &Path) -> (Vec<u8>, Reach) {
        if self.dentry.is_anonymous() {
            return (self.dentry.name(), Reach::Anonymous);
        }
        let deleted = self.dentry.is_deleted();
        let mut text = Vec::new();
        let mut at = self.clone();
        let reach = loop {
            if at.same_as(root) {
                break if deleted { Reach::Deleted } else { Reach::Reachable };
            }
            if at.is_mount_root() {
                match at.mount.mount_point() {
                    Some(point) => at = point,
                    None => break Reach::Unreachable,
                }
                continue;
            }
            match at.dentry.push_reversed(&mut text) {
                Some(parent) => at.dentry = parent,
                None => break Reach::Unreachable,
            }
            text.push(b'/');
        };
        if text.is_empty() {
            text.push(b'/');
        }
        text.reverse();
        (text, reach)
    }

    /// The name's text inside its file system instance, from `top` (a root of names) down, whatever is mounted where.
    pub(super) fn text_within(&self, top: &Arc<Dentry>) -> Vec<u8> {
        let mut text = Vec::new();
        let mut at = self.dentry.clone();
        while !Arc::ptr_eq(&at, top) {
            let Some(parent) = at.push_reversed(&mut text) else {
                break;
            };
            text.push(b'/');
            at = parent;
        }
        if text.is_empty() {
            text.push(b'/');
        }
        text.reverse();
        text
    }

    /// The text for `/proc`: `text (deleted)` for a removed name.
    pub fn display(&self, root: &Path) -> Vec<u8> {
        let (mut text, _) = self.text(root);
        if self.dentry.is_deleted() && !self.dentry.is_anonymous() {
            text.extend_from_slice(b" (deleted)");
        }
        text
    }
}
