//! The switch from one stack to another: callee-saved registers and floating-point control words, nothing else.
//!
//! Everything that is "current" (thread-local addresses, the CPU) may be different after [`switch_stacks`] returns: it is reached through
//! `cpu::this_cpu`, which is never inlined.

use super::Thread;
use std::arch::naked_asm;

/// Saves the current context on its stack, its stack pointer in `*save`, and continues the context saved at `to`.
///
/// # Safety
/// `to` comes from an earlier save or from [`initial_frame`] and is used once; `save` is valid until the context runs again.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn switch_stacks(save: *mut usize, to: usize) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "stmxcsr [rsp]",
        "fnstcw [rsp + 4]",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "ldmxcsr [rsp]",
        "fldcw [rsp + 4]",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// First code of a new thread: r12 holds the thread. The zero frame pointer ends backtraces.
#[unsafe(naked)]
unsafe extern "C" fn first_steps() {
    naked_asm!("xor ebp, ebp", "mov rdi, r12", "call {main}", "ud2", main = sym super::thread_main)
}

/// Writes the context of a thread that has not run yet below `top` and returns its stack pointer.
///
/// # Safety
/// The stack below `top` is mapped, unused, and belongs to `thread`.
pub(super) unsafe fn initial_frame(top: usize, thread: *const Thread) -> usize {
    // Default control words: all exceptions masked, round to nearest, x87 with 64-bit mantissa.
    const CONTROL: u64 = 0x1f80 | 0x037f << 32;
    // r15, r14, r13, r12, rbx, rbp, return address, and two words that keep the call in `first_steps` aligned.
    let frame: [u64; 10] = [
        CONTROL,
        0,
        0,
        0,
        thread as u64,
        0,
        0,
        first_steps as *const () as u64,
        0,
        0,
    ];
    let rsp = top - size_of_val(&frame);
    // SAFETY: the caller gives us that memory.
    unsafe { (rsp as *mut [u64; 10]).write(frame) };
    rsp
}
