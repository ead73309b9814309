//! Faults of the kernel itself: SIGSEGV, SIGBUS, SIGILL, SIGFPE end in a kernel panic that names the thread, and a stack overflow is
//! called that.
//!
//! The handler runs on an alternate stack, notes what happened in a static buffer, and lets the I/O thread tell it: the faulting thread
//! may hold any lock. The watchdog (SIGALRM) tells it raw and ends the process if that hangs.

use super::{LAST_STATUS, abort};
use crate::cpu::this_cpu;
use crate::sync::raw::RawLock;
use std::cell::Cell;
use std::fmt::{self, Write};
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const ALT_STACK: usize = 64 << 10;
const FATAL: [i32; 4] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE];

/// Text in a fixed buffer: no allocation in a signal handler.
struct Message {
    text: [u8; 256],
    len: usize,
}

impl Write for Message {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let n = s.len().min(self.text.len() - self.len);
        self.text[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

static MESSAGE: RawLock<Message> = RawLock::new(Message { text: [0; 256], len: 0 });
static TOLD: AtomicBool = AtomicBool::new(false);
static FAULTS: AtomicUsize = AtomicUsize::new(0);

pub(super) fn install() {
    for signo in FATAL {
        catch(
            signo,
            on_fault as *const () as usize,
            libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER,
        );
    }
    prepare_host_thread();
}

fn catch(signo: i32, handler: usize, flags: i32) {
    // SAFETY: zero is a valid sigaction; the handlers in this file are async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        libc::sigaction(signo, &action, ptr::null_mut());
    }
}

/// Gives this host thread an alternate signal stack, for its lifetime.
pub(crate) fn prepare_host_thread() {
    struct AltStack(Cell<*mut libc::c_void>);
    impl Drop for AltStack {
        fn drop(&mut self) {
            if self.0.get().is_null() {
                return;
            }
            // SAFETY: the stack is switched off before it is unmapped; zero is valid for the rest of the structure.
            unsafe {
                let mut off: libc::stack_t = mem::zeroed();
                off.ss_flags = libc::SS_DISABLE;
                libc::sigaltstack(&off, ptr::null_mut());
                libc::munmap(self.0.get(), ALT_STACK);
            }
        }
    }
    thread_local!(static STACK: AltStack = const { AltStack(Cell::new(ptr::null_mut())) });
    STACK.with(|stack| {
        if !stack.0.get().is_null() {
            return;
        }
        // SAFETY: a fresh mapping becomes this thread's signal stack; it is unmapped after it is switched off.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            let base = libc::mmap(
                ptr::null_mut(),
                ALT_STACK,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            );
            if base == libc::MAP_FAILED {
                return;
            }
            let new = libc::stack_t {
                ss_sp: base,
                ss_flags: 0,
                ss_size: ALT_STACK,
            };
            libc::sigaltstack(&new, ptr::null_mut());
            stack.0.set(base);
        }
    });
}

extern "C" fn on_fault(signo: i32, info: *const libc::siginfo_t, context: *const libc::c_void) {
    if FAULTS.fetch_add(1, Ordering::SeqCst) > 0 || super::in_progress() {
        // A fault while a panic is being told: if it is the teller's, nothing more can be done; others just stop.
        // SAFETY: no arguments.
        if super::LEAVING.load(Ordering::SeqCst) == unsafe { libc::gettid() } {
            give_up();
        }
        stop();
    }
    // SAFETY: the host passes valid pointers to an SA_SIGINFO handler.
    let (addr, ip, sent) = unsafe {
        let ucontext = &*context.cast::<libc::ucontext_t>();
        let ip = ucontext.uc_mcontext.gregs[libc::REG_RIP as usize] as usize;
        ((*info).si_addr() as usize, ip, (*info).si_code <= 0)
    };
    describe(signo, addr, ip, sent);
    start_watchdog(super::PATIENCE);
    if !crate::event::hand_over_panic() {
        tell_fatal();
    }
    stop()
}

fn describe(signo: i32, addr: usize, ip: usize, sent: bool) {
    let mut message = MESSAGE.lock();
    let what = match signo {
        libc::SIGSEGV => "segfault",
        libc::SIGBUS => "bus error",
        libc::SIGILL => "invalid opcode",
        _ => "divide error",
    };
    let current = this_cpu().map_or(ptr::null(), |cpu| cpu.current());
    // Formatting into the buffer cannot fail.
    // SAFETY: the CPU holds a reference to what it runs, and that is the code that faulted.
    let _ = match unsafe { current.as_ref() } {
        _ if sent => write!(message, "signal {signo} was sent to the kernel"),
        Some(thread) if signo == libc::SIGSEGV && thread.guard_contains(addr) => {
            thread.with_name_bounded(|name| write!(message, "stack overflow in {name}"))
        }
        Some(thread) => thread.with_name_bounded(|name| write!(message, "{what} at {addr:#x}, ip {ip:#x}, in {name}")),
        None => write!(message, "{what} at {addr:#x}, ip {ip:#x}, in a host thread"),
    };
}

/// Tells the fault as a kernel panic; on the I/O thread if there is one.
pub(crate) fn tell_fatal() -> ! {
    let text = match MESSAGE.lock_bounded() {
        Some(message) => String::from_utf8_lossy(&message.text[..message.len]).into_owned(),
        None => "fault".into(),
    };
    super::kernel_panic(&text)
}

/// The panic is on the consoles: the watchdog need not print it.
pub(super) fn told() {
    TOLD.store(true, Ordering::SeqCst);
}

/// Ends the process in `seconds`, whatever hangs.
pub(super) fn start_watchdog(seconds: u32) {
    catch(libc::SIGALRM, on_alarm as *const () as usize, libc::SA_ONSTACK);
    // SAFETY: plain numbers; a blocked SIGALRM would disarm the watchdog.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigaddset(&mut set, libc::SIGALRM);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, ptr::null_mut());
        libc::alarm(seconds);
    }
}

extern "C" fn on_alarm(_signo: i32) {
    give_up()
}

/// Ends the process now: what must be said is said with one raw write.
pub(super) fn give_up() -> ! {
    let status = LAST_STATUS.load(Ordering::SeqCst);
    if status >= 0 {
        // SAFETY: ends the process.
        unsafe { libc::_exit(status) }
    }
    if !TOLD.load(Ordering::SeqCst) {
        let head = b"Kernel panic - not syncing: ";
        // SAFETY: raw writes of static buffers; the message is complete or empty, and its writer has stopped.
        unsafe {
            let message = MESSAGE.peek();
            libc::write(2, head.as_ptr().cast(), head.len());
            libc::write(2, (*message).text.as_ptr().cast(), (*message).len);
            libc::write(2, b"\n".as_ptr().cast(), 1);
        }
    }
    abort()
}

fn stop() -> ! {
    loop {
        // SAFETY: sleeps until a signal.
        unsafe { libc::pause() };
    }
}
