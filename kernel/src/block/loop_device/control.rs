//! The list of loop devices, and /dev/loop-control that makes and removes them.
//!
//! Lock order: `LOOPS` is a leaf; adding and removing a device, which announce it, happen under `LIST_CHANGE`.

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::sync::Arc;
use core::any::Any;

use arch_um::sync::{LockClass, Mutex, SpinLock, order};

use super::abi::{LOOP_CTL_ADD, LOOP_CTL_GET_FREE, LOOP_CTL_REMOVE};
use super::{LOOP_MAJOR, LoopDevice};
use crate::block::disk::{Disk, DiskInfo, PartitionScan, register_with, unregister};
use crate::device::char::CharDriver;
use crate::device::misc::{Minor, register_misc};
use crate::fs::sysfs;
use crate::syscall::Context;
use crate::vfs::{DevT, File, FileOps, OpenFlags};
use crate::{Errno, Result};

/// Devices that are there from the beginning without `max_loop=`, as on Linux.
const DEFAULT_COUNT: u32 = 8;
/// Numbers end here.
const MOST: u32 = 1 << 20;
/// /dev/loop-control's minor number below major 10.
const CONTROL_MINOR: u32 = 237;

static LOOPS: SpinLock<BTreeMap<u32, Arc<LoopDevice>>> = SpinLock::new(&order::LEAF, BTreeMap::new());
static CHANGE_CLASS: LockClass = LockClass::new("LOOP_LIST", 52);
static LIST_CHANGE: Mutex<()> = Mutex::new(&CHANGE_CLASS, ());

/// Makes the first `count` devices and /dev/loop-control.
pub fn init(count: Option<u32>) {
    let count = count.unwrap_or(DEFAULT_COUNT).min(256);
    let parameters = sysfs::dir("module/loop/parameters");
    for (name, value) in [("max_loop", count), ("max_part", 0), ("hw_queue_depth", 128)] {
        sysfs::constant(&parameters, name, value.to_string());
    }
    for number in 0..count {
        if let Err(error) = add(number) {
            log::error!("loop: /dev/loop{number} cannot be made: {error}");
        }
    }
    if let Err(error) = register_misc(Minor::Fixed(CONTROL_MINOR), "loop-control", 0o660, Arc::new(Control)) {
        log::error!("loop: /dev/loop-control cannot be made: {error}");
    }
}

/// Device `number`, if it is there.
pub(super) fn find(number: u32) -> Option<Arc<LoopDevice>> {
    LOOPS.lock().get(&number).cloned()
}

/// The loop device whose disk is `disk`.
pub(super) fn find_disk(disk: &Arc<Disk>) -> Option<Arc<LoopDevice>> {
    if disk.dev().major != LOOP_MAJOR {
        return None;
    }
    find(disk.dev().minor)
}

/// Makes a device whose file somebody has made by hand and opens now. One that is there already, or cannot be, is no matter.
pub fn probe(dev: DevT) {
    if dev.major == LOOP_MAJOR && find(dev.minor).is_none() {
        let _ = add(dev.minor);
    }
}

/// Makes device `number`. `EEXIST` when it is there.
fn add(number: u32) -> Result<u32> {
    if number >= MOST {
        return Err(Errno::EINVAL);
    }
    let _one = LIST_CHANGE.lock();
    if find(number).is_some() {
        return Err(Errno::EEXIST);
    }
    make(number)
}

/// Makes the device with the lowest number that is free. Holds `LIST_CHANGE`.
fn add_next() -> Result<u32> {
    let free = (0..MOST).find(|&number| find(number).is_none());
    make(free.ok_or(Errno::ENOSPC)?)
}

fn make(number: u32) -> Result<u32> {
    let device = LoopDevice::new(number);
    let info = DiskInfo {
        name: device.name(),
        dev: DevT::new(LOOP_MAJOR, number),
        len: 0,
        read_only: false,
        driver: device.clone(),
    };
    LOOPS.lock().insert(number, device.clone());
    match register_with(info, 1, PartitionScan::No) {
        Ok(disk) => {
            device.disk.call_once(|| Arc::downgrade(&disk));
            Ok(number)
        }
        Err(error) => {
            LOOPS.lock().remove(&number);
            Err(error)
        }
    }
}

/// `LOOP_CTL_REMOVE`. `ENODEV` without such a device, `EBUSY` while it is bound or open.
fn remove(number: u32) -> Result<u32> {
    let _one = LIST_CHANGE.lock();
    let device = find(number).ok_or(Errno::ENODEV)?;
    let disk = device.disk()?;
    if device.binding().is_some() {
        return Err(Errno::EBUSY);
    }
    unregister(&disk)?;
    LOOPS.lock().remove(&number);
    Ok(number)
}

/// `LOOP_CTL_GET_FREE`: a device without a file, made if there is none.
fn free() -> Result<u32> {
    let _one = LIST_CHANGE.lock();
    let known: alloc::vec::Vec<Arc<LoopDevice>> = LOOPS.lock().values().cloned().collect();
    match known.iter().find(|device| device.binding().is_none()) {
        Some(device) => Ok(device.number),
        None => add_next(),
    }
}

/// /dev/loop-control.
struct Control;

impl CharDriver for Control {
    fn open(&self, _cx: &Context, _dev: DevT, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(ControlFile))
    }
}

struct ControlFile;

impl FileOps for ControlFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn ioctl(&self, _cx: &Context, _file: &File, cmd: u32, arg: u64) -> Result<usize> {
        let number = u32::try_from(arg as u32 as i32);
        let done = match cmd {
            LOOP_CTL_ADD => match number {
                Ok(number) => add(number)?,
                Err(_) => {
                    let _one = LIST_CHANGE.lock();
                    add_next()?
                }
            },
            LOOP_CTL_REMOVE => remove(number.map_err(|_| Errno::EINVAL)?)?,
            LOOP_CTL_GET_FREE => free()?,
            // As Linux: not ENOTTY.
            _ => return Err(Errno::ENOSYS),
        };
        Ok(done as usize)
    }
}
