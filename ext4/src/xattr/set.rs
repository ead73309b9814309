//! The attributes of one place as a list, and the list as bytes: entries from the front, values from the back, four zero bytes between.

use alloc::vec::Vec;

use crate::layout::geometry::Geometry;
use crate::layout::inode::OLD_SIZE;
use crate::layout::{get8, get16, get32, put, put16, put32};

/// Begins the attributes of an inode and of a block.
pub(crate) const MAGIC: u32 = 0xea02_0000;
const ENTRY: usize = 16;

/// Where a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// With its entry.
    Here(Vec<u8>),
    /// In an inode of its own (`ea_inode`).
    Inode {
        ino: u32,
        len: u32,
        /// Over the value.
        hash: u32,
    },
}

/// One attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub index: u8,
    pub name: Vec<u8>,
    pub value: Value,
}

fn name_hash(name: &[u8]) -> u32 {
    name.iter()
        .fold(0u32, |hash, &byte| hash << 5 ^ hash >> 27 ^ u32::from(byte))
}

/// The value's hash in an entry's hash over name and it.
fn value_hash(whole: u32, name: &[u8]) -> u32 {
    let name = name_hash(name);
    whole ^ name << 16 ^ name >> 16
}

fn value_room(len: usize) -> usize {
    len.next_multiple_of(4)
}

impl Attribute {
    /// Bytes of entry and value.
    pub(crate) fn size(&self) -> usize {
        let value = match &self.value {
            Value::Here(bytes) => value_room(bytes.len()),
            Value::Inode { .. } => 0,
        };
        (ENTRY + self.name.len()).next_multiple_of(4) + value
    }

    /// The order of entries in a block.
    fn key(&self) -> (u8, usize, &[u8]) {
        (self.index, self.name.len(), &self.name)
    }

    /// The hash over name and value that blocks are compared by.
    fn hash(&self) -> u32 {
        let name = name_hash(&self.name);
        let add = |hash: u32, word: u32| hash << 16 ^ hash >> 16 ^ word;
        match &self.value {
            Value::Here(bytes) => bytes.chunks(4).fold(name, |hash, chunk| {
                let mut word = [0; 4];
                word[..chunk.len()].copy_from_slice(chunk);
                add(hash, u32::from_le_bytes(word))
            }),
            Value::Inode { hash, .. } => add(name, *hash),
        }
    }
}

/// Attributes in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Set {
    pub list: Vec<Attribute>,
}

impl Set {
    /// Parses entries at `area[from..]`, whose values lie at offsets from `area`'s start. None when they are not well formed.
    fn parse(area: &[u8], from: usize) -> Option<Self> {
        let mut list = Vec::new();
        let mut at = from;
        loop {
            if at + 4 > area.len() {
                return None;
            }
            if get32(area, at) == 0 {
                return Some(Self { list });
            }
            if at + ENTRY > area.len() {
                return None;
            }
            let name_len = usize::from(get8(area, at));
            let name = area.get(at + ENTRY..at + ENTRY + name_len)?.to_vec();
            let (offset, ino, len) = (
                usize::from(get16(area, at + 2)),
                get32(area, at + 4),
                get32(area, at + 8),
            );
            let value = if ino != 0 {
                Value::Inode {
                    ino,
                    len,
                    hash: value_hash(get32(area, at + 12), &name),
                }
            } else {
                let end = offset.checked_add(len as usize)?;
                if len == 0 {
                    Value::Here(Vec::new())
                } else {
                    Value::Here(area.get(offset..end)?.to_vec())
                }
            };
            list.push(Attribute {
                index: get8(area, at + 1),
                name,
                value,
            });
            at += (ENTRY + name_len).next_multiple_of(4);
        }
    }

    /// The attributes of an inode; `area` begins with the magic number.
    pub(crate) fn parse_inode(area: &[u8]) -> Option<Self> {
        Self::parse(area.get(4..)?, 0)
    }

    /// The attributes of a block.
    pub(crate) fn parse_block(bytes: &[u8]) -> Option<Self> {
        Self::parse(bytes, super::block::HEAD)
    }

    pub(crate) fn find(&self, index: u8, name: &[u8]) -> Option<&Attribute> {
        self.list
            .iter()
            .find(|attribute| attribute.index == index && attribute.name == name)
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, index: u8, name: &[u8]) -> bool {
        let before = self.list.len();
        self.list
            .retain(|attribute| attribute.index != index || attribute.name != name);
        self.list.len() != before
    }

    /// Puts an attribute in its place in the order of blocks.
    pub(crate) fn insert(&mut self, attribute: Attribute) {
        let place = self.list.partition_point(|other| other.key() < attribute.key());
        self.list.insert(place, attribute);
    }

    /// Bytes of all entries and values with the zero between them.
    pub(crate) fn size(&self) -> usize {
        self.list.iter().map(Attribute::size).sum::<usize>() + 4
    }

    /// Writes entries at `area[from..]`; the hash over all of them.
    pub(crate) fn store(&self, area: &mut [u8], from: usize, hashes: Hashes) -> u32 {
        area[from..].fill(0);
        let mut at = from;
        let mut end = area.len() / 4 * 4;
        let mut whole = 0u32;
        let mut shared = true;
        for attribute in &self.list {
            // A value elsewhere is always told by its hash.
            let elsewhere = matches!(attribute.value, Value::Inode { .. });
            let hash = if hashes == Hashes::Stored || elsewhere {
                attribute.hash()
            } else {
                0
            };
            shared &= hash != 0;
            whole = whole << 16 ^ whole >> 16 ^ hash;
            put(area, at, &[attribute.name.len() as u8, attribute.index]);
            match &attribute.value {
                Value::Here(bytes) => {
                    if !bytes.is_empty() {
                        end -= value_room(bytes.len()).min(end);
                        put16(area, at + 2, end as u16);
                        put(area, end, bytes);
                    }
                    put32(area, at + 8, bytes.len() as u32);
                }
                Value::Inode { ino, len, .. } => {
                    put32(area, at + 4, *ino);
                    put32(area, at + 8, *len);
                }
            }
            put32(area, at + 12, hash);
            put(area, at + ENTRY, &attribute.name);
            at += (ENTRY + attribute.name.len()).next_multiple_of(4);
        }
        if shared { whole } else { 0 }
    }
}

/// Whether entries carry hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hashes {
    /// In a block.
    Stored,
    /// In an inode they are zero, which means "not told".
    Zero,
}

/// The attributes' place in an inode, if there are any.
pub(crate) fn inode_area(raw: &[u8]) -> Option<&[u8]> {
    if raw.len() <= OLD_SIZE {
        return None;
    }
    let start = OLD_SIZE + usize::from(get16(raw, 0x80));
    let area = raw.get(start..)?;
    (get32(area, 0) == MAGIC && area.len() >= 8).then_some(area)
}

/// Bytes that [`Set::size`] may have in an inode.
pub(crate) fn inode_room(geometry: &Geometry, extra_isize: u16) -> usize {
    (geometry.inode_size as usize).saturating_sub(OLD_SIZE + usize::from(extra_isize) + 4)
}

/// Puts the attributes into a whole inode.
pub(crate) fn store_inode(raw: &mut [u8], set: &Set) {
    if raw.len() <= OLD_SIZE {
        return;
    }
    let start = OLD_SIZE + usize::from(get16(raw, 0x80));
    let Some(area) = raw.get_mut(start..).filter(|area| area.len() >= 8) else {
        return;
    };
    area.fill(0);
    if !set.list.is_empty() {
        put32(area, 0, MAGIC);
        set.store(&mut area[4..], 0, Hashes::Zero);
    }
}
