//! /proc/partitions and /proc/diskstats.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::block::disk::{Counters, disks};
use crate::fs::pseudo::{Seq, Tree};
use crate::{Result, seq};

pub(super) fn fill(tree: &Arc<Tree>) {
    tree.text("partitions", 0o444, partitions);
    tree.text("diskstats", 0o444, diskstats);
}

fn partitions(out: &mut Seq) -> Result<()> {
    seq!(out, "major minor  #blocks  name\n\n");
    for disk in disks() {
        // Empty devices (free loop devices) do not show, as on Linux.
        if disk.is_empty() {
            continue;
        }
        let dev = disk.dev();
        seq!(
            out,
            "{:4}  {:7} {:10} {}\n",
            dev.major,
            dev.minor,
            disk.len() >> 10,
            disk.name()
        );
        for part in disk.partitions() {
            let (minor, name) = (dev.minor + part.number, disk.partition_name(part.number));
            seq!(out, "{:4}  {minor:7} {:10} {name}\n", dev.major, part.len >> 10);
        }
    }
    Ok(())
}

/// The seventeen numbers of /proc/diskstats and /sys/block/DISK/stat.
pub fn counter_fields(counters: &Counters) -> [u64; 17] {
    let three = |row: &[AtomicU64; 3]| [0, 1, 2].map(|index: usize| row[index].load(Ordering::Relaxed));
    let ([reads, read_sectors, read_ms], [writes, write_sectors, write_ms]) =
        (three(&counters.read), three(&counters.write));
    let [discards, discard_sectors, discard_ms] = three(&counters.discard);
    let [flushes, flush_ms] = [0, 1].map(|index: usize| counters.flush[index].load(Ordering::Relaxed));
    let in_flight = u64::try_from(counters.in_flight.load(Ordering::Relaxed)).unwrap_or(0);
    let busy = read_ms + write_ms + discard_ms + flush_ms;
    [
        reads,
        0,
        read_sectors,
        read_ms,
        writes,
        0,
        write_sectors,
        write_ms,
        in_flight,
        busy,
        busy,
        discards,
        0,
        discard_sectors,
        discard_ms,
        flushes,
        flush_ms,
    ]
}

fn diskstats(out: &mut Seq) -> Result<()> {
    for disk in disks() {
        let dev = disk.dev();
        seq!(out, "{:4} {:7} {}", dev.major, dev.minor, disk.name());
        for value in counter_fields(disk.counters()) {
            seq!(out, " {value}");
        }
        seq!(out, "\n");
        for part in disk.partitions() {
            let (minor, name) = (dev.minor + part.number, disk.partition_name(part.number));
            seq!(out, "{:4} {minor:7} {name}{}\n", dev.major, " 0".repeat(17));
        }
    }
    Ok(())
}
