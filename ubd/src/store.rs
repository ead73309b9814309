//! [`Store`]: what a disk's bytes lie on. A host file, a COW file over another store, a store whose writes are thrown away.

use arch_um::Errno;
use arch_um::host::image::{Cached, Durability, Image};

/// Bytes that can be read and written by whole sectors. Requests come from several host threads at once; the order of those that overlap
/// is not defined, as with any disk.
pub trait Store: Send + Sync {
    /// Fills `data` from byte `offset` on.
    ///
    /// # Errors
    /// The host's; `EIO` for what was there and is lost.
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno>;

    /// Fills `data` if the host has it all in memory. Does not sleep.
    fn read_cached(&self, offset: u64, data: &mut [u8]) -> Cached;

    /// Stores `data` at byte `offset`. What a write that failed was to replace may be the old, the new, or partly both.
    ///
    /// # Errors
    /// The host's: `ENOSPC`, `EIO`, `EFBIG`.
    fn write(&self, offset: u64, data: &[u8], durability: Durability) -> Result<(), Errno>;

    /// Whether [`write`](Self::write) with [`Durability::Cached`] is a copy into the host's memory, as long as the host has room there.
    fn is_buffered(&self) -> bool {
        false
    }

    /// Puts everything that was written before on stable storage.
    ///
    /// # Errors
    /// The host's.
    fn flush(&self) -> Result<(), Errno>;

    /// Gives the space of a range back to the host; it reads as zeros.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the host cannot.
    fn discard(&self, offset: u64, len: u64) -> Result<(), Errno>;

    /// Makes a range read as zeros.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the host cannot: write zeros then.
    fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), Errno>;

    /// Whether something is only in memory that a file must get before this process ends.
    fn is_unsaved(&self) -> bool {
        false
    }

    /// Hands what is only in memory to the host on the way out of the process; other threads may have stopped with locks held.
    fn save_at_exit(&self) {}
}

impl Store for Image {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        Image::read(self, offset, data)
    }

    fn read_cached(&self, offset: u64, data: &mut [u8]) -> Cached {
        Image::read_cached(self, offset, data)
    }

    fn write(&self, offset: u64, data: &[u8], durability: Durability) -> Result<(), Errno> {
        Image::write(self, offset, data, durability)
    }

    fn is_buffered(&self) -> bool {
        Image::is_buffered(self)
    }

    fn flush(&self) -> Result<(), Errno> {
        Image::flush(self)
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.punch_hole(offset, len)
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), Errno> {
        Image::write_zeroes(self, offset, len)
    }
}
