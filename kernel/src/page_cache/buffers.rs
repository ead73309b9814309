//! Buffers that are used again: a fresh one of this size costs its zeroing, and often the host's page faults.

use alloc::vec;
use alloc::vec::Vec;

use arch_um::sync::{SpinLock, order};

use crate::sys::memory;

/// Most bytes kept, and the share of the machine's memory that they may be.
const MOST: u64 = 32 << 20;
const SHARE: u64 = 16;
/// Smaller ones are the allocator's affair.
const LEAST_LEN: usize = 32 << 10;
/// Larger ones are not worth their memory.
const MOST_LEN: usize = 1 << 20;

static FREE: SpinLock<Free> = SpinLock::new(
    &order::LEAF,
    Free {
        buffers: Vec::new(),
        bytes: 0,
    },
);

/// Buffers in no use, the last one used last.
struct Free {
    buffers: Vec<Vec<u8>>,
    bytes: u64,
}

/// Whether memory of `size` bytes may hold `len` for long.
pub(super) fn fits(size: usize, len: usize) -> bool {
    (len..=len + len / 4).contains(&size)
}

/// A buffer of `len` bytes; what they are does not matter to the caller, who writes all of them.
pub(crate) fn take(len: usize) -> Vec<u8> {
    if len >= LEAST_LEN {
        let found = {
            let mut free = FREE.lock();
            let place = free.buffers.iter().rposition(|buffer| fits(buffer.len(), len));
            let found = place.map(|place| free.buffers.remove(place));
            free.bytes -= found.as_ref().map_or(0, |buffer| buffer.len() as u64);
            found
        };
        if let Some(mut buffer) = found {
            buffer.truncate(len);
            return buffer;
        }
    }
    vec![0; len]
}

/// Gives a buffer back, for anybody.
pub(crate) fn give(mut buffer: Vec<u8>) {
    let len = buffer.capacity();
    if !(LEAST_LEN..=MOST_LEN).contains(&len) {
        return;
    }
    buffer.resize(len, 0);
    let most = MOST.min(memory::total() / SHARE);
    let mut free = FREE.lock();
    if free.bytes + len as u64 <= most {
        free.bytes += len as u64;
        free.buffers.push(buffer);
        return;
    }
    drop(free);
    // Beyond the bound: the heap's again, without the lock.
    drop(buffer);
}

/// Gives all of them to the heap.
pub(crate) fn clear() {
    let all = {
        let mut free = FREE.lock();
        free.bytes = 0;
        core::mem::take(&mut free.buffers)
    };
    drop(all);
}
