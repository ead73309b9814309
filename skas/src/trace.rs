//! The ptrace backend: guest code runs under `PTRACE_SYSEMU`, the stub's code under `PTRACE_CONT` up to a breakpoint.
//!
//! The same image, regions and commands as with seccomp, but a parked stub thread is a stopped one and its registers are ours to set. A
//! memory fault is let through to the stub's handler, whose frame tells the error code, and unwound at once. Host limits: only the thread
//! that called `init` may trace, and a vsyscall is answered by the host itself without a stop.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

use arch_um::Errno;

use crate::core::{Core, Gone};
use crate::exit::{Access, Exit, FaultCode};
use crate::frame::Frame;
use crate::machine::machine;
use crate::region::{self, Command};
use crate::stats::{COUNTERS, count};
use crate::{AddressSpace, Regs, USER_CS, USER_SS, handoff, host, image};

const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;
const NT_X86_XSTATE: usize = 0x202;
const NO_CALL: u64 = u64::MAX;
const SI_KERNEL: i32 = 0x80;
/// Stops a command may take before we call it nonsense.
const MAX_STOPS: usize = 1000;

/// What a tracer's wait found.
enum Stop {
    Signal(i32),
    /// `PTRACE_EVENT_*`
    Event,
}

fn ptrace(request: libc::c_uint, tid: i32, addr: usize, data: usize) -> Result<(), Errno> {
    // SAFETY: the callers pass addresses of structures of the request's type, or numbers.
    let result = unsafe { libc::ptrace(request, tid, addr, data) };
    if result == -1 { Err(host::errno()) } else { Ok(()) }
}

/// Panics in a thread that may not trace: a mistake of the program.
fn check_thread() {
    // SAFETY: gettid only returns a number.
    let tid = unsafe { libc::gettid() };
    assert!(
        tid == machine().init_thread,
        "the ptrace backend works only from the thread that called skas::init (ncpus=1)"
    );
}

fn wait(tid: i32) -> Result<Stop, Gone> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is an int for the host to fill in.
        let result = unsafe { libc::waitpid(tid, &mut status, libc::__WALL) };
        if result == tid {
            break;
        }
        if host::errno() != Errno::EINTR {
            return Err(Gone);
        }
    }
    if !libc::WIFSTOPPED(status) {
        return Err(Gone);
    }
    Ok(if status >> 16 != 0 {
        Stop::Event
    } else {
        Stop::Signal(libc::WSTOPSIG(status))
    })
}

fn get_regs(tid: i32) -> Result<Regs, Gone> {
    let mut regs = Regs::default();
    ptrace(libc::PTRACE_GETREGS, tid, 0, &raw mut regs as usize).map_err(|_| Gone)?;
    Ok(regs)
}

fn set_regs(tid: i32, regs: &Regs) -> Result<(), Gone> {
    // The host refuses selectors that are not user code's; ours never change.
    let regs = Regs {
        cs: USER_CS,
        ss: USER_SS,
        ds: 0,
        es: 0,
        fs: 0,
        gs: 0,
        orig_rax: NO_CALL,
        ..*regs
    };
    ptrace(libc::PTRACE_SETREGS, tid, 0, &raw const regs as usize).map_err(|_| Gone)
}

/// Continues until the breakpoint at `trap`. Returns the process or thread made on the way.
fn run_to(core: &Core, tid: i32, trap: u64) -> Result<Option<i32>, Gone> {
    let mut signal = 0;
    let mut made = None;
    for _ in 0..MAX_STOPS {
        ptrace(libc::PTRACE_CONT, tid, 0, signal as usize).map_err(|_| Gone)?;
        signal = 0;
        match wait(tid)? {
            Stop::Signal(libc::SIGTRAP) if get_regs(tid)?.rip == trap => return Ok(made),
            // The guarded access (stub.s), or a tampered frame: the handler's business.
            Stop::Signal(found @ (libc::SIGSEGV | libc::SIGBUS)) => signal = found,
            Stop::Signal(handoff::KICK) => core.kicked.store(true, Ordering::Relaxed),
            Stop::Signal(_) => (),
            Stop::Event => {
                let mut id: libc::c_ulong = 0;
                ptrace(libc::PTRACE_GETEVENTMSG, tid, 0, &raw mut id as usize).map_err(|_| Gone)?;
                made = Some(id as i32);
            }
        }
    }
    Err(Gone)
}

/// Runs a command in a stopped stub thread until it is done.
pub(crate) fn command(core: &Core, command: Command, dead: &AtomicBool) -> Result<(), Gone> {
    check_thread();
    let result = command_inner(core, command);
    if result.is_err() && core.pid == core.tid {
        note_end(core, dead);
    }
    result
}

/// The leader was reaped by our wait: its number may be in use again, so it must not be killed any more.
fn note_end(core: &Core, dead: &AtomicBool) {
    if host::has_ended(core.pid) {
        dead.store(true, Ordering::SeqCst);
    }
}

fn command_inner(core: &Core, command: Command) -> Result<(), Gone> {
    let layout = &machine().layout;
    let region = &core.region;
    // No guest code runs meanwhile (one thread at a time), so what is written here stays.
    region.put32(region::CAPS, machine().caps);
    region.put32(region::STATUS, 0);
    region.put32(region::COMMAND, command.bits());
    let regs = Regs {
        rbx: region.stub_addr,
        ..Regs::start(
            image::skas_stub_command(layout),
            region.stub_addr + region.size() as u64 - 64,
        )
    };
    set_regs(core.tid, &regs)?;
    if command.bits() & 15 == Command::EXIT.bits() {
        return end_thread(core.tid);
    }
    let Some(child) = run_to(core, core.tid, image::skas_ip_trap(layout))? else {
        return Ok(());
    };
    // The new one starts with a stop of its own, then runs to its parking place.
    if wait(child).is_ok() && run_to(core, child, image::skas_ip_trap(layout)).is_ok() {
        region.put64(region::RESULT, child as u64);
    }
    Ok(())
}

/// Continues a thread that is about to exit until it is gone. A kick that was on its way stops it once more before that.
fn end_thread(tid: i32) -> Result<(), Gone> {
    for _ in 0..MAX_STOPS {
        ptrace(libc::PTRACE_CONT, tid, 0, 0).map_err(|_| Gone)?;
        if wait(tid).is_err() {
            return Ok(());
        }
    }
    Err(Gone)
}

/// A new thread has no signal stack yet; a fork inherits it.
pub(crate) fn arm_signal_stack(core: &Core) -> Result<(), Gone> {
    const SS_AUTODISARM: u64 = 1 << 31;
    let layout = &machine().layout;
    let region = &core.region;
    let stack = [
        region.stub_addr + region::STACK as u64,
        SS_AUTODISARM,
        (region.size() - region::STACK) as u64,
    ];
    for (i, value) in stack.into_iter().enumerate() {
        region.put64(region::OPS + 8 * i, value);
    }
    let regs = Regs {
        rax: libc::SYS_sigaltstack as u64,
        rdi: region.stub_addr + region::OPS as u64,
        ..Regs::start(
            image::skas_stub_call(layout),
            region.stub_addr + region.size() as u64 - 64,
        )
    };
    set_regs(core.tid, &regs)?;
    run_to(core, core.tid, image::skas_ip_called(layout)).map(drop)
}

/// The first stop of the zygote, at the end of its first steps.
pub(crate) fn first_stop(tid: i32) -> Result<(), Gone> {
    match wait(tid)? {
        Stop::Signal(libc::SIGILL) => (),
        _ => return Err(Gone),
    }
    let options =
        libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_TRACEFORK;
    ptrace(libc::PTRACE_SETOPTIONS, tid, 0, options as usize).map_err(|_| Gone)
}

/// Runs guest code until it stops.
pub(crate) fn run(space: &AddressSpace, core: &Core, regs: &mut Regs) -> Exit {
    check_thread();
    if core.kicked.swap(false, Ordering::Relaxed) {
        count(&COUNTERS.interrupts);
        return Exit::Interrupted;
    }
    match run_inner(space, core, regs) {
        Ok(exit) => exit,
        Err(Gone) => {
            if core.pid == core.tid {
                note_end(core, &space.dead);
            }
            space.kill();
            Exit::Dead
        }
    }
}

fn run_inner(space: &AddressSpace, core: &Core, regs: &mut Regs) -> Result<Exit, Gone> {
    let tid = core.tid;
    set_regs(tid, regs)?;
    ptrace(libc::PTRACE_SYSEMU, tid, 0, 0).map_err(|_| Gone)?;
    let Stop::Signal(signal) = wait(tid)? else {
        return Err(Gone);
    };
    *regs = get_regs(tid)?;
    let layout = &machine().layout;
    if regs.rip.wrapping_sub(layout.code) < image::len(layout) {
        space.tampered("guest code ran into the stub");
        return Ok(Exit::Dead);
    }
    if signal == SYSCALL_STOP {
        count(&COUNTERS.syscalls);
        return Ok(if is_foreign(tid, regs) {
            Exit::ForeignSyscall
        } else {
            Exit::Syscall
        });
    }
    regs.orig_rax = NO_CALL;
    // SAFETY: all-zero is a valid siginfo; the host fills it in.
    let info = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        ptrace(libc::PTRACE_GETSIGINFO, tid, 0, &raw mut info as usize).map_err(|_| Gone)?;
        info
    };
    let code = info.si_code;
    // SAFETY: these signals carry an address; for others it is not used.
    let fault_addr = unsafe { info.si_addr() as u64 };
    let addr = if code == SI_KERNEL { 0 } else { fault_addr };
    let synchronous = code > 0;
    match signal {
        libc::SIGSEGV | libc::SIGBUS if synchronous => {
            let (trapno, error_code) = fault_details(core, signal)?;
            if code == SI_KERNEL || trapno != 14 {
                count(&COUNTERS.exceptions);
                return Ok(Exit::Exception {
                    signo: signal,
                    code,
                    addr,
                    trapno,
                    error_code,
                });
            }
            count(&COUNTERS.faults);
            let found = match (signal, code) {
                (libc::SIGBUS, _) => FaultCode::Bus,
                (_, 1) => FaultCode::MapErr,
                _ => FaultCode::AccErr,
            };
            Ok(Exit::Fault {
                addr,
                access: Access::from_error_code(error_code),
                error_code,
                code: found,
            })
        }
        libc::SIGTRAP | libc::SIGFPE | libc::SIGILL if synchronous => {
            count(&COUNTERS.exceptions);
            let trapno = match (signal, code) {
                (libc::SIGTRAP, SI_KERNEL) => 3,
                (libc::SIGTRAP, _) => 1,
                (libc::SIGILL, _) => 6,
                // FPE_INTDIV; the others come from the vector unit.
                (_, 1) => 0,
                _ => 19,
            };
            Ok(Exit::Exception {
                signo: signal,
                code,
                addr,
                trapno,
                error_code: 0,
            })
        }
        _ => {
            count(&COUNTERS.interrupts);
            Ok(Exit::Interrupted)
        }
    }
}

/// Vector and error code of a fault: the stub's handler gets the signal and stops at its breakpoint, then returns.
fn fault_details(core: &Core, signal: i32) -> Result<(u64, u64), Gone> {
    let tid = core.tid;
    let region = &core.region;
    region.put32(region::CAPS, machine().caps);
    ptrace(libc::PTRACE_CONT, tid, 0, signal as usize).map_err(|_| Gone)?;
    match wait(tid)? {
        Stop::Signal(libc::SIGTRAP) if get_regs(tid)?.rip == image::skas_ip_trap(&machine().layout) => (),
        _ => return Err(Gone),
    }
    let frame = Frame::locate(region).ok_or(Gone)?;
    let details = (frame.trapno(region), frame.error_code(region));
    region.put32(region::COMMAND, Command::RESUME.bits());
    for _ in 0..2 {
        ptrace(libc::PTRACE_SYSCALL, tid, 0, 0).map_err(|_| Gone)?;
        match wait(tid)? {
            Stop::Signal(SYSCALL_STOP) => (),
            _ => return Err(Gone),
        }
    }
    Ok(details)
}

/// `int $0x80` and x32 numbers. Asked from the host (`PTRACE_GET_SYSCALL_INFO`, Linux 5.3); older ones: 64-bit is assumed.
fn is_foreign(tid: i32, regs: &Regs) -> bool {
    const PTRACE_GET_SYSCALL_INFO: libc::c_uint = 0x420e;
    const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
    if regs.orig_rax as u32 >> 30 == 1 {
        return true;
    }
    // struct ptrace_syscall_info: op, three bytes of padding, arch, ...
    let mut info = [0u64; 11];
    match ptrace(
        PTRACE_GET_SYSCALL_INFO,
        tid,
        std::mem::size_of_val(&info),
        info.as_mut_ptr() as usize,
    ) {
        Ok(()) => (info[0] >> 32) as u32 != AUDIT_ARCH_X86_64,
        Err(_) => false,
    }
}

const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
const SOFTWARE: usize = 464;

/// The host's image of FP and vector state: like that of a signal frame, without its description.
fn raw_xstate(tid: i32) -> Option<Vec<u8>> {
    let mut image = vec![0u8; 16384];
    let mut iov = libc::iovec {
        iov_base: image.as_mut_ptr().cast(),
        iov_len: image.len(),
    };
    ptrace(
        libc::PTRACE_GETREGSET as libc::c_uint,
        tid,
        NT_X86_XSTATE,
        &raw mut iov as usize,
    )
    .ok()?;
    image.truncate(iov.iov_len);
    (image.len() >= 576).then_some(image)
}

fn put_raw_xstate(tid: i32, image: &mut [u8]) -> Result<(), Errno> {
    let mut iov = libc::iovec {
        iov_base: image.as_mut_ptr().cast(),
        iov_len: image.len(),
    };
    ptrace(
        libc::PTRACE_SETREGSET as libc::c_uint,
        tid,
        NT_X86_XSTATE,
        &raw mut iov as usize,
    )
}

/// FP and vector state in the form of a signal frame.
pub(crate) fn xstate(core: &Core) -> Vec<u8> {
    check_thread();
    let Some(mut image) = raw_xstate(core.tid) else {
        return Vec::new();
    };
    let len = image.len() as u32;
    let features: [u8; 8] = image[SOFTWARE..SOFTWARE + 8].try_into().expect("eight bytes");
    image[SOFTWARE..SOFTWARE + 4].copy_from_slice(&MAGIC1.to_le_bytes());
    image[SOFTWARE + 4..SOFTWARE + 8].copy_from_slice(&(len + 4).to_le_bytes());
    image[SOFTWARE + 8..SOFTWARE + 16].copy_from_slice(&features);
    image[SOFTWARE + 16..SOFTWARE + 20].copy_from_slice(&len.to_le_bytes());
    image.extend_from_slice(&MAGIC2.to_le_bytes());
    image
}

/// The reverse of [`xstate`].
pub(crate) fn set_xstate(core: &Core, image: &[u8]) -> Result<(), Errno> {
    check_thread();
    let now = raw_xstate(core.tid).ok_or(Errno::ESRCH)?;
    let described = xstate(core);
    let image = crate::xstate::completed(image, &described);
    crate::xstate::check(&image, &described)?;
    let mut raw = image[..now.len()].to_vec();
    raw[SOFTWARE..512].copy_from_slice(&now[SOFTWARE..512]);
    put_raw_xstate(core.tid, &mut raw)
}

/// Initial state.
pub(crate) fn reset_xstate(core: &Core) {
    check_thread();
    if let Some(mut image) = raw_xstate(core.tid) {
        crate::xstate::make_initial(&mut image);
        let _ = put_raw_xstate(core.tid, &mut image);
    }
}

/// Reaps the threads of a killed process, without which the host does not let its leader go.
pub(crate) fn reap_threads<'a>(threads: impl Iterator<Item = &'a Core>) {
    for core in threads.filter(|core| core.tid != core.pid) {
        // SAFETY: no status is asked for.
        unsafe { libc::waitpid(core.tid, null_mut(), libc::__WALL | libc::WNOHANG) };
    }
}
