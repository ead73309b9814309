//! Blocks on their way to the device, merged into runs: one request for neighbours.

use alloc::vec::Vec;

use crate::device::BlockDevice;
use crate::{Errno, Result};

/// The longest request made of single blocks.
const LONGEST: usize = 1 << 20;

/// Collects blocks and writes neighbours together. [`finish`](Self::finish) must be called: what is pending at a drop is lost.
pub(crate) struct RunWriter<'a> {
    device: &'a dyn BlockDevice,
    block_size: usize,
    first: u64,
    pending: Vec<u8>,
}

impl<'a> RunWriter<'a> {
    pub(crate) fn new(device: &'a dyn BlockDevice, block_size: usize) -> Self {
        RunWriter {
            device,
            block_size,
            first: 0,
            pending: Vec::new(),
        }
    }

    /// Writes `bytes` to `block`, now or with the next ones. An error may be that of an earlier block.
    pub(crate) fn push(&mut self, block: u64, bytes: &[u8]) -> Result<()> {
        let next = self.first + (self.pending.len() / self.block_size) as u64;
        if block != next || self.pending.len() + bytes.len() > LONGEST {
            self.finish()?;
        }
        if self.pending.is_empty() {
            self.first = block;
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes what is pending.
    pub(crate) fn finish(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let at = byte_offset(self.device, self.first, self.block_size, self.pending.len())?;
        let result = self.device.write(at, &self.pending);
        self.pending.clear();
        result
    }
}

/// Where `len` bytes at `block` begin on the device. `EIO`: not on the device, as Linux says of such blocks.
pub(crate) fn byte_offset(device: &dyn BlockDevice, block: u64, block_size: usize, len: usize) -> Result<u64> {
    let at = block.checked_mul(block_size as u64).ok_or(Errno::EIO)?;
    match at.checked_add(len as u64) {
        Some(end) if end <= device.len() => Ok(at),
        _ => Err(Errno::EIO),
    }
}
