//! Replay: what the log holds is brought home after a crash.
//!
//! Three passes, as in JBD2: *scan* finds the last complete transaction, *revoke* collects the blocks that must not be replayed up to a
//! transaction, *replay* writes the newest version of every other block. The last two only collect; all writes are made at the end, sorted, each block
//! once. A journal can hold anything: each pass looks at no more blocks than the log has, and nothing is written outside of the file system.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::area::{Area, AreaReader};
use super::layout::{COMMIT, DESCRIPTOR, ESCAPED, Format, Header, MAGIC, REVOKE, Tag, put_be32};
use super::superblock::{Extent, Superblock};
use super::transaction::is_at_least;
use super::{JBD2, Recovery, Tid};
use crate::buffer::BufferCache;
use crate::runs::RunWriter;
use crate::{Errno, Result};

/// A journal about to be replayed.
pub(super) struct Replay<'a> {
    area: &'a Area,
    format: Format,
    extent: Extent,
    start: u32,
    sequence: Tid,
    fs_blocks: u64,
}

/// What the scan found.
pub(super) struct Scan {
    /// The first transaction that is not complete.
    pub(super) end: Tid,
    /// Its place in the log.
    pub(super) head: u32,
    /// Transaction `end` has a commit block that does not fit its blocks, and others follow: not a crash but corruption.
    corrupt: bool,
}

/// A block of the journal's own, met by [`Replay::walk`].
struct Met<'a> {
    kind: u32,
    tid: Tid,
    block: &'a [u8],
    tags: Vec<Tag>,
    /// The log block of the first tag; the block after this one.
    next: u32,
}

/// Whether a walk goes on.
enum Step {
    /// To the next block.
    On,
    /// The transaction is complete: on to the next one.
    NextTransaction,
    /// No further.
    Stop,
}

/// Where the newest version of a block lies.
struct Version {
    tid: Tid,
    log_block: u32,
    tag: Tag,
}

impl<'a> Replay<'a> {
    pub(super) fn new(area: &'a Area, superblock: &Superblock, format: Format, fs_blocks: u64) -> Replay<'a> {
        Replay {
            area,
            format,
            extent: superblock.extent(),
            start: superblock.start(),
            sequence: superblock.sequence(),
            fs_blocks,
        }
    }

    /// Finds the end of the log. Writes nothing.
    ///
    /// # Errors
    /// `EBADMSG`: a descriptor's or revoke block's checksum is wrong in a transaction that was committed. `EIO`.
    pub(super) fn scan(&self) -> Result<Scan> {
        let mut data = self.area.reader();
        let mut scan = Scan {
            end: self.sequence,
            head: self.start,
            corrupt: false,
        };
        let (mut sum, mut last_time, mut doubtful) = (!0, 0, false);
        self.walk(None, |met| {
            match met.kind {
                COMMIT => {
                    let time = Format::commit_time(met.block);
                    // A transaction older than the one before it is left from an earlier life of the log.
                    if !doubtful && self.format.commit_is_true(met.block, sum) {
                        (sum, last_time) = (!0, time);
                        scan.end = met.tid.wrapping_add(1);
                        scan.head = met.next;
                        return Ok(Step::NextTransaction);
                    }
                    if time >= last_time && doubtful {
                        log::error!("{JBD2}Invalid checksum found in transaction {}", met.tid);
                        return Err(Errno::EBADMSG);
                    }
                    scan.corrupt = time >= last_time && self.is_followed(met.next, met.tid, &mut data)?;
                    return Ok(Step::Stop);
                }
                DESCRIPTOR => {
                    doubtful |= !self.format.is_sealed(met.block);
                    sum = self.format.add_to_sum(sum, met.block);
                    sum = self.sum_of_data(sum, &met, &mut data)?;
                }
                REVOKE => doubtful |= !self.format.is_sealed(met.block),
                _ => return Ok(Step::Stop),
            }
            Ok(Step::On)
        })?;
        Ok(scan)
    }

    /// CRC-32 over a descriptor's data blocks, if this journal keeps one.
    fn sum_of_data(&self, mut sum: u32, met: &Met<'_>, data: &mut AreaReader<'_>) -> Result<u32> {
        if self.format.checksums == super::Checksums::Commit {
            let mut at = met.next;
            for _ in &met.tags {
                sum = self.format.add_to_sum(sum, data.read(at)?);
                at = self.extent.after(at, 1);
            }
        }
        Ok(sum)
    }

    /// Whether the log goes on with a transaction after `tid` at `block`.
    fn is_followed(&self, block: u32, tid: Tid, data: &mut AreaReader<'_>) -> Result<bool> {
        let header = Header::parse(data.read(block)?);
        Ok(header.is_some_and(|header| header.tid == tid.wrapping_add(1)))
    }

    /// Brings everything before `scan.end` home and flushes.
    ///
    /// # Errors
    /// `EBADMSG`: some blocks had wrong checksums; the others are home. `EUCLEAN`: the log is corrupt; what was good is home. `EIO`.
    pub(super) fn run(&self, scan: &Scan, buffers: &BufferCache) -> Result<Recovery> {
        let revoked = self.revoked(scan.end)?;
        let mut recovery = Recovery {
            transactions: scan.end.wrapping_sub(self.sequence),
            ..Recovery::default()
        };
        let versions = self.versions(scan.end, &revoked, &mut recovery)?;
        let written = self.write_home(&versions, buffers, &mut recovery);
        buffers.device().flush()?;
        written?;
        if scan.corrupt {
            log::error!("{JBD2}journal transaction {} is corrupt.", scan.end);
            return Err(Errno::EUCLEAN);
        }
        Ok(recovery)
    }

    /// The revoke pass: the last transaction that revoked a block.
    fn revoked(&self, end: Tid) -> Result<BTreeMap<u64, Tid>> {
        let mut revoked = BTreeMap::new();
        self.walk(Some(end), |met| {
            if met.kind == REVOKE {
                let blocks = self.format.revoked(met.block).ok_or(Errno::EUCLEAN)?;
                // A block that the file system does not have is not replayed anyway; so the table cannot outgrow the file system.
                let inside = blocks.into_iter().filter(|&block| block < self.fs_blocks);
                // Transactions come in order, so the later one stays.
                revoked.extend(inside.map(|block| (block, met.tid)));
            }
            Ok(Step::for_kind(met.kind))
        })?;
        Ok(revoked)
    }

    /// The replay pass: where the newest version of each block lies.
    fn versions(
        &self,
        end: Tid,
        revoked: &BTreeMap<u64, Tid>,
        recovery: &mut Recovery,
    ) -> Result<BTreeMap<u64, Version>> {
        let mut versions = BTreeMap::new();
        self.walk(Some(end), |met| {
            let mut log_block = met.next;
            for tag in met.tags {
                if revoked.get(&tag.block).is_some_and(|&last| is_at_least(last, met.tid)) {
                    recovery.revoked += 1;
                } else {
                    let version = Version {
                        tid: met.tid,
                        log_block,
                        tag,
                    };
                    versions.insert(tag.block, version);
                }
                log_block = self.extent.after(log_block, 1);
            }
            Ok(Step::for_kind(met.kind))
        })?;
        Ok(versions)
    }

    /// Writes the versions home, good ones even if some are bad.
    fn write_home(
        &self,
        versions: &BTreeMap<u64, Version>,
        buffers: &BufferCache,
        recovery: &mut Recovery,
    ) -> Result<()> {
        let mut result = Ok(());
        let mut writer = RunWriter::new(&**buffers.device(), self.format.block_size);
        for (&block, version) in versions {
            let good = self.version(block, version).and_then(|bytes| {
                writer.push(block, &bytes)?;
                buffers.refresh(block, &bytes);
                Ok(())
            });
            match good {
                Ok(()) => recovery.replayed += 1,
                Err(error) => result = Err(error),
            }
        }
        writer.finish().and(result)
    }

    /// The bytes of a version.
    fn version(&self, block: u64, version: &Version) -> Result<Vec<u8>> {
        if block >= self.fs_blocks {
            log::error!("{JBD2}block {block} in the log is not in the file system");
            return Err(Errno::EUCLEAN);
        }
        let mut bytes = self.area.read(version.log_block).inspect_err(|error| {
            log::error!("{JBD2}IO error {error} recovering block {} in log", version.log_block);
        })?;
        if !self.format.tag_is_true(&version.tag, version.tid, &bytes) {
            log::error!("{JBD2}Invalid checksum recovering data block {block} in log");
            return Err(Errno::EBADMSG);
        }
        if version.tag.flags & ESCAPED != 0 {
            put_be32(&mut bytes, 0, MAGIC);
        }
        Ok(bytes)
    }

    /// Goes through the journal's own blocks in order, up to transaction `end` or to the first block that is not the expected one.
    fn walk(&self, end: Option<Tid>, mut visit: impl FnMut(Met<'_>) -> Result<Step>) -> Result<()> {
        let mut reader = self.area.reader();
        let (mut tid, mut at) = (self.sequence, self.start);
        // A log that bites its tail ends there.
        let mut left = self.extent.size();
        while end != Some(tid) {
            let block = reader.read(at)?;
            let Some(header) = Header::parse(block).filter(|header| header.tid == tid) else {
                break;
            };
            let tags = match header.kind {
                DESCRIPTOR => self.format.tags(block),
                _ => Vec::new(),
            };
            let length = 1 + tags.len() as u32;
            let Some(rest) = left.checked_sub(length) else { break };
            left = rest;
            let met = Met {
                kind: header.kind,
                tid,
                block,
                tags,
                next: self.extent.after(at, 1),
            };
            match visit(met)? {
                Step::On => {}
                Step::NextTransaction => tid = tid.wrapping_add(1),
                Step::Stop => break,
            }
            at = self.extent.after(at, length);
        }
        Ok(())
    }
}

impl Step {
    /// How the passes after the scan go on.
    fn for_kind(kind: u32) -> Step {
        match kind {
            COMMIT => Step::NextTransaction,
            DESCRIPTOR | REVOKE => Step::On,
            _ => Step::Stop,
        }
    }
}
