//! What lies on the disk, byte by byte (`Documentation/filesystems/ext4`, "Data Structures and Algorithms").
//!
//! All numbers are little-endian and hostile: readers yield 0 past the end of a structure and writers do nothing there, so that no offset taken
//! from a disk can panic.  * [`checksum`]: crc32c and crc16.  * [`features`]: feature bits.  * [`geometry`]: the super block, and its
//! [`size`].  * [`group`]: group descriptors.  * [`inode`]: inodes.

pub(crate) mod checksum;
pub(crate) mod features;
pub(crate) mod geometry;
pub(crate) mod group;
pub(crate) mod inode;
pub(crate) mod size;

pub(crate) fn get16(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..at + 2) {
        Some(&[a, b]) => u16::from_le_bytes([a, b]),
        _ => 0,
    }
}

pub(crate) fn get32(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
        _ => 0,
    }
}

pub(crate) fn get8(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// A number in two halves that lie apart.
pub(crate) fn get_split(bytes: &[u8], low: usize, high: usize) -> u64 {
    u64::from(get32(bytes, low)) | u64::from(get32(bytes, high)) << 32
}

pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

pub(crate) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    put(bytes, at, &value.to_le_bytes());
}

pub(crate) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    put(bytes, at, &value.to_le_bytes());
}
