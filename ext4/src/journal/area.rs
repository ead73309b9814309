//! Where the journal's blocks lie on the device, and reading and writing them.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::device::BlockDevice;
use crate::runs::{RunWriter, byte_offset};
use crate::{Errno, Result};

/// Blocks that are read ahead while the log is scanned.
const WINDOW: u32 = 32;

/// The journal's blocks, mapped once.
pub(super) struct Area {
    device: Arc<dyn BlockDevice>,
    block_size: usize,
    /// Neighbours together, by journal block.
    runs: Vec<Run>,
    blocks: u32,
}

#[derive(Clone, Copy)]
struct Run {
    /// First journal block.
    first: u32,
    /// Its block of the device.
    at: u64,
    count: u32,
}

impl Area {
    /// Asks for the place of each of `blocks` blocks. `EUCLEAN` for one that lies outside of the device.
    pub(super) fn new(
        device: Arc<dyn BlockDevice>,
        block_size: usize,
        blocks: u32,
        map: &dyn Fn(u32) -> Result<u64>,
    ) -> Result<Area> {
        let mut runs: Vec<Run> = Vec::new();
        for block in 0..blocks {
            let at = map(block)?;
            if byte_offset(&*device, at, block_size, block_size).is_err() {
                return Err(Errno::EUCLEAN);
            }
            match runs.last_mut() {
                Some(run) if run.at + u64::from(run.count) == at => run.count += 1,
                _ => runs.push(Run {
                    first: block,
                    at,
                    count: 1,
                }),
            }
        }
        Ok(Area {
            device,
            block_size,
            runs,
            blocks,
        })
    }

    pub(super) fn device(&self) -> &Arc<dyn BlockDevice> {
        &self.device
    }

    /// The device block of a journal block and how many follow it. `EUCLEAN` beyond the end.
    fn place(&self, block: u32) -> Result<(u64, u32)> {
        if block >= self.blocks {
            return Err(Errno::EUCLEAN);
        }
        let index = self.runs.partition_point(|run| run.first <= block) - 1;
        let run = self.runs[index];
        let inside = block - run.first;
        Ok((run.at + u64::from(inside), run.count - inside))
    }

    /// Reads one block.
    pub(super) fn read(&self, block: u32) -> Result<Vec<u8>> {
        let (at, _) = self.place(block)?;
        let mut bytes = vec![0; self.block_size];
        self.device.read(at * self.block_size as u64, &mut bytes)?;
        Ok(bytes)
    }

    /// Writes one block.
    pub(super) fn write(&self, block: u32, bytes: &[u8]) -> Result<()> {
        let mut writer = self.writer();
        writer.push(block, bytes)?;
        writer.finish()
    }

    /// Writes one block when everything before is stable, and returns when it is, too.
    pub(super) fn commit(&self, block: u32, bytes: &[u8]) -> Result<()> {
        let (at, _) = self.place(block)?;
        self.device.commit(at * self.block_size as u64, bytes)
    }

    /// Writes many blocks; neighbours go together.
    pub(super) fn writer(&self) -> AreaWriter<'_> {
        AreaWriter {
            area: self,
            runs: RunWriter::new(&*self.device, self.block_size),
        }
    }

    /// Reads blocks one after the other.
    pub(super) fn reader(&self) -> AreaReader<'_> {
        AreaReader {
            area: self,
            first: 0,
            window: Vec::new(),
        }
    }
}

/// See [`Area::writer`].
pub(super) struct AreaWriter<'a> {
    area: &'a Area,
    runs: RunWriter<'a>,
}

impl AreaWriter<'_> {
    pub(super) fn push(&mut self, block: u32, bytes: &[u8]) -> Result<()> {
        let (at, _) = self.area.place(block)?;
        self.runs.push(at, bytes)
    }

    pub(super) fn finish(&mut self) -> Result<()> {
        self.runs.finish()
    }
}

/// See [`Area::reader`].
pub(super) struct AreaReader<'a> {
    area: &'a Area,
    first: u32,
    window: Vec<u8>,
}

impl AreaReader<'_> {
    /// The block's bytes.
    pub(super) fn read(&mut self, block: u32) -> Result<&[u8]> {
        let size = self.area.block_size;
        let held = (self.window.len() / size) as u32;
        if block < self.first || block - self.first >= held {
            let (at, follow) = self.area.place(block)?;
            let mut count = follow.min(WINDOW);
            self.window.resize(count as usize * size, 0);
            self.first = block;
            if self.area.device.read(at * size as u64, &mut self.window).is_err() {
                // One bad block must not hide its neighbours.
                count = 1;
                self.window.truncate(size);
                if let Err(error) = self.area.device.read(at * size as u64, &mut self.window) {
                    self.window.clear();
                    return Err(error);
                }
            }
            debug_assert_eq!(self.window.len(), count as usize * size);
        }
        let inside = (block - self.first) as usize * size;
        Ok(&self.window[inside..inside + size])
    }
}
