//! Buffers that are used again: a fresh one of this size costs its zeroing, and often the host's page faults.

use alloc::vec;
use alloc::vec::Vec;

use arch_um::sync::{SpinLock, order};

/// Buffers kept.
const MOST: usize = 16;
/// Smaller ones are the allocator's affair.
const LEAST_LEN: usize = 32 << 10;
/// Larger ones are not worth their memory.
const MOST_LEN: usize = 1 << 20;

static FREE: SpinLock<Vec<Vec<u8>>> = SpinLock::new(&order::LEAF, Vec::new());

/// Whether memory of `size` bytes may hold `len` for long.
pub(super) fn fits(size: usize, len: usize) -> bool {
    (len..=len + len / 4).contains(&size)
}

/// A buffer of `len` bytes; what they are does not matter to the caller, who writes all of them.
pub(crate) fn take(len: usize) -> Vec<u8> {
    if len >= LEAST_LEN {
        let found = {
            let mut free = FREE.lock();
            let found = free.iter().position(|buffer| fits(buffer.len(), len));
            found.map(|index| free.swap_remove(index))
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
    let mut free = FREE.lock();
    if free.len() < MOST {
        free.push(buffer);
    }
}
