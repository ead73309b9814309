//! Where the bytes of cached pages lie: in the kernel's own memory, and once guests map them in a host memory file.
//!
//! A page of the kernel's own costs the host two copies on its way from the disk to a guest, one of a memory file four and the making of the page.
//! A memory file costs a descriptor as well, so most files do without. Contents move to one when they are mapped
//! ([`PageCache::share`](super::PageCache::share)), and never back.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem::replace;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use arch_um::host::OwnedFd;
use arch_um::host::mem::SharedMemory;
use arch_um::sync::{SpinLock, order};

use super::buffers;
use super::runs::Runs;
use crate::Result;
use crate::io::Sink;

/// Bytes of all caches in the kernel's own memory.
static OWN: AtomicU64 = AtomicU64::new(0);
static ZEROS: [u8; 4096] = [0; 4096];

/// Bytes of all caches that count as memory of the kernel's process.
pub fn own_bytes() -> u64 {
    OWN.load(Ordering::Relaxed)
}

/// The bytes.
pub(super) struct Storage {
    name: String,
    place: SpinLock<Place>,
}

enum Place {
    Own(Runs),
    Memory(Arc<SharedMemory>),
}

impl Storage {
    /// Empty; `name` is what a memory file will be called.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            place: SpinLock::new(&order::LEAF, Place::Own(Runs::default())),
        }
    }

    /// Does `work` with the kernel's own memory, or has the memory file. A copy under the lock is short: no run is longer than a request.
    fn with_own<T>(&self, work: impl FnOnce(&mut Runs) -> T) -> core::result::Result<T, Arc<SharedMemory>> {
        match &mut *self.place.lock() {
            Place::Memory(memory) => Err(memory.clone()),
            Place::Own(runs) => {
                let before = runs.bytes();
                let done = work(runs);
                OWN.fetch_add(runs.bytes().wrapping_sub(before), Ordering::Relaxed);
                Ok(done)
            }
        }
    }

    fn memory(&self) -> Option<Arc<SharedMemory>> {
        match &*self.place.lock() {
            Place::Own(_) => None,
            Place::Memory(memory) => Some(memory.clone()),
        }
    }

    /// Whether guests can map it.
    pub fn is_shared(&self) -> bool {
        matches!(*self.place.lock(), Place::Memory(_))
    }

    /// Moves to a memory file of `len` bytes. The caller keeps everybody else from writing.
    pub fn share(&self, len: u64) -> Result<()> {
        loop {
            let Ok(all) = self.with_own(|runs| runs.all()) else {
                return Ok(());
            };
            let memory = SharedMemory::new(&self.name)?;
            memory.resize(len)?;
            for (at, run) in &all {
                memory.write_at(run, *at)?;
            }
            let old = {
                let mut place = self.place.lock();
                match &*place {
                    Place::Own(runs) if runs.are(&all) => replace(&mut *place, Place::Memory(Arc::new(memory))),
                    // The contents became shorter meanwhile.
                    _ => continue,
                }
            };
            forget(&old);
            return Ok(());
        }
    }

    /// The memory file's descriptor.
    pub fn fd(&self) -> Option<Arc<OwnedFd>> {
        self.memory().map(|memory| memory.fd())
    }

    /// Fills `data` from byte `at`; zeros behind the end.
    pub fn read_at(&self, data: &mut [u8], at: u64) -> Result<()> {
        match self.with_own(|runs| runs.pieces(at..at + data.len() as u64)) {
            Ok(pieces) => {
                let mut rest = data;
                for piece in pieces {
                    let (now, later) = rest.split_at_mut(piece.len());
                    match piece.bytes() {
                        Some(bytes) => now.copy_from_slice(bytes),
                        None => now.fill(0),
                    }
                    rest = later;
                }
            }
            Err(memory) => {
                let got = memory.read_at(data, at)?;
                data[got..].fill(0);
            }
        }
        Ok(())
    }

    /// Gives `dst` the `count` bytes from `at` on; how many it took.
    pub fn copy_out(&self, at: u64, count: usize, dst: &mut dyn Sink) -> Result<usize> {
        let pieces = match self.with_own(|runs| runs.pieces(at..at + count as u64)) {
            Ok(pieces) => pieces,
            Err(_) => {
                let mut buffer = buffers::take(count);
                let moved = self.read_at(&mut buffer, at).and_then(|()| dst.write(&buffer));
                buffers::give(buffer);
                return moved;
            }
        };
        let mut done = 0;
        for piece in &pieces {
            let mut left = piece.len();
            while left > 0 {
                let bytes = piece.bytes().unwrap_or(&ZEROS[..left.min(ZEROS.len())]);
                match dst.write(bytes) {
                    Ok(moved) => {
                        done += moved;
                        left -= bytes.len();
                        if moved < bytes.len() {
                            return Ok(done);
                        }
                    }
                    Err(_) if done > 0 => return Ok(done),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(done)
    }

    /// Stores `data` at byte `at`, without a copy where the buffer can stay.
    pub fn put(&self, data: Vec<u8>, at: u64) -> Result<()> {
        let mut data = Some(data);
        let left = self.with_own(|runs| data.take().and_then(|data| runs.put(at, data)));
        match (left, data) {
            (Ok(Some(left)), _) => buffers::give(left),
            (Err(memory), Some(data)) => {
                let stored = memory.write_at(&data, at);
                buffers::give(data);
                return stored;
            }
            _ => {}
        }
        Ok(())
    }

    /// Stores a copy of `data` at byte `at`.
    pub fn write_at(&self, data: &[u8], at: u64) -> Result<()> {
        match self.with_own(|runs| runs.write(at, data)) {
            Ok(()) => Ok(()),
            Err(memory) => memory.write_at(data, at),
        }
    }

    /// The bytes `range` are zero, and cost nothing where that is whole pages.
    pub fn punch_hole(&self, range: Range<u64>) -> Result<()> {
        match self.with_own(|runs| runs.punch(range.clone())) {
            Ok(detached) => drop(detached),
            Err(memory) => memory.punch_hole(range)?,
        }
        Ok(())
    }

    /// The contents have `len` bytes now, all of which guests may map.
    pub fn resize(&self, len: u64) -> Result<()> {
        match self.with_own(|runs| runs.punch(len..u64::MAX)) {
            Ok(detached) => drop(detached),
            Err(memory) => memory.resize(len)?,
        }
        Ok(())
    }

    /// Bytes of memory in use.
    pub fn allocated(&self) -> u64 {
        match self.with_own(|runs| runs.bytes()) {
            Ok(bytes) => bytes,
            Err(memory) => memory.allocated(),
        }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        let place = self.place.get_mut();
        forget(place);
        if let Place::Own(runs) = place {
            drop(runs.take());
        }
    }
}

/// A place is about to go.
fn forget(place: &Place) {
    if let Place::Own(runs) = place {
        OWN.fetch_sub(runs.bytes(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::io::SliceSink;

    #[test]
    fn own_and_shared_contents_read_the_same() {
        let storage = Storage::new("test");
        storage.write_at(b"hello", 4096).expect("written");
        storage.put(vec![3; 1 << 16], 8192).expect("put");
        storage.punch_hole(4097..4098).expect("punched");
        let read = || {
            let (mut data, mut out) = ([9; 8], [9; 8]);
            storage.read_at(&mut data, 4095).expect("read");
            let mut sink = SliceSink::new(&mut out);
            assert_eq!(storage.copy_out(4095, 8, &mut sink), Ok(8));
            assert_eq!(data, out);
            data
        };
        let own = read();
        assert_eq!(&own, b"\0h\0llo\0\0");
        assert!(!storage.is_shared());
        storage.share(1 << 17).expect("a memory file");
        assert!(storage.is_shared());
        assert_eq!(read(), own);
        storage.punch_hole(4098..8192).expect("punched");
        assert_eq!(&read(), b"\0h\0\0\0\0\0\0");
        let mut data = vec![0; 1 << 16];
        storage.read_at(&mut data, 8192).expect("read");
        assert!(data.iter().all(|&byte| byte == 3));
    }

    #[test]
    fn a_sink_that_is_full_ends_the_copy() {
        let storage = Storage::new("test");
        storage.put(vec![3; 1 << 16], 4096).expect("put");
        let mut out = [9; 10_000];
        let mut sink = SliceSink::new(&mut out);
        assert_eq!(storage.copy_out(0, 1 << 16, &mut sink), Ok(10_000));
        assert_eq!((out[4095], out[4096], out[9999]), (0, 3, 3));
    }
}
