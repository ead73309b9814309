//! /proc/devices, /proc/misc and other lists of drivers.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;

use crate::block::disk::disks;
use crate::device::{char, misc};
use crate::fs::pseudo::{Seq, Tree};
use crate::{Result, seq};

pub(super) fn fill(tree: &Arc<Tree>) {
    tree.text("devices", 0o444, devices);
    tree.text("misc", 0o444, |out| {
        for (minor, name) in misc::minors() {
            seq!(out, "{minor:3} {name}\n");
        }
        Ok(())
    });
    tree.text("iomem", 0o400, |_| Ok(()));
    tree.text("ioports", 0o400, |_| Ok(()));
}

fn devices(out: &mut Seq) -> Result<()> {
    seq!(out, "Character devices:\n");
    for (major, name) in char::char_majors() {
        seq!(out, "{major:3} {name}\n");
    }
    seq!(out, "\nBlock devices:\n");
    let majors: BTreeSet<(u32, String)> = disks()
        .iter()
        .map(|disk| (disk.dev().major, driver_name(disk.name()).into()))
        .collect();
    for (major, name) in majors {
        seq!(out, "{major:3} {name}\n");
    }
    Ok(())
}

/// The driver's name in a disk's: `ubd` of `ubda`, `loop` of `loop3`.
fn driver_name(disk: &str) -> &str {
    if disk.starts_with("ubd") {
        "ubd"
    } else {
        disk.trim_end_matches(|c: char| c.is_ascii_digit())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn drivers_are_named_without_their_units() {
        assert_eq!(super::driver_name("ubdb"), "ubd");
        assert_eq!(super::driver_name("loop12"), "loop");
    }
}
