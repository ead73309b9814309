//! The machine's memory has an end: when programs use more than `mem=`, the largest one is killed.
//!
//! Guest memory is the host's, so nothing fails when the budget is used up: a kernel thread looks at what is resident, seldom while all that
//! programs have mapped would fit, else as often as what is left can be touched. A program that maps much at once brings the next look on. Pages that forked processes share are first counted for each of them; before anybody is killed the host is asked
//! for the real sum.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use arch_um::host::process::proportional_memory;
use arch_um::sync::{Interruptible, WaitQueue};
use arch_um::thread;
use arch_um::time::{Duration, Instant};

use super::space::Mm;
use super::vma::PAGE_SIZE;
use crate::page_cache::reclaim;
use crate::signal::send;
use crate::signal::{SigInfo, Signal};
use crate::sys::memory;
use crate::task::table::{self, INIT};
use crate::task::{Process, spawn_kernel_thread};

const SELDOM: Duration = Duration::from_millis(1000);
const OFTEN: Duration = Duration::from_millis(5);
/// What programs touch in a millisecond at most, bytes: the host clears pages no faster.
const TOUCHED_PER_MS: u64 = 2 << 20;
/// How long a victim is waited for.
const PATIENCE: Duration = Duration::from_millis(2000);
/// `OOM_SCORE_ADJ_MIN`: never killed.
const UNKILLABLE: i32 = -1000;

static KILLS: AtomicU64 = AtomicU64::new(0);

/// Private memory that programs mapped since the last look, bytes.
static MAPPED: AtomicU64 = AtomicU64::new(0);
/// Where the looker sleeps.
static LOOKER: WaitQueue = WaitQueue::new();

/// A program has mapped `pages` more private pages.
pub(super) fn mapped(pages: u64) {
    let bytes = pages.saturating_mul(PAGE_SIZE);
    let before = MAPPED.fetch_add(bytes, Ordering::Relaxed);
    if !is_much(before) && is_much(before.saturating_add(bytes)) {
        LOOKER.wake_all();
    }
}

/// Whether so much was mapped that a second is too long to wait for the next look.
fn is_much(mapped: u64) -> bool {
    mapped > memory::total() / 8
}

/// Processes killed so far (`oom_kill` of /proc/vmstat).
pub fn kills() -> u64 {
    KILLS.load(Ordering::Relaxed)
}

/// Starts the kernel thread that looks. Called once, at boot.
pub fn start() {
    let started = spawn_kernel_thread("oom_reaper", || {
        loop {
            MAPPED.store(0, Ordering::Relaxed);
            let until = Instant::now() + look();
            let hurried = || is_much(MAPPED.load(Ordering::Relaxed)).then_some(());
            let _ = LOOKER.wait_until(Interruptible::No, Some(until), hurried);
        }
    });
    if let Err(error) = started {
        log::warn!("mem= is not enforced, no thread for it: {error}");
    }
}

/// A process that uses memory.
struct User {
    process: Arc<Process>,
    mm: Arc<Mm>,
    /// Resident anonymous and shared memory, bytes.
    resident: u64,
}

/// The processes with memory of their own; those that share theirs count once.
fn users() -> Vec<User> {
    let mut users: Vec<User> = Vec::new();
    for process in table::processes() {
        let Some(mm) = process.any_thread().and_then(|task| task.try_mm()) else {
            continue;
        };
        if users.iter().any(|user| Arc::ptr_eq(&user.mm, &mm)) {
            continue;
        }
        let usage = mm.space().memory_usage();
        users.push(User {
            process,
            mm,
            resident: usage.rss_anon + usage.rss_shmem,
        });
    }
    users
}

/// Compares use and budget once, kills if need be; when to look again.
fn look() -> Duration {
    let total = memory::total();
    let kernel = memory::kernel();
    let users = users();
    let rough = users.iter().map(|user| user.resident).fold(kernel, u64::saturating_add);
    if rough <= total {
        let possible = users
            .iter()
            .map(|user| user.mm.private())
            .fold(rough, u64::saturating_add);
        return if possible <= total {
            SELDOM
        } else {
            pause(total - rough)
        };
    }
    let exact = |user: &User| proportional_memory(user.mm.space().host_pid()).unwrap_or(user.resident);
    let programs = users.iter().map(exact).fold(0, u64::saturating_add);
    let mut used = programs.saturating_add(kernel);
    if used > total {
        // Nobody dies for what lies idle in the heap.
        reclaim::release_idle();
        used = programs.saturating_add(memory::kernel());
    }
    if used > total {
        kill_largest(users, total);
        return OFTEN;
    }
    // Sharing explains it; the walk over the page tables is not repeated too often.
    pause(total - used).max(Duration::from_millis(50))
}

/// When to look again with `left` bytes left.
fn pause(left: u64) -> Duration {
    Duration::from_millis(left / TOUCHED_PER_MS).clamp(OFTEN, SELDOM)
}

/// How likely a process is chosen: its memory and what `oom_score_adj` adds, bytes; none for one that is never chosen.
fn badness(process: &Process, resident: u64, total: u64) -> Option<i64> {
    let adjust = process.with_attributes(|attributes| attributes.oom_score_adj);
    if process.pid() == INIT || adjust <= UNKILLABLE || process.is_zombie() {
        return None;
    }
    let points = resident as i64 + i64::from(adjust) * (total / 1000) as i64;
    Some(points.max(1))
}

/// `/proc/PID/oom_score`: 0 to 2000.
pub fn score(process: &Process) -> u64 {
    let total = memory::total().max(1);
    let resident = process.any_thread().and_then(|task| task.try_mm()).map_or(0, |mm| {
        let usage = mm.space().memory_usage();
        usage.rss_anon + usage.rss_file + usage.rss_shmem
    });
    let points = badness(process, resident, total).unwrap_or(0).max(0) as u64;
    // As Linux since 5.9: the middle of the range is a process without memory and adjustment.
    if points == 0 {
        0
    } else {
        (1000 + points.saturating_mul(1000) / total).min(3000) * 2 / 3
    }
}

fn kill_largest(users: Vec<User>, total: u64) {
    let scored = users
        .into_iter()
        .filter_map(|user| badness(&user.process, user.resident, total).map(|score| (score, user)));
    let Some((_, victim)) = scored.max_by_key(|(score, _)| *score) else {
        log::error!("Out of memory and no killable processes...");
        arch_um::exit::kernel_panic("System is deadlocked on memory");
    };
    let process = &victim.process;
    let Some(task) = process.any_thread() else { return };
    let adjust = process.with_attributes(|attributes| attributes.oom_score_adj);
    let stats = victim.mm.stats();
    let name = task.comm().to_text();
    log::warn!(
        "{name} invoked oom-killer: gfp_mask=0x140dca(GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO), order=0, oom_score_adj={adjust}"
    );
    log::error!(
        "Out of memory: Killed process {} ({name}) total-vm:{}kB, anon-rss:{}kB, file-rss:{}kB, shmem-rss:{}kB, UID:{} pgtables:{}kB oom_score_adj:{adjust}",
        process.pid().0,
        stats.size >> 10,
        stats.rss_anon >> 10,
        stats.rss_file >> 10,
        stats.rss_shmem >> 10,
        task.cred().uid,
        (stats.rss_anon + stats.rss_shmem) >> 19,
    );
    KILLS.fetch_add(1, Ordering::Relaxed);
    for other in table::processes() {
        let same = other
            .any_thread()
            .and_then(|task| task.try_mm())
            .is_some_and(|mm| Arc::ptr_eq(&mm, &victim.mm));
        if same && other.pid() != INIT {
            send::to_process(&other, SigInfo::kernel(Signal::KILL));
        }
    }
    let process = victim.process.clone();
    drop(victim);
    let deadline = Instant::now() + PATIENCE;
    while !process.is_zombie() && Instant::now() < deadline {
        thread::sleep_until(Instant::now() + Duration::from_millis(5));
    }
}
