//! A disk image in memory: sparse, and cheap to copy because copies share their chunks.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

/// Bytes of a chunk: small enough that a changed block copies little, large enough that a 64 MiB image has a thousand.
const CHUNK: u64 = 64 << 10;

/// Bytes from 0 to a length; what was never written is zero. A clone shares everything until one of the two is written to.
#[derive(Clone)]
pub struct Image {
    len: u64,
    chunks: BTreeMap<u64, Arc<Vec<u8>>>,
}

impl Image {
    /// `len` bytes of zeros.
    pub fn new(len: u64) -> Self {
        Image {
            len,
            chunks: BTreeMap::new(),
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills `data` from byte `at`. False: not inside the image, nothing is read.
    pub fn read(&self, at: u64, data: &mut [u8]) -> bool {
        if !self.contains(at, data.len() as u64) {
            return false;
        }
        for (chunk, inside, piece) in pieces(at, data.len()) {
            let part = &mut data[piece.clone()];
            match self.chunks.get(&chunk) {
                Some(bytes) => part.copy_from_slice(&bytes[inside..inside + piece.len()]),
                None => part.fill(0),
            }
        }
        true
    }

    /// Stores `data` at byte `at`. False: not inside the image, nothing is stored.
    pub fn write(&mut self, at: u64, data: &[u8]) -> bool {
        if !self.contains(at, data.len() as u64) {
            return false;
        }
        for (chunk, inside, piece) in pieces(at, data.len()) {
            let part = &data[piece.clone()];
            // Zeros into a hole stay a hole.
            if !self.chunks.contains_key(&chunk) && part.iter().all(|&byte| byte == 0) {
                continue;
            }
            let bytes = self
                .chunks
                .entry(chunk)
                .or_insert_with(|| Arc::new(vec![0; CHUNK as usize]));
            Arc::make_mut(bytes)[inside..inside + piece.len()].copy_from_slice(part);
        }
        true
    }

    /// The pieces, each with its place, that are not those of `old`, an earlier state of this image.
    pub fn changed_since(&self, old: &Image) -> impl Iterator<Item = (u64, &[u8])> {
        let is_old =
            |chunk: &u64, bytes: &Arc<Vec<u8>>| old.chunks.get(chunk).is_some_and(|old| Arc::ptr_eq(old, bytes));
        self.chunks
            .iter()
            .filter(move |(chunk, bytes)| !is_old(chunk, bytes))
            .map(|(chunk, bytes)| {
                let at = chunk * CHUNK;
                let len = (self.len - at).min(CHUNK) as usize;
                (at, &bytes[..len])
            })
    }

    fn contains(&self, at: u64, len: u64) -> bool {
        at.checked_add(len).is_some_and(|end| end <= self.len)
    }
}

/// The chunks that `len` bytes at `at` touch: chunk, offset inside, and the piece of the data.
fn pieces(at: u64, len: usize) -> impl Iterator<Item = (u64, usize, core::ops::Range<usize>)> {
    let mut done = 0;
    core::iter::from_fn(move || {
        let here = at + done as u64;
        let inside = (here % CHUNK) as usize;
        let count = (CHUNK as usize - inside).min(len - done);
        let piece = done..done + count;
        done += count;
        (count > 0).then_some((here / CHUNK, inside, piece))
    })
}
