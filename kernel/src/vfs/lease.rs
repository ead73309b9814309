//! File leases (`fcntl(2)`: `F_SETLEASE`): who holds one hears of an open or a truncation that does not go with it, and has a while to give way.
//!
//! The leases of a file hang on its inode ([`Leases`] in `InodeState`), so they hold among the guest's own programs: what others on the host do with a file
//! of hostfs breaks nothing. An opener first counts himself ([`InodeState::claim`](super::InodeState::claim)) and then looks for leases; who wants a lease first notes it and then looks at the
//! counts: so one of the two sees the other.
//!
//! Lock order: `Leases::list` ([`order::FILE_LOCKS`]); signals are sent without it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI64, Ordering};
use core::time::Duration;

use arch_um::sync::{Interruptible, SpinLock, WaitError, WaitQueue, order};
use arch_um::time::Instant;

use super::attr::FileType;
use super::fasync::{self, FileOwner, Target};
use super::fd_table::Fd;
use super::file::File;
use super::inode::Inode;
use super::lock::{LockKind, Patience};
use crate::task::{Capabilities, Pid, Task};
use crate::{Errno, Result};

/// Seconds that a holder has (/proc/sys/fs/lease-break-time); 0: as long as he likes.
pub static BREAK_TIME: AtomicI64 = AtomicI64::new(45);
/// Whether there are new leases (/proc/sys/fs/leases-enable).
pub static ENABLED: AtomicI64 = AtomicI64::new(1);

/// `POLL_MSG` as `si_code`, and what `si_band` says then: `POLLIN | POLLRDNORM | POLLMSG`.
const POLL_MSG: (i32, u32) = (3, 0x441);

/// A lease.
struct Lease {
    /// The open file description that holds it.
    description: u64,
    /// Its owner, who is told.
    owner: Arc<SpinLock<FileOwner>>,
    /// The descriptor it was taken through, which the signal names.
    fd: Fd,
    /// The process that took it.
    pid: Pid,
    kind: LockKind,
    /// A reader waits: until then it has to become a read lease.
    downgrade: Option<Until>,
    /// A writer waits: until then it has to go.
    unlock: Option<Until>,
}

/// When patience ends; `None`: never.
#[derive(Clone, Copy)]
struct Until(Option<Instant>);

impl Until {
    fn is_over(self, now: Instant) -> bool {
        self.0.is_some_and(|end| end <= now)
    }
}

impl Lease {
    fn conflicts(&self, breaker: LockKind) -> bool {
        self.kind == LockKind::Write || breaker == LockKind::Write
    }

    /// What it is, or is to become while it is being broken.
    fn target(&self) -> Option<LockKind> {
        match (self.unlock, self.downgrade) {
            (Some(_), _) => None,
            (None, Some(_)) => Some(LockKind::Read),
            (None, None) => Some(self.kind),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.unlock.or(self.downgrade).and_then(|until| until.0)
    }
}

/// The leases of one file.
pub struct Leases {
    list: SpinLock<Vec<Lease>>,
    /// Breakers that wait.
    queue: WaitQueue,
}

/// A lease as /proc/locks shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Whether somebody waits for it to give way.
    pub is_breaking: bool,
    /// As of `F_GETLEASE`.
    pub kind: Option<LockKind>,
    /// Who took it.
    pub pid: Pid,
}

impl Leases {
    fn new() -> Self {
        Self {
            list: SpinLock::new(&order::FILE_LOCKS, Vec::new()),
            queue: WaitQueue::new(),
        }
    }

    /// Those leases now.
    pub fn shown(&self) -> Vec<Shown> {
        let list = self.list.lock();
        let shown = list.iter().map(|lease| Shown {
            is_breaking: lease.unlock.is_some() || lease.downgrade.is_some(),
            kind: lease.target(),
            pid: lease.pid,
        });
        shown.collect()
    }
}

/// Takes what has not given way in time. The owners of leases that are gone are to be forgotten, by [`forget`] and without the lock.
#[must_use]
fn time_out(list: &mut Vec<Lease>) -> Vec<Lease> {
    let now = Instant::now();
    for lease in list.iter_mut() {
        if lease.downgrade.is_some_and(|until| until.is_over(now)) {
            lease.kind = LockKind::Read;
            lease.downgrade = None;
        }
    }
    list.extract_if(.., |lease| lease.unlock.is_some_and(|until| until.is_over(now)))
        .collect()
}

/// With a lease its owner goes, and the signal he wished.
fn forget(gone: Vec<Lease>) {
    for lease in gone {
        let old = core::mem::take(&mut *lease.owner.lock());
        drop(old);
    }
}

/// `F_SETLEASE`: takes, changes or (with `None`) gives up the lease that `file` holds; `fd` is the descriptor of it that `task` named.
///
/// # Errors
/// `EACCES` for somebody else's file without `CAP_LEASE`; `EINVAL` for what is no regular file; `EAGAIN` for a lease that others who have the file open do not
/// allow, and when there is none to give up.
pub fn set(task: &Task, fd: Fd, file: &File, kind: Option<LockKind>) -> Result<()> {
    let inode = file.inode().ok_or(Errno::EINVAL)?;
    let cred = task.cred();
    if cred.fsuid != inode.metadata()?.uid && !cred.capable(Capabilities::LEASE) {
        return Err(Errno::EACCES);
    }
    if inode.kind() != FileType::Regular {
        return Err(Errno::EINVAL);
    }
    let Some(kind) = kind else {
        return if remove(&*inode, file.id()) {
            Ok(())
        } else {
            Err(Errno::EAGAIN)
        };
    };
    let pid = task.process().pid();
    take(&*inode, fd, file, kind, pid)?;
    // Whoever has an owner already keeps him.
    if file.owner().lock().target == Target::Nobody {
        fasync::set_owner(file, Target::Process(pid), cred)?;
    }
    Ok(())
}

fn take(inode: &dyn Inode, fd: Fd, file: &File, kind: LockKind, pid: Pid) -> Result<()> {
    check_opens(inode, file, kind)?;
    let leases = inode.state().get_or_init(Leases::new);
    let mut list = leases.list.lock();
    let gone = time_out(&mut list);
    let others = list.iter().filter(|lease| lease.description != file.id());
    let refused = others
        .into_iter()
        .any(|lease| kind == LockKind::Write || lease.unlock.is_some());
    let mine = list.iter_mut().find(|lease| lease.description == file.id());
    let taken = match mine {
        _ if refused => Err(Errno::EAGAIN),
        Some(lease) => {
            lease.kind = kind;
            if kind == LockKind::Read {
                lease.downgrade = None;
            }
            Ok(())
        }
        None if ENABLED.load(Ordering::Relaxed) == 0 => Err(Errno::EINVAL),
        None => {
            list.push(Lease {
                description: file.id(),
                owner: file.owner().clone(),
                fd,
                pid,
                kind,
                downgrade: None,
                unlock: None,
            });
            let checked = check_opens(inode, file, kind);
            if checked.is_err() {
                list.pop();
            }
            checked
        }
    };
    drop(list);
    forget(gone);
    leases.queue.wake_all();
    taken
}

/// A read lease goes with readers, a write lease with nobody but its own description.
fn check_opens(inode: &dyn Inode, file: &File, kind: LockKind) -> Result<()> {
    let allowed = match kind {
        LockKind::Read => inode.state().writers.load(Ordering::SeqCst) <= 0,
        LockKind::Write => inode.state().is_claimed_alone(file.claim()),
    };
    if allowed { Ok(()) } else { Err(Errno::EAGAIN) }
}

/// `F_GETLEASE`.
pub fn get(file: &File) -> Option<LockKind> {
    let leases = file.inode()?.state().get::<Leases>()?;
    let mut list = leases.list.lock();
    let gone = time_out(&mut list);
    let mine = list.iter().find(|lease| lease.description == file.id());
    let target = mine.and_then(Lease::target);
    drop(list);
    forget(gone);
    target
}

/// Takes the lease of a description away; whether there was one.
fn remove(inode: &dyn Inode, description: u64) -> bool {
    let Some(leases) = inode.state().get::<Leases>() else {
        return false;
    };
    let gone: Vec<Lease> = {
        let mut list = leases.list.lock();
        list.extract_if(.., |lease| lease.description == description).collect()
    };
    let found = !gone.is_empty();
    forget(gone);
    leases.queue.wake_all();
    found
}

/// A description is gone, and its lease with it.
pub(super) fn release_description(inode: &dyn Inode, id: u64) {
    remove(inode, id);
}

/// Somebody who has counted himself opens the file to read or to write it: leases that do not go with that are broken. Sleeps until they have given way.
///
/// # Errors
/// `EAGAIN` without patience, and when a signal comes its own; the leases are being broken nevertheless.
pub(super) fn break_for(inode: &dyn Inode, breaker: LockKind, patience: Patience) -> Result<()> {
    let Some(leases) = inode.state().get::<Leases>() else {
        return Ok(());
    };
    let Some(told) = start_breaking(&leases, breaker) else {
        return Ok(());
    };
    for (owner, fd) in told {
        let owner = owner.lock().clone();
        fasync::tell(&owner, fd, POLL_MSG.0, POLL_MSG.1);
    }
    if patience == Patience::Now {
        return Err(Errno::EAGAIN);
    }
    loop {
        let deadline = {
            let list = leases.list.lock();
            let conflicting = list.iter().filter(|lease| lease.conflicts(breaker));
            conflicting.filter_map(Lease::deadline).min()
        };
        let given_way = || {
            let mut list = leases.list.lock();
            let gone = time_out(&mut list);
            let conflict = list.iter().any(|lease| lease.conflicts(breaker));
            drop(list);
            forget(gone);
            (!conflict).then_some(())
        };
        match leases.queue.wait_until(Interruptible::Yes, deadline, given_way) {
            Ok(()) => return Ok(()),
            // One is over; others may be left.
            Err(WaitError::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Asks the holders of conflicting leases to give way, each once; they are to be told. `None` when nothing is in the way.
fn start_breaking(leases: &Leases, breaker: LockKind) -> Option<Vec<(Arc<SpinLock<FileOwner>>, Fd)>> {
    let mut list = leases.list.lock();
    let gone = time_out(&mut list);
    let seconds = u64::try_from(BREAK_TIME.load(Ordering::Relaxed)).unwrap_or(0);
    let until = (seconds > 0).then(|| Instant::now().saturating_add(Duration::from_secs(seconds)));
    let mut told = Vec::new();
    let mut conflict = false;
    for lease in list.iter_mut().filter(|lease| lease.conflicts(breaker)) {
        conflict = true;
        match breaker {
            LockKind::Write if lease.unlock.is_none() => lease.unlock = Some(Until(until)),
            LockKind::Read if lease.unlock.is_none() && lease.downgrade.is_none() => {
                lease.downgrade = Some(Until(until));
            }
            _ => continue,
        }
        told.push((lease.owner.clone(), lease.fd));
    }
    drop(list);
    forget(gone);
    conflict.then_some(told)
}
