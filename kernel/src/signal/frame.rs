//! The frame on a handler's stack: `struct rt_sigframe` of x86-64.
//!
//! From the stack pointer up: return address (the restorer), `ucontext`, `siginfo`; above it, 64-byte aligned, the XSAVE image. The handler finds
//! its arguments in `rdi`, `rsi`, `rdx`. [`super::sigreturn`] reads the frame back.

use alloc::vec::Vec;

use super::action::{Action, ActionFlags};
use super::altstack;
use super::info::{SigInfo, SigSet};
use super::siginfo::SIGINFO_SIZE;
use super::state::AltStack;
use crate::abi::Abi;
use crate::syscall::{Context, FaultRecord};
use crate::user::UserAddr;
use crate::{Errno, Result, abi_struct};

abi_struct! {
    /// `struct sigcontext`.
    pub struct SigContext {
        /// General registers, in Linux's order: r8..r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip.
        pub regs: [u64; 17],
        /// Flags.
        pub eflags: u64,
        /// Selectors.
        pub cs: u16,
        /// Always 0.
        pub gs: u16,
        /// Always 0.
        pub fs: u16,
        /// Selectors.
        pub ss: u16,
        /// Error code of the last exception.
        pub err: u64,
        /// Vector of the last exception.
        pub trapno: u64,
        /// The mask, once more.
        pub oldmask: u64,
        /// Address of the last page fault.
        pub cr2: u64,
        /// Where the XSAVE image lies.
        pub fpstate: u64,
        /// Reserved.
        pub reserved: [u64; 8],
    }
}

abi_struct! {
    /// `struct ucontext`.
    pub struct UContext {
        /// `UC_*`.
        pub flags: u64,
        /// Always 0.
        pub link: u64,
        /// The alternate stack before the handler.
        pub stack: AltStack,
        /// Registers.
        pub mcontext: SigContext,
        /// The mask to go back to.
        pub mask: u64,
    }
}

/// `UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS`.
const UC_FLAGS: u64 = 7;
/// Below the stack pointer a leaf function may keep data.
const RED_ZONE: u64 = 128;
/// Return address, ucontext, siginfo.
pub(crate) const FRAME_SIZE: u64 = 8 + UContext::SIZE as u64 + SIGINFO_SIZE as u64;
/// Direction, resume and trap flags are clear in a handler.
const HANDLER_CLEARS: u64 = 0x400 | 0x1_0000 | 0x100;

/// Where the parts of a frame go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    frame: u64,
    fpstate: u64,
}

/// Lays a frame with `xstate` bytes of FP state below `top`.
fn place(top: u64, xstate: u64) -> Place {
    let fpstate = top.wrapping_sub(xstate) & !63;
    // As if the handler had been called: 8 bytes off a multiple of 16.
    let frame = (fpstate.wrapping_sub(FRAME_SIZE) & !15).wrapping_sub(8);
    Place { frame, fpstate }
}

/// Puts the frame for `action` on the stack and points the registers at the handler. `mask` is what sigreturn goes back to.
///
/// `EFAULT` when it does not fit or the action has no restorer, without which there is no way back.
pub(crate) fn push(cx: &Context, info: &SigInfo, action: &Action, mask: SigSet) -> Result<()> {
    if !action.flags.contains(ActionFlags::RESTORER) {
        return Err(Errno::EFAULT);
    }
    let task = cx.task();
    let altstack = task.signals.lock().altstack;
    let (regs, xstate) = {
        let user = cx.user();
        (*user.regs(), user.xstate())
    };
    let nested = altstack::contains(&altstack, regs.rsp);
    let switches = action.flags.contains(ActionFlags::ONSTACK) && altstack::is_usable(&altstack, regs.rsp);
    let top = if switches {
        altstack.sp.wrapping_add(altstack.size)
    } else {
        regs.rsp.wrapping_sub(RED_ZONE)
    };
    let place = place(top, xstate.len() as u64);
    if (switches || nested) && !altstack::contains_address(&altstack, place.frame) {
        // The alternate stack is too small.
        return Err(Errno::EFAULT);
    }
    let context = UContext {
        flags: UC_FLAGS,
        link: 0,
        stack: altstack,
        mcontext: sigcontext(&regs, cx.fault.get(), mask, place.fpstate),
        mask: mask.0,
    };
    let mut bytes = Vec::with_capacity(FRAME_SIZE as usize);
    bytes.extend_from_slice(&action.restorer.to_le_bytes());
    bytes.extend_from_slice(&context.to_bytes());
    bytes.extend_from_slice(&info.to_siginfo());
    UserAddr(place.fpstate).write(&xstate)?;
    UserAddr(place.frame).write(&bytes)?;
    altstack::autodisarm(task);

    let mut user = cx.user();
    let regs = user.regs_mut();
    regs.rip = action.handler;
    regs.rsp = place.frame;
    regs.rdi = info.signal.number() as u64;
    regs.rsi = place.frame + 8 + UContext::SIZE as u64;
    regs.rdx = place.frame + 8;
    regs.rax = 0;
    regs.cs = skas::USER_CS;
    regs.ss = skas::USER_SS;
    regs.eflags &= !HANDLER_CLEARS;
    regs.orig_rax = u64::MAX;
    Ok(())
}

fn sigcontext(regs: &skas::Regs, fault: FaultRecord, mask: SigSet, fpstate: u64) -> SigContext {
    SigContext {
        regs: [
            regs.r8, regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15, regs.rdi, regs.rsi, regs.rbp,
            regs.rbx, regs.rdx, regs.rax, regs.rcx, regs.rsp, regs.rip,
        ],
        eflags: regs.eflags,
        cs: regs.cs as u16,
        gs: 0,
        fs: 0,
        ss: regs.ss as u16,
        err: fault.error_code,
        trapno: fault.trapno,
        oldmask: mask.0,
        cr2: fault.addr,
        fpstate,
        reserved: [0; 8],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_has_the_sizes_of_linux() {
        assert_eq!(AltStack::SIZE, 24);
        assert_eq!(SigContext::SIZE, 256);
        assert_eq!(UContext::SIZE, 304);
        assert_eq!(FRAME_SIZE, 440);
    }

    #[test]
    fn fp_state_is_aligned_and_the_handler_starts_as_if_called() {
        for top in 0x7fff_0000..0x7fff_0080u64 {
            let place = place(top, 836);
            assert_eq!(place.fpstate % 64, 0);
            assert!(place.fpstate + 836 <= top);
            assert_eq!(place.frame % 16, 8);
            assert!(place.frame + FRAME_SIZE <= place.fpstate);
        }
    }
}
