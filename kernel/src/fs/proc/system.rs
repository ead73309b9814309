//! Small files about the system: version, uptime, loadavg, cmdline, filesystems, exitcode, kmsg and the like.

use alloc::string::String;
use alloc::sync::Arc;

use crate::fs::pseudo::text::{number, word};
use crate::fs::pseudo::{Node, Seq, Text, Tree};
use crate::sys::{klog, loadavg, reboot, sysrq, utsname};
use crate::task::table;
use crate::version::{RELEASE, VERSION};
use crate::vfs::inode::FsFlags;
use crate::{Result, seq};

static COMMAND_LINE: spin::Once<String> = spin::Once::new();

/// Tells what /proc/cmdline shows. Once, at boot.
pub fn set_command_line(text: &str) {
    COMMAND_LINE.call_once(|| text.into());
}

pub(super) fn fill(tree: &Arc<Tree>) {
    tree.text("version", 0o444, |out| {
        seq!(
            out,
            "{} version {RELEASE} (root@localhost) (rustc) {VERSION}\n",
            utsname::SYSNAME
        );
        Ok(())
    });
    tree.text("cmdline", 0o444, |out| {
        seq!(out, "{}\n", COMMAND_LINE.get().map_or("", String::as_str));
        Ok(())
    });
    tree.text("uptime", 0o444, uptime);
    tree.text("loadavg", 0o444, loadavg_line);
    tree.text("filesystems", 0o444, filesystems);
    tree.add("kmsg", Node::file(0o400, Arc::new(klog::ProcKmsg)));
    tree.add(
        "exitcode",
        Node::file(0o600, Text::with_store(exit_code, set_exit_code)),
    );
    tree.text("modules", 0o444, |_| Ok(()));
    tree.text("execdomains", 0o444, |out| {
        seq!(out, "0-0\tLinux           \t[kernel]\n");
        Ok(())
    });
    tree.text("swaps", 0o444, |out| {
        seq!(out, "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
        Ok(())
    });
    tree.add("sysrq-trigger", Node::file(0o200, Text::only_store(sysrq_trigger)));
    tree.link("mounts", "self/mounts");
    tree.link("net", "self/net");
    tree.dir("fs");
    tree.dir("bus");
    tree.dir("driver");
    tree.dir("sysvipc");
}

fn uptime(out: &mut Seq) -> Result<()> {
    let up = u64::try_from(arch_um::time::uptime().as_nanos()).unwrap_or(u64::MAX);
    let idle: u64 = (0..arch_um::cpu::count())
        .map(|cpu| arch_um::cpu::idle_ns(arch_um::cpu::CpuId(cpu as u32)))
        .sum();
    let parts = |ns: u64| (ns / 1_000_000_000, ns % 1_000_000_000 / 10_000_000);
    let (up, idle) = (parts(up), parts(idle));
    seq!(out, "{}.{:02} {}.{:02}\n", up.0, up.1, idle.0, idle.1);
    Ok(())
}

fn loadavg_line(out: &mut Seq) -> Result<()> {
    for load in loadavg::averages() {
        let (whole, hundredths) = loadavg::parts(load);
        seq!(out, "{whole}.{hundredths:02} ");
    }
    let (running, _) = loadavg::active();
    seq!(
        out,
        "{}/{} {}\n",
        running.max(1),
        table::task_count(),
        table::last_pid().0
    );
    Ok(())
}

fn filesystems(out: &mut Seq) -> Result<()> {
    for kind in crate::vfs::registry::list() {
        let needs_device = kind.flags().contains(FsFlags::NEEDS_DEVICE);
        seq!(out, "{}\t{}\n", if needs_device { "" } else { "nodev" }, kind.name());
    }
    Ok(())
}

fn exit_code(out: &mut Seq) -> Result<()> {
    seq!(out, "{}\n", reboot::exit_code());
    Ok(())
}

/// A number in C's bases; what stands behind it does not count.
fn set_exit_code(data: &[u8]) -> Result<()> {
    let text = word(data)?;
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .unwrap_or(text.len());
    reboot::set_exit_code(number(&text.as_bytes()[..end])? as i32);
    Ok(())
}

/// `echo c > /proc/sysrq-trigger`: the first letter is the command. A letter without one prints the list and is no error.
fn sysrq_trigger(data: &[u8]) -> Result<()> {
    if let Some(&key) = data.first() {
        let _ = sysrq::handle(key);
    }
    Ok(())
}
