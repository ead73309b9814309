//! Where the bytes of cached pages lie: small contents in the kernel's own memory, others in a host memory file.
//!
//! A memory file costs a descriptor and five host calls in the life of a file, so most of a tree of small files does without. Contents move to one
//! when they grow or are mapped ([`PageCache::share`](super::PageCache::share)), and never back.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use arch_um::host::OwnedFd;
use arch_um::host::mem::SharedMemory;
use arch_um::sync::{SpinLock, order};

use crate::Result;

/// Contents up to so many bytes do without a memory file: a copy under the lock is short.
pub(super) const SMALL: u64 = 64 << 10;

/// The bytes.
pub(super) struct Storage {
    name: String,
    place: SpinLock<Place>,
}

enum Place {
    /// From byte 0 on; what lies behind is zero.
    Heap(Vec<u8>),
    Memory(Arc<SharedMemory>),
}

impl Storage {
    /// Empty, in the kernel's memory; `name` is what a memory file will be called.
    pub fn small(name: &str) -> Self {
        Self {
            name: name.into(),
            place: SpinLock::new(&order::LEAF, Place::Heap(Vec::new())),
        }
    }

    /// Empty, in a memory file of `len` bytes.
    pub fn shared(name: &str, len: u64) -> Result<Self> {
        let memory = SharedMemory::new(name)?;
        memory.resize(len)?;
        Ok(Self {
            name: name.into(),
            place: SpinLock::new(&order::LEAF, Place::Memory(Arc::new(memory))),
        })
    }

    fn memory(&self) -> Option<Arc<SharedMemory>> {
        match &*self.place.lock() {
            Place::Heap(_) => None,
            Place::Memory(memory) => Some(memory.clone()),
        }
    }

    /// Whether guests can map it.
    pub fn is_shared(&self) -> bool {
        matches!(*self.place.lock(), Place::Memory(_))
    }

    /// Moves to a memory file of `len` bytes. The caller keeps everybody else from writing.
    pub fn share(&self, len: u64) -> Result<Arc<SharedMemory>> {
        let data = match &*self.place.lock() {
            Place::Heap(data) => data.clone(),
            Place::Memory(memory) => return Ok(memory.clone()),
        };
        let memory = SharedMemory::new(&self.name)?;
        memory.resize(len)?;
        memory.write_at(&data, 0)?;
        let memory = Arc::new(memory);
        *self.place.lock() = Place::Memory(memory.clone());
        Ok(memory)
    }

    /// The memory file's descriptor.
    pub fn fd(&self) -> Option<Arc<OwnedFd>> {
        self.memory().map(|memory| memory.fd())
    }

    /// Fills `data` from byte `at`; zeros behind the end.
    pub fn read_at(&self, data: &mut [u8], at: u64) -> Result<()> {
        let got = match &*self.place.lock() {
            Place::Heap(held) => {
                let from = held.len().min(at as usize);
                let count = data.len().min(held.len() - from);
                data[..count].copy_from_slice(&held[from..from + count]);
                Ok(count)
            }
            Place::Memory(memory) => Err(memory.clone()),
        };
        let got = match got {
            Ok(count) => count,
            Err(memory) => memory.read_at(data, at)?,
        };
        data[got..].fill(0);
        Ok(())
    }

    /// Stores `data` at byte `at`; in the kernel's memory it must lie below [`SMALL`].
    pub fn write_at(&self, data: &[u8], at: u64) -> Result<()> {
        let memory = match &mut *self.place.lock() {
            Place::Heap(held) => {
                let end = at as usize + data.len();
                debug_assert!(end as u64 <= SMALL, "large contents are shared first");
                if held.len() < end {
                    held.resize(end, 0);
                }
                held[at as usize..end].copy_from_slice(data);
                return Ok(());
            }
            Place::Memory(memory) => memory.clone(),
        };
        memory.write_at(data, at)
    }

    /// The bytes `range` are zero, and cost nothing where that is whole pages.
    pub fn punch_hole(&self, range: Range<u64>) -> Result<()> {
        let memory = match &mut *self.place.lock() {
            Place::Heap(held) => {
                let len = held.len() as u64;
                let (start, end) = (range.start.min(len) as usize, range.end.min(len) as usize);
                if end == held.len() {
                    held.truncate(start);
                    held.shrink_to_fit();
                } else if start < end {
                    held[start..end].fill(0);
                }
                return Ok(());
            }
            Place::Memory(memory) => memory.clone(),
        };
        memory.punch_hole(range)
    }

    /// The contents have `len` bytes now, all of which guests may map.
    pub fn resize(&self, len: u64) -> Result<()> {
        self.memory().map_or(Ok(()), |memory| memory.resize(len))
    }

    /// Bytes of memory in use.
    pub fn allocated(&self) -> u64 {
        let memory = match &*self.place.lock() {
            Place::Heap(held) => return held.len() as u64,
            Place::Memory(memory) => memory.clone(),
        };
        memory.allocated()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_shared_contents_read_the_same() {
        let storage = Storage::small("test");
        storage.write_at(b"hello", 4096).expect("written");
        storage.punch_hole(4097..4098).expect("punched");
        let read = || {
            let mut data = [9; 8];
            storage.read_at(&mut data, 4095).expect("read");
            data
        };
        let small = read();
        assert_eq!(&small, b"\0h\0llo\0\0");
        assert!(!storage.is_shared());
        storage.share(8192).expect("a memory file");
        assert!(storage.is_shared());
        assert_eq!(read(), small);
        storage.punch_hole(4098..8192).expect("punched");
        assert_eq!(&read(), b"\0h\0\0\0\0\0\0");
    }
}
