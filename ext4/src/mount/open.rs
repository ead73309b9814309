//! Reading the super block, starting an instance, and ending it.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use core::sync::atomic::Ordering;

use kernel::vfs::inode::MountSource;
use kernel::vfs::{DevT, Timespec};

use super::external::OpenJournal;
use super::options::{DataMode, Options};
use super::recovery::Replay;
use super::{features, recovery};
use crate::buffer::BufferCache;
use crate::damage::ERRORS;
use crate::device::{BlockDevice, Tracked};
use crate::inode::load::{ROOT, Which};
use crate::instance::{Ext4, Parts};
use crate::layout::features::Incompat;
use crate::layout::geometry::{Geometry, MAGIC, SUPER_AT, SUPER_LEN};
use crate::layout::{get16, put16, put32};
use crate::space::groups;
use crate::transaction::Tx;
use crate::{Errno, Result};

/// `s_state`: unmounted in order.
const VALID: u16 = 1;

/// What to mount, and as what.
pub struct Mounting<'a> {
    /// `ext2`, `ext3`, `ext4`.
    pub kind: &'static str,
    /// The device as the log calls it (`ubda`).
    pub name: String,
    /// Its number: `st_dev`.
    pub dev: DevT,
    /// The device.
    pub device: Arc<dyn BlockDevice>,
    /// How the journal's own device is opened, if it has one.
    pub journals: OpenJournal<'a>,
}

/// Mounts. The options are those of `source`.
///
/// # Errors
/// `EINVAL` when it is no file system of this kind, or for an option; `EACCES` when the device cannot be written to, `EROFS` when its contents cannot; `EUCLEAN` when it is damaged.
pub fn mount(what: Mounting<'_>, source: &MountSource) -> Result<Arc<Ext4>> {
    let name = what.name.clone();
    let mut raw = vec![0; SUPER_LEN];
    let at = super_at(source);
    if what.device.len() < at + SUPER_LEN as u64 {
        log::error!("EXT4-fs ({name}): unable to read superblock");
        return Err(Errno::EINVAL);
    }
    what.device.read(at, &mut raw)?;
    if get16(&raw, 0x38) != MAGIC {
        log::error!("VFS: Can't find {} filesystem on dev {name}.", what.kind);
        return Err(Errno::EINVAL);
    }
    let parse = |raw: &[u8]| {
        Geometry::parse(raw, what.device.len()).map_err(|text| {
            log::error!("EXT4-fs ({name}): {text}");
            Errno::EINVAL
        })
    };
    let mut geometry = parse(&raw)?;
    features::check_readable(&geometry, what.kind, &name)?;
    let mut options = Options::defaults(&geometry, get16(&raw, 0x3c));
    options.apply(source, &geometry, &name)?;
    options.settle();
    let read_only = source.read_only;
    if !read_only {
        if what.device.is_read_only() {
            return Err(Errno::EACCES);
        }
        features::check_writable(&geometry, &name)?;
    }
    let device = Arc::new(Tracked::new(what.device.clone()));
    let buffers = BufferCache::new(device.clone(), geometry.block_size as usize);
    let opened = recovery::open_journal(&buffers, &geometry, &options, read_only, &name, what.journals)?;
    let before = raw.clone();
    if opened.journal.is_logged() && at == SUPER_AT {
        // Replay may have written it.
        what.device.read(at, &mut raw)?;
        geometry = parse(&raw)?;
    }
    if !opened.fast_commits.is_empty() {
        recovery::apply_fast_commits(&buffers, &geometry, &options, &name, &opened)?;
    }
    let groups = groups::read_all(&geometry, |block| buffers.get(block)).map_err(|text| {
        log::error!("EXT4-fs ({name}): {text}");
        log::error!("EXT4-fs ({name}): group descriptors corrupted!");
        Errno::EUCLEAN
    })?;
    let zones = groups::system_zones(&geometry, &groups, &opened.zones);
    let journal = opened.journal.clone();
    let fs = Ext4::assemble(Parts {
        kind: what.kind,
        name,
        dev: what.dev,
        device,
        geometry,
        buffers,
        has_journal: journal.is_logged(),
        journal,
        options,
        groups,
        zones,
    });
    *opened.owner.lock() = fs.me.clone();
    let replayed = fs.journal.recovery().transactions > 0;
    if fs.has_journal && (replayed || fs.geometry.incompat.contains(Incompat::RECOVER)) {
        fs.mark_replay(Replay::NotNeeded)?;
    }
    if replayed {
        fs.keep_errors(&before)?;
    }
    if let Some(number) = opened.moved.filter(|_| !fs.device.is_read_only()) {
        fs.patch_super(|raw| put32(raw, 0xe4, number))?;
    }
    if let Some(error) = fs.journal.recorded_error() {
        log::warn!(
            "EXT4-fs warning (device {}): Filesystem error recorded from previous mount: {error}",
            fs.name
        );
        log::warn!(
            "EXT4-fs warning (device {}): Marking fs in need of filesystem check.",
            fs.name
        );
    }
    let root = fs
        .inode(ROOT, Which::Named)
        .inspect_err(|_| log::error!("EXT4-fs ({}): get root inode failed", fs.name))?;
    if !root.is_dir() {
        log::error!("EXT4-fs ({}): corrupt root inode, run e2fsck", fs.name);
        return Err(Errno::EUCLEAN);
    }
    *fs.root.lock() = Some(root);
    if !read_only {
        fs.start_writing()?;
    }
    let data = match fs.options.lock().data {
        _ if !fs.has_journal => "out journal",
        DataMode::Journal => " journalled data mode",
        DataMode::Ordered => " ordered data mode",
        DataMode::Writeback => " writeback data mode",
    };
    log::info!(
        "EXT4-fs ({}): mounted filesystem {} {} with{data}. Quota mode: none.",
        fs.name,
        uuid(&fs.geometry.uuid),
        if read_only { "ro" } else { "r/w" },
    );
    Ok(fs)
}

/// `sb=`: another super block, in units of 1 KiB.
fn super_at(source: &MountSource) -> u64 {
    source
        .options
        .iter()
        .rev()
        .find(|option| option.key == b"sb")
        .and_then(|option| core::str::from_utf8(option.value.as_deref()?).ok()?.parse::<u64>().ok())
        .and_then(|block| block.checked_mul(1024))
        .unwrap_or(SUPER_AT)
}

fn uuid(bytes: &[u8; 16]) -> String {
    let mut out = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push_str(&alloc::format!("{byte:02x}"));
    }
    out
}

impl Ext4 {
    fn super_state(&self) -> Result<u16> {
        let (block, at) = self.geometry.super_place();
        Ok(self.buffers.get(block)?.read(|bytes| get16(bytes, at + 0x3a)))
    }

    /// Becomes writable: tells the super block, finishes what a crash interrupted.
    pub(super) fn start_writing(&self) -> Result<()> {
        let state = self.super_state()?;
        if state & ERRORS != 0 {
            log::warn!(
                "EXT4-fs ({}): warning: mounting fs with errors, running e2fsck is recommended",
                self.name
            );
        } else if state & VALID == 0 && !self.has_journal {
            log::warn!(
                "EXT4-fs ({}): warning: mounting unchecked fs, running e2fsck is recommended",
                self.name
            );
        }
        self.mark_replay(Replay::Needed)?;
        {
            let mut tx = Tx::begin_anyway(self, 2)?;
            let keeps_valid = self.has_journal;
            let failed = self.journal.recorded_error().is_some();
            tx.change_super(|raw| {
                if failed {
                    let state = get16(raw, 0x3a);
                    put16(raw, 0x3a, state | ERRORS);
                }
                if !keeps_valid {
                    let state = get16(raw, 0x3a);
                    put16(raw, 0x3a, state & !VALID);
                }
                let mounts = get16(raw, 0x34);
                put16(raw, 0x34, mounts.saturating_add(1));
                let now = Timespec::now().sec;
                put32(raw, 0x2c, now as u32);
            })?;
        }
        self.journal.commit(self.journal.running())?;
        if self.journal.recorded_error().is_some() {
            self.journal.acknowledge_error()?;
        }
        self.process_orphans()?;
        self.read_only.store(false, Ordering::Release);
        Ok(())
    }

    /// Everything is on the disk, and the super block says that it was left in order.
    pub(super) fn stop_writing(&self) -> Result<()> {
        let stopped = self.stopped.load(Ordering::Acquire);
        let outcome = if stopped { Ok(()) } else { self.write_all() };
        self.read_only.store(true, Ordering::Release);
        let clean = outcome.is_ok() && !stopped;
        if self.journal.aborted().is_some() {
            // Who has told of the error before has nothing to add.
            return if stopped { Ok(()) } else { outcome.and(Err(Errno::EIO)) };
        }
        let news = self.news();
        let mut tx = Tx::begin_anyway(self, 2)?;
        let is_empty = tx.meta.orphans.is_empty();
        tx.change_super(|raw| {
            news.store(raw);
            if clean && is_empty {
                let state = get16(raw, 0x3a);
                put16(raw, 0x3a, state | VALID);
            }
        })?;
        drop(tx);
        self.journal.sync()?;
        self.mark_replay(Replay::NotNeeded)?;
        outcome
    }

    /// Writes every dirty file out and deletes those without names.
    pub(crate) fn write_all(&self) -> Result<()> {
        let mut outcome = Ok(());
        self.drop_nameless_dirt();
        outcome = outcome.and(self.bury());
        let dirty: alloc::vec::Vec<_> = self.dirty.lock().values().cloned().collect();
        self.write_together(&dirty);
        for inode in dirty {
            let ino = inode.number();
            let written = inode.write_out();
            // A file that guests have mapped for writing stays in the list: it gets dirty without a word.
            let cache = inode.cache_now();
            let mapped = cache.as_ref().is_some_and(|cache| Arc::strong_count(cache) > 2);
            let idle = !mapped
                && cache.as_ref().is_none_or(|cache| cache.dirty_bytes() == 0)
                && !inode.dirty.load(Ordering::Acquire);
            if written.is_ok() && idle {
                let removed = self.dirty.lock().remove(&ino);
                drop(removed);
                // Changed between the write and the removal: it comes back.
                if inode.dirty.load(Ordering::Acquire) || cache.is_some_and(|cache| cache.dirty_bytes() > 0) {
                    inode.mark_dirty();
                }
            }
            outcome = outcome.and(written);
        }
        outcome.and(self.bury())
    }

    /// As `sync(2)`.
    pub(super) fn sync_all(&self) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        let written = self.write_all();
        // What cannot be written may have stopped the journal: that is the error to tell.
        written.and(self.commit_news())
    }

    fn commit_news(&self) -> Result<()> {
        let news = self.news();
        let mut tx = Tx::begin(self, 2)?;
        tx.change_super(|raw| news.store(raw))?;
        drop(tx);
        self.journal.commit(self.journal.running())
    }

    /// Where it was last mounted, for the super block (`tune2fs -l`).
    pub(super) fn note_mount_point(&self, path: &[u8]) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        let mut tx = Tx::begin(self, 2)?;
        tx.change_super(|raw| {
            let count = path.len().min(63);
            raw[0x88..0xc8].fill(0);
            raw[0x88..0x88 + count].copy_from_slice(&path[..count]);
        })
    }
}
