//! proc: processes and the system as files (`proc(5)`).
//!
//! [`root`] is the tree of fixed entries, to which other rooms add theirs ([`add_file`]); each mount shows it together with the processes
//! ([`process`]) under its own options ([`options`]).
//!
//! * [`system`], [`stat`], [`meminfo`], [`cpuinfo`], [`devices`], [`disks`]: files about the machine.  * [`sysctl`]: /proc/sys.
//! * [`process`]: the directories of processes and threads, with a file for each family of entries.

pub mod cpuinfo;
pub mod devices;
pub mod disks;
mod locks;
pub mod meminfo;
pub mod options;
pub mod process;
pub mod stat;
pub mod sysctl;
pub mod system;
mod system_names;

use alloc::sync::Arc;

use options::ProcOptions;

use super::pseudo::instance::PROC_SUPER_MAGIC;
use super::pseudo::{Attributes, Body, Dir, Node, PseudoFs, Seq, Tree, fixed_ino};
use crate::Result;
use crate::vfs::inode::{FsFlags, MountSource};
use crate::vfs::{FileSystem, FileSystemType, FileType};

/// The type `proc`.
pub struct ProcType;

impl FileSystemType for ProcType {
    fn name(&self) -> &'static str {
        "proc"
    }

    fn flags(&self) -> FsFlags {
        FsFlags::VOLATILE_NAMES | FsFlags::NO_DEV_NO_EXEC
    }

    fn mount(&self, source: &MountSource) -> Result<Arc<dyn FileSystem>> {
        static INO: spin::Once<u64> = spin::Once::new();
        let options = Arc::new(ProcOptions::parse(source)?);
        let top: Arc<dyn Dir> = Arc::new(Top {
            options: options.clone(),
        });
        let node = Node {
            ino: *INO.call_once(fixed_ino),
            tag: 0,
            attributes: Attributes::root(0o555),
            body: Body::Dir(top),
        };
        Ok(PseudoFs::new("proc", PROC_SUPER_MAGIC, node, options))
    }
}

/// The root directory of one mount.
struct Top {
    options: Arc<ProcOptions>,
}

impl Dir for Top {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        match root().lookup(name) {
            Ok(node) if self.options.shows_system() || is_process_link(name) => Ok(node),
            _ => process::lookup(&self.options, name),
        }
    }

    fn list(&self, show: &mut dyn FnMut(&[u8], u64, FileType)) -> Result<()> {
        root().list(&mut |name, ino, kind| {
            if self.options.shows_system() || is_process_link(name) {
                show(name, ino, kind);
            }
        })?;
        process::list(&self.options, show);
        Ok(())
    }

    fn subdirectories(&self) -> u32 {
        let processes = u32::try_from(crate::task::table::processes().len()).unwrap_or(u32::MAX / 2);
        root().subdirectories() + processes
    }
}

/// What `subset=pid` shows besides the processes.
fn is_process_link(name: &[u8]) -> bool {
    matches!(name, b"self" | b"thread-self")
}

/// The fixed entries. Made at the first use.
pub fn root() -> &'static Arc<Tree> {
    static ROOT: spin::Once<Arc<Tree>> = spin::Once::new();
    ROOT.call_once(|| {
        let tree = Tree::new();
        system::fill(&tree);
        stat::fill(&tree);
        meminfo::fill(&tree);
        tree.text("cpuinfo", 0o444, cpuinfo::show);
        devices::fill(&tree);
        disks::fill(&tree);
        locks::fill(&tree);
        process::fill(&tree);
        sysctl::fill(&tree.dir("sys"));
        tree
    })
}

/// Adds a file at `path` (`tty/drivers`) whose contents `show` writes.
pub fn add_file(path: &str, mode: u32, show: impl Fn(&mut Seq) -> Result<()> + Send + Sync + 'static) {
    add(path, Node::text(mode, show));
}

/// Adds `node` at `path`; directories on the way are made.
pub fn add(path: &str, node: Node) {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    root().path(dir).add(name, node);
}

/// Takes the entry at `path` away.
pub fn remove(path: &str) {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    root().path(dir).remove(name);
}

/// Registers the type.
pub fn init() {
    crate::vfs::registry::register(&ProcType);
}
