//! `smaps`, `smaps_rollup`: memory use by mapping.
//!
//! The host keeps the pages; what it tells us is the sum for the whole space. So `smaps_rollup` is right, and `smaps` spreads the sums over the
//! mappings that can hold such pages, by size.

use super::memory::map_line;
use super::space::{self, MapEntry, MapName, Stats, VmFlags};
use super::subject::Found;
use crate::fs::pseudo::Seq;
use crate::{Result, seq};
use skas::Prot;

/// Pages of which kind a mapping holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Anonymous,
    File,
    Shared,
}

fn kind(entry: &MapEntry) -> Kind {
    match entry.name {
        MapName::SharedAnonymous => Kind::Shared,
        MapName::File(_) if !entry.prot.contains(Prot::WRITE) || entry.flags.contains(VmFlags::SHARED) => Kind::File,
        _ if entry.flags.contains(VmFlags::SHARED) => Kind::Shared,
        _ => Kind::Anonymous,
    }
}

fn size(entry: &MapEntry) -> u64 {
    entry.range.end - entry.range.start
}

/// `rss` bytes, shared out to `own` of `all` bytes, in whole pages and not more than there is room for.
fn share(rss: u64, own: u64, all: u64) -> u64 {
    let part = u128::from(rss) * u128::from(own) / u128::from(all.max(1));
    (part as u64 & !4095).min(own)
}

fn fields(out: &mut Seq, resident: u64, anonymous: u64, private: u64, locked: u64) {
    let kib = |bytes: u64| bytes >> 10;
    let shared = resident.saturating_sub(private);
    let lines = [
        ("Rss", resident),
        ("Pss", resident),
        ("Pss_Dirty", anonymous),
        ("Shared_Clean", shared),
        ("Shared_Dirty", 0),
        ("Private_Clean", private.saturating_sub(anonymous)),
        ("Private_Dirty", anonymous),
        ("Referenced", resident),
        ("Anonymous", anonymous),
        ("KSM", 0),
        ("LazyFree", 0),
        ("AnonHugePages", 0),
        ("ShmemPmdMapped", 0),
        ("FilePmdMapped", 0),
        ("Shared_Hugetlb", 0),
        ("Private_Hugetlb", 0),
        ("Swap", 0),
        ("SwapPss", 0),
        ("Locked", locked),
    ];
    for (name, bytes) in lines {
        seq!(out, "{:<16}{:>8} kB\n", alloc::format!("{name}:"), kib(bytes));
    }
}

fn flags(entry: &MapEntry, out: &mut Seq) {
    let protections = [(Prot::READ, "rd"), (Prot::WRITE, "wr"), (Prot::EXEC, "ex")];
    let names = [
        (VmFlags::SHARED, "sh"),
        (VmFlags::MAY_READ, "mr"),
        (VmFlags::MAY_WRITE, "mw"),
        (VmFlags::MAY_EXEC, "me"),
        (VmFlags::GROWSDOWN, "gd"),
        (VmFlags::LOCKED, "lo"),
        (VmFlags::SEQUENTIAL, "sr"),
        (VmFlags::RANDOM, "rr"),
        (VmFlags::DONT_FORK, "dc"),
        (VmFlags::NORESERVE, "nr"),
        (VmFlags::WIPE_ON_FORK, "wf"),
        (VmFlags::DONT_DUMP, "dd"),
        (VmFlags::HUGEPAGE, "hg"),
        (VmFlags::NOHUGEPAGE, "nh"),
    ];
    seq!(out, "VmFlags:");
    for (_, name) in protections.iter().filter(|(prot, _)| entry.prot.contains(*prot)) {
        seq!(out, " {name}");
    }
    for (_, name) in names.iter().filter(|(flag, _)| entry.flags.contains(*flag)) {
        seq!(out, " {name}");
    }
    seq!(out, " \n");
}

/// The bytes resident for `kind`.
fn resident(stats: &Stats, kind: Kind) -> u64 {
    match kind {
        Kind::Anonymous => stats.rss_anon,
        Kind::File => stats.rss_file,
        Kind::Shared => stats.rss_shmem,
    }
}

pub(super) fn smaps(found: &Found, out: &mut Seq) -> Result<()> {
    let Some(mm) = found.task.try_mm() else { return Ok(()) };
    let (stats, entries) = (space::stats(&mm), space::maps(&mm));
    for entry in &entries {
        let kind = kind(entry);
        let all = entries.iter().filter(|other| self::kind(other) == kind).map(size).sum();
        let locked = entry.flags.contains(VmFlags::LOCKED);
        // What is locked is there, unless it comes page by page.
        let rss = if locked && !entry.flags.contains(VmFlags::LOCK_ON_FAULT) {
            size(entry)
        } else {
            share(resident(&stats, kind), size(entry), all)
        };
        let locked = if locked { rss } else { 0 };
        map_line(entry, out);
        seq!(out, "{:<16}{:>8} kB\n", "Size:", size(entry) >> 10);
        seq!(
            out,
            "{:<16}{:>8} kB\n{:<16}{:>8} kB\n",
            "KernelPageSize:",
            4,
            "MMUPageSize:",
            4
        );
        match kind {
            Kind::Anonymous => fields(out, rss, rss, rss, locked),
            Kind::File | Kind::Shared => fields(out, rss, 0, 0, locked),
        }
        seq!(out, "{:<16}{:>8}\n", "THPeligible:", 0);
        flags(entry, out);
    }
    Ok(())
}

pub(super) fn rollup(found: &Found, out: &mut Seq) -> Result<()> {
    let Some(mm) = found.task.try_mm() else { return Ok(()) };
    let (stats, entries) = (space::stats(&mm), space::maps(&mm));
    let start = entries.first().map_or(0, |entry| entry.range.start);
    let end = entries.last().map_or(0, |entry| entry.range.end);
    let from = out.len();
    seq!(out, "{start:08x}-{end:08x} ---p 00000000 00:00 0 ");
    while out.len() - from < 73 {
        out.bytes(b" ");
    }
    seq!(out, "[rollup]\n");
    let rss = stats.rss_anon + stats.rss_file + stats.rss_shmem;
    fields(out, rss, stats.rss_anon, stats.rss_anon, stats.locked);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn a_mapping_never_holds_more_than_its_size() {
        assert_eq!(share(8192, 4096, 16384), 0);
        assert_eq!(share(16384, 8192, 16384), 8192);
        assert_eq!(share(1 << 40, 4096, 4096), 4096);
        assert_eq!(share(4096, 0, 0), 0);
    }
}
