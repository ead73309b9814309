//! Fast commits by hand (kernel documentation, ext4 "Journal", "Fast commits").

/// Feature bit of a journal with fast commits.
pub const FAST_COMMIT: u32 = 0x20;

pub fn crc32c(mut crc: u32, bytes: &[u8]) -> u32 {
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
        }
    }
    crc
}

pub fn record(kind: u16, value: &[&[u8]]) -> Vec<u8> {
    let value = value.concat();
    [
        &kind.to_le_bytes(),
        &(value.len() as u16).to_le_bytes(),
        value.as_slice(),
    ]
    .concat()
}

/// One block with a fast commit on top of transaction `tid - 1`.
pub fn fast_commit(size: usize, tid: u32, changes: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = record(9, &[&[0; 4], &tid.to_le_bytes()]);
    changes.iter().for_each(|change| bytes.extend(change));
    let rest = (size - bytes.len() - 4) as u16;
    bytes.extend([8u16.to_le_bytes(), rest.to_le_bytes()].concat());
    bytes.extend(tid.to_le_bytes());
    let sum = crc32c(0, &bytes);
    bytes.extend(sum.to_le_bytes());
    bytes.resize(size, 0);
    bytes
}
