//! From a signal frame to an [`Exit`].

use std::sync::Arc;

use crate::core::Core;
use crate::exit::{Access, Exit, FaultCode};
use crate::frame::Frame;
use crate::machine::machine;
use crate::stats::{COUNTERS, count};
use crate::{AddressSpace, Regs, handoff, image, region};

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const SYS_SECCOMP: i32 = 1;
const SI_KERNEL: i32 = 0x80;
const PAGE_FAULT: u64 = 14;
const VSYSCALL: u64 = 0xffff_ffff_ff60_0000;
const ENOSYS: u64 = -38i64 as u64;

/// Reads why a stub handed back, and the registers.
pub(crate) fn exit(space: &AddressSpace, core: &Arc<Core>, regs: &mut Regs) -> Exit {
    let region = &core.region;
    let (Some(frame), Some(info)) = (Frame::locate(region), Frame::siginfo(region)) else {
        space.tampered("signal frame out of bounds");
        return Exit::Dead;
    };
    let signal = region.get32(region::SIGNAL) as i32;
    if region.get32(region::STATUS) != region::STATUS_SIGNAL {
        space.tampered("hand-over without a signal");
        return Exit::Dead;
    }
    frame.load(region, regs);
    let layout = &machine().layout;
    if regs.rip.wrapping_sub(layout.code) < image::len(layout) {
        space.tampered("guest code ran into the stub");
        return Exit::Dead;
    }
    match signal {
        libc::SIGSYS if info.code == SYS_SECCOMP => {
            count(&COUNTERS.syscalls);
            regs.orig_rax = regs.rax;
            regs.rax = ENOSYS;
            let foreign = info.arch != AUDIT_ARCH_X86_64 || info.syscall as u32 >> 30 == 1;
            if foreign { Exit::ForeignSyscall } else { Exit::Syscall }
        }
        libc::SIGSEGV | libc::SIGBUS if info.code > 0 => {
            let (trapno, error_code) = (frame.trapno(region), frame.error_code(region));
            if info.code == SI_KERNEL || trapno != PAGE_FAULT {
                count(&COUNTERS.exceptions);
                let addr = if info.code == SI_KERNEL { 0 } else { info.addr };
                return Exit::Exception {
                    signo: signal,
                    code: info.code,
                    addr,
                    trapno,
                    error_code,
                };
            }
            let access = Access::from_error_code(error_code);
            if access == Access::Exec && vsyscall(space, regs, info.addr) {
                count(&COUNTERS.syscalls);
                return Exit::Syscall;
            }
            count(&COUNTERS.faults);
            let code = match (signal, info.code) {
                (libc::SIGBUS, _) => FaultCode::Bus,
                (_, 1) => FaultCode::MapErr,
                _ => FaultCode::AccErr,
            };
            Exit::Fault {
                addr: info.addr,
                access,
                error_code,
                code,
            }
        }
        libc::SIGTRAP | libc::SIGFPE | libc::SIGILL if info.code > 0 => {
            count(&COUNTERS.exceptions);
            let (trapno, error_code) = (frame.trapno(region), frame.error_code(region));
            let addr = if info.code == SI_KERNEL { 0 } else { info.addr };
            Exit::Exception {
                signo: signal,
                code: info.code,
                addr,
                trapno,
                error_code,
            }
        }
        handoff::KICK | libc::SIGSYS | libc::SIGSEGV | libc::SIGBUS | libc::SIGTRAP | libc::SIGFPE | libc::SIGILL => {
            count(&COUNTERS.interrupts);
            Exit::Interrupted
        }
        _ => {
            space.tampered("impossible signal");
            Exit::Dead
        }
    }
}

/// A call of the vsyscall page on a host without one: makes it look like a system call whose return address is popped.
fn vsyscall(space: &AddressSpace, regs: &mut Regs, addr: u64) -> bool {
    let nr = match addr.wrapping_sub(VSYSCALL) {
        0 => libc::SYS_gettimeofday,
        0x400 => libc::SYS_time,
        0x800 => libc::SYS_getcpu,
        _ => return false,
    };
    let mut back = [0; 8];
    if regs.rip != addr || space.read(regs.rsp, &mut back).is_err() {
        return false;
    }
    regs.rip = u64::from_le_bytes(back);
    regs.rsp += 8;
    regs.orig_rax = nr as u64;
    regs.rax = ENOSYS;
    true
}
