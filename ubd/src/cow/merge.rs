//! COW file and backing file become one: into a new file, or into the backing file itself.

use arch_um::Errno;
use arch_um::host::image::{Durability, Image};

use super::store::CowStore;
use crate::store::Store;

/// Bytes moved at a time.
const WINDOW: u64 = 1 << 20;
/// Zeros are left out, and equal data is not written again, in blocks of this many bytes.
const BLOCK: usize = 4096;

/// A step of a merge that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeError {
    /// Reading the disk.
    Read(Errno),
    /// Writing the result.
    Write(Errno),
}

/// Writes the disk `source` of `len` bytes to `target`, an empty file or a block device. In a file zeros become holes.
///
/// # Errors
/// See [`MergeError`].
pub fn into_new(source: &CowStore, len: u64, target: &Image) -> Result<(), MergeError> {
    let mut data = vec![0; WINDOW as usize];
    for at in (0..len).step_by(WINDOW as usize) {
        let data = &mut data[..WINDOW.min(len - at) as usize];
        source.read(at, data).map_err(MergeError::Read)?;
        write_blocks(target, at, data, |_, block| {
            target.is_block_device() || block.iter().any(|&byte| byte != 0)
        })?;
    }
    target
        .set_len(len)
        .and_then(|()| target.flush())
        .map_err(MergeError::Write)
}

/// Writes what the COW file of `source`, a disk of `len` bytes, has into `target`, its backing file.
///
/// # Errors
/// See [`MergeError`]; done again it goes on where it stopped.
pub fn in_place(source: &CowStore, len: u64, target: &Image) -> Result<(), MergeError> {
    let (mut new, mut old) = (vec![0; WINDOW as usize], vec![0; WINDOW as usize]);
    let mut at = 0;
    while let Some((start, end)) = source.next_extent(at, len) {
        for at in (start..end).step_by(WINDOW as usize) {
            let count = WINDOW.min(end - at) as usize;
            let (new, old) = (&mut new[..count], &mut old[..count]);
            source.read(at, new).map_err(MergeError::Read)?;
            target.read(at, old).map_err(MergeError::Read)?;
            write_blocks(target, at, new, |range, block| *block != old[range])?;
        }
        at = end;
    }
    target.flush().map_err(MergeError::Write)
}

/// Writes those blocks of `data`, which begins at byte `at`, that are wanted, neighbours together.
fn write_blocks(
    target: &Image,
    at: u64,
    data: &[u8],
    wanted: impl Fn(std::ops::Range<usize>, &[u8]) -> bool,
) -> Result<(), MergeError> {
    let mut start = 0;
    let mut end = 0;
    let put = |start: usize, end: usize| {
        if start == end {
            return Ok(());
        }
        target
            .write(at + start as u64, &data[start..end], Durability::Cached)
            .map_err(MergeError::Write)
    };
    for block in (0..data.len()).step_by(BLOCK) {
        let next = (block + BLOCK).min(data.len());
        if wanted(block..next, &data[block..next]) {
            if end != block {
                put(start, end)?;
                start = block;
            }
            end = next;
        }
    }
    put(start, end)
}
