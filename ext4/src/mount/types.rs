//! The types `ext4`, `ext3` and `ext2`: one driver, three rules of what it takes. A device is mounted once, however often it is asked for.

use alloc::string::ToString;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::sync::atomic::Ordering;

use arch_um::sync::{LockClass, Mutex};
use kernel::vfs::inode::{FsFlags, MountSource};
use kernel::vfs::walk::{self, WalkContext, WalkFlags};
use kernel::vfs::{DevT, FileSystem, FileSystemType, FileType, registry};

use super::disk::DiskDevice;
use super::external::JournalDevice;
use super::fs::work;
use super::open::{Mounting, mount};
use crate::instance::Ext4;
use crate::{Errno, Result};

/// Above `order::DEVICE_REGISTRY`: a device is opened under it.
static START: LockClass = LockClass::new("EXT4_START", 58);
/// Held while an instance begins: who wants the same device meanwhile gets that instance.
static STARTING: Mutex<()> = Mutex::new(&START, ());
/// Below `order::MOUNTS`: an instance ends there.
static MOUNTS: LockClass = LockClass::new("EXT4_MOUNTS", 155);
/// The mounted devices, each until its instance has ended and written everything.
static MOUNTED: Mutex<Vec<Entry>> = Mutex::new(&MOUNTS, Vec::new());

struct Entry {
    dev: DevT,
    fs: Weak<Ext4>,
    device: Arc<DiskDevice>,
    /// The journal's own.
    journal: Option<Arc<DiskDevice>>,
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
        let starting = STARTING.lock();
        let known = MOUNTED
            .lock()
            .iter()
            .find(|entry| entry.dev == dev)
            .and_then(|entry| entry.fs.upgrade());
        if let Some(fs) = known {
            let usable = fs.kind == self.0 && !fs.ending.load(Ordering::Acquire);
            return if usable { Ok(fs) } else { Err(Errno::EBUSY) };
        }
        let source = with_journal_number(source)?;
        let device = Arc::new(DiskDevice::open(dev)?);
        let journal = RefCell::new(None);
        let fs = mount(
            Mounting {
                kind: self.0,
                name: device.name(),
                dev,
                device: device.clone(),
                journals: &|dev| {
                    let opened = Arc::new(DiskDevice::open(dev)?);
                    journal.replace(Some(opened.clone()));
                    Ok(JournalDevice {
                        name: opened.name(),
                        device: opened,
                    })
                },
            },
            &source,
        )?;
        MOUNTED.lock().push(Entry {
            dev,
            fs: Arc::downgrade(&fs),
            device,
            journal: journal.into_inner(),
        });
        drop(starting);
        fs.journal.start_thread()?;
        let (weak, worker) = (Arc::downgrade(&fs), fs.worker.clone());
        kernel::task::init::spawn_kernel_thread("ext4-worker", move || work(&weak, &worker))?;
        Ok(fs)
    }
}

/// The same with `journal_path=` said as `journal_dev=`. `EINVAL` when there is no such device.
fn with_journal_number(source: &MountSource) -> Result<MountSource> {
    let mut source = source.clone();
    for option in &mut source.options {
        if option.key == b"journal_path" {
            let dev = option.value.as_deref().ok_or(Errno::EINVAL).and_then(device_at);
            let dev = dev.map_err(|_| {
                log::error!("EXT4-fs: error: could not find journal device path");
                Errno::EINVAL
            })?;
            option.key = b"journal_dev".to_vec();
            option.value = Some(dev.encode().to_string().into_bytes());
        }
    }
    Ok(source)
}

/// The block device that a path of the caller leads to.
fn device_at(path: &[u8]) -> Result<DevT> {
    let task = kernel::task::try_current().ok_or(Errno::ENOENT)?;
    let (root, cwd) = task.fs().root_and_cwd();
    let walk = WalkContext {
        cred: task.cred(),
        root,
    };
    let place = walk::lookup(&walk, &cwd, path, WalkFlags::FOLLOW)?;
    if place.dentry.kind() != FileType::BlockDevice || !place.mount.allows_devices() {
        return Err(Errno::ENOTBLK);
    }
    Ok(place.inode().metadata()?.rdev)
}

/// An instance has ended: its device is free, although a thread may still hold what is left of the instance.
pub(super) fn ended(fs: &Ext4) {
    let is_it = |entry: &Entry| core::ptr::eq(entry.fs.as_ptr(), fs);
    let devices = MOUNTED
        .lock()
        .iter()
        .find(|entry| is_it(entry))
        .map(|entry| (entry.device.clone(), entry.journal.clone()));
    if let Some((device, journal)) = devices {
        // Without the lock: the last user of a loop device takes it apart.
        device.release();
        journal.iter().for_each(|journal| journal.release());
    }
    MOUNTED.lock().retain(|entry| !is_it(entry));
}
