//! File locks: POSIX records (per process), open file description records, `flock(2)`. All advisory.
//!
//! The locks of a file hang on its inode ([`FileLocks`] in `InodeState`). POSIX and OFD records see each other; `flock` locks see only their kind.
//! Who waits for a POSIX record is noted in [`WAITING`], so that a circle is found (`EDEADLK`).
//!
//! Lock order: `FileLocks::list`, then `WAITING` (a leaf).

use alloc::vec::Vec;

use arch_um::sync::{Interruptible, SpinLock, WaitQueue, order};

use super::file::File;
use super::inode::Inode;
use crate::{Errno, Result};

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A process, by its descriptor table (POSIX).
    Process(u64),
    /// An open file description (OFD).
    Description(u64),
    /// An open file description, of the other kind (`flock`).
    Flock(u64),
}

impl Owner {
    fn sees(self, other: Owner) -> bool {
        matches!(self, Owner::Flock(_)) == matches!(other, Owner::Flock(_))
    }
}

/// Shared or exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// `F_RDLCK`, `LOCK_SH`.
    Read,
    /// `F_WRLCK`, `LOCK_EX`.
    Write,
}

/// One lock on bytes `start..=end`; `end` of [`END`] means "to the end of the file, wherever it is".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who holds it.
    pub owner: Owner,
    /// How.
    pub kind: LockKind,
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub end: u64,
    /// The process for `F_GETLK`; -1 for descriptions.
    pub pid: i32,
}

/// The last byte that a file can have.
pub const END: u64 = i64::MAX as u64;

impl Record {
    fn overlaps(&self, other: &Record) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    fn conflicts(&self, other: &Record) -> bool {
        self.owner != other.owner
            && self.owner.sees(other.owner)
            && self.overlaps(other)
            && (self.kind == LockKind::Write || other.kind == LockKind::Write)
    }
}

/// The locks of one file.
pub struct FileLocks {
    list: SpinLock<Vec<Record>>,
    queue: WaitQueue,
}

impl FileLocks {
    fn new() -> Self {
        Self {
            list: SpinLock::new(&order::FILE_LOCKS, Vec::new()),
            queue: WaitQueue::new(),
        }
    }

    /// Those locks now (/proc/locks).
    pub fn records(&self) -> Vec<Record> {
        self.list.lock().clone()
    }
}

/// Which process waits for which (POSIX): descriptor table ids.
static WAITING: SpinLock<Vec<(u64, u64)>> = SpinLock::new(&order::LEAF, Vec::new());

/// Whether to wait for a lock that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// `F_SETLKW`.
    Wait,
    /// `F_SETLK`, `LOCK_NB`: `EAGAIN`.
    Now,
}

/// The first lock that stands against `wanted`, if any (`F_GETLK`).
pub fn test(inode: &dyn Inode, wanted: &Record) -> Option<Record> {
    let locks = inode.state().get::<FileLocks>()?;
    let list = locks.list.lock();
    list.iter().find(|held| wanted.conflicts(held)).copied()
}

/// Takes `wanted`, in the place of what its owner holds on those bytes.
///
/// # Errors
/// `EAGAIN` without patience; `EDEADLK` when waiting would close a circle; a signal ends the wait.
pub fn acquire(inode: &dyn Inode, wanted: Record, patience: Patience) -> Result<()> {
    let locks = inode.state().get_or_init(FileLocks::new);
    if let Owner::Flock(_) = wanted.owner {
        // A conversion gives the old lock up first: flock(2) says that it is not atomic.
        let mut list = locks.list.lock();
        let same = list
            .iter()
            .any(|held| held.owner == wanted.owner && held.kind == wanted.kind);
        if !same {
            cut(&mut list, wanted.owner, wanted.start, wanted.end);
            drop(list);
            locks.queue.wake_all();
        }
    }
    let attempt = || {
        let mut list = locks.list.lock();
        match list.iter().find(|held| wanted.conflicts(held)).copied() {
            None => {
                insert(&mut list, wanted);
                Some(Ok(()))
            }
            Some(_) if patience == Patience::Now => Some(Err(Errno::EAGAIN)),
            Some(holder) => note_wait(wanted.owner, holder.owner).err().map(Err),
        }
    };
    let result = locks.queue.wait_until(Interruptible::Yes, None, attempt);
    if let Owner::Process(id) = wanted.owner {
        WAITING.lock().retain(|&(waiter, _)| waiter != id);
    }
    // A downgrade may let others in.
    locks.queue.wake_all();
    result?
}

/// Gives up what `owner` holds of bytes `start..=end`.
pub fn release(inode: &dyn Inode, owner: Owner, start: u64, end: u64) {
    let Some(locks) = inode.state().get::<FileLocks>() else {
        return;
    };
    let changed = cut(&mut locks.list.lock(), owner, start, end);
    if changed {
        locks.queue.wake_all();
    }
}

/// A process closed one of its descriptors of this file: all its records on it go (`fcntl(2)`).
pub(super) fn release_posix(file: &File, table: u64) {
    if let Some(path) = file.path() {
        release(&**path.dentry.inode(), Owner::Process(table), 0, END);
    }
}

/// A description is gone, and its locks with it.
pub(super) fn release_description(inode: &dyn Inode, id: u64) {
    if inode.state().get::<FileLocks>().is_some() {
        release(inode, Owner::Description(id), 0, END);
        release(inode, Owner::Flock(id), 0, END);
    }
}

fn note_wait(waiter: Owner, holder: Owner) -> Result<()> {
    let (Owner::Process(waiter), Owner::Process(holder)) = (waiter, holder) else {
        return Ok(());
    };
    let mut waiting = WAITING.lock();
    waiting.retain(|&(other, _)| other != waiter);
    let mut at = holder;
    for _ in 0..=waiting.len() {
        if at == waiter {
            return Err(Errno::EDEADLK);
        }
        match waiting.iter().find(|&&(other, _)| other == at) {
            Some(&(_, next)) => at = next,
            None => break,
        }
    }
    waiting.push((waiter, holder));
    Ok(())
}

/// Removes `start..=end` from what `owner` holds; whether anything was there.
fn cut(list: &mut Vec<Record>, owner: Owner, start: u64, end: u64) -> bool {
    let mut rest = Vec::new();
    let mut changed = false;
    list.retain(|held| {
        if held.owner != owner || held.end < start || end < held.start {
            return true;
        }
        changed = true;
        if held.start < start {
            rest.push(Record {
                end: start - 1,
                ..*held
            });
        }
        if end < held.end {
            rest.push(Record {
                start: end + 1,
                ..*held
            });
        }
        false
    });
    list.append(&mut rest);
    changed
}

/// Puts `wanted` in the place of what its owner holds there, joined with its equal neighbours.
fn insert(list: &mut Vec<Record>, wanted: Record) {
    cut(list, wanted.owner, wanted.start, wanted.end);
    let mut joined = wanted;
    list.retain(|held| {
        let touches = held.owner == joined.owner
            && held.kind == joined.kind
            && held.start <= joined.end.saturating_add(1)
            && joined.start <= held.end.saturating_add(1);
        if touches {
            joined.start = joined.start.min(held.start);
            joined.end = joined.end.max(held.end);
        }
        !touches
    });
    list.push(joined);
    list.sort_unstable_by_key(|held| held.start);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn record(owner: u64, kind: LockKind, start: u64, end: u64) -> Record {
        Record {
            owner: Owner::Process(owner),
            kind,
            start,
            end,
            pid: owner as i32,
        }
    }

    #[test]
    fn unlocking_the_middle_splits_a_record() {
        let mut list = vec![record(1, LockKind::Write, 0, 99)];
        assert!(cut(&mut list, Owner::Process(1), 10, 19));
        list.sort_by_key(|held| held.start);
        assert_eq!(
            list,
            [record(1, LockKind::Write, 0, 9), record(1, LockKind::Write, 20, 99)]
        );
    }

    #[test]
    fn neighbours_of_one_owner_and_kind_join() {
        let mut list = vec![record(1, LockKind::Read, 0, 9), record(1, LockKind::Read, 20, END)];
        insert(&mut list, record(1, LockKind::Read, 10, 19));
        assert_eq!(list, [record(1, LockKind::Read, 0, END)]);
    }

    #[test]
    fn flock_and_records_do_not_see_each_other() {
        let flock = Record {
            owner: Owner::Flock(1),
            kind: LockKind::Write,
            start: 0,
            end: END,
            pid: 1,
        };
        assert!(!flock.conflicts(&record(2, LockKind::Write, 0, END)));
    }

    #[test]
    fn a_circle_of_waiters_is_a_deadlock() {
        assert_eq!(note_wait(Owner::Process(9001), Owner::Process(9002)), Ok(()));
        assert_eq!(
            note_wait(Owner::Process(9002), Owner::Process(9001)),
            Err(Errno::EDEADLK)
        );
    }
}
