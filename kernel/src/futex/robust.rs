//! Robust futexes: a thread that ends leaves word in the locks it holds (`get_robust_list(2)`).
//!
//! The list is in guest memory: it may be of any shape, so the walk is bounded and every entry an allegation.

use crate::mm::Mm;
use crate::task::Task;
use crate::user::UserPtr;
use crate::{Errno, Result};
use alloc::sync::Arc;

use super::bucket::{self, exchange, peek};
use super::key::{self, Scope};
use super::{MATCH_ANY, pi};

/// Threads wait for the lock.
pub const WAITERS: u32 = 0x8000_0000;
/// The owner ended without unlocking.
pub const OWNER_DIED: u32 = 0x4000_0000;
/// The owner's thread id.
pub const TID_MASK: u32 = 0x3fff_ffff;

/// Most locks that are looked at.
const LIST_LIMIT: usize = 2048;

/// An entry of the list: the address, and whether it is a lock with an owner (bit 0).
#[derive(Clone, Copy)]
struct Link {
    addr: u64,
    has_owner: bool,
}

impl Link {
    fn new(link: u64) -> Self {
        Self {
            addr: link & !1,
            has_owner: link & 1 != 0,
        }
    }

    fn read(addr: u64) -> Result<Self> {
        UserPtr::new(addr).read().map(Self::new)
    }
}

/// Marks the locks on the list at `head` (0 for none) as left by `task`, which is the current one and ends or execs, and hands over the locks with an
/// owner that others wait for.
pub fn exit(task: &Task, head: u64) {
    if head != 0 {
        // A broken list ends the walk, as on Linux.
        let _ = walk(task, head);
    }
    pi::owner_exits(task.tid());
}

fn walk(task: &Task, head: u64) -> Result<()> {
    let mm = task.try_mm().ok_or(Errno::EFAULT)?;
    let [first, offset, pending]: [u64; 3] = UserPtr::new(head).read()?;
    let (mut link, pending) = (Link::new(first), Link::new(pending));
    for _ in 0..LIST_LIMIT {
        if link.addr == head {
            break;
        }
        // The next one is read first: the dead lock may be freed as soon as it is marked.
        let next = Link::read(link.addr);
        if link.addr != pending.addr {
            leave(task, &mm, link.addr.wrapping_add(offset), link.has_owner, Pending::No)?;
        }
        link = next?;
        arch_um::cpu::cond_resched();
    }
    if pending.addr != 0 {
        leave(
            task,
            &mm,
            pending.addr.wrapping_add(offset),
            pending.has_owner,
            Pending::Yes,
        )?;
    }
    Ok(())
}

/// Whether the thread ended in the middle of locking or unlocking.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pending {
    Yes,
    No,
}

/// Marks one lock.
fn leave(task: &Task, mm: &Arc<Mm>, addr: u64, has_owner: bool, pending: Pending) -> Result<()> {
    if !addr.is_multiple_of(4) {
        return Err(Errno::EFAULT);
    }
    let tid = task.tid().0 as u32;
    loop {
        let Some(word) = peek(mm, addr) else {
            bucket::fault_in(addr)?;
            continue;
        };
        if pending == Pending::Yes && !has_owner && word & TID_MASK == 0 {
            // It unlocked and did not come to waking.
            wake_one(mm, addr);
            return Ok(());
        }
        if word & TID_MASK != tid {
            return Ok(());
        }
        match exchange(mm, addr, word, word & WAITERS | OWNER_DIED) {
            Ok(found) if found == word => {}
            Ok(_) => continue,
            Err(Errno::EFAULT) => {
                bucket::fault_in_writable(mm, addr)?;
                continue;
            }
            Err(error) => return Err(error),
        }
        if !has_owner && word & WAITERS != 0 {
            wake_one(mm, addr);
        }
        return Ok(());
    }
}

fn wake_one(mm: &Arc<Mm>, addr: u64) {
    if let Ok((key, _)) = key::of(mm, addr, Scope::Shared) {
        bucket::wake(&key, 1, MATCH_ANY);
    }
}
