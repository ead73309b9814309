//! Mount options, with Linux's names, defaults and refusals.

use alloc::format;
use alloc::string::String;

use kernel::vfs::inode::{MountOption, MountSource};

use crate::layout::features::Compat;
use crate::layout::geometry::Geometry;
use crate::{Errno, Result};

/// `errors=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnError {
    Continue,
    RemountReadOnly,
    Panic,
}

/// `data=`. Data is on the disk before a file points to it in each of them, so `writeback` is as `ordered`, which waits for nothing either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataMode {
    Journal,
    Ordered,
    Writeback,
}

/// What `mount -o` said.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub errors: OnError,
    errors_default: OnError,
    pub data: DataMode,
    pub user_xattr: bool,
    pub acl: bool,
    pub noload: bool,
    pub barrier: bool,
    pub discard: bool,
    pub delalloc: bool,
    pub minix_df: bool,
    pub group_id: bool,
    pub resuid: u32,
    pub resgid: u32,
    pub commit: u32,
    pub stripe: u32,
    pub super_block: u64,
    pub journal_checksum: bool,
    pub journal_async_commit: bool,
    /// The number of the journal's device, if it is not where the super block says.
    pub journal_dev: Option<u32>,
    pub init_itable: bool,
    pub lazytime: bool,
    pub debug: bool,
    /// Of a remount: writing ends now.
    pub abort: bool,
    /// Data that cannot be written stops the journal.
    pub data_err_abort: bool,
}

/// Seconds between commits.
const COMMIT: u32 = 5;

impl Options {
    /// What holds without any option: as the super block says.
    pub(crate) fn defaults(geometry: &Geometry, errors: u16) -> Self {
        let bits = geometry.default_mount_opts;
        let errors = match errors {
            3 => OnError::Panic,
            2 => OnError::RemountReadOnly,
            _ => OnError::Continue,
        };
        Self {
            errors,
            errors_default: errors,
            data: match bits & 0x60 {
                _ if !geometry.compat.contains(Compat::HAS_JOURNAL) => DataMode::Ordered,
                0x20 => DataMode::Journal,
                0x60 => DataMode::Writeback,
                _ => DataMode::Ordered,
            },
            user_xattr: true,
            acl: true,
            noload: false,
            barrier: bits & 0x100 == 0,
            discard: bits & 0x400 != 0,
            delalloc: bits & 0x800 == 0,
            minix_df: false,
            group_id: bits & 0x2 != 0,
            resuid: u32::from(geometry.default_resuid),
            resgid: u32::from(geometry.default_resgid),
            commit: COMMIT,
            stripe: 0,
            super_block: 1,
            journal_checksum: false,
            journal_async_commit: false,
            journal_dev: None,
            init_itable: true,
            lazytime: false,
            debug: false,
            abort: false,
            data_err_abort: false,
        }
    }

    /// Applies the options of `source` in order. `EINVAL`, with Linux's line in the log.
    pub(crate) fn apply(&mut self, source: &MountSource, geometry: &Geometry, device: &str) -> Result<()> {
        for option in &source.options {
            if let Err(error) = self.apply_one(option, geometry) {
                let text = match &option.value {
                    Some(value) => format!("{}={}", lossy(&option.key), lossy(value)),
                    None => lossy(&option.key),
                };
                log::error!("EXT4-fs ({device}): Unrecognized mount option \"{text}\" or missing value");
                return Err(error);
            }
        }
        if self.journal_async_commit && self.data == DataMode::Ordered && geometry.compat.contains(Compat::HAS_JOURNAL)
        {
            log::error!("EXT4-fs ({device}): can't mount with journal_async_commit in data=ordered mode");
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    fn apply_one(&mut self, option: &MountOption, geometry: &Geometry) -> Result<()> {
        let key = core::str::from_utf8(&option.key).map_err(|_| Errno::EINVAL)?;
        let value = option
            .value
            .as_deref()
            .map(core::str::from_utf8)
            .transpose()
            .map_err(|_| Errno::EINVAL)?;
        let number = || value.and_then(|value| value.parse::<u64>().ok()).ok_or(Errno::EINVAL);
        let small = || number().and_then(|value| u32::try_from(value).map_err(|_| Errno::EINVAL));
        let has_journal = geometry.compat.contains(Compat::HAS_JOURNAL);
        let takes_value = matches!(
            key,
            "errors"
                | "data"
                | "commit"
                | "stripe"
                | "resuid"
                | "resgid"
                | "sb"
                | "barrier"
                | "max_batch_time"
                | "min_batch_time"
                | "inode_readahead_blks"
                | "journal_ioprio"
                | "journal_dev"
                | "journal_path"
                | "init_itable"
                | "jqfmt"
                | "usrjquota"
                | "grpjquota"
                | "data_err"
                | "max_dir_size_kb"
                | "auto_da_alloc"
                | "debug_want_extra_isize"
                | "mb_optimize_scan"
                | "fc_debug_max_replay"
        );
        if value.is_some() && !takes_value {
            return Err(Errno::EINVAL);
        }
        match key {
            "errors" => {
                self.errors = match value {
                    Some("continue") => OnError::Continue,
                    Some("remount-ro") => OnError::RemountReadOnly,
                    Some("panic") => OnError::Panic,
                    _ => return Err(Errno::EINVAL),
                }
            }
            "data" => {
                let mode = match value {
                    Some("journal") => DataMode::Journal,
                    Some("ordered") => DataMode::Ordered,
                    Some("writeback") => DataMode::Writeback,
                    _ => return Err(Errno::EINVAL),
                };
                if !has_journal {
                    log::error!("EXT4-fs: can't mount with data=, fs mounted w/o journal");
                    return Err(Errno::EINVAL);
                }
                self.data = mode;
            }
            "commit" => {
                let seconds = small()?;
                self.commit = if seconds == 0 { COMMIT } else { seconds };
            }
            "stripe" => self.stripe = small()?,
            "resuid" => self.resuid = small()?,
            "resgid" => self.resgid = small()?,
            "sb" => self.super_block = number()?,
            "barrier" => self.barrier = value.is_none_or(|value| value != "0"),
            "nobarrier" => self.barrier = false,
            "user_xattr" => self.user_xattr = true,
            "nouser_xattr" => self.user_xattr = false,
            "acl" => self.acl = true,
            "noacl" => self.acl = false,
            "noload" | "norecovery" => self.noload = true,
            "discard" => self.discard = true,
            "nodiscard" => self.discard = false,
            "delalloc" => self.delalloc = true,
            "nodelalloc" => self.delalloc = false,
            "minixdf" => self.minix_df = true,
            "bsddf" => self.minix_df = false,
            "grpid" | "bsdgroups" => self.group_id = true,
            "nogrpid" | "sysvgroups" => self.group_id = false,
            "journal_checksum" => self.journal_checksum = true,
            "nojournal_checksum" => self.journal_checksum = false,
            "journal_async_commit" => self.journal_async_commit = true,
            "journal_dev" => self.journal_dev = Some(value.and_then(integer).ok_or(Errno::EINVAL)?),
            "init_itable" => self.init_itable = true,
            "noinit_itable" => self.init_itable = false,
            "lazytime" => self.lazytime = true,
            "nolazytime" => self.lazytime = false,
            "debug" => self.debug = true,
            "abort" => self.abort = true,
            "data_err" => {
                self.data_err_abort = match value {
                    Some("abort") => true,
                    Some("ignore") => false,
                    _ => return Err(Errno::EINVAL),
                }
            }
            "max_batch_time" | "min_batch_time" | "inode_readahead_blks" | "max_dir_size_kb" => drop(small()?),
            "journal_ioprio" if small()? <= 7 => {}
            // Accepted and without effect, as there or as their object does not exist here.
            "auto_da_alloc"
            | "noauto_da_alloc"
            | "nodebug"
            | "oldalloc"
            | "orlov"
            | "nocheck"
            | "block_validity"
            | "noblock_validity"
            | "dioread_lock"
            | "dioread_nolock"
            | "i_version"
            | "noquota"
            | "quota"
            | "usrquota"
            | "grpquota"
            | "mblk_io_submit"
            | "nomblk_io_submit"
            | "nombcache"
            | "no_mbcache"
            | "prefetch_block_bitmaps"
            | "no_prefetch_block_bitmaps"
            | "bh"
            | "nobh"
            | "warn_on_error"
            | "nowarn_on_error" => {}
            "dax" => {
                log::error!("EXT4-fs: dax option not supported");
                return Err(Errno::EINVAL);
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// What follows from the options together.
    pub(crate) fn settle(&mut self) {
        if self.data == DataMode::Journal && self.delalloc {
            log::warn!(
                "EXT4-fs: Warning: mounting with data=journal disables delayed allocation, dioread_nolock, O_DIRECT and fast_commit support!"
            );
            self.delalloc = false;
        }
    }

    /// The line of /proc/mounts: what differs from the default.
    pub(crate) fn show(&self, geometry: &Geometry) -> String {
        let mut out = String::new();
        let mut word = |on: bool, text: &str| {
            if on {
                out.push(',');
                out.push_str(text);
            }
        };
        word(!self.user_xattr, "nouser_xattr");
        word(!self.acl, "noacl");
        word(self.minix_df, "minixdf");
        word(self.group_id, "grpid");
        word(self.debug, "debug");
        word(self.abort, "abort");
        if self.errors != self.errors_default || self.errors != OnError::Continue {
            word(
                true,
                match self.errors {
                    OnError::Continue => "errors=continue",
                    OnError::RemountReadOnly => "errors=remount-ro",
                    OnError::Panic => "errors=panic",
                },
            );
        }
        word(self.noload, "norecovery");
        word(!self.barrier, "nobarrier");
        word(self.discard, "discard");
        word(!self.delalloc, "nodelalloc");
        word(self.journal_checksum, "journal_checksum");
        word(self.journal_async_commit, "journal_async_commit");
        word(!self.init_itable, "noinit_itable");
        word(self.data_err_abort, "data_err=abort");
        word(self.super_block != 1, &format!("sb={}", self.super_block));
        word(
            self.resuid != u32::from(geometry.default_resuid),
            &format!("resuid={}", self.resuid),
        );
        word(
            self.resgid != u32::from(geometry.default_resgid),
            &format!("resgid={}", self.resgid),
        );
        word(self.commit != COMMIT, &format!("commit={}", self.commit));
        word(self.stripe != 0, &format!("stripe={}", self.stripe));
        if geometry.compat.contains(Compat::HAS_JOURNAL) && self.data != DataMode::Ordered {
            let text = if self.data == DataMode::Journal {
                "data=journal"
            } else {
                "data=writeback"
            };
            word(true, text);
        }
        out
    }
}

/// A number as in C: `0x` and a leading `0` tell its base.
fn integer(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None if text.len() > 1 && text.starts_with('0') => u32::from_str_radix(text, 8).ok(),
        None => text.parse().ok(),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
