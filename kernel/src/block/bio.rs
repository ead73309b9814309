//! A request to a disk and what its driver does with it.
//!
//! Bios are queued, merged and counted by [`super::queue`]; [`super::batch`] sends several and waits for all of them.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bitflags::bitflags;

use super::SECTOR;
use super::device::BlockDevice;
use super::stats::Counters;
use crate::syscall::Context;
use crate::vfs::File;
use crate::{Errno, Result};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Fill [`Bio::data`].
    Read,
    /// Store [`Bio::data`].
    Write,
    /// Everything completed before is on stable storage.
    Flush,
    /// The range's contents do not matter any more.
    Discard,
    /// The range reads as zeros.
    WriteZeroes,
}

bitflags! {
    /// What a write asks for besides; the queue does it where the driver does not.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct BioFlags: u8 {
        /// Everything completed before is on stable storage before this begins.
        const PREFLUSH = 1;
        /// The data itself is on stable storage when this completes ("force unit access").
        const FUA = 2;
        /// Never joined with others: it was, and that failed.
        const ALONE = 4;
        /// Nobody waits for it yet: a read ahead.
        const AHEAD = 8;
    }
}

/// Called once with the request and its outcome, on any host thread; may not sleep.
pub type Completion = Box<dyn FnOnce(Bio, Result<()>) + Send>;

/// A request. It travels to the driver and comes back whole, in success and failure.
pub struct Bio {
    /// What to do.
    pub op: Op,
    /// First byte on the disk.
    pub offset: u64,
    /// Bytes of the range (for [`Op::Read`] and [`Op::Write`], `data.len()`).
    pub len: u64,
    /// The data.
    pub data: Vec<u8>,
    /// Drivers that say [`BlockDriver::can_fua`] see [`BioFlags::FUA`]; others see nothing.
    pub flags: BioFlags,
    /// Who else counts it: the partition it lies in.
    pub(super) partition: Option<Arc<Counters>>,
    done: Option<Completion>,
}

impl Bio {
    /// A request that reports to `done`.
    pub fn new(op: Op, offset: u64, len: u64, data: Vec<u8>, done: Completion) -> Self {
        Self {
            op,
            offset,
            len,
            data,
            flags: BioFlags::empty(),
            partition: None,
            done: Some(done),
        }
    }

    /// Ends the request.
    pub fn complete(mut self, outcome: Result<()>) {
        if let Some(done) = self.done.take() {
            done(self, outcome);
        }
    }

    /// Lets `wrap` look at the outcome first; it hands on to the completion that was there.
    pub(super) fn wrap(&mut self, wrap: impl FnOnce(Bio, Result<()>, Completion) + Send + 'static) {
        if let Some(inner) = self.done.take() {
            self.done = Some(Box::new(move |bio, outcome| wrap(bio, outcome, inner)));
        }
    }
}

impl Drop for Bio {
    fn drop(&mut self) {
        // A driver that loses a request must not leave its owner asleep for ever.
        if let Some(done) = self.done.take() {
            let lost = Bio {
                op: self.op,
                offset: self.offset,
                len: self.len,
                data: core::mem::take(&mut self.data),
                flags: self.flags,
                partition: None,
                done: None,
            };
            done(lost, Err(Errno::EIO));
        }
    }
}

/// Sizes a device works with, in bytes (/sys/block/DISK/queue).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The unit of addresses: direct I/O comes in whole ones.
    pub logical_block: u32,
    /// What the medium writes at once.
    pub physical_block: u32,
    /// Least transfer without a penalty.
    pub io_min: u32,
    /// The best transfer; 0 for "does not matter".
    pub io_opt: u32,
    /// Most bytes of one request.
    pub max_transfer: u32,
    /// The unit of discards.
    pub discard_granularity: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            logical_block: SECTOR as u32,
            physical_block: SECTOR as u32,
            io_min: SECTOR as u32,
            io_opt: 0,
            max_transfer: 1 << 20,
            discard_granularity: 4096,
        }
    }
}

/// What carries requests out.
pub trait BlockDriver: Send + Sync {
    /// Starts a request; returns without waiting. Completions come in any order, also before this returns. The range lies inside the disk and is
    /// whole logical blocks.
    fn submit(&self, bio: Bio);
    /// Whether [`Op::Discard`] does something.
    fn can_discard(&self) -> bool {
        false
    }
    /// Whether a range reads as zeros after a discard: then a hole punched into the device file is one.
    fn discard_zeroes(&self) -> bool {
        false
    }
    /// Its serial number.
    fn serial(&self) -> Option<String> {
        None
    }
    /// Sizes; asked at each request, they may change.
    fn limits(&self) -> Limits {
        Limits::default()
    }
    /// Whether what is written may be lost until a flush ("write back"); without, flushes are not sent.
    fn has_write_cache(&self) -> bool {
        true
    }
    /// Whether it does [`BioFlags::FUA`] itself.
    fn can_fua(&self) -> bool {
        false
    }
    /// The last open file or mount of the disk is gone and what was dirty is written. May sleep.
    fn released(&self) {}
    /// What `HDIO_GETGEO` says; by default what UML invents. None: the device has no geometry.
    fn geometry(&self, len: u64) -> Option<Geometry> {
        let cylinder = 128 * 32 * SECTOR;
        Some(Geometry {
            heads: 128,
            sectors: 32,
            cylinders: (len / cylinder).min(u16::MAX.into()) as u16,
        })
    }
    /// An `ioctl` that the block layer does not know, on `device` of this driver's disk. `ENOTTY`.
    fn ioctl(&self, _device: &Arc<BlockDevice>, _cx: &Context, _file: &File, _cmd: u32, _arg: u64) -> Result<usize> {
        Err(Errno::ENOTTY)
    }
}

/// Heads, sectors and cylinders, for programs from the time of DOS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Heads of a cylinder.
    pub heads: u8,
    /// Sectors of a track.
    pub sectors: u8,
    /// Cylinders of the disk.
    pub cylinders: u16,
}
