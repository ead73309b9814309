//! Bitmaps in words: finding runs of zeros.

use alloc::vec;
use alloc::vec::Vec;

/// A bitmap of `len` bits; bits behind them count as set.
#[derive(Clone, Debug)]
pub(crate) struct Bits {
    words: Vec<u64>,
    len: u32,
}

impl Bits {
    /// The first `len` bits of `bytes`.
    pub(crate) fn from_bytes(bytes: &[u8], len: u32) -> Self {
        let mut words = vec![u64::MAX; (len as usize).div_ceil(64)];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
            let mut raw = [0xff; 8];
            raw[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_le_bytes(raw);
        }
        if !len.is_multiple_of(64)
            && let Some(last) = words.last_mut()
        {
            *last |= u64::MAX << (len % 64);
        }
        Self { words, len }
    }

    /// Appends zeros up to `len` bits.
    pub(crate) fn grow(&mut self, len: u32) {
        let before = self.len;
        self.words.resize((len as usize).div_ceil(64), u64::MAX);
        self.len = len;
        self.put(before, len.saturating_sub(before), false);
    }

    pub(crate) fn get(&self, bit: u32) -> bool {
        self.words
            .get((bit / 64) as usize)
            .is_none_or(|word| word >> (bit % 64) & 1 == 1)
    }

    /// Sets or clears a run; how many bits changed.
    pub(crate) fn put(&mut self, first: u32, count: u32, value: bool) -> u32 {
        let mut changed = 0;
        let end = first.saturating_add(count).min(self.len);
        let mut bit = first;
        while bit < end {
            let upto = end.min((bit / 64 + 1) * 64);
            let mask = (u64::MAX >> (64 - (upto - bit))) << (bit % 64);
            let word = &mut self.words[(bit / 64) as usize];
            if value {
                changed += (mask & !*word).count_ones();
                *word |= mask;
            } else {
                changed += (mask & *word).count_ones();
                *word &= !mask;
            }
            bit = upto;
        }
        changed
    }

    pub(crate) fn zeros(&self) -> u32 {
        self.words.iter().map(|word| word.count_zeros()).sum()
    }

    /// The next bit at or behind `from` that is `value`.
    fn next(&self, from: u32, value: bool) -> Option<u32> {
        let mut index = (from / 64) as usize;
        let mut skip = from % 64;
        while let Some(&word) = self.words.get(index) {
            let wanted = if value { word } else { !word } & (u64::MAX << skip);
            if wanted != 0 {
                let bit = index as u32 * 64 + wanted.trailing_zeros();
                return (bit < self.len).then_some(bit);
            }
            index += 1;
            skip = 0;
        }
        None
    }

    /// The first zero at or behind `from`.
    pub(crate) fn first_zero(&self, from: u32) -> Option<u32> {
        self.next(from, false)
    }

    /// The first run of `want` zeros at or behind `from`, else the longest there is behind it: start and length.
    pub(crate) fn run(&self, from: u32, want: u32) -> Option<(u32, u32)> {
        let mut best: Option<(u32, u32)> = None;
        let mut at = from;
        while let Some(start) = self.next(at, false) {
            let end = self.next(start, true).unwrap_or(self.len);
            let len = end - start;
            if len >= want {
                return Some((start, want));
            }
            if best.is_none_or(|(_, longest)| len > longest) {
                best = Some((start, len));
            }
            at = end;
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_across_words_and_never_behind_the_end() {
        let mut bits = Bits::from_bytes(&[0xff; 32], 200);
        assert_eq!(bits.run(0, 1), None);
        assert_eq!(bits.put(60, 10, false), 10);
        assert_eq!(bits.put(190, 20, false), 10);
        assert_eq!(bits.run(0, 10), Some((60, 10)));
        assert_eq!(bits.run(64, 6), Some((64, 6)));
        assert_eq!(bits.run(0, 11), Some((60, 10)));
        assert_eq!(bits.run(71, 11), Some((190, 10)));
        let mut longer = bits.clone();
        longer.grow(300);
        assert_eq!((longer.zeros(), longer.run(0, 100)), (120, Some((190, 100))));
        assert_eq!(longer.run(0, 111), Some((190, 110)));
        assert_eq!(
            (bits.zeros(), bits.get(69), bits.get(70), bits.get(5000)),
            (20, false, true, true)
        );
    }
}
