//! `stat` and `statm`: numbers for `ps(1)` and `top(1)`.

use core::fmt::Write;

use super::space;
use super::subject::{Found, Scope};
use crate::fs::pseudo::Seq;
use crate::sys::sched;
use crate::task::times::Usage;
use crate::task::{Task, table};
use crate::time::NSEC_PER_TICK;
use crate::tty::jobctl;
use crate::vfs::DevT;
use crate::{Result, seq};

const PF_FORKNOEXEC: u32 = 0x40;
const PAGE: u64 = 4096;

/// The state of a task as one letter.
pub(super) fn state(task: &Task) -> char {
    if task.is_exited() {
        return 'Z';
    }
    if task.is_stopped() {
        return 'T';
    }
    task.thread().map_or('R', |thread| thread.state_letter())
}

/// The state in words, as `status` has it.
pub(super) fn state_name(letter: char) -> &'static str {
    match letter {
        'R' => "running",
        'S' => "sleeping",
        'D' => "disk sleep",
        'T' => "stopped",
        't' => "tracing stop",
        'Z' => "zombie",
        'X' => "dead",
        _ => "idle",
    }
}

/// A device number in 32 bits.
fn old_dev(dev: DevT) -> u32 {
    (dev.minor & 0xff) | dev.major << 8 | (dev.minor & !0xff) << 12
}

/// What the subject has used: the whole process, or the one thread.
fn usage(found: &Found) -> Usage {
    match found.scope {
        Scope::Process => found.process.usage(),
        Scope::Thread => found.task.usage(),
    }
}

pub(super) fn stat(found: &Found, out: &mut Seq) -> Result<()> {
    let (process, task) = (&found.process, &found.task);
    let accessible = found.is_accessible();
    let mm = task.try_mm();
    let stats = mm.as_deref().map(space::stats).unwrap_or_default();
    let program = mm.as_deref().map(space::program).unwrap_or_default();
    let (used, children) = (usage(found), process.children_usage());
    let (nice, policy) = task.with_attributes(|attributes| (attributes.nice, attributes.sched));
    let terminal = jobctl::terminal_of(process.session());
    let tty = terminal.as_ref().map_or(0, |tty| old_dev(tty.dev()));
    let foreground = terminal.and_then(|tty| tty.foreground()).map_or(-1, |group| group.0);
    let execed = process.with_attributes(|attributes| attributes.execed);
    let (ignored, caught) = process.actions().sets();
    let exit_signal = match found.scope {
        Scope::Process => table::with_node(process, |node| node.exit_signal).unwrap_or(0),
        Scope::Thread => -1,
    };
    let ticks = |ns: u64| ns / NSEC_PER_TICK;
    let address = |value: u64| if accessible { value } else { 0 };
    let since_boot = task
        .start_time()
        .saturating_duration_since(arch_um::time::boot_instant());

    seq!(out, "{} (", task.tid().0);
    out.bytes(task.comm().as_bytes());
    seq!(
        out,
        ") {} {} {} {} ",
        state(task),
        process.parent().0,
        process.group().0,
        process.session().0
    );
    seq!(out, "{tty} {foreground} {} ", if execed { 0 } else { PF_FORKNOEXEC });
    seq!(out, "{} {} ", used.minor_faults, children.minor_faults);
    seq!(out, "{} {} ", used.major_faults, children.major_faults);
    seq!(
        out,
        "{} {} {} {} ",
        ticks(used.user),
        ticks(used.system),
        ticks(children.user),
        ticks(children.system)
    );
    seq!(out, "{} {} ", sched::stat_priority(policy, nice), nice);
    seq!(
        out,
        "{} 0 {} ",
        process.thread_count(),
        ticks(since_boot.as_nanos() as u64)
    );
    let rss = stats.rss_anon + stats.rss_file + stats.rss_shmem;
    seq!(out, "{} {} {} ", stats.size, rss / PAGE, u64::MAX);
    // Code, stack, stack pointer and instruction: those of a running program are not looked at.
    let code = |value: u64| if accessible { value } else { u64::from(value != 0) };
    seq!(
        out,
        "{} {} {} 0 0 ",
        code(program.code.start),
        code(program.code.end),
        address(program.start_stack)
    );
    let signals = |set: u64| set & 0x7fff_ffff;
    seq!(out, "{} {} ", signals(task.own_pending().0), signals(task.blocked().0));
    seq!(out, "{} {} ", signals(ignored.0), signals(caught.0));
    let waits = accessible && matches!(state(task), 'S' | 'D');
    seq!(out, "{} 0 0 {exit_signal} ", u32::from(waits));
    let cpu = task.thread().map_or(0, |thread| thread.last_cpu().0);
    seq!(out, "{cpu} {} {} 0 0 0 ", policy.priority, policy.policy);
    let addresses = [
        program.data.start,
        program.data.end,
        program.start_brk,
        program.args.start,
        program.args.end,
        program.env.start,
        program.env.end,
    ];
    for value in addresses {
        seq!(out, "{} ", address(value));
    }
    let status = table::with_node(process, |node| node.zombie.map_or(0, |status| status.0)).unwrap_or(0);
    seq!(out, "{}\n", if accessible { status } else { 0 });
    Ok(())
}

pub(super) fn statm(found: &Found, out: &mut Seq) -> Result<()> {
    let stats = found.task.try_mm().as_deref().map(space::stats).unwrap_or_default();
    let rss = stats.rss_anon + stats.rss_file + stats.rss_shmem;
    let pages = [
        stats.size,
        rss,
        stats.rss_file + stats.rss_shmem,
        stats.text,
        0,
        stats.data + stats.stack,
        0,
    ];
    let mut first = true;
    for bytes in pages {
        let blank = if core::mem::take(&mut first) { "" } else { " " };
        let _ = write!(out, "{blank}{}", bytes / PAGE);
    }
    out.bytes(b"\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_have_the_number_ps_knows() {
        // /dev/pts/300 is device 136:300 with 256 minors below the major in this form.
        assert_eq!(old_dev(DevT::new(4, 1)), 0x401);
        assert_eq!(old_dev(DevT::new(136, 300)), 0x8800 | 300 & 0xff | 0x100 << 12);
    }
}
