//! CPU time and other counts of tasks and processes: `getrusage(2)`, `times(2)`.

use core::sync::atomic::{AtomicU64, Ordering};

use super::table::{self, Tree};
use super::{Process, Task};
use crate::syscall::Context;
use crate::user::UserPtr;
use crate::{Errno, Result, abi_struct};

/// A clock tick as guests know it (`sysconf(_SC_CLK_TCK)` is 100), ns.
pub const TICK_NS: u64 = 10_000_000;

/// Counts of one task besides its time.
#[derive(Debug, Default)]
pub struct Counters {
    /// Faults without input.
    pub minor_faults: AtomicU64,
    /// Faults with input.
    pub major_faults: AtomicU64,
    /// Bytes read from block devices and host files, in 512-byte units.
    pub blocks_in: AtomicU64,
    /// Bytes written, in 512-byte units.
    pub blocks_out: AtomicU64,
}

/// What has been used, in total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// User time, ns.
    pub user: u64,
    /// System time, ns.
    pub system: u64,
    /// Largest resident size, KiB.
    pub max_rss: u64,
    /// Faults without input.
    pub minor_faults: u64,
    /// Faults with input.
    pub major_faults: u64,
    /// 512-byte blocks read.
    pub blocks_in: u64,
    /// 512-byte blocks written.
    pub blocks_out: u64,
    /// Switches because it slept.
    pub voluntary: u64,
    /// Switches because it was preempted.
    pub involuntary: u64,
}

impl Usage {
    /// Both together; the resident size is the larger one.
    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            user: self.user.saturating_add(other.user),
            system: self.system.saturating_add(other.system),
            max_rss: self.max_rss.max(other.max_rss),
            minor_faults: self.minor_faults.saturating_add(other.minor_faults),
            major_faults: self.major_faults.saturating_add(other.major_faults),
            blocks_in: self.blocks_in.saturating_add(other.blocks_in),
            blocks_out: self.blocks_out.saturating_add(other.blocks_out),
            voluntary: self.voluntary.saturating_add(other.voluntary),
            involuntary: self.involuntary.saturating_add(other.involuntary),
        }
    }
}

/// What a process remembers of those that are gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Accounting {
    /// Its dead threads.
    pub dead_threads: Usage,
    /// Its children that were waited for, and theirs.
    pub children: Usage,
}

impl Task {
    /// User and system time so far, ns.
    pub fn cpu_times(&self) -> (u64, u64) {
        let Some(thread) = self.thread() else { return (0, 0) };
        let user = thread.user_ns();
        (user, thread.runtime_ns().saturating_sub(user))
    }

    /// What it has used so far.
    pub fn usage(&self) -> Usage {
        let (user, system) = self.cpu_times();
        let (voluntary, involuntary) = self.thread().map_or((0, 0), |thread| thread.switches());
        Usage {
            user,
            system,
            max_rss: 0,
            minor_faults: self.counters.minor_faults.load(Ordering::Relaxed),
            major_faults: self.counters.major_faults.load(Ordering::Relaxed),
            blocks_in: self.counters.blocks_in.load(Ordering::Relaxed),
            blocks_out: self.counters.blocks_out.load(Ordering::Relaxed),
            voluntary,
            involuntary,
        }
    }
}

impl Process {
    /// User and system time of all its threads, dead ones too, ns.
    pub fn cpu_times(&self) -> (u64, u64) {
        let usage = self.usage();
        (usage.user, usage.system)
    }

    /// As [`cpu_times`](Self::cpu_times), with the tree held.
    pub(crate) fn cpu_times_of(&self, tree: &Tree) -> (u64, u64) {
        let usage = self.usage_of(tree);
        (usage.user, usage.system)
    }

    /// What its threads have used, dead ones too.
    pub fn usage(&self) -> Usage {
        self.usage_of(&table::tree())
    }

    /// As [`usage`](Self::usage), with the tree held.
    pub(crate) fn usage_of(&self, tree: &Tree) -> Usage {
        let dead = self.accounting.lock().dead_threads;
        let live = tree.node_of(self).into_iter().flat_map(|node| node.threads.values());
        live.fold(dead, |sum, task| sum.plus(task.usage()))
    }

    /// What its children have used that were waited for.
    pub fn children_usage(&self) -> Usage {
        self.accounting.lock().children
    }
}

abi_struct! {
    /// `struct rusage`.
    pub struct Rusage {
        user: [i64; 2],
        system: [i64; 2],
        max_rss: i64,
        unused1: [i64; 3],
        minor_faults: i64,
        major_faults: i64,
        swaps: i64,
        blocks_in: i64,
        blocks_out: i64,
        unused2: [i64; 3],
        voluntary: i64,
        involuntary: i64,
    }
}

impl From<Usage> for Rusage {
    fn from(usage: Usage) -> Self {
        let timeval = |ns: u64| [(ns / 1_000_000_000) as i64, (ns / 1000 % 1_000_000) as i64];
        Self {
            user: timeval(usage.user),
            system: timeval(usage.system),
            max_rss: usage.max_rss as i64,
            minor_faults: usage.minor_faults as i64,
            major_faults: usage.major_faults as i64,
            blocks_in: usage.blocks_in as i64,
            blocks_out: usage.blocks_out as i64,
            voluntary: usage.voluntary as i64,
            involuntary: usage.involuntary as i64,
            ..Self::default()
        }
    }
}

/// `getrusage(2)`.
pub fn sys_getrusage(cx: &Context, who: i32, out: UserPtr<Rusage>) -> Result<usize> {
    let task = cx.task();
    // Only asked for here: the host has to look for it.
    let resident = |usage: Usage| Usage {
        max_rss: task.mm().stats().rss_peak >> 10,
        ..usage
    };
    let usage = match who {
        0 => resident(task.process().usage()),
        1 => resident(task.usage()),
        -1 => task.process().children_usage(),
        _ => return Err(Errno::EINVAL),
    };
    out.write(&usage.into())?;
    Ok(0)
}

/// `times(2)`: returns ticks since boot.
pub fn sys_times(cx: &Context, out: UserPtr<[i64; 4]>) -> Result<usize> {
    let ticks = |ns: u64| (ns / TICK_NS) as i64;
    if let Some(out) = out.non_null() {
        let own = cx.task().process().usage();
        let children = cx.task().process().children_usage();
        out.write(&[
            ticks(own.user),
            ticks(own.system),
            ticks(children.user),
            ticks(children.system),
        ])?;
    }
    let uptime = arch_um::time::uptime().as_nanos() / u128::from(TICK_NS);
    Ok(uptime as usize)
}
