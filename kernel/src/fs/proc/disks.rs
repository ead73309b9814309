//! /proc/partitions and /proc/diskstats.

use alloc::sync::Arc;

use crate::block::disk::disks;
use crate::block::stats::Counters;
use crate::fs::pseudo::{Seq, Tree};
use crate::vfs::DevT;
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
        for part in disk.parts() {
            let (dev, info) = (part.dev(), part.info());
            let name = disk.partition_name(info.number);
            seq!(out, "{:4}  {:7} {:10} {name}\n", dev.major, dev.minor, info.len >> 10);
        }
    }
    Ok(())
}

fn diskstats(out: &mut Seq) -> Result<()> {
    let mut line = |dev: DevT, name: &str, counters: &Counters| {
        seq!(out, "{:4} {:7} {name}", dev.major, dev.minor);
        for value in counters.fields() {
            seq!(out, " {value}");
        }
        seq!(out, "\n");
    };
    for disk in disks() {
        line(disk.dev(), disk.name(), disk.counters());
        for part in disk.parts() {
            line(part.dev(), &disk.partition_name(part.info().number), part.counters());
        }
    }
    Ok(())
}
