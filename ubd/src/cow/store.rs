//! [`CowStore`]: a disk of two files. What was written is in the COW file, the rest is read from the backing file, which is never written.
//!
//! What survives the loss of the host's power is what a disk with a write cache promises: all that was flushed, and of the rest each sector old or
//! new. Data goes to the COW file at once. Its bits are set in memory and reach the file in [`Store::flush`] only, when the host has
//! made the data stable; a bit in the file that came before its data would show a hole instead of the backing file's sector.
//!
//! Lock order: `saving` ([`order::DEVICE`], sleeps, held over I/O) before `bitmap` ([`order::DRIVER`], short, never over I/O).

use std::sync::Arc;

use arch_um::Errno;
use arch_um::host::image::{Cached, Durability};
use arch_um::sync::{Mutex, SpinLock, order};

use super::bitmap::Bitmap;
use super::header::{Layout, SECTOR};
use crate::store::Store;

/// When the bitmap goes to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saving {
    /// With a flush.
    OnFlush,
    /// With each write, before it is complete (`ubd…s`).
    EachWrite,
    /// Never: the file ends with the process.
    Never,
}

/// A COW file over its backing file.
pub struct CowStore {
    cow: Box<dyn Store>,
    backing: Arc<dyn Store>,
    layout: Layout,
    policy: Saving,
    bitmap: SpinLock<Bitmap>,
    saving: Mutex<()>,
}

impl CowStore {
    /// A disk of `cow`, laid out as `layout` says, over `backing`.
    pub fn new(cow: Box<dyn Store>, backing: Arc<dyn Store>, layout: Layout, bitmap: Bitmap, policy: Saving) -> Self {
        Self {
            cow,
            backing,
            layout,
            policy,
            bitmap: SpinLock::new(&order::DRIVER, bitmap),
            saving: Mutex::new(&order::DEVICE, ()),
        }
    }

    /// The next bytes from `at` on that are in the COW file, cut at `end`.
    pub fn next_extent(&self, at: u64, end: u64) -> Option<(u64, u64)> {
        let last = end.div_ceil(SECTOR);
        let bitmap = self.bitmap.lock();
        let mut first = at.div_ceil(SECTOR);
        while first < last {
            let run = bitmap.run(first, last);
            if run.present {
                return Some((first * SECTOR, ((first + run.sectors) * SECTOR).min(end)));
            }
            first += run.sectors;
        }
        None
    }

    /// Has `data` filled from byte `offset` on, one piece for each run of sectors that lie in the same file: `read` gets the file and the place in it.
    fn each_run<E>(
        &self,
        offset: u64,
        data: &mut [u8],
        mut read: impl FnMut(&dyn Store, u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let end = (offset + data.len() as u64).div_ceil(SECTOR);
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let run = self.bitmap.lock().run(at / SECTOR, end);
            let count = ((at / SECTOR + run.sectors) * SECTOR - at).min((data.len() - done) as u64);
            let piece = &mut data[done..done + count as usize];
            if run.present {
                read(&*self.cow, self.layout.data_offset + at, piece)?;
            } else {
                read(&*self.backing, at, piece)?;
            }
            done += count as usize;
        }
        Ok(())
    }

    /// The sectors of a range that is to be changed.
    ///
    /// # Errors
    /// `EINVAL` for parts of sectors. `EIO` for sectors without a bit: the last few of an odd size in versions 1 and 2.
    fn sectors(&self, offset: u64, len: u64) -> Result<(u64, u64), Errno> {
        if !offset.is_multiple_of(SECTOR) || !len.is_multiple_of(SECTOR) {
            return Err(Errno::EINVAL);
        }
        let (first, end) = (offset / SECTOR, (offset + len) / SECTOR);
        if end > self.bitmap.lock().sectors() {
            return Err(Errno::EIO);
        }
        Ok((first, end))
    }

    /// Marks sectors whose data is in the COW file.
    fn mark(&self, (first, end): (u64, u64), durability: Durability) -> Result<(), Errno> {
        self.bitmap.lock().insert(first, end);
        if self.policy == Saving::EachWrite || durability == Durability::Stable {
            return self.save();
        }
        Ok(())
    }

    /// Makes data stable, then bits.
    fn save(&self) -> Result<(), Errno> {
        if self.policy == Saving::Never {
            return Ok(());
        }
        // One at a time: an older copy of a piece must not be written over a newer one.
        let _one = self.saving.lock();
        let pieces = self.bitmap.lock().take_dirty();
        let outcome = self.cow.flush().and_then(|()| self.write_bits(&pieces));
        if outcome.is_err() {
            self.bitmap.lock().put_back(&pieces);
        }
        outcome
    }

    fn write_bits(&self, pieces: &[(u64, Vec<u8>)]) -> Result<(), Errno> {
        if pieces.is_empty() {
            return Ok(());
        }
        for (at, bytes) in pieces {
            self.cow
                .write(self.layout.bitmap_offset + at, bytes, Durability::Cached)?;
        }
        self.cow.flush()
    }
}

impl Store for CowStore {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        self.each_run(offset, data, |store, at, piece| store.read(at, piece))
    }

    fn read_cached(&self, offset: u64, data: &mut [u8]) -> Cached {
        let all = self.each_run(offset, data, |store, at, piece| match store.read_cached(at, piece) {
            Cached::Yes => Ok(()),
            Cached::No => Err(()),
        });
        if all.is_ok() { Cached::Yes } else { Cached::No }
    }

    fn write(&self, offset: u64, data: &[u8], durability: Durability) -> Result<(), Errno> {
        let sectors = self.sectors(offset, data.len() as u64)?;
        self.cow
            .write(self.layout.data_offset + offset, data, Durability::Cached)?;
        self.mark(sectors, durability)
    }

    fn is_buffered(&self) -> bool {
        self.policy != Saving::EachWrite && self.cow.is_buffered()
    }

    fn flush(&self) -> Result<(), Errno> {
        self.save()
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let sectors = self.sectors(offset, len)?;
        self.cow.discard(self.layout.data_offset + offset, len)?;
        self.mark(sectors, Durability::Cached)
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let sectors = self.sectors(offset, len)?;
        self.cow.write_zeroes(self.layout.data_offset + offset, len)?;
        self.mark(sectors, Durability::Cached)
    }

    fn is_unsaved(&self) -> bool {
        self.policy != Saving::Never && self.bitmap.lock().is_dirty()
    }

    fn save_at_exit(&self) {
        // A thread that holds a lock may never let it go; what it was about to save is lost then, as with the host's power.
        let (Some(_one), Some(mut bitmap)) = (self.saving.try_lock(), self.bitmap.try_lock()) else {
            return;
        };
        if self.policy == Saving::Never {
            return;
        }
        let pieces = bitmap.take_dirty();
        drop(bitmap);
        if let Err(error) = self.write_bits(&pieces) {
            log::error!("a COW file could not be completed: {error}; what was written since the last sync is lost");
        }
    }
}
