//! `status`: what `stat` says, for people, and more.

use alloc::format;
use alloc::string::String;

use super::space;
use super::stat::{state, state_name};
use super::subject::Found;
use crate::fs::pseudo::Seq;
use crate::mm::Mm;
use crate::sys::affinity;
use crate::task::rlimit::Resource;
use crate::{Result, seq};

/// CPU or node numbers as ranges: `0-3,5`.
pub fn ranges(mask: u64) -> String {
    let mut text = String::new();
    let mut bit = 0;
    while bit < 64 {
        if mask >> bit & 1 == 0 {
            bit += 1;
            continue;
        }
        let first = bit;
        while bit < 64 && mask >> bit & 1 == 1 {
            bit += 1;
        }
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&if bit - first == 1 {
            format!("{first}")
        } else {
            format!("{first}-{}", bit - 1)
        });
    }
    text
}

pub(super) fn show(found: &Found, out: &mut Seq) -> Result<()> {
    let (process, task) = (&found.process, &found.task);
    let cred = task.cred();
    let letter = state(task);
    seq!(out, "Name:\t");
    out.escaped(task.comm().as_bytes(), b"\n\\");
    if let Some(fs) = task.try_fs() {
        seq!(out, "\nUmask:\t{:04o}", fs.umask());
    }
    seq!(out, "\nState:\t{letter} ({})\n", state_name(letter));
    seq!(out, "Tgid:\t{}\nNgid:\t0\nPid:\t{}\n", process.pid().0, task.tid().0);
    seq!(out, "PPid:\t{}\nTracerPid:\t0\n", process.parent().0);
    seq!(
        out,
        "Uid:\t{}\t{}\t{}\t{}\n",
        cred.uid,
        cred.euid,
        cred.suid,
        cred.fsuid
    );
    seq!(
        out,
        "Gid:\t{}\t{}\t{}\t{}\n",
        cred.gid,
        cred.egid,
        cred.sgid,
        cred.fsgid
    );
    seq!(
        out,
        "FDSize:\t{}\nGroups:\t",
        task.try_files().map_or(0, |files| files.capacity())
    );
    for group in &cred.groups {
        seq!(out, "{group} ");
    }
    seq!(out, "\nNStgid:\t{}\nNSpid:\t{}\n", process.pid().0, task.tid().0);
    seq!(
        out,
        "NSpgid:\t{}\nNSsid:\t{}\nKthread:\t0\n",
        process.group().0,
        process.session().0
    );
    if let Some(mm) = task.try_mm() {
        memory(&mm, out);
    }
    seq!(
        out,
        "CoreDumping:\t0\nTHP_enabled:\t1\nThreads:\t{}\n",
        process.thread_count()
    );
    seq!(
        out,
        "SigQ:\t{}/{}\n",
        task.user().signals(),
        process.limit(Resource::SIGPENDING)
    );
    let (ignored, caught) = process.actions().sets();
    let own = task.own_pending();
    let shared = process.shared_pending();
    for (name, set) in [
        ("SigPnd", own),
        ("ShdPnd", shared),
        ("SigBlk", task.blocked()),
        ("SigIgn", ignored),
        ("SigCgt", caught),
    ] {
        seq!(out, "{name}:\t{:016x}\n", set.0);
    }
    let capabilities = [
        ("CapInh", cred.inheritable),
        ("CapPrm", cred.permitted),
        ("CapEff", cred.effective),
        ("CapBnd", cred.bounding),
        ("CapAmb", cred.ambient),
    ];
    for (name, set) in capabilities {
        seq!(out, "{name}:\t{:016x}\n", set.bits());
    }
    seq!(
        out,
        "NoNewPrivs:\t{}\nSeccomp:\t0\nSeccomp_filters:\t0\n",
        u32::from(cred.no_new_privs)
    );
    seq!(
        out,
        "Speculation_Store_Bypass:\tunknown\nSpeculationIndirectBranch:\tunknown\n"
    );
    let cpus = affinity::of(task);
    seq!(out, "Cpus_allowed:\t{cpus:x}\nCpus_allowed_list:\t{}\n", ranges(cpus));
    seq!(out, "Mems_allowed:\t1\nMems_allowed_list:\t0\n");
    let (voluntary, involuntary) = task.thread().map_or((0, 0), |thread| thread.switches());
    seq!(
        out,
        "voluntary_ctxt_switches:\t{voluntary}\nnonvoluntary_ctxt_switches:\t{involuntary}\n"
    );
    Ok(())
}

fn memory(mm: &Mm, out: &mut Seq) {
    let stats = space::stats(mm);
    let rss = stats.rss_anon + stats.rss_file + stats.rss_shmem;
    let lines = [
        ("VmPeak", stats.peak.max(stats.size)),
        ("VmSize", stats.size),
        ("VmLck", stats.locked),
        ("VmPin", 0),
        ("VmHWM", stats.rss_peak.max(rss)),
        ("VmRSS", rss),
        ("RssAnon", stats.rss_anon),
        ("RssFile", stats.rss_file),
        ("RssShmem", stats.rss_shmem),
        ("VmData", stats.data),
        ("VmStk", stats.stack),
        ("VmExe", stats.text),
        ("VmLib", stats.lib),
        ("VmPTE", 0),
        ("VmSwap", 0),
        ("HugetlbPages", 0),
    ];
    for (name, bytes) in lines {
        seq!(out, "{name}:\t{:8} kB\n", bytes >> 10);
    }
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn cpu_lists_are_written_as_ranges() {
        assert_eq!(ranges(0b101111), "0-3,5");
        assert_eq!(ranges(1), "0");
        assert_eq!(ranges(0), "");
        assert_eq!(ranges(u64::MAX), "0-63");
    }
}
