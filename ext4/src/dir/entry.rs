//! Entries in a block of a directory (ext4 disk layout, "Linear (Classic) Directories").

use alloc::vec::Vec;

use kernel::vfs::FileType;

use crate::layout::checksum::crc32c;
use crate::layout::{get8, get16, get32, put, put16, put32};

/// Bytes before the name.
pub(crate) const HEAD: usize = 8;
/// Bytes of the checksum's pretended entry at the end of a block.
pub(crate) const TAIL: usize = 12;
const TAIL_TYPE: u8 = 0xde;

/// An entry's place and head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub at: usize,
    pub ino: u32,
    pub len: usize,
    pub name_len: usize,
    pub kind: u8,
}

impl Entry {
    pub(crate) fn name<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.at + HEAD..self.at + HEAD + self.name_len]
    }

    pub(crate) fn is(&self, bytes: &[u8], name: &[u8]) -> bool {
        self.ino != 0 && self.name_len == name.len() && self.name(bytes) == name
    }

    /// Bytes that could hold another entry.
    fn slack(&self) -> usize {
        if self.ino == 0 {
            self.len
        } else {
            self.len - size(self.name_len)
        }
    }
}

/// Bytes of an entry with a name of this length.
pub(crate) fn size(name_len: usize) -> usize {
    (HEAD + name_len).next_multiple_of(4)
}

/// The number of a file type in an entry.
pub(crate) fn type_number(kind: FileType) -> u8 {
    match kind {
        FileType::Regular => 1,
        FileType::Directory => 2,
        FileType::CharDevice => 3,
        FileType::BlockDevice => 4,
        FileType::Fifo => 5,
        FileType::Socket => 6,
        FileType::Symlink => 7,
    }
}

/// The file type behind a number.
pub(crate) fn type_of(number: u8) -> Option<FileType> {
    Some(match number {
        1 => FileType::Regular,
        2 => FileType::Directory,
        3 => FileType::CharDevice,
        4 => FileType::BlockDevice,
        5 => FileType::Fifo,
        6 => FileType::Socket,
        7 => FileType::Symlink,
        _ => return None,
    })
}

/// The entries of `bytes[from..]`, empty ones too. None when they are not well formed.
pub(crate) fn parse(bytes: &[u8], from: usize) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut at = from;
    while at < bytes.len() {
        let entry = Entry {
            at,
            ino: get32(bytes, at),
            len: usize::from(get16(bytes, at + 4)),
            name_len: usize::from(get8(bytes, at + 6)),
            kind: get8(bytes, at + 7),
        };
        let fits = entry.len >= HEAD
            && entry.len.is_multiple_of(4)
            && at + entry.len <= bytes.len()
            && (entry.ino == 0 || (entry.name_len > 0 && size(entry.name_len) <= entry.len))
            && HEAD + entry.name_len <= entry.len;
        if !fits {
            return None;
        }
        at += entry.len;
        entries.push(entry);
    }
    Some(entries)
}

/// Writes an entry of `len` bytes.
pub(crate) fn store(bytes: &mut [u8], at: usize, len: usize, ino: u32, name: &[u8], kind: u8) {
    put32(bytes, at, ino);
    put16(bytes, at + 4, len as u16);
    put(bytes, at + 6, &[name.len() as u8, kind]);
    put(bytes, at + HEAD, name);
}

/// Puts a name where there is room among `entries`; false when there is none.
pub(crate) fn insert(bytes: &mut [u8], entries: &[Entry], ino: u32, name: &[u8], kind: u8) -> bool {
    let need = size(name.len());
    let Some(host) = entries.iter().find(|entry| entry.slack() >= need) else {
        return false;
    };
    if host.ino == 0 {
        store(bytes, host.at, host.len, ino, name, kind);
    } else {
        let used = size(host.name_len);
        put16(bytes, host.at + 4, used as u16);
        store(bytes, host.at + used, host.len - used, ino, name, kind);
    }
    true
}

/// Whether [`insert`] of a name of this length would find room.
pub(crate) fn has_room(entries: &[Entry], name_len: usize) -> bool {
    entries.iter().any(|entry| entry.slack() >= size(name_len))
}

/// Takes the entry at index `which` out: the one before it gets its bytes.
pub(crate) fn remove(bytes: &mut [u8], entries: &[Entry], which: usize) {
    let Some(gone) = entries.get(which) else { return };
    match which.checked_sub(1).and_then(|before| entries.get(before)) {
        Some(before) => put16(bytes, before.at + 4, (before.len + gone.len) as u16),
        None => put32(bytes, gone.at, 0),
    }
    // The name is not left on the disk.
    let keep = if which == 0 { HEAD } else { 0 };
    bytes[gone.at + keep..gone.at + gone.len].fill(0);
    if which == 0 {
        put(bytes, gone.at + 6, &[0, 0]);
    }
}

/// Fills a leaf with entries, in this order; the last one gets the rest.
pub(crate) fn fill(bytes: &mut [u8], end: usize, entries: &[(u32, u8, Vec<u8>)]) {
    bytes[..end].fill(0);
    if entries.is_empty() {
        put16(bytes, 4, end as u16);
        return;
    }
    let mut at = 0;
    for (index, (ino, kind, name)) in entries.iter().enumerate() {
        let len = if index + 1 == entries.len() {
            end - at
        } else {
            size(name.len())
        };
        store(bytes, at, len, *ino, name, *kind);
        at += len;
    }
}

/// Puts the checksum at the end of a leaf.
pub(crate) fn seal(bytes: &mut [u8], seed: u32) {
    let at = bytes.len() - TAIL;
    let crc = crc32c(seed, &bytes[..at]);
    put32(bytes, at, 0);
    put16(bytes, at + 4, TAIL as u16);
    put(bytes, at + 6, &[0, TAIL_TYPE]);
    put32(bytes, at + 8, crc);
}

/// Whether a leaf's checksum is there and right.
pub(crate) fn is_sealed(bytes: &[u8], seed: u32) -> bool {
    let at = bytes.len() - TAIL;
    get32(bytes, at) == 0
        && get16(bytes, at + 4) == TAIL as u16
        && get8(bytes, at + 7) == TAIL_TYPE
        && crc32c(seed, &bytes[..at]) == get32(bytes, at + 8)
}
