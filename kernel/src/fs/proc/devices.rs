//! /proc/devices, /proc/misc and other lists of drivers.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;

use crate::block::disk::{EXTENDED_MAJOR, disks};
use crate::device::{char, misc, node};
use crate::fs::pseudo::{Seq, Tree};
use crate::tty::console;
use crate::{Result, seq};

pub(super) fn fill(tree: &Arc<Tree>) {
    tree.text("devices", 0o444, devices);
    tree.text("misc", 0o444, |out| {
        for (minor, name) in misc::minors() {
            seq!(out, "{minor:3} {name}\n");
        }
        Ok(())
    });
    tree.text("consoles", 0o444, consoles);
    tree.text("iomem", 0o400, |_| Ok(()));
    tree.text("ioports", 0o400, |_| Ok(()));
}

fn devices(out: &mut Seq) -> Result<()> {
    seq!(out, "Character devices:\n");
    for (major, name) in char::char_majors() {
        seq!(out, "{major:3} {name}\n");
    }
    seq!(out, "\nBlock devices:\n{EXTENDED_MAJOR:3} blkext\n");
    let majors: BTreeSet<(u32, String)> = disks()
        .iter()
        .map(|disk| (disk.dev().major, driver_name(disk.name()).into()))
        .collect();
    for (major, name) in majors {
        seq!(out, "{major:3} {name}\n");
    }
    Ok(())
}

/// Each console: name, what it can do, flags (enabled, behind /dev/console, takes messages), number.
fn consoles(out: &mut Seq) -> Result<()> {
    let current = console::current().map(|tty| String::from(tty.name()));
    let nodes = node::nodes();
    for name in console::named() {
        let Some(node) = nodes.iter().find(|node| node.name == name) else {
            continue;
        };
        let preferred = if current.as_deref() == Some(&*name) { 'C' } else { ' ' };
        seq!(
            out,
            "{name:<21}-WU (E{preferred}  p  )  {:3}:{}\n",
            node.dev.major,
            node.dev.minor
        );
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
