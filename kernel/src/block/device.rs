//! [`BlockDevice`]: an opened disk or partition, as device files and file systems hold it. Linux's `struct block_device` with its opener.
//!
//! File systems read and write around the page cache with the functions here; the cache of the device file is kept true: what is dirty there is
//! written before such a transfer, what is cached is forgotten after a write. All offsets are bytes of the device, whole logical blocks.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use super::batch::Batch;
use super::bio::{Bio, BioFlags, Limits, Op};
use super::claim::{Claim, Left};
use super::disk::{Disk, Part, lookup};
use crate::vfs::DevT;
use crate::{Errno, Result};

/// An opened disk or partition; dropping it closes it.
pub struct BlockDevice {
    disk: Arc<Disk>,
    part: Option<Arc<Part>>,
    claim: Claim,
}

impl BlockDevice {
    /// Opens the block device `dev`; [`Claim::Exclusive`] for those who rely on its contents (file systems).
    ///
    /// # Errors
    /// `ENXIO` without such a device, `EBUSY` when another one has claimed it.
    pub fn open(dev: DevT, claim: Claim) -> Result<Arc<Self>> {
        let (disk, number) = lookup(dev)?;
        Self::open_on(disk, number, claim)
    }

    /// As [`open`](Self::open), of partition `number` (0: all) of `disk`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(disk: Arc<Disk>, number: u32, claim: Claim) -> Result<Arc<Self>> {
        disk.users().enter(number, claim)?;
        let part = if number == 0 { None } else { disk.part(number) };
        if number > 0 && part.is_none() {
            disk.users().leave(number, claim);
            return Err(Errno::ENXIO);
        }
        Ok(Arc::new(Self { disk, part, claim }))
    }

    /// The disk that it is (on).
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// How it was opened.
    pub fn claim(&self) -> Claim {
        self.claim
    }

    /// Its partition number, 0 for a whole disk.
    pub fn number(&self) -> u32 {
        self.part.as_ref().map_or(0, |part| part.info().number)
    }

    /// Its device number.
    pub fn dev(&self) -> DevT {
        self.part.as_ref().map_or(self.disk.dev(), |part| part.dev())
    }

    /// Its name below /dev: `ubda1`.
    pub fn name(&self) -> String {
        match self.number() {
            0 => self.disk.name().to_string(),
            number => self.disk.partition_name(number),
        }
    }

    /// First byte on the disk.
    pub fn start(&self) -> u64 {
        self.part.as_ref().map_or(0, |part| part.info().start)
    }

    /// Length in bytes; a partition that is gone has none.
    pub fn len(&self) -> u64 {
        self.part
            .as_ref()
            .map_or_else(|| self.disk.len(), |part| part.info().len)
    }

    /// Whether it has no sectors.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether writes are refused: `EROFS` here, `EPERM` at the device file.
    pub fn is_read_only(&self) -> bool {
        let own = self.part.as_ref().is_some_and(|part| part.is_read_only());
        own || self.disk.is_read_only()
    }

    /// Sizes it works with; [`Limits::logical_block`] is the unit of everything here.
    pub fn limits(&self) -> Limits {
        self.disk.limits()
    }

    /// Whether [`discard`](Self::discard) does something.
    pub fn can_discard(&self) -> bool {
        self.disk.can_discard()
    }

    pub(super) fn part(&self) -> Option<&Arc<Part>> {
        self.part.as_ref()
    }

    /// Fills `data` from byte `at`; large ones in several requests at once.
    ///
    /// # Errors
    /// `EINVAL` for a range that is not whole blocks of the device; the driver's.
    pub fn read(&self, at: u64, data: &mut [u8]) -> Result<()> {
        let step = self.limits().max_transfer as usize;
        let mut batch = self.batch();
        for (index, chunk) in data.chunks(step).enumerate() {
            batch.read(at + (index * step) as u64, chunk.len());
        }
        let got = batch.wait_all()?;
        for (chunk, got) in data.chunks_mut(step).zip(got) {
            chunk.copy_from_slice(got.get(..chunk.len()).ok_or(Errno::EIO)?);
        }
        Ok(())
    }

    /// Reads `len` bytes from byte `at`: without a copy up to [`Limits::max_transfer`].
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_owned(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        if len > self.limits().max_transfer as usize {
            let mut data = alloc::vec![0; len];
            self.read(at, &mut data)?;
            return Ok(data);
        }
        let mut batch = self.batch();
        batch.read(at, len);
        batch.wait().pop().unwrap_or(Err(Errno::EIO))
    }

    /// Stores `data` at byte `at`; large ones in several requests at once. Durable after a [`flush`](Self::flush).
    ///
    /// # Errors
    /// `EROFS`; as [`read`](Self::read). Part of a large one may have been written.
    pub fn write(&self, at: u64, data: &[u8]) -> Result<()> {
        let step = self.limits().max_transfer as usize;
        let mut batch = self.batch();
        for (index, chunk) in data.chunks(step).enumerate() {
            batch.write(at + (index * step) as u64, chunk.to_vec());
        }
        batch.wait_all().map(drop)
    }

    /// As [`write`](Self::write) without a copy; the buffer comes back for the next one.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_owned(&self, at: u64, data: Vec<u8>, flags: BioFlags) -> Result<Vec<u8>> {
        let mut batch = self.batch();
        batch.write_with(at, data, flags);
        batch.wait().pop().unwrap_or(Err(Errno::EIO))
    }

    /// Collects requests that are sent together: a journal's blocks, a directory's read-ahead.
    pub fn batch(&self) -> Batch<'_> {
        Batch::new(self)
    }

    /// Returns when everything written before, by whatever way, is on stable storage.
    ///
    /// # Errors
    /// The driver's.
    pub fn flush(&self) -> Result<()> {
        if self.is_read_only() || self.disk.is_empty() {
            return Ok(());
        }
        self.range_op(Op::Flush, 0, 0)
    }

    /// The contents of the range do not matter any more.
    ///
    /// # Errors
    /// `EOPNOTSUPP`: the device cannot forget. `EROFS`; `EINVAL` as for [`read`](Self::read).
    pub fn discard(&self, at: u64, len: u64) -> Result<()> {
        if !self.can_discard() {
            return Err(Errno::EOPNOTSUPP);
        }
        self.range_op(Op::Discard, at, len)
    }

    /// The range reads as zeros, without data on its way where the device can.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_zeroes(&self, at: u64, len: u64) -> Result<()> {
        self.range_op(Op::WriteZeroes, at, len)
    }

    fn range_op(&self, op: Op, at: u64, len: u64) -> Result<()> {
        let mut batch = self.batch();
        batch.add(op, BioFlags::empty(), at, len, Vec::new());
        batch.wait_all().map(drop)
    }

    /// Checks a range of the device; where it lies on the disk.
    pub(super) fn place(&self, at: u64, len: u64) -> Result<Range<u64>> {
        let block = u64::from(self.limits().logical_block);
        let end = at.checked_add(len).ok_or(Errno::EINVAL)?;
        if !at.is_multiple_of(block) || !len.is_multiple_of(block) || end > self.len() {
            return Err(Errno::EINVAL);
        }
        Ok(self.start() + at..self.start() + end)
    }

    /// Sends bios with offsets of the device; those that cannot be are completed at once.
    pub(super) fn submit(&self, bios: Vec<Bio>) -> Vec<Range<u64>> {
        let mut written = Vec::new();
        let mut good = Vec::with_capacity(bios.len());
        for mut bio in bios {
            let place = self.place(bio.offset, bio.len);
            let place = match bio.op {
                Op::Read | Op::Flush => place,
                _ if self.is_read_only() => Err(Errno::EROFS),
                _ => place,
            };
            // What is dirty in the cache was written before this, so it must be on the disk before this.
            let place = place.and_then(|place| self.disk.cache().settle(place.clone()).map(|()| place));
            match place {
                Ok(place) => {
                    bio.offset = place.start;
                    if !matches!(bio.op, Op::Read | Op::Flush) {
                        written.push(place);
                    }
                    good.push(bio);
                }
                Err(error) => bio.complete(Err(error)),
            }
        }
        self.disk.medium().submit(good);
        written
    }

    /// The ranges of the disk were written around the cache.
    pub(super) fn written(&self, ranges: Vec<Range<u64>>) {
        for range in ranges {
            if let Err(error) = self.disk.cache().refresh(range) {
                log::error!("{}: cached pages are stale: {error}", self.name());
            }
        }
    }
}

impl Drop for BlockDevice {
    fn drop(&mut self) {
        if self.disk.users().leave(self.number(), self.claim) == Left::Others {
            return;
        }
        if let Err(error) = self.disk.cache().write_back(0..u64::MAX) {
            log::error!(
                "Buffer I/O error on dev {}, lost async page write: {error}",
                self.disk.name()
            );
        }
        self.disk.driver().released();
    }
}
