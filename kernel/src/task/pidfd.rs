//! Processes as files: `pidfd_open(2)`, `pidfd_send_signal(2)`, `pidfd_getfd(2)`. Readable once the process has ended.

use alloc::sync::Arc;
use core::any::Any;

use super::{Pid, Process, ptrace, table};
use crate::signal::info::{SI_USER, SigInfo};
use crate::signal::{Signal, kill};
use crate::syscall::Context;
use crate::vfs::fd_table::Fd;
use crate::vfs::file::SeekKind;
use crate::vfs::{File, FileOps, OpenFlags, PollEvents, PollTable, anon};
use crate::{Errno, Result};

/// What stands behind a pidfd.
pub struct PidFd {
    process: Arc<Process>,
}

impl PidFd {
    /// The process.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }
}

impl FileOps for PidFd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> SeekKind {
        SeekKind::Stream
    }

    fn announces(&self) -> bool {
        true
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.listen(&self.process.exit_wait);
        }
        match table::with_node(&self.process, |node| node.zombie.is_some()) {
            Some(false) => PollEvents::empty(),
            Some(true) => PollEvents::IN | PollEvents::RDNORM,
            None => PollEvents::IN | PollEvents::RDNORM | PollEvents::HUP,
        }
    }
}

/// Makes a close-on-exec descriptor for `process`.
pub(super) fn install(cx: &Context, process: &Arc<Process>) -> Result<Fd> {
    install_with(cx, process, OpenFlags::CLOEXEC).map(|fd| Fd(fd as i32))
}

fn install_with(cx: &Context, process: &Arc<Process>, flags: OpenFlags) -> Result<usize> {
    let ops = Arc::new(PidFd {
        process: process.clone(),
    });
    let file = anon::file(ops, "[pidfd]", flags | OpenFlags::RDWR, cx.task().cred());
    cx.files().install(file, flags).map(|fd| fd.0 as usize)
}

/// Closes a descriptor that [`install`] made, when the clone it was for failed.
pub(super) fn close(cx: &Context, fd: Fd) {
    let _ = cx.files().close(fd);
}

/// The process behind a descriptor, and whether waiting through it must not block. `EBADF` for another kind of file.
pub(crate) fn process_of(cx: &Context, fd: Fd) -> Result<(Arc<Process>, bool)> {
    let file = cx.files().get(fd)?;
    let pidfd = file.ops_as::<PidFd>().ok_or(Errno::EBADF)?;
    Ok((pidfd.process.clone(), file.is_nonblocking()))
}

/// `pidfd_open(2)`. `EINVAL` for a thread that is no leader.
pub fn sys_pidfd_open(cx: &Context, pid: Pid, flags: u32) -> Result<usize> {
    let flags = OpenFlags::from_bits_retain(flags);
    if !OpenFlags::NONBLOCK.contains(flags) || pid.0 <= 0 {
        return Err(Errno::EINVAL);
    }
    let task = table::task(pid).ok_or(Errno::ESRCH)?;
    if !task.is_leader() {
        return Err(Errno::EINVAL);
    }
    install_with(cx, task.process(), flags | OpenFlags::CLOEXEC)
}

/// `pidfd_send_signal(2)`.
pub fn sys_pidfd_send_signal(cx: &Context, fd: Fd, number: i32, info: u64, flags: u32) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let (process, _) = process_of(cx, fd)?;
    let signal = match number {
        0 => None,
        _ => Some(Signal::new(number).ok_or(Errno::EINVAL)?),
    };
    let info = if info == 0 {
        None
    } else {
        Some(kill::read_info(cx.task(), info, process.pid())?)
    };
    if let (Some(bytes), Some(signal)) = (&info, signal) {
        // The number inside must agree, unlike in rt_sigqueueinfo.
        if bytes[..4] != signal.number().to_le_bytes() {
            return Err(Errno::EINVAL);
        }
    }
    let info = match (info, signal) {
        (Some(bytes), Some(signal)) => Some(SigInfo::from_siginfo(signal, &bytes)).filter(|info| info.code != SI_USER),
        _ => None,
    };
    kill::send_to_process(cx.task(), &process, signal, info)?;
    Ok(0)
}

/// `pidfd_getfd(2)`: a descriptor of another process that the caller may look into.
pub fn sys_pidfd_getfd(cx: &Context, fd: Fd, target: Fd, flags: u32) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let (process, _) = process_of(cx, fd)?;
    let task = process.any_thread().ok_or(Errno::ESRCH)?;
    ptrace::may_access(cx.task(), &task)?;
    let file = task.try_files().ok_or(Errno::ESRCH)?.get_any(target)?;
    cx.files().install(file, OpenFlags::CLOEXEC).map(|fd| fd.0 as usize)
}
