//! The types `ext4`, `ext3` and `ext2`: one driver, three rules of what it takes. A device is mounted once, however often it is asked for.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use arch_um::sync::{LockClass, Mutex};
use kernel::vfs::inode::{FsFlags, MountSource};
use kernel::vfs::{DevT, FileSystem, FileSystemType, registry};

use super::disk::DiskDevice;
use super::open::{Mounting, mount};
use crate::instance::Ext4;
use crate::{Errno, Result};

/// Held while an instance begins or ends, so that the next one of the device sees what it wrote. Below `order::MOUNTS`.
static MOUNTS: LockClass = LockClass::new("EXT4_MOUNTS", 155);
/// The mounted devices.
static MOUNTED: Mutex<Vec<(DevT, Weak<Ext4>)>> = Mutex::new(&MOUNTS, Vec::new());

struct Type(&'static str);

static TYPES: [Type; 3] = [Type("ext4"), Type("ext3"), Type("ext2")];

/// Makes `mount -t ext4` and its elder brothers known; `ext4` first, because a root without `rootfstype=` is tried in this order.
pub fn register() {
    for kind in &TYPES {
        registry::register(kind);
    }
}

impl FileSystemType for Type {
    fn name(&self) -> &'static str {
        self.0
    }

    fn flags(&self) -> FsFlags {
        FsFlags::NEEDS_DEVICE
    }

    /// `EBUSY` for a device that another type has mounted.
    fn mount(&self, source: &MountSource) -> Result<Arc<dyn FileSystem>> {
        let dev = source.device.ok_or(Errno::ENOTBLK)?;
        let mut mounted = MOUNTED.lock();
        mounted.retain(|(_, fs)| fs.strong_count() > 0);
        let known = mounted
            .iter()
            .filter(|(other, _)| *other == dev)
            .find_map(|(_, fs)| fs.upgrade())
            .filter(|fs| !fs.unmounted.load(Ordering::Acquire));
        if let Some(fs) = known {
            return if fs.kind == self.0 { Ok(fs) } else { Err(Errno::EBUSY) };
        }
        let device = DiskDevice::open(dev)?;
        let fs = mount(
            Mounting {
                kind: self.0,
                name: device.name(),
                dev,
                device: Arc::new(device),
            },
            source,
        )?;
        mounted.push((dev, Arc::downgrade(&fs)));
        drop(mounted);
        fs.journal.start_thread()?;
        let worker = fs.clone();
        kernel::task::init::spawn_kernel_thread("ext4-worker", move || worker.work())?;
        Ok(fs)
    }
}

/// An instance has ended; its device may be mounted anew.
pub(super) fn ended(fs: &Ext4) {
    MOUNTED.lock().retain(|(_, other)| !core::ptr::eq(other.as_ptr(), fs));
}
