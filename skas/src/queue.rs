//! The queue of mapping changes of a space, run in order by one of its stub threads.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use arch_um::Errno;

use crate::host;
use crate::region::{self, MAX_OPS, Region};
use crate::stats::COUNTERS;

/// The most files of one batch; a fork adds two descriptors.
pub(crate) const MAX_FILES: usize = 16;

/// Kinds of operation, as `stub.s` numbers them.
pub(crate) const MMAP: u32 = 0;
pub(crate) const MUNMAP: u32 = 1;
pub(crate) const MPROTECT: u32 = 2;
pub(crate) const MREMAP: u32 = 3;
pub(crate) const MADVISE: u32 = 4;
pub(crate) const CMPXCHG: u32 = 5;

pub(crate) struct Op {
    pub(crate) kind: u32,
    pub(crate) args: [u64; 6],
    pub(crate) file: Option<Arc<OwnedFd>>,
}

#[derive(Default)]
pub(crate) struct Queue {
    ops: VecDeque<Op>,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.ops.clear();
    }

    /// Appends, merged with the last operation where both are neighbours of the same kind.
    pub(crate) fn push(&mut self, op: Op) {
        if let Some(last) = self.ops.back_mut()
            && last.kind == op.kind
            && last.file.is_none()
            && op.file.is_none()
        {
            let same = match op.kind {
                MMAP => last.args[2] == op.args[2] && last.args[3] == op.args[3],
                MUNMAP => true,
                MPROTECT | MADVISE => last.args[2] == op.args[2],
                _ => false,
            };
            if same && last.args[0] + last.args[1] == op.args[0] {
                last.args[1] += op.args[1];
                return;
            }
            if same && op.args[0] + op.args[1] == last.args[0] {
                last.args[0] = op.args[0];
                last.args[1] += op.args[1];
                return;
            }
        }
        self.ops.push_back(op);
    }

    /// Whether all that is queued fits into one batch.
    pub(crate) fn fits(&self) -> bool {
        self.ops.len() <= MAX_OPS && self.ops.iter().filter(|op| op.file.is_some()).count() <= MAX_FILES
    }

    /// Moves as much as fits into a region and sends the files, with `extra` descriptors after them. Returns how many files went before
    /// the extra ones.
    pub(crate) fn stage(&mut self, region: &Region, socket: &OwnedFd, extra: &[i32]) -> Result<usize, Errno> {
        let mut files: Vec<Arc<OwnedFd>> = Vec::new();
        let mut count = 0;
        while let Some(op) = self.ops.front() {
            if count == MAX_OPS || (op.file.is_some() && files.len() == MAX_FILES) {
                break;
            }
            let op = self.ops.pop_front().expect("looked at above");
            let slot = match op.file {
                None => -1,
                Some(file) => match files.iter().position(|known| Arc::ptr_eq(known, &file)) {
                    Some(slot) => slot as i32,
                    None => {
                        files.push(file);
                        files.len() as i32 - 1
                    }
                },
            };
            region.put_op(count, op.kind, slot, &op.args);
            count += 1;
        }
        let fds: Vec<i32> = files
            .iter()
            .map(|file| file.as_raw_fd())
            .chain(extra.iter().copied())
            .collect();
        if !fds.is_empty() {
            region.prepare_receive(fds.len());
            host::send_fds(std::os::fd::AsFd::as_fd(socket), &fds)?;
        }
        region.put32(region::COUNT, count as u32);
        region.put32(region::RECEIVE, fds.len() as u32);
        region.put32(region::CLOSE, files.len() as u32);
        COUNTERS
            .mapping_ops
            .fetch_add(count as u64, std::sync::atomic::Ordering::Relaxed);
        crate::stats::count(&COUNTERS.batches);
        Ok(files.len())
    }
}
