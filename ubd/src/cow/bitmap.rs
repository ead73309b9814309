//! The bitmap of a COW file in memory: which sectors are in the file, and which parts of the bitmap the file does not know yet.

use std::collections::BTreeSet;

use arch_um::Errno;

/// Bytes of the bitmap that are written together: one sector of the host's disk.
pub const CHUNK: usize = 512;
/// Bytes of the bitmap read at a time.
const PIECE: usize = 64 * 1024;

/// Which sectors are in the COW file.
pub struct Bitmap {
    /// Sector `64 i + n` is bit `n` of word `i`.
    words: Vec<u64>,
    /// Bytes of the bitmap in the file.
    len: usize,
    /// Chunks changed since they were last written.
    dirty: BTreeSet<usize>,
}

/// Sectors in a row that are all in the COW file, or all not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whether they are in the COW file.
    pub present: bool,
    /// How many.
    pub sectors: u64,
}

impl Bitmap {
    /// A bitmap of `len` bytes as the file has it; `read` fills a piece from an offset in the bitmap.
    ///
    /// # Errors
    /// `ENOMEM` when it does not fit into memory, and what `read` says.
    pub fn load(len: u64, mut read: impl FnMut(u64, &mut [u8]) -> Result<(), Errno>) -> Result<Self, Errno> {
        let mut bitmap = Self::empty(len)?;
        let mut piece = vec![0; PIECE];
        for first in (0..bitmap.len).step_by(PIECE) {
            let piece = &mut piece[..PIECE.min(bitmap.len - first)];
            read(first as u64, piece)?;
            for (word, bytes) in bitmap.words[first / 8..].iter_mut().zip(piece.chunks(8)) {
                let mut whole = [0; 8];
                whole[..bytes.len()].copy_from_slice(bytes);
                *word = u64::from_le_bytes(whole);
            }
        }
        Ok(bitmap)
    }

    /// A bitmap of `len` bytes for a file without a sector.
    ///
    /// # Errors
    /// `ENOMEM` when it does not fit into memory.
    pub fn empty(len: u64) -> Result<Self, Errno> {
        let len = usize::try_from(len).map_err(|_| Errno::ENOMEM)?;
        let mut words = Vec::new();
        words.try_reserve_exact(len.div_ceil(8)).map_err(|_| Errno::ENOMEM)?;
        words.resize(len.div_ceil(8), 0);
        Ok(Self {
            words,
            len,
            dirty: BTreeSet::new(),
        })
    }

    /// Sectors that have a bit.
    pub fn sectors(&self) -> u64 {
        self.len as u64 * 8
    }

    /// The run that begins at sector `first`, cut at sector `end`. Sectors without a bit are not in the file.
    pub fn run(&self, first: u64, end: u64) -> Run {
        let word = |sector: u64| self.words.get((sector / 64) as usize).copied().unwrap_or(0);
        let present = word(first) >> (first % 64) & 1 == 1;
        let mut at = first;
        while at < end {
            // Ones where the run ends.
            let others = (if present { !word(at) } else { word(at) }) >> (at % 64);
            let left = 64 - at % 64;
            let count = u64::from(others.trailing_zeros()).min(left);
            at += count;
            if count < left {
                break;
            }
        }
        Run {
            present,
            sectors: at.min(end) - first,
        }
    }

    /// Marks sectors as being in the file. All must have a bit.
    pub fn insert(&mut self, first: u64, end: u64) {
        let mut at = first;
        while at < end {
            let index = (at / 64) as usize;
            let count = (end - at).min(64 - at % 64);
            let mask = (u64::MAX >> (64 - count)) << (at % 64);
            if let Some(word) = self.words.get_mut(index)
                && *word & mask != mask
            {
                *word |= mask;
                self.dirty.insert(index * 8 / CHUNK);
            }
            at += count;
        }
    }

    /// One past the last sector that is in the file, 0 for none.
    pub fn end(&self) -> u64 {
        let last = self.words.iter().rposition(|&word| word != 0);
        last.map_or(0, |index| {
            index as u64 * 64 + 64 - u64::from(self.words[index].leading_zeros())
        })
    }

    /// Whether the file does not know all of it.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// What the file does not know, as offsets in the bitmap and bytes, neighbours together; from now on it counts as known.
    #[must_use = "what is taken must be written or put back"]
    pub fn take_dirty(&mut self) -> Vec<(u64, Vec<u8>)> {
        let mut pieces: Vec<(u64, Vec<u8>)> = Vec::new();
        for chunk in std::mem::take(&mut self.dirty) {
            let start = chunk * CHUNK;
            let end = (start + CHUNK).min(self.len);
            let words = self.words[start / 8..end.div_ceil(8)].iter();
            let bytes = words.flat_map(|word| word.to_le_bytes()).take(end - start);
            match pieces.last_mut() {
                Some((at, piece)) if *at as usize + piece.len() == start => piece.extend(bytes),
                _ => pieces.push((start as u64, bytes.collect())),
            }
        }
        pieces
    }

    /// Makes pieces that could not be written count as unknown to the file again.
    pub fn put_back(&mut self, pieces: &[(u64, Vec<u8>)]) {
        for (at, piece) in pieces {
            let first = *at as usize / CHUNK;
            self.dirty.extend(first..first + piece.len().div_ceil(CHUNK));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_where_the_bits_change_and_at_the_given_end() {
        let mut bitmap = Bitmap::empty(100).expect("a small bitmap");
        bitmap.insert(60, 200);
        let run = |present, sectors| Run { present, sectors };
        assert_eq!(bitmap.run(0, 800), run(false, 60));
        assert_eq!(bitmap.run(60, 800), run(true, 140));
        assert_eq!(bitmap.run(70, 90), run(true, 20));
        assert_eq!(bitmap.run(200, 800), run(false, 600));
        assert_eq!(bitmap.run(790, 900), run(false, 110));
        assert_eq!(bitmap.end(), 200);
    }

    #[test]
    fn only_changed_chunks_are_dirty_and_neighbours_come_together() {
        let mut bitmap = Bitmap::empty(3000).expect("a small bitmap");
        bitmap.insert(8, 16);
        let pieces = bitmap.take_dirty();
        assert_eq!(pieces.len(), 1);
        assert_eq!(
            (pieces[0].0, &pieces[0].1[..3], pieces[0].1.len()),
            (0, [0, 0xff, 0].as_slice(), CHUNK)
        );
        bitmap.insert(8, 12);
        assert!(!bitmap.is_dirty(), "bits that were set change nothing");
        bitmap.insert(4096 * 4 - 1, 4096 * 4 + 1);
        bitmap.insert(23_999, 24_000);
        let pieces = bitmap.take_dirty();
        assert_eq!(
            pieces.iter().map(|(at, piece)| (*at, piece.len())).collect::<Vec<_>>(),
            [(3 * 512, 3000 - 3 * 512)]
        );
        bitmap.put_back(&pieces);
        assert_eq!(bitmap.take_dirty(), pieces);
    }
}
