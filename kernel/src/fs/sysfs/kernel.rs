//! `kernel`, `module`, `power`, `fs`, `bus`: what programs look for there.

use arch_um::printk::{self, Timestamps};

use super::{attribute, constant, dir, setting};
use crate::fs::pseudo::text::word;
use crate::sys::module;
use crate::{Errno, seq};

pub(super) fn fill() {
    let kernel = dir("kernel");
    for (name, text) in [
        ("fscaps", "1"),
        ("kexec_loaded", "0"),
        ("kexec_crash_loaded", "0"),
        ("profiling", "0"),
        ("uevent_seqnum", "0"),
        ("address_bits", "64"),
        ("cpu_byteorder", "little"),
    ] {
        constant(&kernel, name, text);
    }
    constant(
        &dir("kernel/mm/transparent_hugepage"),
        "enabled",
        "always [madvise] never",
    );
    constant(
        &dir("kernel/mm/transparent_hugepage"),
        "defrag",
        "always defer defer+madvise [madvise] never",
    );
    // Places where other file systems are mounted.
    for path in [
        "kernel/debug",
        "kernel/tracing",
        "kernel/security",
        "fs/cgroup",
        "fs/fuse/connections",
    ] {
        dir(path);
    }
    for bus in ["platform", "cpu", "pci", "usb", "scsi"] {
        dir(&alloc::format!("bus/{bus}/devices"));
        dir(&alloc::format!("bus/{bus}/drivers"));
    }
    constant(&dir("power"), "state", "");
    for name in module::BUILT_IN {
        dir(&alloc::format!("module/{name}"));
    }
    printk_parameters();
}

fn printk_parameters() {
    let parameters = dir("module/printk/parameters");
    let show = |out: &mut crate::fs::pseudo::Seq| {
        seq!(
            out,
            "{}\n",
            if printk::timestamps() == Timestamps::On {
                'Y'
            } else {
                'N'
            }
        );
        Ok(())
    };
    setting(&parameters, "time", show, |data| {
        printk::set_timestamps(match word(data)? {
            "1" | "y" | "Y" | "on" => Timestamps::On,
            "0" | "n" | "N" | "off" => Timestamps::Off,
            _ => return Err(Errno::EINVAL),
        });
        Ok(())
    });
    attribute(&parameters, "console_suspend", |out| {
        seq!(out, "N\n");
        Ok(())
    });
}
