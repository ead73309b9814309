//! [`FaultDisk`]: a disk in memory that fails on purpose, for tests of file systems and of the block layer. No time passes in it.
//!
//! It keeps what a flush has made durable apart from what was written since. [`FaultDisk::crash`] makes the image that a power cut could leave: any of
//! the unflushed writes, in any order, whole or torn. [`FaultDisk::fail`] makes the n-th request fail. It is a [`BlockDriver`], and can be asked
//! directly ([`FaultDisk::request`]) by tools that have no kernel around them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use arch_um::sync::{SpinLock, order};

use super::SECTOR;
use super::bio::{Bio, BlockDriver, Op};
use crate::{Errno, Result};

/// A write that no flush has followed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unflushed {
    /// First byte.
    pub offset: u64,
    /// The data.
    pub data: Vec<u8>,
}

/// How much of an unflushed write a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All of it.
    Kept,
    /// Its first sectors only.
    Torn {
        /// How many sectors.
        sectors: usize,
    },
}

/// See the module.
pub struct FaultDisk {
    state: SpinLock<State>,
}

struct State {
    durable: Vec<u8>,
    now: Vec<u8>,
    unflushed: Vec<Unflushed>,
    /// Requests so far.
    count: u64,
    failures: BTreeMap<u64, Errno>,
    /// Bytes from here on fail, whatever is asked.
    bad: Vec<(core::ops::Range<u64>, Errno)>,
    log: Vec<(Op, u64, u64)>,
}

impl FaultDisk {
    /// A disk with these contents, all durable.
    pub fn new(contents: Vec<u8>) -> Self {
        Self {
            state: SpinLock::new(
                &order::DRIVER,
                State {
                    now: contents.clone(),
                    durable: contents,
                    unflushed: Vec::new(),
                    count: 0,
                    failures: BTreeMap::new(),
                    bad: Vec::new(),
                    log: Vec::new(),
                },
            ),
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.state.lock().now.len() as u64
    }

    /// Whether it has no sectors.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The request that comes after `skip` others fails with `errno` (`EIO`, `ENOSPC`) and does nothing.
    pub fn fail(&self, skip: u64, errno: Errno) {
        let mut state = self.state.lock();
        let at = state.count + skip;
        state.failures.insert(at, errno);
    }

    /// Requests that touch the bytes `range` fail with `errno` from now on.
    pub fn damage(&self, range: core::ops::Range<u64>, errno: Errno) {
        self.state.lock().bad.push((range, errno));
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.failures.clear();
        state.bad.clear();
    }

    /// Requests seen so far, the failed ones too.
    pub fn count(&self) -> u64 {
        self.state.lock().count
    }

    /// The requests so far: what, where, how long.
    pub fn log(&self) -> Vec<(Op, u64, u64)> {
        self.state.lock().log.clone()
    }

    /// What was written since the last flush, in order.
    pub fn unflushed(&self) -> Vec<Unflushed> {
        self.state.lock().unflushed.clone()
    }

    /// What a reader sees.
    pub fn contents(&self) -> Vec<u8> {
        self.state.lock().now.clone()
    }

    /// The image after a power cut: what was durable and then, in this order, those of [`unflushed`](Self::unflushed) that `survivors` names.
    pub fn crash(&self, survivors: &[(usize, Fate)]) -> Vec<u8> {
        let state = self.state.lock();
        let mut image = state.durable.clone();
        for &(index, fate) in survivors {
            let Some(write) = state.unflushed.get(index) else {
                continue;
            };
            let len = match fate {
                Fate::Kept => write.data.len(),
                Fate::Torn { sectors } => write.data.len().min(sectors * SECTOR as usize),
            };
            image[write.offset as usize..][..len].copy_from_slice(&write.data[..len]);
        }
        image
    }

    /// Carries one request out, at once.
    ///
    /// # Errors
    /// The ones asked for with [`fail`](Self::fail) and [`damage`](Self::damage); `EIO` past the end.
    pub fn request(&self, op: Op, offset: u64, len: u64, data: &mut [u8]) -> Result<()> {
        let mut state = self.state.lock();
        let number = state.count;
        state.count += 1;
        state.log.push((op, offset, len));
        if let Some(errno) = state.failures.remove(&number) {
            return Err(errno);
        }
        let end = offset.checked_add(len).filter(|&end| end <= state.now.len() as u64);
        let end = end.ok_or(Errno::EIO)?;
        let touches = |range: &core::ops::Range<u64>| offset < range.end && range.start < end;
        if let Some((_, errno)) = state.bad.iter().find(|(range, _)| touches(range)) {
            return Err(*errno);
        }
        let place = offset as usize..end as usize;
        match op {
            Op::Read => data.copy_from_slice(state.now.get(place).ok_or(Errno::EIO)?),
            Op::Write => state.write(offset, data.to_vec()),
            Op::Discard | Op::WriteZeroes => state.write(offset, alloc::vec![0; len as usize]),
            Op::Flush => {
                state.durable = state.now.clone();
                state.unflushed.clear();
            }
        }
        Ok(())
    }
}

impl State {
    fn write(&mut self, offset: u64, data: Vec<u8>) {
        self.now[offset as usize..][..data.len()].copy_from_slice(&data);
        self.unflushed.push(Unflushed { offset, data });
    }
}

impl BlockDriver for FaultDisk {
    fn submit(&self, mut bio: Bio) {
        let outcome = self.request(bio.op, bio.offset, bio.len, &mut bio.data);
        bio.complete(outcome);
    }

    fn can_discard(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_keeps_what_was_flushed_and_only_what_it_is_told_of_the_rest() {
        let disk = FaultDisk::new(alloc::vec![0; 4096]);
        disk.request(Op::Write, 0, 512, &mut [1; 512]).expect("a write");
        disk.request(Op::Flush, 0, 0, &mut []).expect("a flush");
        disk.request(Op::Write, 512, 1024, &mut [2; 1024]).expect("a write");
        disk.request(Op::Write, 512, 512, &mut [3; 512]).expect("a write");
        let starts = |image: Vec<u8>| [image[0], image[512], image[1024]];
        assert_eq!(starts(disk.crash(&[])), [1, 0, 0]);
        assert_eq!(starts(disk.crash(&[(0, Fate::Kept), (1, Fate::Kept)])), [1, 3, 2]);
        assert_eq!(starts(disk.crash(&[(1, Fate::Kept), (0, Fate::Kept)])), [1, 2, 2]);
        assert_eq!(starts(disk.crash(&[(0, Fate::Torn { sectors: 1 })])), [1, 2, 0]);
        assert_eq!(starts(disk.contents()), [1, 3, 2]);
    }

    #[test]
    fn the_request_that_shall_fail_fails_and_changes_nothing() {
        let disk = FaultDisk::new(alloc::vec![0; 4096]);
        disk.fail(1, Errno::ENOSPC);
        assert_eq!(disk.request(Op::Write, 0, 512, &mut [1; 512]), Ok(()));
        assert_eq!(disk.request(Op::Write, 0, 512, &mut [2; 512]), Err(Errno::ENOSPC));
        assert_eq!(disk.request(Op::Write, 512, 512, &mut [3; 512]), Ok(()));
        disk.damage(512..1024, Errno::EIO);
        assert_eq!(disk.request(Op::Read, 0, 1024, &mut [0; 1024]), Err(Errno::EIO));
        assert_eq!(disk.contents()[0], 1);
    }
}
