//! The types `ext4`, `ext3` and `ext2`: one driver, three rules of what it takes. A device is mounted once, however often it is asked for.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use arch_um::sync::{LockClass, Mutex};
use kernel::vfs::inode::{FsFlags, MountSource};
use kernel::vfs::{DevT, FileSystem, FileSystemType, registry};

use super::disk::DiskDevice;
use super::fs::work;
use super::open::{Mounting, mount};
use crate::instance::Ext4;
use crate::{Errno, Result};

/// Held while an instance begins or ends, so that the next one of the device sees what it wrote. Below `order::MOUNTS`.
static MOUNTS: LockClass = LockClass::new("EXT4_MOUNTS", 155);
/// The mounted devices.
static MOUNTED: Mutex<Vec<Entry>> = Mutex::new(&MOUNTS, Vec::new());

struct Entry {
    dev: DevT,
    fs: Weak<Ext4>,
    device: Arc<DiskDevice>,
}

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
        let known = mounted
            .iter()
            .find(|entry| entry.dev == dev)
            .and_then(|entry| entry.fs.upgrade());
        if let Some(fs) = known {
            let usable = fs.kind == self.0 && !fs.ending.load(Ordering::Acquire);
            return if usable { Ok(fs) } else { Err(Errno::EBUSY) };
        }
        let device = Arc::new(DiskDevice::open(dev)?);
        let fs = mount(
            Mounting {
                kind: self.0,
                name: device.name(),
                dev,
                device: device.clone(),
            },
            source,
        )?;
        mounted.push(Entry {
            dev,
            fs: Arc::downgrade(&fs),
            device,
        });
        drop(mounted);
        fs.journal.start_thread()?;
        let (weak, worker) = (Arc::downgrade(&fs), fs.worker.clone());
        kernel::task::init::spawn_kernel_thread("ext4-worker", move || work(&weak, &worker))?;
        Ok(fs)
    }
}

/// An instance has ended: its device is free, although a thread may still hold what is left of the instance.
pub(super) fn ended(fs: &Ext4) {
    MOUNTED.lock().retain(|entry| {
        let is_it = core::ptr::eq(entry.fs.as_ptr(), fs);
        if is_it {
            entry.device.release();
        }
        !is_it
    });
}
