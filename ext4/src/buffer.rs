//! Metadata blocks in memory.
//!
//! A [`Buffer`]'s bytes are an `Arc`: a reader or a committing transaction takes a [snapshot](Buffer::snapshot), and the next change copies the
//! block if a snapshot is still held. So a commit writes what stood at its end while the running transaction already changes the block again:
//! JBD2's "frozen data" without a state machine.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use arch_um::sync::{SpinLock, order};

use crate::Result;
use crate::device::BlockDevice;

/// One cached block.
pub struct Buffer {
    block: u64,
    bytes: SpinLock<Arc<Vec<u8>>>,
}

impl Buffer {
    fn new(block: u64, bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Self {
            block,
            bytes: SpinLock::new(&order::LEAF, Arc::new(bytes)),
        })
    }

    /// Its number on the device, in file-system blocks.
    pub fn block(&self) -> u64 {
        self.block
    }

    /// The bytes as they are now.
    pub fn snapshot(&self) -> Arc<Vec<u8>> {
        self.bytes.lock().clone()
    }

    /// Looks at the bytes; `look` must be short and may take no lock.
    pub fn read<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        look(&self.bytes.lock())
    }

    /// Changes the bytes. For [`Handle::modify`](crate::journal::Handle::modify) alone, which tells the journal first.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut [u8]) -> R) -> R {
        change(Arc::make_mut(&mut self.bytes.lock()).as_mut_slice())
    }
}

/// All cached metadata blocks of one file system.
pub struct BufferCache {
    device: Arc<dyn BlockDevice>,
    block_size: usize,
    buffers: SpinLock<BTreeMap<u64, Arc<Buffer>>>,
}

impl BufferCache {
    /// An empty cache; `block_size` is 1, 2 or 4 KiB (or more).
    pub fn new(device: Arc<dyn BlockDevice>, block_size: usize) -> Arc<Self> {
        Arc::new(Self {
            device,
            block_size,
            buffers: SpinLock::new(&order::LEAF, BTreeMap::new()),
        })
    }

    /// The device below.
    pub fn device(&self) -> &Arc<dyn BlockDevice> {
        &self.device
    }

    /// Bytes of a block.
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// The block, read from the device at first use. `EIO`.
    pub fn get(&self, block: u64) -> Result<Arc<Buffer>> {
        if let Some(found) = self.find(block) {
            return Ok(found);
        }
        let mut bytes = vec![0; self.block_size];
        self.device.read(block * self.block_size as u64, &mut bytes)?;
        Ok(self.insert(block, bytes))
    }

    /// The block if it is in memory.
    pub fn find(&self, block: u64) -> Option<Arc<Buffer>> {
        self.buffers.lock().get(&block).cloned()
    }

    /// The block as zeros, without reading it: it has just been allocated. See [`Handle::create`](crate::journal::Handle::create).
    pub(crate) fn zeroed(&self, block: u64) -> Arc<Buffer> {
        let found = self.insert(block, vec![0; self.block_size]);
        found.change(|bytes| bytes.fill(0));
        found
    }

    /// Forgets the block: it is free now.
    pub(crate) fn forget(&self, block: u64) {
        self.buffers.lock().remove(&block);
    }

    fn insert(&self, block: u64, bytes: Vec<u8>) -> Arc<Buffer> {
        let fresh = Buffer::new(block, bytes);
        self.buffers.lock().entry(block).or_insert(fresh).clone()
    }
}
