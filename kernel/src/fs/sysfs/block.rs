//! Disks and partitions: size, partition table, queue limits, counters. What `lsblk(8)` and `blkid(8)` read.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;

use super::{attribute, constant, dir, link};
use crate::block::disk::{self, Disk};
use crate::device::node::DeviceNode;
use crate::fs::pseudo::{Seq, Tree};
use crate::vfs::DevT;
use crate::{Errno, Result, seq};

/// The partition number of `dev` and its disk's number.
fn split(dev: DevT) -> (DevT, u32) {
    let number = dev.minor % disk::MINORS;
    (DevT::new(dev.major, dev.minor - number), number)
}

/// The name of the disk that a node with partition number `number` lies on.
fn disk_name(node: &DeviceNode, number: u32) -> String {
    let name = node.short_name();
    if number == 0 {
        return name.to_string();
    }
    let name = name.strip_suffix(&number.to_string()).unwrap_or(name);
    // `loop0p1`: a name that ends in a digit has a `p` before the number.
    match name.strip_suffix('p') {
        Some(disk) if disk.ends_with(|c: char| c.is_ascii_digit()) => disk.to_string(),
        _ => name.to_string(),
    }
}

/// The directory of a disk or partition, below /sys. User-Mode Linux's disks are platform devices.
pub(super) fn path(node: &DeviceNode) -> String {
    let (whole, number) = split(node.dev);
    let disk = disk_name(node, number);
    let parent = if disk.starts_with("ubd") {
        format!("devices/platform/uml-blkdev.{}/block", whole.minor / disk::MINORS)
    } else {
        "devices/virtual/block".to_string()
    };
    if number == 0 {
        format!("{parent}/{disk}")
    } else {
        format!("{parent}/{disk}/{}", node.short_name())
    }
}

/// Finds the disk again at each look: it may have gone. `ENODEV`.
fn find(dev: DevT) -> Result<Arc<Disk>> {
    disk::lookup(dev).map(|(disk, _)| disk).map_err(|_| Errno::ENODEV)
}

/// Adds an attribute that is about a disk.
fn of_disk(at: &Tree, name: &str, dev: DevT, show: fn(&Disk, &mut Seq)) {
    attribute(at, name, move |out| {
        show(&*find(dev)?, out);
        Ok(())
    });
}

/// Fills the directory `at` (at `path`) of a disk or partition; returns which it is.
pub(super) fn fill(at: &Tree, node: &DeviceNode, path: &str) -> &'static str {
    let (whole, number) = split(node.dev);
    constant(at, "alignment_offset", "0");
    constant(at, "discard_alignment", "0");
    of_disk(at, "ro", whole, |disk, out| {
        seq!(out, "{}\n", u32::from(disk.is_read_only()));
    });
    dir(&format!("{path}/holders"));
    if number == 0 {
        fill_disk(at, whole, path);
        "disk"
    } else {
        fill_partition(at, whole, number);
        "partition"
    }
}

fn fill_disk(at: &Tree, dev: DevT, path: &str) {
    of_disk(at, "size", dev, |disk, out| {
        seq!(out, "{}\n", disk.len() / crate::block::SECTOR);
    });
    of_disk(at, "stat", dev, |disk, out| show_stat(disk.counters().fields(), out));
    of_disk(at, "inflight", dev, |disk, out| {
        let [reads, writes] = disk.counters().in_flight();
        seq!(out, "{reads:8} {writes:8}\n");
    });
    of_disk(at, "serial", dev, |disk, out| {
        seq!(out, "{}\n", disk.serial().unwrap_or_default());
    });
    for (name, text) in [
        ("removable", "0"),
        ("hidden", "0"),
        ("capability", "0"),
        ("events", ""),
        ("diskseq", "1"),
    ] {
        constant(at, name, text);
    }
    constant(at, "range", disk::MINORS.to_string());
    constant(at, "ext_range", disk::MINORS.to_string());
    dir(&format!("{path}/slaves"));
    if let Some((parent, _)) = path
        .split_once("/block/")
        .filter(|(parent, _)| parent.contains("platform"))
    {
        link(path, "device", parent);
        let name = parent.rsplit('/').next().unwrap_or(parent);
        link("bus/platform/devices", name, parent);
        link(parent, "subsystem", "bus/platform");
    }
    let queue = dir(&format!("{path}/queue"));
    for (name, text) in [
        ("logical_block_size", "512"),
        ("physical_block_size", "512"),
        ("hw_sector_size", "512"),
        ("minimum_io_size", "512"),
        ("optimal_io_size", "0"),
        ("rotational", "0"),
        ("nr_requests", "128"),
        ("max_sectors_kb", "1280"),
        ("max_hw_sectors_kb", "1280"),
        ("read_ahead_kb", "128"),
        ("scheduler", "[none]"),
        ("nomerges", "0"),
        ("add_random", "0"),
        ("iostats", "1"),
        ("zoned", "none"),
        ("dax", "0"),
        ("write_cache", "write back"),
    ] {
        constant(&queue, name, text);
    }
    of_disk(&queue, "discard_granularity", dev, |disk, out| {
        seq!(out, "{}\n", if disk.can_discard() { 4096 } else { 0 });
    });
    of_disk(&queue, "discard_max_bytes", dev, |disk, out| {
        seq!(
            out,
            "{}\n",
            if disk.can_discard() {
                u64::from(u32::MAX) & !511
            } else {
                0
            }
        );
    });
}

fn fill_partition(at: &Tree, whole: DevT, number: u32) {
    let numbers = move |pick: fn(u64, u64) -> u64| {
        move |out: &mut Seq| {
            let disk = find(whole)?;
            let part = disk.partitions().into_iter().find(|part| part.number == number);
            let part = part.ok_or(Errno::ENODEV)?;
            seq!(out, "{}\n", pick(part.start, part.len) / crate::block::SECTOR);
            Ok(())
        }
    };
    constant(at, "partition", number.to_string());
    attribute(at, "start", numbers(|start, _| start));
    attribute(at, "size", numbers(|_, len| len));
    attribute(at, "stat", |out| {
        show_stat([0; 17], out);
        Ok(())
    });
}

fn show_stat(fields: [u64; 17], out: &mut Seq) {
    for field in fields {
        seq!(out, " {field:8}");
    }
    seq!(out, "\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, dev: DevT) -> DeviceNode {
        DeviceNode {
            name: name.into(),
            dev,
            mode: 0o660,
            class: "block",
        }
    }

    #[test]
    fn disks_of_uml_are_platform_devices_and_partitions_lie_below_their_disk() {
        assert_eq!(
            path(&node("ubda", DevT::new(98, 0))),
            "devices/platform/uml-blkdev.0/block/ubda"
        );
        assert_eq!(
            path(&node("ubdb2", DevT::new(98, 18))),
            "devices/platform/uml-blkdev.1/block/ubdb/ubdb2"
        );
        assert_eq!(path(&node("loop0", DevT::new(7, 0))), "devices/virtual/block/loop0");
        assert_eq!(
            path(&node("loop1p3", DevT::new(7, 19))),
            "devices/virtual/block/loop1/loop1p3"
        );
    }
}
