//! sysfs: devices and parts of the kernel as files (`sysfs(5)`).
//!
//! A tree that rooms add directories, attributes and links to: [`dir`], [`attribute`], [`setting`], [`link`]. Every mount shows the same instance.
//!
//! * [`devices`]: follows the announcements of devices (class, dev, devices).  * [`block`]: disks and partitions.  * [`cpu`]: processors and
//!   memory nodes.  * [`kernel`]: the rest of what programs look for.

pub mod block;
pub mod cpu;
pub mod devices;
pub mod kernel;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;

use super::pseudo::instance::{NoOptions, SYSFS_MAGIC};
use super::pseudo::{Node, PseudoFs, Seq, Text, Tree};
use crate::vfs::inode::{FsFlags, MountSource};
use crate::vfs::{FileSystem, FileSystemType, registry};
use crate::{Result, seq};

/// The type `sysfs`.
pub struct SysFsType;

impl FileSystemType for SysFsType {
    fn name(&self) -> &'static str {
        "sysfs"
    }

    fn flags(&self) -> FsFlags {
        FsFlags::VOLATILE_NAMES | FsFlags::NO_DEV_NO_EXEC
    }

    fn mount(&self, _source: &MountSource) -> Result<Arc<dyn FileSystem>> {
        static INSTANCE: spin::Once<Arc<PseudoFs>> = spin::Once::new();
        let make = || PseudoFs::new("sysfs", SYSFS_MAGIC, Node::dir(root().clone()), Arc::new(NoOptions));
        Ok(INSTANCE.call_once(make).clone())
    }
}

/// Mode of directories.
const DIR_MODE: u32 = 0o755;

/// The top directory.
pub fn root() -> &'static Arc<Tree> {
    static ROOT: spin::Once<Arc<Tree>> = spin::Once::new();
    ROOT.call_once(|| {
        let tree = Tree::new();
        for name in [
            "block", "bus", "class", "dev", "devices", "firmware", "fs", "kernel", "module", "power",
        ] {
            tree.dir_with(name, DIR_MODE);
        }
        tree
    })
}

/// The directory at `path` below /sys, each part made when it is not there.
pub fn dir(path: &str) -> Arc<Tree> {
    let parts = path.split('/').filter(|part| !part.is_empty());
    parts.fold(root().clone(), |at, part| at.dir_with(part, DIR_MODE))
}

/// Removes what is at `path`.
pub fn remove(path: &str) {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    dir(parent).remove(name);
}

/// Adds an attribute that can be read.
pub fn attribute(dir: &Tree, name: &str, show: impl Fn(&mut Seq) -> Result<()> + Send + Sync + 'static) {
    dir.add(name, Node::file(0o444, Text::attribute(Some(Box::new(show)), None)));
}

/// Adds an attribute that always reads the same.
pub fn constant(dir: &Tree, name: &str, text: impl Into<String>) {
    let text: String = text.into();
    attribute(dir, name, move |out| {
        seq!(out, "{text}\n");
        Ok(())
    });
}

/// Adds an attribute that can be read, and written by root.
pub fn setting(
    dir: &Tree,
    name: &str,
    show: impl Fn(&mut Seq) -> Result<()> + Send + Sync + 'static,
    store: impl Fn(&[u8]) -> Result<()> + Send + Sync + 'static,
) {
    let text = Text::attribute(Some(Box::new(show)), Some(Box::new(store)));
    dir.add(name, Node::file(0o644, text));
}

/// Adds an attribute that root can only write.
pub fn command(dir: &Tree, name: &str, store: impl Fn(&[u8]) -> Result<()> + Send + Sync + 'static) {
    dir.add(name, Node::file(0o200, Text::attribute(None, Some(Box::new(store)))));
}

/// Adds `name` in the directory `at`, a link to `target`; both are paths below /sys. The link is relative, as programs expect.
pub fn link(at: &str, name: &str, target: &str) {
    dir(at).link(name, &relative(at, target));
}

/// The way from the directory `from` to `to`.
fn relative(from: &str, to: &str) -> String {
    let from: alloc::vec::Vec<&str> = from.split('/').collect();
    let to: alloc::vec::Vec<&str> = to.split('/').collect();
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = core::iter::repeat_n("..", from.len() - common);
    let down = to[common..].iter().copied();
    up.chain(down).collect::<alloc::vec::Vec<&str>>().join("/")
}

/// Registers the type, fills the tree, and follows the devices.
pub fn init() {
    registry::register(&SysFsType);
    cpu::fill();
    kernel::fill();
    devices::init();
}

#[cfg(test)]
mod tests {
    use super::relative;

    #[test]
    fn links_are_relative() {
        assert_eq!(
            relative("class/mem", "devices/virtual/mem/null"),
            "../../devices/virtual/mem/null"
        );
        assert_eq!(
            relative("devices/virtual/mem/null", "class/mem"),
            "../../../../class/mem"
        );
        assert_eq!(
            relative("devices/platform/uml-blkdev.0", "bus/platform"),
            "../../../bus/platform"
        );
        assert_eq!(
            relative("block", "devices/virtual/block/loop0"),
            "../devices/virtual/block/loop0"
        );
    }
}
