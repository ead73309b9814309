//! Processors and the one memory node: `devices/system/{cpu,node}`. What `lscpu(1)`, `nproc(1)` and glibc read.

use alloc::format;

use super::{attribute, constant, dir, link};
use crate::fs::proc::process::ranges;
use crate::seq;
use crate::sys::{affinity, memory};

pub(super) fn fill() {
    let cpus = dir("devices/system/cpu");
    for name in ["online", "possible", "present"] {
        attribute(&cpus, name, |out| {
            seq!(out, "{}\n", ranges(affinity::possible()));
            Ok(())
        });
    }
    constant(&cpus, "offline", "");
    constant(&cpus, "isolated", "");
    constant(&cpus, "kernel_max", "63");
    constant(&cpus, "modalias", "cpu:type:x86,ven0000fam0000mod0000:feature:");
    for number in 0..arch_um::cpu::count() {
        processor(number);
    }
    node();
}

fn processor(number: usize) {
    let path = format!("devices/system/cpu/cpu{number}");
    let cpu = dir(&path);
    link(&path, "subsystem", "bus/cpu");
    link("bus/cpu/devices", &format!("cpu{number}"), &path);
    constant(
        &cpu,
        "uevent",
        format!("DRIVER=processor\nMODALIAS=cpu:type:x86\nCPU={number}"),
    );
    let topology = dir(&format!("{path}/topology"));
    let own = 1u64 << number.min(63);
    for (name, text) in [("physical_package_id", "0"), ("die_id", "0")] {
        constant(&topology, name, text);
    }
    constant(&topology, "core_id", format!("{number}"));
    for (mask, list) in [
        ("thread_siblings", "thread_siblings_list"),
        ("core_cpus", "core_cpus_list"),
    ] {
        constant(&topology, mask, format!("{own:x}"));
        constant(&topology, list, ranges(own));
    }
    for (mask, list) in [
        ("core_siblings", "core_siblings_list"),
        ("package_cpus", "package_cpus_list"),
    ] {
        attribute(&topology, mask, |out| {
            seq!(out, "{:x}\n", affinity::possible());
            Ok(())
        });
        attribute(&topology, list, |out| {
            seq!(out, "{}\n", ranges(affinity::possible()));
            Ok(())
        });
    }
}

fn node() {
    let nodes = dir("devices/system/node");
    for name in ["online", "possible", "has_cpu", "has_memory", "has_normal_memory"] {
        constant(&nodes, name, "0");
    }
    let node = dir("devices/system/node/node0");
    attribute(&node, "cpulist", |out| {
        seq!(out, "{}\n", ranges(affinity::possible()));
        Ok(())
    });
    attribute(&node, "cpumap", |out| {
        seq!(out, "{:x}\n", affinity::possible());
        Ok(())
    });
    constant(&node, "distance", "10");
    attribute(&node, "meminfo", |out| {
        let used = memory::usage();
        let lines = [
            ("MemTotal", used.total),
            ("MemFree", used.free),
            ("MemUsed", used.total.saturating_sub(used.free)),
            ("AnonPages", used.anonymous),
            ("Mapped", used.mapped),
            ("Shmem", used.shared),
        ];
        for (name, bytes) in lines {
            seq!(out, "Node 0 {:<15}{:>8} kB\n", format!("{name}:"), bytes >> 10);
        }
        Ok(())
    });
    for number in 0..arch_um::cpu::count() {
        let cpu = format!("devices/system/cpu/cpu{number}");
        link("devices/system/node/node0", &format!("cpu{number}"), &cpu);
        link(&cpu, "node0", "devices/system/node/node0");
    }
}
