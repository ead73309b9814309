//! A journal on a device of its own (`mke2fs -O journal_dev`): finding it, and whether it is this file system's.
//!
//! The device begins with a super block, whose UUID the file system knows; the journal's own follows in the next block. Its blocks are numbered as
//! the device's.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;

use kernel::vfs::DevT;

use crate::device::BlockDevice;
use crate::layout::checksum::crc32c;
use crate::layout::features::{Incompat, RoCompat};
use crate::layout::geometry::{Geometry, MAGIC, SUPER_AT, SUPER_LEN};
use crate::layout::{get_split, get16, get32};
use crate::{Errno, Result};

/// Where a journal's superblock says how many file systems use it: a big-endian number.
const USERS: usize = 0x40;

/// An opened device for a journal.
pub struct JournalDevice {
    /// As the log calls it.
    pub name: String,
    /// The device, which nobody else uses.
    pub device: Arc<dyn BlockDevice>,
}

/// Opens a device for a journal. `ENXIO`, `EBUSY`.
pub type OpenJournal<'a> = &'a dyn Fn(DevT) -> Result<JournalDevice>;

/// The journal's device, which belongs to this file system.
pub(super) struct External {
    pub name: String,
    pub device: Arc<dyn BlockDevice>,
    /// Its blocks.
    pub blocks: u64,
    /// The one with the journal's superblock.
    pub superblock: u32,
    /// Its number, if the file system's super block has another one.
    pub moved: Option<u32>,
}

/// Who asks.
pub(super) struct Asking<'a> {
    pub geometry: &'a Geometry,
    /// `journal_dev=`.
    pub wanted: Option<u32>,
    pub read_only: bool,
    /// The file system's device, as the log calls it.
    pub name: &'a str,
}

impl Asking<'_> {
    fn refuse<T>(&self, error: Errno, what: core::fmt::Arguments<'_>) -> Result<T> {
        log::error!("EXT4-fs ({}): {what}", self.name);
        Err(error)
    }

    /// The device's number. None: the journal is a file.
    fn number(&self) -> Result<Option<u32>> {
        let known = self.geometry.journal_dev;
        let number = self.wanted.filter(|&wanted| wanted != 0).unwrap_or(known);
        if number != known {
            log::info!(
                "EXT4-fs ({}): external journal device major/minor numbers have changed",
                self.name
            );
        }
        match (self.geometry.journal_ino, number) {
            (0, number) => Ok(Some(number)),
            (_, 0) => Ok(None),
            _ => self.refuse(
                Errno::EINVAL,
                format_args!("filesystem has both journal inode and journal device!"),
            ),
        }
    }

    /// The journal's device, if it has one. `EUCLEAN` when it is another one's, `EINVAL` when it has several users, `EROFS`, and what opening says.
    pub(super) fn open(&self, open: OpenJournal<'_>) -> Result<Option<External>> {
        let Some(number) = self.number()? else {
            return Ok(None);
        };
        let dev = DevT::decode(u64::from(number));
        let opened = open(dev).or_else(|error| {
            let (major, minor) = (dev.major, dev.minor);
            self.refuse(
                error,
                format_args!(
                    "failed to open journal device unknown-block({major},{minor}) {}",
                    -error.code()
                ),
            )
        })?;
        if opened.device.is_read_only() && !self.read_only {
            return self.refuse(
                Errno::EROFS,
                format_args!("journal device read-only, try mounting with '-o ro'"),
            );
        }
        let (blocks, superblock) = self.examine(&*opened.device)?;
        Ok(Some(External {
            name: opened.name,
            device: opened.device,
            blocks,
            superblock,
            moved: (number != self.geometry.journal_dev).then_some(number),
        }))
    }

    fn examine(&self, device: &dyn BlockDevice) -> Result<(u64, u32)> {
        let size = u64::from(self.geometry.block_size);
        let superblock = SUPER_AT / size + 1;
        let mut raw = vec![0; SUPER_LEN];
        let mut journal = vec![0; SUPER_LEN];
        let is_read = device.len() >= (superblock + 1) * size
            && device.read(SUPER_AT, &mut raw).is_ok()
            && device.read(superblock * size, &mut journal).is_ok();
        if !is_read {
            return self.refuse(
                Errno::EINVAL,
                format_args!("couldn't read superblock of external journal"),
            );
        }
        let incompat = Incompat::from_bits_retain(get32(&raw, 0x60));
        if get16(&raw, 0x38) != MAGIC || !incompat.contains(Incompat::JOURNAL_DEV) {
            return self.refuse(Errno::EUCLEAN, format_args!("external journal has bad superblock"));
        }
        let ro_compat = RoCompat::from_bits_retain(get32(&raw, 0x64));
        if ro_compat.contains(RoCompat::METADATA_CSUM) && crc32c(!0, &raw[..0x3fc]) != get32(&raw, 0x3fc) {
            return self.refuse(Errno::EUCLEAN, format_args!("external journal has corrupt superblock"));
        }
        if raw[0x68..0x78] != self.geometry.journal_uuid {
            return self.refuse(Errno::EUCLEAN, format_args!("journal UUID does not match"));
        }
        let users = get32(&journal, USERS).swap_bytes();
        if users != 1 {
            return self.refuse(
                Errno::EINVAL,
                format_args!("External journal has more than one user (unsupported) - {users}"),
            );
        }
        let blocks = if incompat.contains(Incompat::SIXTY_FOUR_BIT) {
            get_split(&raw, 4, 0x150)
        } else {
            u64::from(get32(&raw, 4))
        };
        Ok((blocks.min(device.len() / size), superblock as u32))
    }
}
