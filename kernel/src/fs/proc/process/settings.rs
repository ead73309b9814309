//! Small entries: limits, scheduling, names, ids, OOM, accounting.

use alloc::string::ToString;

use super::space;
use super::stat::state;
use super::subject::Found;
use crate::fs::pseudo::Seq;
use crate::fs::pseudo::text::number;
use crate::task::rlimit::{INFINITY, Resource};
use crate::task::{self, Capabilities};
use crate::time::ProcessTimers;
use crate::{Errno, Result, seq};

/// Takes what is written and does nothing with it.
pub(super) fn ignore(_found: &Found, _data: &[u8]) -> Result<()> {
    Ok(())
}

/// `EPERM`: it cannot be changed in the first namespace.
pub(super) fn refuse(_found: &Found, _data: &[u8]) -> Result<()> {
    Err(Errno::EPERM)
}

pub(super) fn personality(found: &Found, out: &mut Seq) -> Result<()> {
    let personality = found.task.with_attributes(|attributes| attributes.personality);
    seq!(out, "{personality:08x}\n");
    Ok(())
}

pub(super) fn limits(found: &Found, out: &mut Seq) -> Result<()> {
    const NAMES: [(&str, Resource, &str); 16] = [
        ("Max cpu time", Resource::CPU, "seconds"),
        ("Max file size", Resource::FSIZE, "bytes"),
        ("Max data size", Resource::DATA, "bytes"),
        ("Max stack size", Resource::STACK, "bytes"),
        ("Max core file size", Resource::CORE, "bytes"),
        ("Max resident set", Resource::RSS, "bytes"),
        ("Max processes", Resource::NPROC, "processes"),
        ("Max open files", Resource::NOFILE, "files"),
        ("Max locked memory", Resource::MEMLOCK, "bytes"),
        ("Max address space", Resource::AS, "bytes"),
        ("Max file locks", Resource::LOCKS, "locks"),
        ("Max pending signals", Resource::SIGPENDING, "signals"),
        ("Max msgqueue size", Resource::MSGQUEUE, "bytes"),
        ("Max nice priority", Resource::NICE, ""),
        ("Max realtime priority", Resource::RTPRIO, ""),
        ("Max realtime timeout", Resource::RTTIME, "us"),
    ];
    let limits = *found.process.limits().lock();
    let text = |value: u64| {
        if value == INFINITY {
            "unlimited".to_string()
        } else {
            value.to_string()
        }
    };
    seq!(
        out,
        "{:<25} {:<20} {:<20} {:<10}\n",
        "Limit",
        "Soft Limit",
        "Hard Limit",
        "Units"
    );
    for (name, resource, unit) in NAMES {
        let limit = limits.get(resource);
        seq!(
            out,
            "{name:<25} {:<20} {:<20} {unit:<10}\n",
            text(limit.soft),
            text(limit.hard)
        );
    }
    Ok(())
}

pub(super) fn sched(found: &Found, out: &mut Seq) -> Result<()> {
    let task = &found.task;
    let (user, system) = task.cpu_times();
    let (voluntary, involuntary) = task.thread().map_or((0, 0), |thread| thread.switches());
    let policy = task.with_attributes(|attributes| attributes.sched);
    let nice = task.with_attributes(|attributes| attributes.nice);
    let total = user.saturating_add(system);
    seq!(
        out,
        "{} ({}, #threads: {})\n",
        task.comm().to_text(),
        task.tid().0,
        found.process.thread_count()
    );
    seq!(
        out,
        "-------------------------------------------------------------------\n"
    );
    let millis = |ns: u64| (ns / 1_000_000, ns % 1_000_000);
    seq!(
        out,
        "{:<45}:{:>14}.{:06}\n",
        "se.sum_exec_runtime",
        millis(total).0,
        millis(total).1
    );
    seq!(out, "{:<45}:{:>21}\n", "nr_switches", voluntary + involuntary);
    seq!(out, "{:<45}:{:>21}\n", "nr_voluntary_switches", voluntary);
    seq!(out, "{:<45}:{:>21}\n", "nr_involuntary_switches", involuntary);
    seq!(out, "{:<45}:{:>21}\n", "policy", policy.policy);
    seq!(
        out,
        "{:<45}:{:>21}\n",
        "prio",
        crate::sys::sched::stat_priority(policy, nice) + 100
    );
    Ok(())
}

/// Time on a CPU, time waiting for one (not measured), slices.
pub(super) fn schedstat(found: &Found, out: &mut Seq) -> Result<()> {
    let (user, system) = found.task.cpu_times();
    let (voluntary, involuntary) = found.task.thread().map_or((0, 0), |thread| thread.switches());
    seq!(out, "{} 0 {}\n", user.saturating_add(system), voluntary + involuntary);
    Ok(())
}

pub(super) fn comm(found: &Found, out: &mut Seq) -> Result<()> {
    out.bytes(found.task.comm().as_bytes());
    out.bytes(b"\n");
    Ok(())
}

/// Only threads of the same process may rename each other.
pub(super) fn set_comm(found: &Found, data: &[u8]) -> Result<()> {
    let own = task::try_current().is_some_and(|caller| alloc::sync::Arc::ptr_eq(caller.process(), &found.process));
    if !own {
        return Err(Errno::EINVAL);
    }
    found.task.set_comm(data);
    Ok(())
}

pub(super) fn syscall(found: &Found, out: &mut Seq) -> Result<()> {
    // Registers belong to the user thread, which only its own task may look at.
    seq!(
        out,
        "{}\n",
        if state(&found.task) == 'R' {
            "running"
        } else {
            "-1 0x0 0x0"
        }
    );
    Ok(())
}

pub(super) fn wchan(_found: &Found, out: &mut Seq) -> Result<()> {
    out.bytes(b"0");
    Ok(())
}

pub(super) fn cgroup(_found: &Found, out: &mut Seq) -> Result<()> {
    out.bytes(b"0::/\n");
    Ok(())
}

/// Nobody has logged in: the unset id.
pub(super) fn unset_id(_found: &Found, out: &mut Seq) -> Result<()> {
    seq!(out, "{}", u32::MAX);
    Ok(())
}

pub(super) fn id_map(_found: &Found, out: &mut Seq) -> Result<()> {
    seq!(out, "{:10} {:10} {:10}\n", 0, 0, u32::MAX);
    Ok(())
}

pub(super) fn setgroups(_found: &Found, out: &mut Seq) -> Result<()> {
    out.bytes(b"allow\n");
    Ok(())
}

pub(super) fn coredump_filter(_found: &Found, out: &mut Seq) -> Result<()> {
    out.bytes(b"00000033\n");
    Ok(())
}

pub(super) fn oom_score(found: &Found, out: &mut Seq) -> Result<()> {
    let Some(mm) = found.task.try_mm() else {
        out.bytes(b"0\n");
        return Ok(());
    };
    let stats = space::stats(&mm);
    let used = stats.rss_anon + stats.rss_file + stats.rss_shmem;
    let adjust = i64::from(found.process.with_attributes(|attributes| attributes.oom_score_adj));
    let total = crate::sys::memory::total().max(1);
    let points = i64::try_from(u128::from(used) * 1000 / u128::from(total)).unwrap_or(1000);
    // As Linux scales it: 0..=2000 becomes 666 for an idle process without adjustment.
    let score = if adjust == -1000 {
        0
    } else {
        ((1000 + points + adjust) * 2 / 3).max(0)
    };
    seq!(out, "{score}\n");
    Ok(())
}

pub(super) fn oom_score_adj(found: &Found, out: &mut Seq) -> Result<()> {
    seq!(
        out,
        "{}\n",
        found.process.with_attributes(|attributes| attributes.oom_score_adj)
    );
    Ok(())
}

/// Lower than before needs `CAP_SYS_RESOURCE`.
pub(super) fn set_oom_score_adj(found: &Found, data: &[u8]) -> Result<()> {
    let new = number(data)?;
    if !(-1000..=1000).contains(&new) {
        return Err(Errno::EINVAL);
    }
    store_oom(found, new as i32)
}

fn store_oom(found: &Found, new: i32) -> Result<()> {
    let old = found.process.with_attributes(|attributes| attributes.oom_score_adj);
    let privileged = task::try_current().is_none_or(|caller| caller.cred().capable(Capabilities::SYS_RESOURCE));
    if new < old && !privileged {
        return Err(Errno::EACCES);
    }
    found
        .process
        .with_attributes(|attributes| attributes.oom_score_adj = new);
    Ok(())
}

/// The old scale: -17 stands for "never", 15 for the most.
pub(super) fn oom_adj(found: &Found, out: &mut Seq) -> Result<()> {
    let adjust = found.process.with_attributes(|attributes| attributes.oom_score_adj);
    seq!(out, "{}\n", if adjust == 1000 { 15 } else { adjust * 17 / 1000 });
    Ok(())
}

pub(super) fn set_oom_adj(found: &Found, data: &[u8]) -> Result<()> {
    match number(data)? {
        15 => store_oom(found, 1000),
        new @ -17..=14 => store_oom(found, (new * 1000 / 17) as i32),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn io(found: &Found, out: &mut Seq) -> Result<()> {
    let usage = found.process.usage();
    seq!(
        out,
        "rchar: {0}\nwchar: {1}\nsyscr: 0\nsyscw: 0\n",
        usage.blocks_in * 512,
        usage.blocks_out * 512
    );
    seq!(
        out,
        "read_bytes: {}\nwrite_bytes: {}\ncancelled_write_bytes: 0\n",
        usage.blocks_in * 512,
        usage.blocks_out * 512
    );
    Ok(())
}

pub(super) fn timers(found: &Found, out: &mut Seq) -> Result<()> {
    let Some(timers) = ProcessTimers::existing(&found.process) else {
        return Ok(());
    };
    let all: alloc::vec::Vec<_> = timers.posix.lock().values().cloned().collect();
    for timer in all {
        seq!(out, "{}", timer.describe(found.process.pid()));
    }
    Ok(())
}

const DEFAULT_SLACK: u64 = 50_000;

pub(super) fn timerslack(found: &Found, out: &mut Seq) -> Result<()> {
    let slack = found.task.with_attributes(|attributes| attributes.timer_slack);
    seq!(out, "{}\n", if slack == 0 { DEFAULT_SLACK } else { slack });
    Ok(())
}

pub(super) fn set_timerslack(found: &Found, data: &[u8]) -> Result<()> {
    let slack = u64::try_from(number(data)?).map_err(|_| Errno::EINVAL)?;
    found.task.with_attributes(|attributes| {
        attributes.timer_slack = if slack == 0 {
            attributes.default_timer_slack
        } else {
            slack
        };
    });
    Ok(())
}

pub(super) fn children(found: &Found, out: &mut Seq) -> Result<()> {
    if found.task.is_leader() {
        for child in found.process.children() {
            seq!(out, "{} ", child.pid().0);
        }
    }
    Ok(())
}
