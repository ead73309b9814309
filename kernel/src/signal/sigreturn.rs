//! `rt_sigreturn(2)`: back from a handler to what its frame says.

use super::frame::{SigContext, UContext};
use super::info::SigSet;
use super::{altstack, send};
use crate::abi::Abi;
use crate::syscall::Context;
use crate::user::{UserAddr, UserPtr};
use crate::{Errno, Result};

/// Flags that a frame may set: alignment check, overflow, direction, trap, sign, zero, auxiliary, parity, carry, resume.
const FRAME_FLAGS: u64 = 0x5_0dd5;
/// Bytes of the legacy part of an XSAVE image.
const FXSAVE_SIZE: usize = 512;
/// Where `struct _fpx_sw_bytes` begins in it.
const SW_BYTES: usize = 464;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// More than any processor's XSAVE area.
const XSTATE_MAX: usize = 64 << 10;

/// `rt_sigreturn(2)`. A frame that cannot be read or makes no sense is a `SIGSEGV`.
pub fn sys_rt_sigreturn(cx: &Context) -> Result<usize> {
    // The handler's `ret` has popped the return address.
    let frame = cx.user().regs().rsp.wrapping_sub(8);
    if restore(cx, frame).is_err() {
        send::force_segv(cx.task(), None);
        cx.user().regs_mut().orig_rax = u64::MAX;
        return Ok(0);
    }
    // The result of this call is the register that the frame restored.
    let rax = cx.user().regs().rax;
    Ok(rax as usize)
}

fn restore(cx: &Context, frame: u64) -> Result<()> {
    let context = UserPtr::<UContext>::new(frame.wrapping_add(8)).read()?;
    let task = cx.task();
    // A call that a handler interrupted is over.
    drop(task.take_restart());
    task.set_blocked(SigSet(context.mask));
    let xstate = read_xstate(context.mcontext.fpstate)?;
    {
        let mut user = cx.user();
        match xstate {
            Some(image) => user.set_xstate(&image)?,
            None => user.reset_xstate(),
        }
        registers(user.regs_mut(), &context.mcontext);
    }
    altstack::restore(task, context.stack);
    Ok(())
}

fn registers(regs: &mut skas::Regs, from: &SigContext) {
    [
        regs.r8, regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15, regs.rdi, regs.rsi, regs.rbp,
        regs.rbx, regs.rdx, regs.rax, regs.rcx, regs.rsp, regs.rip,
    ] = from.regs;
    regs.eflags = regs.eflags & !FRAME_FLAGS | from.eflags & FRAME_FLAGS;
    regs.cs = u64::from(from.cs) | 3;
    regs.ss = u64::from(from.ss) | 3;
    // Not in a system call any more: nothing to restart.
    regs.orig_rax = u64::MAX;
}

/// Reads the XSAVE image at `addr`; none for the null pointer, which stands for the initial state. An image without the software bytes has only
/// the legacy part.
fn read_xstate(addr: u64) -> Result<Option<alloc::vec::Vec<u8>>> {
    if addr == 0 {
        return Ok(None);
    }
    let mut image = alloc::vec![0; FXSAVE_SIZE];
    UserAddr(addr).read(&mut image)?;
    let word = |image: &[u8], at: usize| image.get(at..at + 4).map_or(0, u32::decode);
    let extended = word(&image, SW_BYTES + 4) as usize;
    let size = word(&image, SW_BYTES + 16) as usize;
    let plausible =
        word(&image, SW_BYTES) == MAGIC1 && (FXSAVE_SIZE + 64..=XSTATE_MAX).contains(&size) && extended >= size + 4;
    if !plausible {
        return Ok(Some(image));
    }
    let mut rest = alloc::vec![0; size + 4 - FXSAVE_SIZE];
    UserAddr(addr)
        .offset(FXSAVE_SIZE as u64)
        .read(&mut rest)
        .map_err(|_| Errno::EFAULT)?;
    image.extend_from_slice(&rest);
    if word(&image, size) != MAGIC2 {
        // Somebody copied the frame without the extended part.
        image.truncate(FXSAVE_SIZE);
    }
    Ok(Some(image))
}

/// `restart_syscall(2)`: what an interrupted call with a time-out left to do. Only the kernel's own restart finds anything.
pub fn sys_restart_syscall(cx: &Context) -> Result<usize> {
    match cx.task().take_restart() {
        Some(restart) => restart(cx),
        None => Err(Errno::EINTR),
    }
}
