//! Copies of the super block and of the descriptors, for `e2fsck -b`. Nobody but this writes them, so they need no transaction.

use alloc::vec;
use alloc::vec::Vec;

use crate::device::BlockDevice;
use crate::instance::Ext4;
use crate::layout::features::Incompat;
use crate::layout::geometry::SUPER_LEN;
use crate::layout::{get32, put16, put32};
use crate::{Errno, Result};

impl Ext4 {
    /// Writes all copies. What they are copies of is at home.
    pub(super) fn write_backups(&self) -> Result<()> {
        let geometry = &self.geometry;
        let size = self.block_size();
        let (block, at) = geometry.super_place();
        let first = self.buffers.get(block)?.snapshot();
        let mut runs = Vec::new();
        for group in (1..geometry.size.groups()).filter(|&group| geometry.has_super(group)) {
            let mut bytes = vec![0; size as usize];
            bytes[..SUPER_LEN].copy_from_slice(first.get(at..at + SUPER_LEN).ok_or(Errno::EUCLEAN)?);
            self.edit_super(&mut bytes[..SUPER_LEN], |raw| {
                put16(raw, 0x5a, group as u16);
                let features = get32(raw, 0x60) & !Incompat::RECOVER.bits();
                put32(raw, 0x60, features);
            });
            runs.push((geometry.group_start(group) * size, bytes));
        }
        self.write_copies(runs)?;
        for index in 0..geometry.desc_blocks() {
            let (block, _) = geometry.desc_place(index * geometry.descs_per_block());
            let bytes = self.buffers.get(block)?.snapshot();
            let copies = geometry.desc_copies(index).into_iter();
            self.write_copies(copies.map(|copy| (copy * size, bytes.to_vec())).collect())?;
        }
        self.device.flush()
    }

    fn write_copies(&self, runs: Vec<(u64, Vec<u8>)>) -> Result<()> {
        self.device.write_runs(runs).into_iter().collect()
    }
}
