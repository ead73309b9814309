//! The directories of processes (`/proc/PID`) and threads (`/proc/PID/task/TID`).
//!
//! [`subject`] says whom a directory is about, and keeps nobody alive; [`entries`] lists what is in it. Families of entries: [`stat`], [`status`],
//! [`memory`], [`mem`], [`fd`], [`mounts`], [`links`], [`settings`].

mod entries;
mod fd;
mod fdinfo;
mod links;
mod mem;
mod memory;
mod mounts;
mod settings;
mod smaps;
mod space;
mod stat;
mod status;
mod subject;

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::options::{HidePid, ProcOptions};
use crate::fs::pseudo::{MadeLink, Node, Tree};
use crate::task::{self, Pid, Process, table};
use crate::vfs::FileType;
use crate::{Errno, Result};
pub use links::net_directory;
pub use status::ranges;
use subject::Subject;

/// The number that `name` spells: decimal, no leading zero.
fn parse_pid(name: &[u8]) -> Option<Pid> {
    if name.is_empty() || name.len() > 10 || name[0] == b'0' {
        return None;
    }
    let digits = name.iter().all(u8::is_ascii_digit);
    let text = core::str::from_utf8(name).ok().filter(|_| digits)?;
    text.parse().ok().map(Pid)
}

/// Whether the caller may see that `process` exists.
fn is_visible(options: &ProcOptions, process: &Arc<Process>) -> bool {
    if options.hide() < HidePid::Invisible {
        return true;
    }
    may_look(options, process)
}

/// Whether the caller may look into `process`, as far as `hidepid=` is concerned.
fn may_look(options: &ProcOptions, process: &Arc<Process>) -> bool {
    let (Some(caller), Some(target)) = (task::try_current(), process.any_thread()) else {
        return true;
    };
    options.exempts(&caller.cred()) || task::ptrace::may_access(&caller, &target).is_ok()
}

/// The directory of the process or thread that `name` spells. Threads that lead no process are found but not listed.
pub(super) fn lookup(options: &Arc<ProcOptions>, name: &[u8]) -> Result<Node> {
    let pid = parse_pid(name).ok_or(Errno::ENOENT)?;
    let process = match table::process(pid) {
        Some(process) => process,
        None => table::task(pid).ok_or(Errno::ENOENT)?.process().clone(),
    };
    if !is_visible(options, &process) {
        return Err(Errno::ENOENT);
    }
    let hidden = options.hide() == HidePid::NoAccess && !may_look(options, &process);
    let subject = Subject::process(&process, pid).ok_or(Errno::ENOENT)?;
    let mut node = entries::directory(subject);
    if hidden {
        node.attributes.mode = 0o500;
    }
    Ok(node)
}

/// Shows all processes.
pub(super) fn list(options: &Arc<ProcOptions>, show: &mut dyn FnMut(&[u8], u64, FileType)) {
    for process in table::processes() {
        if is_visible(options, &process) {
            let pid = process.pid();
            show(
                format!("{}", pid.0).as_bytes(),
                subject::dir_ino(pid),
                FileType::Directory,
            );
        }
    }
}

/// `self` and `thread-self`.
pub(super) fn fill(tree: &Arc<Tree>) {
    let own = || task::try_current().ok_or(Errno::ENOENT);
    let process = move || Ok(format!("{}", own()?.process().pid().0).into_bytes());
    let thread = move || {
        let task = own()?;
        Ok::<Vec<u8>, Errno>(format!("{}/task/{}", task.process().pid().0, task.tid().0).into_bytes())
    };
    tree.add("self", Node::link(Arc::new(MadeLink(process))));
    tree.add("thread-self", Node::link(Arc::new(MadeLink(thread))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_numbers_name_processes() {
        assert_eq!(parse_pid(b"42"), Some(Pid(42)));
        for bad in [&b""[..], b"0", b"042", b"4x", b"-1", b"99999999999", b"4294967297"] {
            assert_eq!(parse_pid(bad), None);
        }
    }
}
