//! /proc/meminfo and /proc/vmstat: memory.

use alloc::sync::Arc;

use crate::block::disk::disks;
use crate::fs::pseudo::{Seq, Tree};
use crate::sys::memory;
use crate::task::table;
use crate::{Result, seq};

pub(super) fn fill(tree: &Arc<Tree>) {
    tree.text("meminfo", 0o444, meminfo);
    tree.text("vmstat", 0o444, vmstat);
}

fn meminfo(out: &mut Seq) -> Result<()> {
    let used = memory::usage();
    // tmpfs counts as cached, as on Linux.
    let cached = used.cached + used.shared;
    let lines = [
        ("MemTotal:", used.total),
        ("MemFree:", used.free),
        ("MemAvailable:", used.available()),
        ("Buffers:", 0),
        ("Cached:", cached),
        ("SwapCached:", 0),
        ("Active:", used.anonymous),
        ("Inactive:", cached),
        ("Active(anon):", used.anonymous),
        ("Inactive(anon):", used.shared),
        ("Active(file):", 0),
        ("Inactive(file):", used.cached),
        ("Unevictable:", 0),
        ("Mlocked:", 0),
        ("SwapTotal:", 0),
        ("SwapFree:", 0),
        ("Dirty:", used.dirty),
        ("Writeback:", 0),
        ("AnonPages:", used.anonymous),
        ("Mapped:", used.mapped),
        ("Shmem:", used.shared),
        ("KReclaimable:", 0),
        ("Slab:", used.kernel),
        ("SReclaimable:", 0),
        ("SUnreclaim:", used.kernel),
        ("KernelStack:", 0),
        ("PageTables:", 0),
        ("NFS_Unstable:", 0),
        ("Bounce:", 0),
        ("WritebackTmp:", 0),
        ("CommitLimit:", used.total / 2),
        ("Committed_AS:", used.anonymous + used.shared),
        ("VmallocTotal:", 0),
        ("VmallocUsed:", 0),
        ("VmallocChunk:", 0),
        ("Percpu:", 0),
    ];
    for (name, bytes) in lines {
        seq!(out, "{name:<15} {:>8} kB\n", bytes >> 10);
    }
    Ok(())
}

fn vmstat(out: &mut Seq) -> Result<()> {
    let used = memory::usage();
    let (mut read, mut written) = (0, 0);
    for disk in disks() {
        let fields = disk.counters().fields();
        read += fields[2];
        written += fields[6];
    }
    let (mut faults, mut major) = (0, 0);
    for process in table::processes() {
        let usage = process.usage();
        faults += usage.minor_faults + usage.major_faults;
        major += usage.major_faults;
    }
    let pages = |bytes: u64| bytes >> 12;
    let lines = [
        ("nr_free_pages", pages(used.free)),
        ("nr_inactive_anon", pages(used.shared)),
        ("nr_active_anon", pages(used.anonymous)),
        ("nr_inactive_file", pages(used.cached)),
        ("nr_active_file", 0),
        ("nr_anon_pages", pages(used.anonymous)),
        ("nr_mapped", pages(used.mapped)),
        ("nr_file_pages", pages(used.cached + used.shared)),
        ("nr_dirty", pages(used.dirty)),
        ("nr_writeback", 0),
        ("nr_shmem", pages(used.shared)),
        ("nr_slab_reclaimable", 0),
        ("nr_slab_unreclaimable", pages(used.kernel)),
        // KiB, from sectors of 512 bytes.
        ("pgpgin", read / 2),
        ("pgpgout", written / 2),
        ("pswpin", 0),
        ("pswpout", 0),
        ("pgfree", 0),
        ("pgactivate", 0),
        ("pgdeactivate", 0),
        ("pgfault", faults),
        ("pgmajfault", major),
        ("pgsteal_kswapd", 0),
        ("pgscan_kswapd", 0),
        ("pgscan_direct", 0),
        ("oom_kill", 0),
    ];
    for (name, value) in lines {
        seq!(out, "{name} {value}\n");
    }
    Ok(())
}
