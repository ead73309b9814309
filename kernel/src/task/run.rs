//! The loop of a task: run user code, answer its exit, look after signals, again.

use arch_um::{Errno, cpu};
use log::error;
use skas::{Exit, Waiting};

use super::{ExitStatus, exit};
use crate::signal::deliver::{self, Interrupted};
use crate::signal::{SigInfo, Signal, send};
use crate::syscall::{Context, FaultRecord, table_x86_64};

/// The processor's vector of a page fault.
const PAGE_FAULT: u64 = 14;

/// Runs the task of `cx` until it ends, and ends it.
pub(crate) fn run(cx: Context) {
    let status = run_user(&cx);
    exit::finish(cx, status);
}

fn run_user(cx: &Context) -> ExitStatus {
    let task = cx.task().clone();
    let mut interrupted = None;
    loop {
        if (interrupted.is_some() || task.signal_pending())
            && let Some(status) = deliver::before_user(cx, interrupted.take())
        {
            return status;
        }
        cpu::cond_resched();
        let mut user = cx.user();
        user.set_waiting(match skas::can_spin() && cpu::has_helper() {
            true => Waiting::Spin(cpu::host_cpu()),
            false => Waiting::Park(cpu::host_cpu()),
        });
        let exit = cpu::enter_user(&cx.kick(), || user.run());
        drop(user);
        match exit {
            Some(exit) => interrupted = answer(cx, exit),
            // An interrupt that no signal stands for would keep us here for ever.
            None => task.recalculate_signals(),
        }
        if let Some(status) = cx.exit.take() {
            return status;
        }
    }
}

/// Does what the exit asks for. Some for a system call that a signal interrupted.
fn answer(cx: &Context, exit: Exit) -> Option<Interrupted> {
    match exit {
        Exit::Syscall => return system_call(cx),
        // `rax` holds `-ENOSYS` already: Linux without the 32-bit and x32 interfaces.
        Exit::ForeignSyscall => {}
        Exit::Interrupted => {}
        Exit::Fault { addr, error_code, .. } => {
            cx.fault.set(FaultRecord {
                addr,
                error_code,
                trapno: PAGE_FAULT,
            });
            fault(cx, exit);
        }
        Exit::Exception {
            signo,
            code,
            addr,
            trapno,
            error_code,
        } => {
            cx.fault.set(FaultRecord {
                addr: cx.fault.get().addr,
                error_code,
                trapno,
            });
            let signal = Signal::new(signo).unwrap_or(Signal::SEGV);
            send::force(cx.task(), SigInfo::fault(signal, code, addr));
        }
        Exit::QueueFailed(error) => queue_failed(cx, error),
        Exit::Dead => cx.kill(),
    }
    None
}

fn system_call(cx: &Context) -> Option<Interrupted> {
    let (nr, args) = {
        let user = cx.user();
        let regs = user.regs();
        (
            regs.orig_rax,
            [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9],
        )
    };
    let result = table_x86_64::dispatch(cx, nr, args);
    log::trace!(target: "syscall", "[{}] {}({:x?}) = {:?}", cx.task().tid().0, table_x86_64::name(nr).unwrap_or("?"), args, result);
    let value = match result {
        Ok(value) => value as u64,
        Err(kind @ (Errno::RestartSys | Errno::RestartNoIntr | Errno::RestartNoHand | Errno::RestartBlock)) => {
            return Some(Interrupted { nr, kind });
        }
        Err(error) => (-i64::from(error.code())) as u64,
    };
    cx.user().regs_mut().rax = value;
    None
}

/// A page fault: the memory map mends it, or the program hears of it.
fn fault(cx: &Context, exit: Exit) {
    if let Err(info) = cx.task().mm().fault(&exit) {
        send::force(cx.task(), info);
    }
}

/// The host refused a mapping that the guest was promised: the program cannot go on.
fn queue_failed(cx: &Context, error: Errno) {
    let task = cx.task();
    let knob = match error {
        Errno::ENOMEM => "the host's vm.max_map_count or vm.overcommit_memory may be too small",
        Errno::EAGAIN => "the host's limit on locked memory or processes may be too small",
        Errno::EACCES | Errno::EPERM => "the host's vm.mmap_min_addr, noexec mounts or vm.memfd_noexec may forbid it",
        _ => "see the host's log",
    };
    error!(
        "{}[{}]: the host refused a memory mapping: {error}; {knob}",
        task.comm().to_text(),
        task.process().pid().0
    );
    cx.kill();
}
