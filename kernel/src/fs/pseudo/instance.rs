//! [`PseudoFs`]: a mounted instance, and the table that gives a node the same inode while anybody holds it.

use alloc::string::String;
use alloc::sync::{Arc, Weak};

use arch_um::sync::{SpinLock, order};
use hashbrown::HashMap;

use super::inode::PseudoInode;
use super::{Attributes, Node};
use crate::Result;
use crate::vfs::inode::{FsFlags, MountSource, anonymous_dev};
use crate::vfs::{DevT, FileSystem, Inode, StatFs};

/// Magic number of proc.
pub const PROC_SUPER_MAGIC: u64 = 0x9fa0;
/// Magic number of sysfs.
pub const SYSFS_MAGIC: u64 = 0x6265_6572;

/// The instance's own options: shown in /proc/mounts and changed by remounting.
pub trait Options: Send + Sync {
    /// With a comma before each.
    fn show(&self) -> String {
        String::new()
    }
    /// `mount -o remount`. `EINVAL` for an unknown option.
    fn change(&self, _source: &MountSource) -> Result<()> {
        Ok(())
    }
}

/// No options.
pub struct NoOptions;
impl Options for NoOptions {}

/// An instance of a pseudo file system.
pub struct PseudoFs {
    name: &'static str,
    magic: u64,
    dev: DevT,
    root: Node,
    options: Arc<dyn Options>,
    this: Weak<PseudoFs>,
    /// Inodes that somebody holds, by number and tag.
    inodes: SpinLock<HashMap<(u64, usize), Weak<PseudoInode>>>,
    /// Modes and owners that users changed, by number.
    changed: SpinLock<HashMap<u64, Attributes>>,
}

impl PseudoFs {
    /// An instance of type `name` that shows `root`.
    pub fn new(name: &'static str, magic: u64, root: Node, options: Arc<dyn Options>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            name,
            magic,
            dev: anonymous_dev(),
            root,
            options,
            this: this.clone(),
            inodes: SpinLock::new(&order::INODE_CACHE, HashMap::new()),
            changed: SpinLock::new(&order::INODE_ATTR, HashMap::new()),
        })
    }

    /// The inode of `node`.
    pub(super) fn intern(&self, node: Node) -> Arc<dyn Inode> {
        let Some(this) = self.this.upgrade() else {
            unreachable!("an instance is only used through its Arc")
        };
        let key = (node.ino, node.tag);
        if let Some(found) = self.inodes.lock().get(&key).and_then(Weak::upgrade) {
            return found;
        }
        let made = PseudoInode::new(this, node);
        let mut inodes = self.inodes.lock();
        if let Some(found) = inodes.get(&key).and_then(Weak::upgrade) {
            // Another walk was quicker; ours goes after the lock does.
            drop(inodes);
            drop(made);
            return found;
        }
        inodes.insert(key, Arc::downgrade(&made));
        made
    }

    /// The inode with this number is gone, unless a new one took its place.
    pub(super) fn forget(&self, ino: u64, tag: usize) {
        let mut inodes = self.inodes.lock();
        if inodes.get(&(ino, tag)).is_some_and(|inode| inode.strong_count() == 0) {
            inodes.remove(&(ino, tag));
        }
    }

    pub(super) fn changed_attributes(&self, ino: u64) -> Option<Attributes> {
        self.changed.lock().get(&ino).copied()
    }

    pub(super) fn change_attributes(&self, ino: u64, attributes: Attributes) {
        self.changed.lock().insert(ino, attributes);
    }

    pub(super) fn is_sysfs(&self) -> bool {
        self.magic == SYSFS_MAGIC
    }

    pub(super) fn block_size(&self) -> u32 {
        if self.is_sysfs() { 4096 } else { 1024 }
    }
}

impl FileSystem for PseudoFs {
    fn fs_type(&self) -> &'static str {
        self.name
    }

    fn flags(&self) -> FsFlags {
        FsFlags::VOLATILE_NAMES | FsFlags::NO_DEV_NO_EXEC
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.intern(self.root.clone())
    }

    fn dev(&self) -> DevT {
        self.dev
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs {
            magic: self.magic,
            bsize: 4096,
            namelen: 255,
            frsize: 4096,
            ..StatFs::default()
        })
    }

    fn show_options(&self) -> String {
        self.options.show()
    }

    fn remount(&self, source: &MountSource) -> Result<()> {
        self.options.change(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::pseudo::Tree;
    use crate::io::SliceSink;
    use crate::seq;
    use crate::task::Cred;
    use crate::vfs::{File, OpenFlags};
    use alloc::vec::Vec;
    use core::sync::atomic::{AtomicU32, Ordering};

    fn fs(tree: &Arc<Tree>) -> Arc<PseudoFs> {
        PseudoFs::new("test", PROC_SUPER_MAGIC, Node::dir(tree.clone()), Arc::new(NoOptions))
    }

    #[test]
    fn a_held_file_keeps_its_inode_and_a_replaced_one_does_not() {
        let tree = Tree::new();
        tree.text("a", 0o444, |_| Ok(()));
        let root = fs(&tree).root();
        let first = root.lookup(b"a").unwrap();
        assert!(Arc::ptr_eq(&first, &root.lookup(b"a").unwrap()));
        assert!(root.revalidate(b"a", &first));
        tree.text("a", 0o444, |_| Ok(()));
        assert!(!root.revalidate(b"a", &first));
        tree.remove("a");
        assert!(root.lookup(b"a").is_err());
    }

    #[test]
    fn a_reader_in_pieces_sees_one_state() {
        let count = Arc::new(AtomicU32::new(0));
        let tree = Tree::new();
        let counter = count.clone();
        tree.text("n", 0o444, move |out| {
            seq!(out, "{:04}", counter.fetch_add(1, Ordering::Relaxed));
            Ok(())
        });
        let ops = fs(&tree).root().lookup(b"n").unwrap().open(OpenFlags::empty()).unwrap();
        let file = File::new(ops, None, OpenFlags::empty(), Cred::root());
        let read = |pos| {
            let mut buf = [0; 2];
            let mut sink = SliceSink::new(&mut buf);
            let count = file.ops().read_at(&file, pos, &mut sink).unwrap();
            buf[..count].to_vec()
        };
        assert_eq!([read(0), read(2), read(4)].concat(), b"0000");
        assert_eq!([read(0), read(2)].concat(), b"0001");
    }

    #[test]
    fn directories_list_each_entry_once_with_dots_first() {
        let tree = Tree::new();
        tree.dir("d");
        tree.text("f", 0o444, |_| Ok(()));
        let ops = fs(&tree).root().open(OpenFlags::empty()).unwrap();
        let file = File::new(ops, None, OpenFlags::empty(), Cred::root());
        let mut names: Vec<Vec<u8>> = Vec::new();
        for pos in 0..4 {
            let mut one = None;
            let mut emit = |entry: crate::vfs::file::DirEntry<'_>| {
                let first = one.is_none();
                one.get_or_insert((entry.name.to_vec(), entry.next));
                first
            };
            file.ops().read_dir(&file, pos, &mut emit).unwrap();
            let (name, next) = one.unwrap();
            assert_eq!(next, pos + 1);
            names.push(name);
        }
        let mut more = false;
        let mut emit = |_: crate::vfs::file::DirEntry<'_>| {
            more = true;
            false
        };
        file.ops().read_dir(&file, 4, &mut emit).unwrap();
        assert!(!more);
        assert_eq!(names, [&b"."[..], b"..", b"d", b"f"]);
    }
}
