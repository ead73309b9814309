//! /proc/cpuinfo as User-Mode Linux shows it: `systemd-detect-virt` and scripts know us by the vendor.

use alloc::format;
use alloc::string::String;

use arch_um::host::process;

use crate::fs::pseudo::Seq;
use crate::{Result, seq};

/// What does not change: asked of the host once.
struct Host {
    name: String,
    flags: String,
    bogomips: String,
    cache_alignment: String,
}

fn host() -> &'static Host {
    static HOST: spin::Once<Host> = spin::Once::new();
    HOST.call_once(|| {
        let names = process::uname();
        let field = |name, default: &str| process::cpuinfo(name).unwrap_or_else(|| default.into());
        Host {
            name: format!(
                "{} {} {} {} {}",
                names.sysname, names.nodename, names.release, names.version, names.machine
            ),
            flags: field("flags", "fpu"),
            bogomips: field("bogomips", "0.00"),
            cache_alignment: field("cache_alignment", "64"),
        }
    })
}

pub(super) fn show(out: &mut Seq) -> Result<()> {
    let host = host();
    for number in 0..arch_um::cpu::count() {
        seq!(out, "processor\t: {number}\n");
        seq!(out, "vendor_id\t: User Mode Linux\n");
        seq!(out, "model name\t: UML\n");
        seq!(out, "mode\t\t: skas\n");
        seq!(out, "host\t\t: {}\n", host.name);
        seq!(out, "fpu\t\t: yes\n");
        seq!(out, "flags\t\t: {}\n", host.flags);
        seq!(out, "cache_alignment\t: {}\n", host.cache_alignment);
        seq!(out, "bogomips\t: {}\n\n", host.bogomips);
    }
    Ok(())
}
