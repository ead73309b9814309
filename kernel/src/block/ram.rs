//! RAM disks, /dev/ramN: blocks in a memory file of the host, nothing more. Gone with the machine.
//!
//! Linux makes sixteen of them at boot where they are built in; User-Mode Linux's configuration has none. Here they come when somebody asks: by
//! `brd.rd_nr=` or `ramdisk_size=` on the command line, `insmod brd.ko rd_nr=…`, or by opening a device file made with `mknod`.

use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arch_um::host::mem::SharedMemory;
use arch_um::sync::{LockClass, Mutex};

use super::bio::{Bio, BlockDriver, Geometry, Op};
use super::disk::{DiskInfo, PartitionScan, find, register_with};
use super::parameters::{number, parameter};
use crate::fs::sysfs;
use crate::vfs::DevT;
use crate::{Result, seq};

/// The block major number.
pub const RAM_MAJOR: u32 = 1;
/// Numbers end here.
const MOST: u32 = 256;
/// Disks without `rd_nr=`.
const DEFAULT_COUNT: u32 = 16;

/// How many there may be (`rd_nr=`).
static COUNT: AtomicU32 = AtomicU32::new(DEFAULT_COUNT);
/// Their size in KiB (`rd_size=`).
static SIZE: AtomicU64 = AtomicU64::new(4096);

static MAKING: LockClass = LockClass::new("RAM_DISKS", 51);
static ONE: Mutex<()> = Mutex::new(&MAKING, ());

/// One disk.
struct RamDisk {
    memory: SharedMemory,
}

impl BlockDriver for RamDisk {
    fn submit(&self, mut bio: Bio) {
        let outcome = match bio.op {
            Op::Read => self.memory.read_at(&mut bio.data, bio.offset).map(drop),
            Op::Write => self.memory.write_at(&bio.data, bio.offset),
            Op::Flush => Ok(()),
            Op::Discard | Op::WriteZeroes => self.memory.punch_hole(bio.offset..bio.offset + bio.len),
        };
        bio.complete(outcome);
    }

    fn can_discard(&self) -> bool {
        true
    }

    fn has_write_cache(&self) -> bool {
        false
    }

    fn discard_zeroes(&self) -> bool {
        true
    }

    fn geometry(&self, _len: u64) -> Option<Geometry> {
        None
    }
}

/// Takes `brd.rd_nr=`, `brd.rd_size=` and `ramdisk_size=` from the command line and makes the disks they ask for.
pub(super) fn init(line: &str) {
    let parameters = sysfs::dir("module/brd/parameters");
    sysfs::attribute(&parameters, "rd_nr", |out| {
        seq!(out, "{}\n", COUNT.load(Ordering::Relaxed));
        Ok(())
    });
    sysfs::attribute(&parameters, "rd_size", |out| {
        seq!(out, "{}\n", SIZE.load(Ordering::Relaxed));
        Ok(())
    });
    sysfs::constant(&parameters, "max_part", "1");
    let count = number(parameter(line, "brd.rd_nr"));
    let size = number(parameter(line, "brd.rd_size")).or(number(parameter(line, "ramdisk_size")));
    if count.is_some() || size.is_some() {
        make_all(count, size);
    }
}

/// `insmod brd.ko` with these parameters.
pub(super) fn loaded(parameters: &str) {
    let count = number(parameter(parameters, "rd_nr"));
    make_all(count, number(parameter(parameters, "rd_size")));
}

fn make_all(count: Option<u64>, size: Option<u64>) {
    if let Some(count) = count {
        COUNT.store(count.min(MOST.into()) as u32, Ordering::Relaxed);
    }
    if let Some(size) = size {
        SIZE.store(size, Ordering::Relaxed);
    }
    for minor in 0..COUNT.load(Ordering::Relaxed) {
        if let Err(error) = make(minor) {
            log::error!("brd: /dev/ram{minor} cannot be made: {error}");
            return;
        }
    }
    log::info!("brd: module loaded");
}

/// Makes the disk whose device file somebody opens, if there may be one.
pub(super) fn probe(dev: DevT) {
    if dev.major == RAM_MAJOR && dev.minor < COUNT.load(Ordering::Relaxed) {
        // Without memory the opener gets ENXIO.
        let _ = make(dev.minor);
    }
}

/// Makes disk `minor`, unless it is there.
fn make(minor: u32) -> Result<()> {
    let _one = ONE.lock();
    let name = format!("ram{minor}");
    if find(&name).is_some() {
        return Ok(());
    }
    let len = SIZE.load(Ordering::Relaxed).saturating_mul(1024);
    let memory = SharedMemory::new(&name)?;
    memory.resize(len)?;
    let info = DiskInfo {
        name,
        dev: DevT::new(RAM_MAJOR, minor),
        len,
        read_only: false,
        driver: Arc::new(RamDisk { memory }),
    };
    register_with(info, 1, PartitionScan::Yes).map(drop)
}
