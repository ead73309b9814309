//! Where the journal comes in: replay before anything else is read, then transactions.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use core::time::Duration;

use arch_um::sync::{SpinLock, order};
use kernel::vfs::DevT;

use super::external::{Asking, OpenJournal};
use super::options::{OnError, Options};
use crate::buffer::BufferCache;
use crate::device::BlockDevice;
use crate::device::Tracked;
use crate::inode::load::Which;
use crate::instance::{Ext4, Parts};
use crate::journal::{Barrier, Checksums, CommitOrder, Config, FastCommit, Features, Journal, Numbers};
use crate::layout::features::{Compat, Incompat};
use crate::layout::geometry::Geometry;
use crate::layout::group::Desc;
use crate::layout::{get32, put32};
use crate::map::{self, Kind};
use crate::space::groups::{self, Group};
use crate::{Errno, Result};

/// What [`open_journal`] found.
pub(super) struct Opened {
    pub journal: Arc<Journal>,
    /// Runs of blocks that the journal lies in.
    pub zones: Vec<(u64, u64)>,
    /// Where the journal finds the instance when it aborts.
    pub owner: Arc<SpinLock<Weak<Ext4>>>,
    /// What the journal's first transaction must bring about.
    pub fast_commits: Vec<FastCommit>,
    /// The number of the journal's device, which the super block does not know.
    pub moved: Option<u32>,
}

/// The journal of this file system, replayed; or the place where there is none. `EROFS` when it must be replayed and cannot be.
pub(super) fn open_journal(
    buffers: &Arc<BufferCache>,
    geometry: &Geometry,
    options: &Options,
    read_only: bool,
    device: &str,
    journals: OpenJournal<'_>,
) -> Result<Opened> {
    let owner = Arc::new(SpinLock::new(&order::LEAF, Weak::new()));
    let has_journal = geometry.compat.contains(Compat::HAS_JOURNAL);
    let needed = geometry.incompat.contains(Incompat::RECOVER);
    if options.noload && !read_only && has_journal {
        if needed {
            log::error!("EXT4-fs ({device}): required journal recovery suppressed and not mounted read-only");
        } else {
            log::error!("EXT4-fs ({device}): can't mount read-write with noload");
        }
        return Err(Errno::EINVAL);
    }
    if !has_journal || options.noload {
        return Ok(Opened {
            journal: Journal::none(buffers.clone()),
            zones: Vec::new(),
            owner,
            fast_commits: Vec::new(),
            moved: None,
        });
    }
    if needed {
        if buffers.device().is_read_only() {
            log::error!("EXT4-fs ({device}): write access unavailable, cannot proceed (try mounting with noload)");
            return Err(Errno::EROFS);
        }
        if read_only {
            log::info!("EXT4-fs ({device}): INFO: recovery required on readonly filesystem");
            log::info!("EXT4-fs ({device}): write access will be enabled during recovery");
        }
    }
    let asking = Asking {
        geometry,
        wanted: options.journal_dev,
        read_only,
        name: device,
    };
    let external = asking.open(journals)?;
    let runs = match &external {
        Some(_) => Vec::new(),
        None => locate(buffers, geometry, options, device)?,
    };
    let blocks = match &external {
        Some(external) => external.blocks,
        None => runs.iter().map(|(_, len)| len).sum(),
    };
    let is_external = external.is_some();
    let find = |at: u32| {
        if is_external {
            return Ok(u64::from(at));
        }
        let mut left = u64::from(at);
        for &(first, len) in &runs {
            if left < len {
                return Ok(first + left);
            }
            left -= len;
        }
        Err(Errno::EUCLEAN)
    };
    let mut fast_commits = Vec::new();
    let mut config = Config::new(
        format!("{device}-{}", geometry.journal_ino),
        blocks,
        // It may be ahead of the super block when the file system was growing.
        buffers.device().len() / u64::from(geometry.block_size),
        &find,
    );
    config.features = Features {
        numbers: if geometry.incompat.contains(Incompat::SIXTY_FOUR_BIT) {
            Numbers::Wide
        } else {
            Numbers::Narrow
        },
        checksums: if geometry.has_csum() {
            Checksums::V3
        } else if options.journal_checksum {
            Checksums::Commit
        } else {
            Checksums::None
        },
        commit: if options.journal_async_commit {
            CommitOrder::Together
        } else {
            CommitOrder::AfterFlush
        },
    };
    let moved = external.as_ref().and_then(|external| external.moved);
    if let Some(external) = external {
        config.name = external.name;
        config.superblock = external.superblock;
        config.device = Some(Arc::new(Tracked::new(external.device)));
    }
    config.barrier = if options.barrier { Barrier::Flush } else { Barrier::None };
    config.commit_interval = Duration::from_secs(u64::from(options.commit));
    config.fast_commits = Some(&mut fast_commits);
    let told = owner.clone();
    config.on_abort = Box::new(move |error| {
        let fs = told.lock().upgrade();
        if let Some(fs) = fs {
            fs.journal_aborted(error);
        }
    });
    let journal = Journal::load(buffers.clone(), config)
        .inspect_err(|error| log::error!("EXT4-fs ({device}): error loading journal: {error}"))?;
    if needed && fast_commits.is_empty() {
        log::info!("EXT4-fs ({device}): recovery complete");
    }
    Ok(Opened {
        journal,
        zones: runs.into_iter().map(|(first, len)| (first, first + len)).collect(),
        owner,
        fast_commits,
        moved,
    })
}

/// Applies the fast commits that the journal came with. `geometry` is what the replay of the log left.
pub(super) fn apply_fast_commits(
    buffers: &Arc<BufferCache>,
    geometry: &Geometry,
    options: &Options,
    device: &str,
    opened: &Opened,
) -> Result<()> {
    let text = |text: String| {
        log::error!("EXT4-fs ({device}): {text}");
        Errno::EUCLEAN
    };
    let groups = groups::read_all(geometry, |block| buffers.get(block)).map_err(text)?;
    let zones = groups::system_zones(geometry, &groups, &opened.zones);
    let mut parts = scaffolding(buffers, geometry, options, device, groups);
    parts.journal = opened.journal.clone();
    parts.has_journal = true;
    parts.zones = zones;
    let scaffold = scaffold(parts);
    super::fast_commit::apply(&scaffold, &opened.fast_commits)
        .and_then(|()| opened.journal.sync())
        .inspect_err(|error| {
            // The caller gives the journal up, and what has been done of it never reaches the disk.
            log::error!("EXT4-fs ({device}): fast commits cannot be applied: {error}; run e2fsck");
        })?;
    log::info!("EXT4-fs ({device}): recovery complete");
    Ok(())
}

/// The parts of an instance that serves recovery alone.
fn scaffolding(
    buffers: &Arc<BufferCache>,
    geometry: &Geometry,
    options: &Options,
    device: &str,
    groups: Vec<Group>,
) -> Parts {
    let mut options = options.clone();
    options.errors = OnError::Continue;
    Parts {
        kind: "ext4",
        name: String::from(device),
        dev: DevT::default(),
        device: Arc::new(Tracked::new(buffers.device().clone())),
        geometry: geometry.clone(),
        buffers: buffers.clone(),
        journal: Journal::none(buffers.clone()),
        has_journal: false,
        options,
        groups,
        zones: Vec::new(),
    }
}

/// Such an instance. Its inodes end without a word.
fn scaffold(parts: Parts) -> Arc<Ext4> {
    let scaffold = Ext4::assemble(parts);
    scaffold.unmounted.store(true, Ordering::Release);
    scaffold
}

/// Where the journal's blocks lie, in order. Nothing here is trusted further than that: replay may change what was read.
fn locate(buffers: &Arc<BufferCache>, geometry: &Geometry, options: &Options, device: &str) -> Result<Vec<(u64, u64)>> {
    let group = (geometry.journal_ino - 1) / geometry.inodes_per_group;
    let mut groups = Vec::new();
    for number in 0..=group.min(geometry.size.groups() - 1) {
        let (block, at) = geometry.desc_place(number);
        let raw = buffers
            .get(block)?
            .read(|bytes| bytes[at..at + geometry.desc_size as usize].to_vec());
        groups.push(Group {
            desc: Desc::parse(&raw),
            busy: None,
            available: 0,
            broken: true,
        });
    }
    let scaffold = scaffold(scaffolding(buffers, geometry, options, device, groups));
    let file = scaffold.inode(geometry.journal_ino, Which::Any)?;
    let blocks = file.len_now() / scaffold.block_size();
    let meta = scaffold.meta.read();
    let mut runs: Vec<(u64, u64)> = Vec::new();
    let mut at = 0;
    while at < blocks {
        let found = map::lookup(&scaffold, &meta, &file, at, blocks - at)?;
        if found.kind == Kind::Hole {
            log::error!("EXT4-fs ({device}): journal inode has a hole at block {at}");
            return Err(Errno::EUCLEAN);
        }
        runs.push((found.block, found.len));
        at += found.len;
    }
    Ok(runs)
}

/// Whether a crash from now on leaves a journal to replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replay {
    Needed,
    NotNeeded,
}

impl Ext4 {
    /// Puts the `needs_recovery` feature into the super block on the disk, around the journal: it tells whether that must be read.
    pub(super) fn mark_replay(&self, replay: Replay) -> Result<()> {
        if !self.has_journal {
            return Ok(());
        }
        let (block, at) = self.geometry.super_place();
        let buffer = self.buffers.get(block)?;
        let flag = Incompat::RECOVER.bits();
        buffer.change(|bytes| {
            self.edit_super(&mut bytes[at..at + 1024], |raw| {
                let features = get32(raw, 0x60);
                let features = if replay == Replay::Needed {
                    features | flag
                } else {
                    features & !flag
                };
                put32(raw, 0x60, features);
            });
        });
        self.device.write(block * self.block_size(), &buffer.snapshot())?;
        self.device.flush()
    }

    fn journal_aborted(&self, error: Errno) {
        self.abort(error, format_args!("Detected aborted journal"));
    }
}
