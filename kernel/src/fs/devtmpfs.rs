//! devtmpfs: /dev, filled from the announcements of devices.
//!
//! One tmpfs for the whole machine, whatever mounts it. Nodes are made through the VFS on a mount that is in no tree, so that cached names stay
//! right; users may add and remove nodes as on any tmpfs.
//!
//! It starts with what device managers add at once everywhere ([`FIXTURES`]), so that a shell as init has `<(...)` and POSIX shared memory.

use alloc::sync::Arc;

use super::tmpfs::TmpFs;
use super::tmpfs::options::Options;
use crate::device::node::{self, DeviceNode, NodeListener};
use crate::task::Cred;
use crate::vfs::dentry::Dentry;
use crate::vfs::inode::{FsFlags, MountSource, NewNode};
use crate::vfs::mount::Mount;
use crate::vfs::walk::{Last, Parent};
use crate::vfs::{FileSystem, FileSystemType, Mode, Path, namei, registry};
use crate::{Errno, Result};

/// The type `devtmpfs`.
pub struct DevTmpFsType;

impl FileSystemType for DevTmpFsType {
    fn name(&self) -> &'static str {
        "devtmpfs"
    }

    fn flags(&self) -> FsFlags {
        FsFlags::empty()
    }

    fn mount(&self, _source: &MountSource) -> Result<Arc<dyn FileSystem>> {
        Ok(instance().mount.fs().clone())
    }
}

/// The instance, held by a mount that nobody sees.
struct Instance {
    mount: Arc<Mount>,
}

fn instance() -> &'static Instance {
    static INSTANCE: spin::Once<Instance> = spin::Once::new();
    INSTANCE.call_once(|| Instance {
        mount: Mount::internal(TmpFs::new("devtmpfs", Options::unlimited(0o755))),
    })
}

impl Instance {
    fn root(&self) -> Path {
        Path {
            mount: self.mount.clone(),
            dentry: self.mount.root().clone(),
        }
    }

    /// The directory that `name` (with slashes) lies in, and its last part. Directories on the way are made, 0755.
    fn directory<'a>(&self, name: &'a str) -> Result<(Path, &'a [u8])> {
        let mut at = self.root();
        let mut parts = name.split('/').filter(|part| !part.is_empty()).peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return Ok((at, part.as_bytes()));
            }
            at.dentry = self.subdirectory(&at, part.as_bytes())?;
        }
        Err(Errno::EINVAL)
    }

    fn subdirectory(&self, at: &Path, name: &[u8]) -> Result<Arc<Dentry>> {
        match at.dentry.lookup(name) {
            Err(Errno::ENOENT) => {
                let mode = Mode::from_bits_truncate(0o755);
                namei::create(at, name, NewNode::Directory, mode, &Cred::root())
            }
            found => found,
        }
    }

    fn add(&self, device: &DeviceNode) -> Result<()> {
        let (dir, name) = self.directory(&device.name)?;
        let node = if device.is_block() {
            NewNode::BlockDevice(device.dev)
        } else {
            NewNode::CharDevice(device.dev)
        };
        namei::create(&dir, name, node, Mode::from_bits_truncate(device.mode), &Cred::root())?;
        Ok(())
    }

    /// Adds [`FIXTURES`].
    fn furnish(&self) {
        for (name, node, mode) in FIXTURES {
            let mode = Mode::from_bits_truncate(mode);
            if let Err(error) = namei::create(&self.root(), name, node, mode, &Cred::root()) {
                log::warn!("devtmpfs: {}: {error}", core::str::from_utf8(name).unwrap_or("?"));
            }
        }
    }

    fn remove(&self, device: &DeviceNode) -> Result<()> {
        let (dir, name) = self.directory(&device.name)?;
        let parent = Parent {
            dir,
            last: Last::Name(name.to_vec()),
            trailing_slash: false,
        };
        namei::unlink(&parent, &Cred::root())
    }
}

/// What is there besides devices: links for /proc's descriptors, the place of POSIX shared memory, the place of devpts.
const FIXTURES: [(&[u8], NewNode<'static>, u32); 6] = [
    (b"fd", NewNode::Symlink(b"/proc/self/fd"), 0o777),
    (b"stdin", NewNode::Symlink(b"/proc/self/fd/0"), 0o777),
    (b"stdout", NewNode::Symlink(b"/proc/self/fd/1"), 0o777),
    (b"stderr", NewNode::Symlink(b"/proc/self/fd/2"), 0o777),
    (b"shm", NewNode::Directory, 0o1777),
    (b"pts", NewNode::Directory, 0o755),
];

/// Carries announcements into the tree.
struct Listener;

impl NodeListener for Listener {
    fn added(&self, device: &DeviceNode) {
        match instance().add(device) {
            // A user was first.
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => log::warn!("devtmpfs: {}: {error}", device.name),
        }
    }

    fn removed(&self, device: &DeviceNode) {
        // A user may have removed it already.
        let _ = instance().remove(device);
    }
}

/// Registers the type and fills the tree, now and whenever a device comes.
pub fn init() {
    registry::register(&DevTmpFsType);
    instance().furnish();
    node::listen(Arc::new(Listener));
}
