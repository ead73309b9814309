//! Disks and partitions: size, partition table, queue limits, counters. What `lsblk(8)` and `blkid(8)` read.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;

use super::{attribute, constant, dir, link, setting};
use crate::block::disk::{self, Disk, Part};
use crate::block::loop_device::LOOP_MAJOR;
use crate::block::{SECTOR, queue::NR_REQUESTS};
use crate::device::node::DeviceNode;
use crate::fs::pseudo::{Seq, Tree, text};
use crate::vfs::DevT;
use crate::{Errno, Result, seq};

/// What a block device's name tells: its disk, and the partition number, 0 for the disk itself.
struct Name {
    disk: String,
    dev: DevT,
    number: u32,
}

impl Name {
    /// Found by name, not by number: a partition that goes has no number any more.
    fn of(node: &DeviceNode) -> Self {
        let name = node.short_name();
        for disk in disk::disks() {
            let Some(tail) = name.strip_prefix(disk.name()) else {
                continue;
            };
            let number = if tail.is_empty() {
                Some(0)
            } else {
                tail.trim_start_matches('p').parse().ok()
            };
            if let Some(number) = number.filter(|&number| number == 0 || disk.partition_name(number) == name) {
                return Self {
                    disk: disk.name().to_string(),
                    dev: disk.dev(),
                    number,
                };
            }
        }
        Self {
            disk: name.to_string(),
            dev: node.dev,
            number: 0,
        }
    }

    /// The directory below /sys. User-Mode Linux's disks are platform devices.
    fn path(&self, short_name: &str) -> String {
        let parent = if self.disk.starts_with("ubd") {
            format!("devices/platform/uml-blkdev.{}/block", self.dev.minor / disk::MINORS)
        } else {
            "devices/virtual/block".to_string()
        };
        if self.number == 0 {
            format!("{parent}/{}", self.disk)
        } else {
            format!("{parent}/{}/{short_name}", self.disk)
        }
    }
}

/// The directory of a disk or partition, below /sys.
pub(super) fn path(node: &DeviceNode) -> String {
    Name::of(node).path(node.short_name())
}

/// The lines a block device adds to its `uevent`.
pub(super) fn uevent(node: &DeviceNode) -> String {
    let name = Name::of(node);
    let sequence = find(name.dev).map_or(0, |disk| disk.sequence());
    match name.number {
        0 => format!("DEVTYPE=disk\nDISKSEQ={sequence}\n"),
        number => format!("DEVTYPE=partition\nDISKSEQ={sequence}\nPARTN={number}\n"),
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

/// Adds an attribute that is about partition `number` of the disk `dev`.
fn of_part(at: &Tree, name: &str, (dev, number): (DevT, u32), show: fn(&Disk, &Part, &mut Seq)) {
    attribute(at, name, move |out| {
        let disk = find(dev)?;
        show(&disk, &*disk.part(number).ok_or(Errno::ENODEV)?, out);
        Ok(())
    });
}

/// Fills the directory `at` (at `path`) of a disk or partition; returns which it is.
pub(super) fn fill(at: &Tree, node: &DeviceNode, path: &str) -> &'static str {
    let name = Name::of(node);
    constant(at, "alignment_offset", "0");
    constant(at, "discard_alignment", "0");
    dir(&format!("{path}/holders"));
    if name.number == 0 {
        fill_disk(at, name.dev, path);
        "disk"
    } else {
        fill_partition(at, (name.dev, name.number));
        "partition"
    }
}

fn fill_disk(at: &Tree, dev: DevT, path: &str) {
    of_disk(at, "ro", dev, |disk, out| {
        seq!(out, "{}\n", u32::from(disk.is_read_only()))
    });
    of_disk(at, "size", dev, |disk, out| seq!(out, "{}\n", disk.len() / SECTOR));
    of_disk(at, "stat", dev, |disk, out| show_stat(disk.counters().fields(), out));
    of_disk(at, "inflight", dev, |disk, out| {
        show_pair(disk.counters().in_flight(), out)
    });
    of_disk(at, "diskseq", dev, |disk, out| seq!(out, "{}\n", disk.sequence()));
    of_disk(at, "range", dev, |disk, out| seq!(out, "{}\n", disk.minors()));
    let constants = [
        ("removable", "0"),
        ("hidden", "0"),
        ("capability", "0"),
        ("events", ""),
        ("events_async", ""),
        ("events_poll_msecs", "-1"),
        ("ext_range", "256"),
    ];
    for (name, text) in constants {
        constant(at, name, text);
    }
    if dev.major != LOOP_MAJOR {
        of_disk(at, "serial", dev, |disk, out| {
            seq!(out, "{}\n", disk.serial().unwrap_or_default());
        });
    }
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
    fill_queue(&dir(&format!("{path}/queue")), dev);
}

fn fill_queue(queue: &Tree, dev: DevT) {
    let constants = [
        ("add_random", "0"),
        ("chunk_sectors", "0"),
        ("dax", "0"),
        ("discard_zeroes_data", "0"),
        ("dma_alignment", "511"),
        ("io_poll", "0"),
        ("iostats", "1"),
        ("max_discard_segments", "1"),
        ("max_segments", "128"),
        ("nomerges", "0"),
        ("nr_zones", "0"),
        ("rotational", "0"),
        ("rq_affinity", "0"),
        ("scheduler", "[none]"),
        ("stable_writes", "0"),
        ("write_same_max_bytes", "0"),
        ("zone_append_max_bytes", "0"),
        ("zoned", "none"),
    ];
    for (name, text) in constants {
        constant(queue, name, text);
    }
    constant(queue, "nr_requests", NR_REQUESTS.to_string());
    of_disk(queue, "logical_block_size", dev, |disk, out| {
        seq!(out, "{}\n", disk.limits().logical_block);
    });
    of_disk(queue, "hw_sector_size", dev, |disk, out| {
        seq!(out, "{}\n", disk.limits().logical_block);
    });
    of_disk(queue, "physical_block_size", dev, |disk, out| {
        seq!(out, "{}\n", disk.limits().physical_block);
    });
    of_disk(queue, "minimum_io_size", dev, |disk, out| {
        seq!(out, "{}\n", disk.limits().io_min)
    });
    of_disk(queue, "optimal_io_size", dev, |disk, out| {
        seq!(out, "{}\n", disk.limits().io_opt)
    });
    for name in ["max_sectors_kb", "max_hw_sectors_kb"] {
        of_disk(queue, name, dev, |disk, out| {
            seq!(out, "{}\n", disk.limits().max_transfer >> 10);
        });
    }
    of_disk(queue, "max_segment_size", dev, |disk, out| {
        seq!(out, "{}\n", disk.limits().max_transfer);
    });
    of_disk(queue, "write_cache", dev, |disk, out| {
        let cached = disk.driver().has_write_cache();
        seq!(out, "{}\n", if cached { "write back" } else { "write through" });
    });
    of_disk(queue, "fua", dev, |disk, out| {
        seq!(out, "{}\n", u32::from(disk.driver().can_fua()));
    });
    of_disk(queue, "discard_granularity", dev, |disk, out| {
        let granularity = disk.limits().discard_granularity;
        seq!(out, "{}\n", if disk.can_discard() { granularity } else { 0 });
    });
    for name in ["discard_max_bytes", "discard_max_hw_bytes"] {
        of_disk(queue, name, dev, |disk, out| {
            seq!(out, "{}\n", if disk.can_discard() { MOST_BYTES } else { 0 });
        });
    }
    of_disk(queue, "write_zeroes_max_bytes", dev, |_, out| {
        seq!(out, "{MOST_BYTES}\n")
    });
    let show = move |out: &mut Seq| {
        seq!(out, "{}\n", (find(dev)?.read_ahead() * SECTOR) >> 10);
        Ok(())
    };
    setting(queue, "read_ahead_kb", show, move |data| {
        let kib = u64::try_from(text::number(data)?).map_err(|_| Errno::EINVAL)?;
        find(dev)?.set_read_ahead(kib.saturating_mul(1024) / SECTOR);
        Ok(())
    });
}

/// Most bytes of one discard.
const MOST_BYTES: u64 = u32::MAX as u64 & !511;

fn fill_partition(at: &Tree, part: (DevT, u32)) {
    constant(at, "partition", part.1.to_string());
    of_part(at, "start", part, |_, part, out| {
        seq!(out, "{}\n", part.info().start / SECTOR)
    });
    of_part(at, "size", part, |_, part, out| {
        seq!(out, "{}\n", part.info().len / SECTOR)
    });
    of_part(at, "ro", part, |disk, part, out| {
        seq!(out, "{}\n", u32::from(disk.is_read_only() || part.is_read_only()));
    });
    of_part(at, "stat", part, |_, part, out| {
        show_stat(part.counters().fields(), out)
    });
    of_part(at, "inflight", part, |_, part, out| {
        show_pair(part.counters().in_flight(), out)
    });
}

fn show_stat(fields: [u64; 17], out: &mut Seq) {
    for (index, field) in fields.iter().enumerate() {
        seq!(out, "{}{field:8}", if index == 0 { "" } else { " " });
    }
    seq!(out, "\n");
}

fn show_pair([reads, writes]: [u64; 2], out: &mut Seq) {
    seq!(out, "{reads:8} {writes:8}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(disk: &str, minor: u32, number: u32, short_name: &str) -> String {
        let name = Name {
            disk: disk.into(),
            dev: DevT::new(98, minor),
            number,
        };
        name.path(short_name)
    }

    #[test]
    fn disks_of_uml_are_platform_devices_and_partitions_lie_below_their_disk() {
        assert_eq!(path("ubda", 0, 0, "ubda"), "devices/platform/uml-blkdev.0/block/ubda");
        assert_eq!(
            path("ubdb", 16, 2, "ubdb2"),
            "devices/platform/uml-blkdev.1/block/ubdb/ubdb2"
        );
        assert_eq!(path("loop0", 0, 0, "loop0"), "devices/virtual/block/loop0");
        assert_eq!(path("loop1", 1, 3, "loop1p3"), "devices/virtual/block/loop1/loop1p3");
    }
}
