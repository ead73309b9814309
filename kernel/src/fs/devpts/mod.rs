//! devpts: the slaves of pseudo-terminals as files, and `ptmx`, which makes them (`pts(4)`).
//!
//! Each mount is an instance of its own, as on Linux since 4.7. [`open_ptmx`] makes pairs in the instance on /dev/pts, else in the oldest that is
//! mounted: that is what /dev/ptmx stands for; the `ptmx` inside an instance makes them there (`Inode::open_device`). Indices are unique over all
//! instances, because a device number is all that says which slave a file means.
//!
//! * `options`: mount options.  * `inode`: the directory, `ptmx` and the slaves.

mod inode;
mod options;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use arch_um::sync::{SpinLock, order};

pub use inode::Node;
use inode::Place;
use options::Options;

use crate::task::{Cred, Task};
use crate::tty::pty;
use crate::vfs::inode::{FsFlags, MountSource, anonymous_dev};
use crate::vfs::walk::{WalkContext, WalkFlags, lookup};
use crate::vfs::{DevT, FileOps, FileSystem, FileSystemType, Inode, StatFs};
use crate::{Errno, Result};

/// `DEVPTS_SUPER_MAGIC`.
const MAGIC: u64 = 0x1cd1;

/// Instances, oldest first.
static INSTANCES: SpinLock<Vec<Weak<Instance>>> = SpinLock::new(&order::LEAF, Vec::new());

/// Registers it.
pub fn init() {
    crate::vfs::registry::register(&DevptsType);
}

/// The type `devpts`.
pub struct DevptsType;

impl FileSystemType for DevptsType {
    fn name(&self) -> &'static str {
        "devpts"
    }

    fn flags(&self) -> FsFlags {
        FsFlags::VOLATILE_NAMES
    }

    fn mount(&self, source: &MountSource) -> Result<Arc<dyn FileSystem>> {
        let instance = Instance::new(Options::parse(&source.options, Options::default())?);
        Ok(instance)
    }
}

/// One mounted devpts.
pub struct Instance {
    dev: DevT,
    options: SpinLock<Options>,
    root: Arc<Node>,
    ptmx: Arc<Node>,
    slaves: SpinLock<BTreeMap<u32, Arc<Node>>>,
    mounted: AtomicBool,
}

impl Instance {
    fn new(options: Options) -> Arc<Self> {
        let instance = Arc::new_cyclic(|this: &Weak<Self>| Self {
            dev: anonymous_dev(),
            options: SpinLock::new(&order::LEAF, options),
            root: Node::new(this.clone(), Place::Root, 0o755, 0, 0),
            ptmx: Node::new(this.clone(), Place::Ptmx, options.ptmx_mode, 0, 0),
            slaves: SpinLock::new(&order::LEAF, BTreeMap::new()),
            mounted: AtomicBool::new(true),
        });
        let mut all = INSTANCES.lock();
        all.retain(|old| old.strong_count() > 0);
        all.push(Arc::downgrade(&instance));
        drop(all);
        instance
    }

    /// Makes a pair whose slave is a file here. `ENOSPC` beyond `max=`.
    pub fn open_master(self: &Arc<Self>, cred: &Cred) -> Result<Arc<dyn FileOps>> {
        let options = *self.options.lock();
        if self.slaves.lock().len() >= options.max as usize {
            return Err(Errno::ENOSPC);
        }
        let master = pty::open_master(pty::MAX)?;
        let index = master.index();
        let uid = options.uid.unwrap_or(cred.fsuid);
        let gid = options.gid.unwrap_or(cred.fsgid);
        let node = Node::new(Arc::downgrade(self), Place::Slave(index), options.mode, uid, gid);
        let old = self.slaves.lock().insert(index, node);
        drop(old);
        let this = Arc::downgrade(self);
        master.on_close(Arc::new(move |index| {
            let gone = this.upgrade().and_then(|this| this.slaves.lock().remove(&index));
            drop(gone);
        }));
        Ok(master)
    }

    fn slave(&self, name: &[u8]) -> Option<Arc<Node>> {
        let text = core::str::from_utf8(name).ok()?;
        let index = text
            .parse::<u32>()
            .ok()
            .filter(|_| text == "0" || !text.starts_with(['0', '+']))?;
        self.slaves.lock().get(&index).cloned()
    }
}

/// Opens /dev/ptmx: a pair in the instance that `task` sees on /dev/pts, else in the oldest that is mounted. `ENODEV` without one.
pub fn open_ptmx(task: &Task) -> Result<Arc<dyn FileOps>> {
    let walk = WalkContext::of(task);
    let beside = lookup(&walk, &walk.root, b"/dev/pts", WalkFlags::FOLLOW).map(|path| path.mount.fs().dev());
    let instances: Vec<Arc<Instance>> = INSTANCES.lock().iter().filter_map(Weak::upgrade).collect();
    let mounted = || {
        instances
            .iter()
            .filter(|instance| instance.mounted.load(Ordering::Relaxed))
    };
    let found = mounted().find(|instance| beside == Ok(instance.dev));
    found
        .or_else(|| mounted().next())
        .ok_or(Errno::ENODEV)?
        .open_master(&walk.cred)
}

impl FileSystem for Instance {
    fn fs_type(&self) -> &'static str {
        "devpts"
    }

    fn flags(&self) -> FsFlags {
        DevptsType.flags()
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn dev(&self) -> DevT {
        self.dev
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs {
            magic: MAGIC,
            bsize: 4096,
            frsize: 4096,
            namelen: 255,
            ..StatFs::default()
        })
    }

    fn show_options(&self) -> String {
        self.options.lock().show()
    }

    fn remount(&self, source: &MountSource) -> Result<()> {
        let old = *self.options.lock();
        let new = Options::parse(&source.options, old)?;
        *self.options.lock() = new;
        if new.ptmx_mode != old.ptmx_mode {
            self.ptmx.set_mode(new.ptmx_mode);
        }
        Ok(())
    }

    fn unmount(&self) -> Result<()> {
        self.mounted.store(false, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::inode::MountOption;

    #[test]
    fn a_master_has_a_file_for_its_slave_until_it_is_closed() {
        let fs = Instance::new(Options::parse(&[], Options::default()).unwrap());
        let master = fs.open_master(&Cred::root()).unwrap();
        let index = fs.slaves.lock().keys().copied().next().unwrap();
        let name = alloc::format!("{index}");
        let node = fs.root().lookup(name.as_bytes()).unwrap();
        let meta = node.metadata().unwrap();
        assert_eq!(
            (meta.rdev, meta.mode.bits()),
            (DevT::new(pty::SLAVE_MAJOR, index), 0o600)
        );
        drop(master);
        assert!(matches!(fs.root().lookup(name.as_bytes()), Err(Errno::ENOENT)));
    }

    #[test]
    fn max_bounds_an_instance_and_options_show_in_proc_mounts() {
        let option = |key: &str, value: &str| MountOption {
            key: key.into(),
            value: Some(value.into()),
        };
        let given = [option("max", "1"), option("mode", "620"), option("gid", "5")];
        let fs = Instance::new(Options::parse(&given, Options::default()).unwrap());
        let first = fs.open_master(&Cred::root()).unwrap();
        assert!(matches!(fs.open_master(&Cred::root()), Err(Errno::ENOSPC)));
        drop(first);
        fs.open_master(&Cred::root()).unwrap();
        assert_eq!(fs.show_options(), ",gid=5,mode=620,ptmxmode=000,max=1");
    }
}
