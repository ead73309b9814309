//! /proc/stat, /proc/interrupts, /proc/softirqs, /proc/schedstat: what the CPUs did.

use alloc::format;
use alloc::sync::Arc;

use arch_um::cpu::{self, CpuId, CpuStats};

use crate::fs::pseudo::{Seq, Tree};
use crate::sys::loadavg;
use crate::task::table;
use crate::time::NSEC_PER_TICK;
use crate::{Result, seq};

pub(super) fn fill(tree: &Arc<Tree>) {
    tree.text("stat", 0o444, show);
    tree.text("interrupts", 0o444, interrupts);
    tree.text("softirqs", 0o444, softirqs);
}

fn cpus() -> impl Iterator<Item = (usize, CpuStats)> {
    (0..cpu::count()).map(|number| (number, cpu::stats(CpuId(number as u32))))
}

fn cpu_line(out: &mut Seq, name: &str, stats: &CpuStats) {
    let [user, system, idle] = [stats.user_ns, stats.system_ns, stats.idle_ns].map(|ns| ns / NSEC_PER_TICK);
    seq!(out, "{name} {user} 0 {system} {idle} 0 0 0 0 0 0\n");
}

fn show(out: &mut Seq) -> Result<()> {
    let mut total = CpuStats::default();
    for (_, stats) in cpus() {
        total.user_ns += stats.user_ns;
        total.system_ns += stats.system_ns;
        total.idle_ns += stats.idle_ns;
        total.switches += stats.switches;
        total.interrupts += stats.interrupts;
    }
    cpu_line(out, "cpu ", &total);
    for (number, stats) in cpus() {
        cpu_line(out, &format!("cpu{number}"), &stats);
    }
    let (running, blocked) = loadavg::active();
    seq!(out, "intr {}\n", total.interrupts);
    seq!(out, "ctxt {}\n", total.switches);
    seq!(out, "btime {}\n", boot_time());
    seq!(out, "processes {}\n", table::fork_count());
    seq!(out, "procs_running {}\n", running.max(1));
    seq!(out, "procs_blocked {blocked}\n");
    seq!(out, "softirq 0 0 0 0 0 0 0 0 0 0 0\n");
    Ok(())
}

/// When the machine booted, seconds since 1970.
pub fn boot_time() -> i64 {
    let uptime = i64::try_from(arch_um::time::uptime().as_nanos()).unwrap_or(i64::MAX);
    arch_um::time::realtime_ns()
        .saturating_sub(uptime)
        .div_euclid(1_000_000_000)
}

fn interrupts(out: &mut Seq) -> Result<()> {
    seq!(out, "     ");
    for (number, _) in cpus() {
        seq!(out, "{:>11}", format!("CPU{number}"));
    }
    seq!(out, "\nRES: ");
    for (_, stats) in cpus() {
        seq!(out, "{:>11}", stats.interrupts);
    }
    seq!(out, "   Rescheduling interrupts\n");
    Ok(())
}

fn softirqs(out: &mut Seq) -> Result<()> {
    seq!(out, "           ");
    for (number, _) in cpus() {
        seq!(out, "{:>11}", format!("CPU{number}"));
    }
    seq!(out, "\n");
    for name in [
        "HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU",
    ] {
        seq!(out, "{name:>10}:");
        for _ in cpus() {
            seq!(out, "{:>11}", 0);
        }
        seq!(out, "\n");
    }
    Ok(())
}
