//! The zygote: an empty stub from which every new address space is forked, and the pool of spaces forked ahead of need.
//!
//! It starts as a host fork of this process that drops everything: descriptors, signal handlers, and every mapping but the stub's code and
//! its region. The filter is installed once, here; all stubs inherit it. No exec is needed, so none can be forbidden.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex};

use arch_um::Errno;

use crate::core::Core;
use crate::filter::{self, CloneGate, Instruction};
use crate::frame::{self, Frame};
use crate::gate::Gate;
use crate::machine::{machine, no_process};
use crate::region::{self, Command, Region};
use crate::stats::{COUNTERS, count};
use crate::thread::UserThread;
use crate::{AddressSpace, Backend, InitError, Regs, host, image, keeper, trace, xstate};

pub(crate) struct Zygote {
    thread: Mutex<UserThread>,
    pool: Mutex<Vec<(Arc<AddressSpace>, UserThread)>>,
}

const FILTER_FLAG_SPEC_ALLOW: u64 = 4;
const FILTER_FLAG_NEW_LISTENER: u64 = 8;
const TASK_TOP: u64 = 0x7fff_ffff_f000;
/// Ready spaces kept by the keeper.
const POOL: usize = 4;

impl Zygote {
    /// A new empty space.
    pub(crate) fn take(&self) -> Result<(Arc<AddressSpace>, UserThread), Errno> {
        let ready = self.pool.lock().unwrap_or_else(|p| p.into_inner()).pop();
        keeper::call();
        if let Some(ready) = ready {
            count(&COUNTERS.pool_hits);
            return Ok(ready);
        }
        count(&COUNTERS.pool_misses);
        self.thread.lock().unwrap_or_else(|p| p.into_inner()).fork_unforced()
    }
}

/// Forks spaces ahead of need, at most one a call. True when the pool is full or cannot be filled.
pub(crate) fn refill_pool() -> bool {
    let Some(zygote) = machine().zygote.get() else {
        return true;
    };
    if zygote.pool.lock().unwrap_or_else(|p| p.into_inner()).len() >= POOL {
        return true;
    }
    let made = zygote.thread.lock().unwrap_or_else(|p| p.into_inner()).fork_unforced();
    match made {
        Ok(pair) => {
            let mut pool = zygote.pool.lock().unwrap_or_else(|p| p.into_inner());
            pool.push(pair);
            pool.len() >= POOL
        }
        Err(_) => true,
    }
}

/// Spaces forked ahead of need: how many there are, and how many there will be when the keeper rests. For statistics and tests.
pub fn pool() -> (usize, usize) {
    let Some(zygote) = machine().zygote.get().filter(|_| machine().backend == Backend::Seccomp) else {
        return (0, 0);
    };
    (zygote.pool.lock().unwrap_or_else(|p| p.into_inner()).len(), POOL)
}

/// Starts the zygote, with the strongest filter the host allows.
pub(crate) fn start() -> Result<(), InitError> {
    let mut failure = Errno::EINVAL;
    for (gate, flags) in [
        (CloneGate::Notify, FILTER_FLAG_NEW_LISTENER | FILTER_FLAG_SPEC_ALLOW),
        (CloneGate::Notify, FILTER_FLAG_NEW_LISTENER),
        (CloneGate::Open, FILTER_FLAG_SPEC_ALLOW),
        (CloneGate::Open, 0),
    ] {
        match attempt(Some((gate, flags))) {
            Ok((thread, listener)) => {
                if gate == CloneGate::Open {
                    log::warn!("the host gives no seccomp listener: guests can create host processes by force");
                }
                if let Some(listener) = listener {
                    let _ = machine().gate.set(Gate::new(listener));
                }
                let zygote = Zygote {
                    thread: Mutex::new(thread),
                    pool: Mutex::new(Vec::new()),
                };
                let _ = machine().zygote.set(zygote);
                return probe();
            }
            Err(Failure::Filter(errno)) => failure = errno,
            Err(Failure::Other(error)) => return Err(error),
        }
    }
    Err(InitError::new(format!(
        "the host refuses seccomp filters ({}): allow seccomp(2) in the sandbox or container around us, or use seccomp=off",
        failure.text()
    )))
}

/// Starts the zygote as a tracee.
pub(crate) fn start_traced() -> Result<(), InitError> {
    match attempt(None) {
        Ok((thread, _)) => {
            let zygote = Zygote {
                thread: Mutex::new(thread),
                pool: Mutex::new(Vec::new()),
            };
            let _ = machine().zygote.set(zygote);
            probe()
        }
        Err(Failure::Other(error)) => Err(error),
        Err(Failure::Filter(errno)) => Err(InitError::new(errno.text())),
    }
}

/// One fork and one access to guest memory, so that a missing right is named now and not at the first program.
fn probe() -> Result<(), InitError> {
    let (space, _thread) = UserThread::new().map_err(no_process)?;
    let layout = machine().layout;
    let mut byte = [0u8];
    let local = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    let remote = libc::iovec {
        iov_base: layout.code as *mut c_void,
        iov_len: 1,
    };
    // SAFETY: one byte into a local; the remote address is the host's to check.
    let read = unsafe { libc::process_vm_readv(space.host_pid(), &local, 1, &remote, 1, 0) };
    if read != 1 {
        return Err(InitError::new(format!(
            "process_vm_readv on our own child fails ({}): Yama (kernel.yama.ptrace_scope), an LSM or the container's seccomp profile \
             forbids it; allow it, or run with CAP_SYS_PTRACE",
            host::errno().text()
        )));
    }
    Ok(())
}

enum Failure {
    /// The filter was refused.
    Filter(Errno),
    Other(InitError),
}

/// All the child needs, in memory that it does not tear down under itself.
struct Setup {
    parent: i32,
    socket: i32,
    region_fd: i32,
    code: u64,
    code_len: u64,
    image: *const u8,
    region: u64,
    region_size: u64,
    clear_from: u64,
    clear_to: u64,
    handler: u64,
    restorer: u64,
    init: u64,
    signals: [i32; 7],
    rseq: u64,
    traced: bool,
}

/// Starts a zygote with a filter, or traced (`None`).
fn attempt(filter: Option<(CloneGate, u64)>) -> Result<(UserThread, Option<OwnedFd>), Failure> {
    let other = |what: &str, errno: Errno| Failure::Other(InitError::new(format!("{what}: {}", errno.text())));
    let machine = machine();
    let layout = &machine.layout;
    let region = Region::new(layout, 0).map_err(|errno| match errno {
        Errno::EFBIG => other(
            "no shared memory for guests: raise the limit on file sizes (ulimit -f)",
            errno,
        ),
        _ => other("no shared memory for guests", errno),
    })?;
    let (kernel_end, stub_end) = host::socketpair().map_err(|errno| other("socketpair", errno))?;

    // The first steps, run by the stub itself: nothing else is mapped by then.
    let program = filter
        .map(|(gate, _)| filter::program(layout, gate))
        .unwrap_or_default();
    let at = region::STACK;
    for (i, instruction) in program.iter().enumerate() {
        // SAFETY: `Instruction` is eight bytes of plain data.
        let bytes: [u8; 8] = unsafe { std::mem::transmute_copy::<Instruction, [u8; 8]>(instruction) };
        region
            .copy_in(at + 16 + 8 * i, &bytes)
            .expect("the filter fits into the signal stack");
    }
    region.put64(at, program.len() as u64);
    region.put64(at + 8, region.stub_addr + at as u64 + 16);
    let code_end = layout.code + image::len(layout);
    let regions_end = region.stub_addr + layout.region_size;
    let steps: [(libc::c_long, [u64; 6]); 6] = [
        (libc::SYS_munmap, [0, layout.code, 0, 0, 0, 0]),
        (libc::SYS_munmap, [code_end, layout.regions - code_end, 0, 0, 0, 0]),
        (libc::SYS_munmap, [regions_end, TASK_TOP - regions_end, 0, 0, 0, 0]),
        (libc::SYS_arch_prctl, [0x1002, 0, 0, 0, 0, 0]),
        (libc::SYS_arch_prctl, [0x1001, 0, 0, 0, 0, 0]),
        (
            libc::SYS_seccomp,
            [
                1,
                filter.map_or(0, |(_, flags)| flags),
                region.stub_addr + at as u64,
                0,
                0,
                0,
            ],
        ),
    ];
    let steps = if filter.is_some() { &steps[..] } else { &steps[..5] };
    for (i, (nr, args)) in steps.iter().enumerate() {
        region.put_op(i, *nr as u32, 0, args);
    }
    region.put32(region::COUNT, steps.len() as u32);
    region.put32(region::CAPS, machine.caps);
    region.put64(region::SPIN, 0);
    region
        .word()
        .store(crate::handoff::STUB, std::sync::atomic::Ordering::Release);

    let pid = spawn(&region, &stub_end).map_err(|errno| Failure::Other(no_process(errno)))?;
    drop(stub_end);
    let core = Arc::new(Core::new(pid, pid, 0, region));
    let space = Arc::new(AddressSpace::new(pid, kernel_end, core.clone()));
    let stopped = match filter {
        Some(_) => space.wait(&core, &|| true),
        None => trace::first_stop(pid),
    };
    if stopped.is_err() {
        space.kill();
        let mut status = 0;
        // SAFETY: `status` is an int for the host to fill in.
        unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) };
        return Err(Failure::Other(InitError::new(format!(
            "the first guest process died while it was set up (wait status {status:#x})"
        ))));
    }
    let refused = |value: u64| (value as i64) < 0 && (value as i64) >= -4095;
    let result = |step: usize| core.region.get64(region::OPS + step * region::OP_SIZE + 8);
    for step in 0..3 {
        if refused(result(step)) {
            return Err(other(
                "munmap in the first guest process",
                Errno::from_host(-(result(step) as i64) as i32),
            ));
        }
    }
    let Some((gate, _)) = filter else {
        let mut thread = UserThread::assemble(space, core, Regs::start(0, 0));
        thread.is_fresh();
        trace::reset_xstate(&thread.core);
        return Ok((thread, None));
    };
    if refused(result(5)) {
        return Err(Failure::Filter(Errno::from_host(-(result(5) as i64) as i32)));
    }
    let frame = Frame::locate(&core.region)
        .ok_or_else(|| Failure::Other(InitError::new("the host's signal frame does not fit into a region")))?;
    frame.normalize(&core.region);
    xstate::reset(&core.region, frame);
    let mut listener = None;
    if gate == CloneGate::Notify {
        let fd = result(5) as i32;
        listener = Some(fetch_fd(pid, fd).map_err(Failure::Filter)?);
        // The zygote and its children must not keep it.
        core.region.put32(0x120, fd as u32);
        core.region.put32(region::COUNT, 0);
        core.region.put32(region::RECEIVE, 0);
        core.region.put32(region::CLOSE, 1);
        space
            .command(&core, Command::REPORT | Command::BATCH)
            .map_err(|_| other("the first guest process died", Errno::ESRCH))?;
        core.region.put32(region::CLOSE, 0);
    }
    let mut thread = UserThread::assemble(space, core, Regs::start(0, 0));
    thread.is_fresh();
    Ok((thread, listener))
}

/// A copy of a child's descriptor (`pidfd_getfd(2)`).
fn fetch_fd(pid: i32, fd: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: the results are fresh descriptors.
    unsafe {
        let pidfd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        if pidfd < 0 {
            return Err(host::errno());
        }
        let pidfd = OwnedFd::from_raw_fd(pidfd as i32);
        let copy = libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0);
        if copy < 0 {
            return Err(host::errno());
        }
        libc::fcntl(copy as i32, libc::F_SETFD, libc::FD_CLOEXEC);
        Ok(OwnedFd::from_raw_fd(copy as i32))
    }
}

// glibc: where a thread's rseq area lies, relative to the thread pointer. Weak: other libraries have none, the word is 0 then.
core::arch::global_asm!(
    ".pushsection .data.skas_rseq,\"aw\",@progbits",
    ".balign 8",
    ".weak __rseq_offset",
    ".globl skas_rseq_offset",
    "skas_rseq_offset: .quad __rseq_offset",
    ".popsection"
);

unsafe extern "C" {
    static skas_rseq_offset: *const isize;
}

/// The rseq area of the calling thread, 0 when there is none. A fork inherits its registration, and the host writes to it.
fn rseq_area() -> u64 {
    // SAFETY: the word is 0 or the address of glibc's variable; fs:0 holds the thread pointer on every Linux C library.
    unsafe {
        if skas_rseq_offset.is_null() {
            return 0;
        }
        let pointer: u64;
        std::arch::asm!("mov {}, fs:[0]", out(reg) pointer);
        pointer.wrapping_add_signed(*skas_rseq_offset as i64)
    }
}

/// Forks this process into the zygote's first steps.
fn spawn(region: &Region, socket: &OwnedFd) -> Result<i32, Errno> {
    let machine = machine();
    let layout = &machine.layout;
    let image = image::bytes(layout);
    // Stack, image and setup lie in one low mapping: the child drops the part of the address space where the stub will be.
    const ARENA: usize = 256 * 1024;
    // SAFETY: a fresh mapping; it is unmapped below, in this process.
    let arena = unsafe {
        libc::mmap(
            0x1000_0000 as *mut c_void,
            ARENA,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if arena == libc::MAP_FAILED {
        return Err(host::errno());
    }
    let arena = arena.cast::<u8>();
    let low_2g = layout.code >> 32 == 0;
    let setup = Setup {
        parent: machine.pid,
        socket: socket.as_raw_fd(),
        region_fd: region.fd().as_raw_fd(),
        code: layout.code,
        code_len: image.len() as u64,
        image: arena.wrapping_add(4096),
        region: region.stub_addr,
        region_size: layout.region_size,
        clear_from: layout.task_size,
        clear_to: if low_2g { 0x8000_0000 } else { TASK_TOP },
        handler: image::skas_stub_handler(layout),
        restorer: image::skas_stub_return(layout),
        init: image::skas_stub_init(layout),
        signals: frame::signals(),
        rseq: rseq_area(),
        traced: machine.backend == Backend::Ptrace,
    };
    assert!(image.len() + 4096 < ARENA / 2 && std::mem::size_of::<Setup>() < 4096);
    // SAFETY: the arena is ours and large enough for setup, image and stack; `child` runs in a copy of this process on the arena's stack.
    unsafe {
        std::ptr::copy_nonoverlapping(image.as_ptr(), arena.add(4096), image.len());
        arena.cast::<Setup>().write(setup);
        let stack = arena.add(ARENA - 64).cast::<c_void>();
        let pid = libc::clone(child, stack, libc::SIGCHLD, arena.cast());
        let errno = host::errno();
        libc::munmap(arena.cast(), ARENA);
        if pid == -1 { Err(errno) } else { Ok(pid) }
    }
}

/// A raw host call: the child may not touch thread-local storage, whose memory may be gone.
#[inline(always)]
unsafe fn call(nr: libc::c_long, args: [u64; 6]) -> i64 {
    let result: i64;
    // SAFETY: the caller vouches for the call.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") nr => result, in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5], lateout("rcx") _, lateout("r11") _);
    }
    result
}

/// The zygote's first steps: no library call, no allocation, no way back.
extern "C" fn child(arena: *mut c_void) -> i32 {
    // SAFETY: we are alone in a copied process and tear it down on purpose; `arena` holds the Setup that `spawn` wrote and stays mapped
    // until the stub's code unmaps it; every address below comes from it.
    unsafe {
        let s = &*(arena as *const Setup);
        let ok = |result: i64, step: u64| {
            if (-4095..0).contains(&result) {
                call(libc::SYS_exit_group, [10 + step, 0, 0, 0, 0, 0]);
            }
        };
        ok(
            call(
                libc::SYS_prctl,
                [libc::PR_SET_PDEATHSIG as u64, libc::SIGKILL as u64, 0, 0, 0, 0],
            ),
            0,
        );
        if call(libc::SYS_getppid, [0; 6]) != i64::from(s.parent) {
            call(libc::SYS_exit_group, [1, 0, 0, 0, 0, 0]);
        }
        if s.traced {
            ok(call(libc::SYS_ptrace, [libc::PTRACE_TRACEME as u64, 0, 0, 0, 0, 0]), 10);
        }
        if s.rseq != 0 {
            // The length must be the registered one, which glibc chooses; the others are refused and change nothing.
            for words in 1..=16 {
                call(libc::SYS_rseq, [s.rseq, 32 * words, 1, 0x5305_3053, 0, 0]);
            }
        }
        // Signals of our terminal are not for guests.
        call(libc::SYS_setsid, [0; 6]);
        call(
            libc::SYS_prctl,
            [libc::PR_SET_NAME as u64, c"uml-userspace".as_ptr() as u64, 0, 0, 0, 0],
        );
        let no_core = [0u64; 2];
        call(
            libc::SYS_setrlimit,
            [u64::from(libc::RLIMIT_CORE), no_core.as_ptr() as u64, 0, 0, 0, 0],
        );
        ok(
            call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0, 0, 0, 0]),
            1,
        );
        ok(
            call(libc::SYS_munmap, [s.clear_from, s.clear_to - s.clear_from, 0, 0, 0, 0]),
            2,
        );
        let fixed = (libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
        ok(call(libc::SYS_mmap, [s.code, s.code_len, 3, fixed, u64::MAX, 0]), 3);
        let mut i = 0;
        while i < s.code_len {
            ((s.code + i) as *mut u64).write_volatile(s.image.add(i as usize).cast::<u64>().read());
            i += 8;
        }
        ok(call(libc::SYS_mprotect, [s.code, s.code_len, 5, 0, 0, 0]), 4);
        let shared = (libc::MAP_FIXED | libc::MAP_SHARED) as u64;
        ok(
            call(
                libc::SYS_mmap,
                [s.region, s.region_size, 3, shared, s.region_fd as u64, 0],
            ),
            5,
        );
        ok(
            call(
                libc::SYS_madvise,
                [s.region, s.region_size, libc::MADV_DONTFORK as u64, 0, 0, 0],
            ),
            6,
        );
        if s.socket != 0 {
            ok(call(libc::SYS_dup2, [s.socket as u64, 0, 0, 0, 0, 0]), 7);
        }
        if call(libc::SYS_close_range, [1, u64::from(u32::MAX), 0, 0, 0, 0]) < 0 {
            for fd in 1..65536 {
                call(libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
            }
        }
        // struct kernel_sigaction: handler, flags, restorer, mask. SIGSEGV and SIGBUS stay open for the guarded access (stub.s).
        let open = 1u64 << (libc::SIGSEGV - 1) | 1 << (libc::SIGBUS - 1);
        let flags = (libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER) as u64 | 0x0400_0000;
        let action = [s.handler, flags, s.restorer, !open];
        for signal in s.signals {
            ok(
                call(
                    libc::SYS_rt_sigaction,
                    [signal as u64, action.as_ptr() as u64, 0, 8, 0, 0],
                ),
                8,
            );
        }
        let none = 0u64;
        call(
            libc::SYS_rt_sigprocmask,
            [libc::SIG_SETMASK as u64, (&raw const none) as u64, 0, 8, 0, 0],
        );
        const SS_AUTODISARM: u64 = 1 << 31;
        let stack = [
            s.region + region::STACK as u64,
            SS_AUTODISARM,
            s.region_size - region::STACK as u64,
        ];
        ok(call(libc::SYS_sigaltstack, [stack.as_ptr() as u64, 0, 0, 0, 0, 0]), 9);
        // rbx cannot be named as an operand: moved in by hand.
        std::arch::asm!("mov rbx, {region}", "jmp {init}", region = in(reg) s.region, init = in(reg) s.init, options(noreturn));
    }
}
