//! Metadata blocks in memory.
//!
//! A [`Buffer`]'s bytes are an `Arc`: a reader or a committing transaction takes a [snapshot](Buffer::snapshot), and the next change copies the
//! block if a snapshot is still held. So a commit writes what stood at its end while the running transaction already changes the block again:
//! JBD2's "frozen data" without a state machine.
//!
//! The [`BufferCache`] is bounded: a block that nobody holds may be dropped. Whoever has a newer version than the disk (a transaction, the
//! list of blocks to be written home) holds the buffer, so a dirty block stays by itself.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Bound;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arch_um::sync::{Interruptible, SpinLock, WaitQueue, order};

use crate::Result;
use crate::device::BlockDevice;
use crate::runs::byte_offset;

/// How much a cache may keep of what nobody uses.
const DEFAULT_CAPACITY: usize = 16 << 20;
/// How many buffers the clock looks at for one that goes in: more than one, so that a full cache shrinks.
const CLOCK_STEPS: usize = 8;

/// One cached block.
pub struct Buffer {
    block: u64,
    bytes: SpinLock<Arc<Vec<u8>>>,
    /// Used since the clock last came by.
    used: AtomicBool,
}

impl Buffer {
    fn new(block: u64, bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Self {
            block,
            bytes: SpinLock::new(&order::LEAF, Arc::new(bytes)),
            used: AtomicBool::new(true),
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

    /// Whether nothing has changed since this snapshot was taken: while one is held each change makes a new block.
    pub fn is_still(&self, snapshot: &Arc<Vec<u8>>) -> bool {
        Arc::ptr_eq(&self.bytes.lock(), snapshot)
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
    /// In blocks.
    capacity: AtomicUsize,
    table: SpinLock<Table>,
    loaded: WaitQueue,
}

#[derive(Default)]
struct Table {
    buffers: BTreeMap<u64, Arc<Buffer>>,
    /// Being read from the device now, by one reader; others wait. Creating or forgetting the block takes the entry away: what the reader
    /// brings is too old then, and it reads again.
    loading: BTreeSet<u64>,
    /// Where the clock stands.
    hand: u64,
}

impl BufferCache {
    /// An empty cache; `block_size` is 1, 2 or 4 KiB (or more).
    pub fn new(device: Arc<dyn BlockDevice>, block_size: usize) -> Arc<Self> {
        Arc::new(Self {
            device,
            block_size,
            capacity: AtomicUsize::new((DEFAULT_CAPACITY / block_size.max(1)).max(CLOCK_STEPS)),
            table: SpinLock::new(&order::LEAF, Table::default()),
            loaded: WaitQueue::new(),
        })
    }

    /// How many blocks may stay that nobody uses.
    pub fn set_capacity(&self, blocks: usize) {
        self.capacity.store(blocks, Ordering::Relaxed);
    }

    /// The device below.
    pub fn device(&self) -> &Arc<dyn BlockDevice> {
        &self.device
    }

    /// Bytes of a block.
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// Blocks in memory now.
    pub fn cached(&self) -> usize {
        self.table.lock().buffers.len()
    }

    /// The block, read from the device at first use. `EIO`, also for a block beyond the end.
    pub fn get(&self, block: u64) -> Result<Arc<Buffer>> {
        loop {
            if let Some(found) = self.find_or_claim(block) {
                return Ok(found);
            }
            let bytes = self.load(block);
            let mut table = self.table.lock();
            let current = table.loading.remove(&block);
            let result = match bytes {
                Err(error) => Some(Err(error)),
                Ok(bytes) if current => Some(Ok(self.insert(&mut table, block, bytes))),
                Ok(_) => None,
            };
            drop(table);
            self.loaded.wake_all();
            if let Some(result) = result {
                return result;
            }
        }
    }

    /// The block, or the duty to read it: the claim is an entry in `loading`.
    fn find_or_claim(&self, block: u64) -> Option<Arc<Buffer>> {
        loop {
            {
                let mut table = self.table.lock();
                if let Some(found) = table.find(block) {
                    return Some(found);
                }
                if table.loading.insert(block) {
                    return None;
                }
            }
            let done = || (!self.table.lock().loading.contains(&block)).then_some(());
            // Neither a deadline nor an interrupt: the reader always ends.
            let _ = self.loaded.wait_until(Interruptible::No, None, done);
        }
    }

    /// The block if it is in memory.
    pub fn find(&self, block: u64) -> Option<Arc<Buffer>> {
        self.table.lock().find(block)
    }

    /// The block without reading it, zeros unless it is in memory: it has just been allocated. See
    /// [`Handle::create`](crate::journal::Handle::create), which clears it.
    pub(crate) fn blank(&self, block: u64) -> Arc<Buffer> {
        let fresh = vec![0; self.block_size];
        let mut table = self.table.lock();
        table.loading.remove(&block);
        self.insert(&mut table, block, fresh)
    }

    /// Forgets the block: it is free now.
    pub(crate) fn forget(&self, block: u64) {
        let mut table = self.table.lock();
        table.loading.remove(&block);
        table.buffers.remove(&block);
    }

    /// The block has been written by replay: whoever holds it sees the new contents.
    pub(crate) fn refresh(&self, block: u64, bytes: &[u8]) {
        if let Some(found) = self.find(block) {
            found.change(|old| old.copy_from_slice(bytes));
        }
    }

    fn load(&self, block: u64) -> Result<Vec<u8>> {
        let at = byte_offset(&*self.device, block, self.block_size, self.block_size)?;
        let mut bytes = vec![0; self.block_size];
        self.device.read(at, &mut bytes)?;
        Ok(bytes)
    }

    /// Puts the block in unless it is there.
    fn insert(&self, table: &mut Table, block: u64, bytes: Vec<u8>) -> Arc<Buffer> {
        if table.buffers.len() >= self.capacity.load(Ordering::Relaxed) {
            table.turn_clock();
        }
        table
            .buffers
            .entry(block)
            .or_insert_with(|| Buffer::new(block, bytes))
            .clone()
    }
}

impl Table {
    fn find(&self, block: u64) -> Option<Arc<Buffer>> {
        let found = self.buffers.get(&block)?;
        found.used.store(true, Ordering::Relaxed);
        Some(found.clone())
    }

    /// Drops buffers that nobody holds and nobody has used since the hand came by last. A holder can only come through this table, which is
    /// locked, so a count of one stays one.
    fn turn_clock(&mut self) {
        let mut victims = [None; CLOCK_STEPS];
        let mut steps = 0;
        let from = (Bound::Excluded(self.hand), Bound::Unbounded);
        for (&block, buffer) in self.buffers.range(from).take(CLOCK_STEPS) {
            self.hand = block;
            if Arc::strong_count(buffer) == 1 && !buffer.used.swap(false, Ordering::Relaxed) {
                victims[steps] = Some(block);
            }
            steps += 1;
        }
        if steps < CLOCK_STEPS {
            self.hand = 0;
        }
        for block in victims.into_iter().flatten() {
            self.buffers.remove(&block);
        }
    }
}
