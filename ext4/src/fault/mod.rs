//! A disk that fails on request and tells what a power failure could have left of it.
//!
//! [`FaultDevice`] keeps two images: what a program sees, and what was there at the last flush, with a log of the writes since. A
//! [crash](FaultDevice::crash) is the second image with any of those writes, whole or in single sectors, in any order. A disk that
//! [records](FaultDevice::record) has its requests repeated on another one later, so that one run of a program can be cut at each of them. For
//! tests of whatever lies on a [`BlockDevice`]; deterministic, without delays, and without anything of the host.

mod image;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use arch_um::sync::{SpinLock, order};

pub use image::Image;

use crate::device::BlockDevice;
use crate::{Errno, Result};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
/// What a sector holds after it was discarded.
const DISCARDED: u8 = 0xDD;

/// A disk in memory with faults.
pub struct FaultDevice {
    len: u64,
    state: SpinLock<State>,
}

struct State {
    /// What reads see.
    now: Image,
    /// What is on stable storage.
    durable: Image,
    /// What may be there, in the order of writing.
    unflushed: Vec<Write>,
    /// Writes and flushes so far.
    requests: u64,
    record: Option<Vec<Request>>,
    whole: core::ops::Range<u64>,
    stop_at: Option<u64>,
    fail_at: Option<(u64, Errno)>,
    fail_reads: Option<core::ops::Range<u64>>,
    read_only: bool,
}

#[derive(Clone)]
struct Write {
    at: u64,
    data: Arc<Vec<u8>>,
}

/// What a program asked of a disk, once.
#[derive(Clone)]
pub struct Request(Option<Write>);

impl Request {
    /// Whether it makes the ones before it durable.
    pub fn is_flush(&self) -> bool {
        self.0.is_none()
    }

    /// Asks the same of `device`.
    pub fn repeat(&self, device: &FaultDevice) -> Result<()> {
        match &self.0 {
            Some(write) => device.write(write.at, &write.data),
            None => device.flush(),
        }
    }
}

impl FaultDevice {
    /// A disk with these contents, all of them durable.
    pub fn new(image: Image) -> Arc<Self> {
        Arc::new(FaultDevice {
            len: image.len(),
            state: SpinLock::new(
                &order::LEAF,
                State {
                    durable: image.clone(),
                    now: image,
                    unflushed: Vec::new(),
                    requests: 0,
                    record: None,
                    whole: 0..0,
                    stop_at: None,
                    fail_at: None,
                    fail_reads: None,
                    read_only: false,
                },
            ),
        })
    }

    /// The contents as a program sees them.
    pub fn image(&self) -> Image {
        self.state.lock().now.clone()
    }

    /// Writes and flushes so far: the numbers that [`stop_at`](Self::stop_at) and [`fail_at`](Self::fail_at) speak of.
    pub fn requests(&self) -> u64 {
        self.state.lock().requests
    }

    /// These bytes are never torn: a write has changed all of them that it covers, or none.
    pub fn keep_whole(&self, bytes: core::ops::Range<u64>) {
        self.state.lock().whole = bytes;
    }

    /// Keeps a copy of each request from now on.
    pub fn record(&self) {
        self.state.lock().record = Some(Vec::new());
    }

    /// The requests since [`record`](Self::record), which is over.
    pub fn recorded(&self) -> Vec<Request> {
        self.state.lock().record.take().unwrap_or_default()
    }

    /// From request `request` (counted from 0) on everything fails with `EIO`, reads too. That request itself may or may not have reached the disk.
    pub fn stop_at(&self, request: u64) {
        self.state.lock().stop_at = Some(request);
    }

    /// Request `request` alone fails.
    pub fn fail_at(&self, request: u64, error: Errno) {
        self.state.lock().fail_at = Some((request, error));
    }

    /// Reads that touch these bytes fail with `EIO`.
    pub fn fail_reads(&self, bytes: core::ops::Range<u64>) {
        self.state.lock().fail_reads = Some(bytes);
    }

    /// Refuses writes from now on.
    pub fn set_read_only(&self) {
        self.state.lock().read_only = true;
    }

    /// What a power failure at this moment could leave, chosen by `seed`.
    ///
    /// Of the writes since the last flush each is there, missing, or torn into sectors; and of two that overlap the earlier may win. Seed 0
    /// loses them all, seed 1 keeps them all.
    pub fn crash(&self, seed: u64) -> Image {
        let (mut image, writes, whole) = {
            let state = self.state.lock();
            (state.durable.clone(), state.unflushed.clone(), state.whole.clone())
        };
        let mut dice = Dice(seed);
        let mut kept: Vec<Write> = writes
            .into_iter()
            .filter(|_| seed == 1 || seed != 0 && dice.roll(4) != 0)
            .collect();
        if seed > 1 {
            for at in (1..kept.len()).rev() {
                kept.swap(at, dice.roll(at as u64 + 1) as usize);
            }
        }
        for write in kept {
            let torn = seed > 1 && dice.roll(4) == 0;
            let keeps_whole = dice.roll(2) == 0;
            for (index, sector) in write.data.chunks(SECTOR).enumerate() {
                let at = write.at + (index * SECTOR) as u64;
                let is_there = if whole.contains(&at) {
                    keeps_whole
                } else {
                    dice.roll(2) == 0
                };
                if !torn || is_there {
                    image.write(at, sector);
                }
            }
        }
        image
    }
}

impl State {
    /// Counts a write or flush; `true` if the disk is stopped by this very request.
    fn request(&mut self) -> Result<Verdict> {
        let number = self.requests;
        self.requests += 1;
        if let Some(stop) = self.stop_at {
            if number == stop {
                return Ok(Verdict::Last);
            }
            if number > stop {
                return Err(Errno::EIO);
            }
        }
        match self.fail_at {
            Some((at, error)) if at == number => Err(error),
            _ => Ok(Verdict::Done),
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop_at.is_some_and(|stop| self.requests > stop)
    }

    fn store(&mut self, at: u64, data: Vec<u8>) -> Result<()> {
        if self.read_only {
            return Err(Errno::EROFS);
        }
        let verdict = self.request()?;
        if !self.now.write(at, &data) {
            return Err(Errno::EIO);
        }
        let write = Write {
            at,
            data: Arc::new(data),
        };
        if let Some(record) = &mut self.record {
            record.push(Request(Some(write.clone())));
        }
        self.unflushed.push(write);
        match verdict {
            Verdict::Done => Ok(()),
            Verdict::Last => Err(Errno::EIO),
        }
    }
}

/// How a request ends.
enum Verdict {
    Done,
    /// The power fails under it.
    Last,
}

impl BlockDevice for FaultDevice {
    fn len(&self) -> u64 {
        self.len
    }

    fn is_read_only(&self) -> bool {
        self.state.lock().read_only
    }

    fn read(&self, at: u64, data: &mut [u8]) -> Result<()> {
        let state = self.state.lock();
        let bad = |range: &core::ops::Range<u64>| at < range.end && range.start < at + data.len() as u64;
        if state.is_stopped() || state.fail_reads.as_ref().is_some_and(bad) || !state.now.read(at, data) {
            return Err(Errno::EIO);
        }
        Ok(())
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<()> {
        self.state.lock().store(at, data.to_vec())
    }

    fn flush(&self) -> Result<()> {
        let mut state = self.state.lock();
        match state.request()? {
            Verdict::Last => Err(Errno::EIO),
            Verdict::Done => {
                if let Some(record) = &mut state.record {
                    record.push(Request(None));
                }
                state.durable = state.now.clone();
                state.unflushed.clear();
                Ok(())
            }
        }
    }

    /// What was there is gone, and nothing sensible has come instead.
    fn discard(&self, at: u64, len: u64) -> Result<()> {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Errno::EIO);
        }
        self.state.lock().store(at, vec![DISCARDED; len as usize])
    }

    fn write_zeroes(&self, at: u64, len: u64) -> Result<()> {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Errno::EIO);
        }
        self.state.lock().store(at, vec![0; len as usize])
    }
}

/// Splitmix64: good enough to choose what a crash loses.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
}
