//! Entries of nodes: extents in leaves, children in inner nodes.

use crate::layout::{get16, get32, put16, put32};

pub(super) const ENTRY: usize = 12;
/// Most blocks of a written extent; the length field's upper half means "unwritten".
pub(super) const MOST_WRITTEN: u32 = 32768;
pub(super) const MOST_UNWRITTEN: u32 = 32767;

/// An entry: an extent in a leaf, a child in an inner node (`len` is 0 there).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) at: u32,
    pub(super) len: u32,
    pub(super) block: u64,
    pub(super) unwritten: bool,
}

impl Entry {
    pub(super) fn end(&self) -> u64 {
        u64::from(self.at) + u64::from(self.len)
    }

    pub(super) fn parse(raw: &[u8], leaf: bool) -> Self {
        let at = get32(raw, 0);
        if leaf {
            let len = u32::from(get16(raw, 4));
            let unwritten = len > MOST_WRITTEN;
            Self {
                at,
                len: if unwritten { len - MOST_WRITTEN } else { len },
                block: u64::from(get32(raw, 8)) | u64::from(get16(raw, 6)) << 32,
                unwritten,
            }
        } else {
            Self {
                at,
                len: 0,
                block: u64::from(get32(raw, 4)) | u64::from(get16(raw, 8)) << 32,
                unwritten: false,
            }
        }
    }

    pub(super) fn store(&self, raw: &mut [u8], leaf: bool) {
        put32(raw, 0, self.at);
        if leaf {
            let len = if self.unwritten {
                self.len + MOST_WRITTEN
            } else {
                self.len
            };
            put16(raw, 4, len as u16);
            put16(raw, 6, (self.block >> 32) as u16);
            put32(raw, 8, self.block as u32);
        } else {
            put32(raw, 4, self.block as u32);
            put16(raw, 8, (self.block >> 32) as u16);
            put16(raw, 10, 0);
        }
    }

    /// The part from file block `from` to `to`.
    pub(super) fn cut(&self, from: u64, to: u64) -> Self {
        Self {
            at: from as u32,
            len: (to - from) as u32,
            block: self.block + (from - u64::from(self.at)),
            unwritten: self.unwritten,
        }
    }

    pub(super) fn joins(&self, next: &Self) -> bool {
        let most = if self.unwritten { MOST_UNWRITTEN } else { MOST_WRITTEN };
        self.unwritten == next.unwritten
            && self.end() == u64::from(next.at)
            && self.block + u64::from(self.len) == next.block
            && self.len + next.len <= most
    }
}
