//! The first steps of the zygote: host calls listed in its region and made by the stub's own code (`skas_stub_init` in stub.s), the last of
//! which installs the filter that all stubs inherit.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arch_um::Errno;

use crate::core::Core;
use crate::filter::{self, CloneGate, Instruction};
use crate::frame::{self, Frame};
use crate::machine::{machine, no_process};
use crate::region::{self, Command, Region};
use crate::thread::UserThread;
use crate::{AddressSpace, InitError, Regs, handoff, host, image, program, trace, xstate};

const TASK_TOP: u64 = 0x7fff_ffff_f000;

pub(crate) enum Failure {
    /// The filter was refused.
    Filter(Errno),
    Other(InitError),
}

fn other(what: &str, errno: Errno) -> Failure {
    Failure::Other(InitError::new(format!("{what}: {}", errno.text())))
}

/// Whether guests are safe and right without a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Must,
    /// Some sandboxes refuse it, and only comfort is lost.
    May,
}

/// The list of host calls, with a name for each, and the data they point to.
struct Steps<'a> {
    region: &'a Region,
    list: Vec<(Need, &'static str)>,
    /// Where the next data goes: the signal stack, which is not in use yet.
    data: usize,
}

impl<'a> Steps<'a> {
    fn new(region: &'a Region) -> Steps<'a> {
        Steps {
            region,
            list: Vec::new(),
            data: region::STACK,
        }
    }

    fn call(&mut self, need: Need, name: &'static str, nr: libc::c_long, args: [u64; 5]) {
        assert!(self.list.len() < region::MAX_OPS, "a fixed list");
        let [a, b, c, d, e] = args;
        self.region.put_op(self.list.len(), nr as u32, 0, &[a, b, c, d, e, 0]);
        self.list.push((need, name));
    }

    /// Places bytes in the region; their address in the stub.
    fn data(&mut self, bytes: &[u8]) -> u64 {
        let at = self.data;
        self.region
            .copy_in(at, bytes)
            .expect("the signal stack has room for a filter");
        self.data = (at + bytes.len()).next_multiple_of(8);
        self.region.stub_addr + at as u64
    }

    fn words(&mut self, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.data(&bytes)
    }
}

/// Writes the steps, the filter's last.
fn steps(region: &Region, filter: Option<(CloneGate, u64)>) -> Vec<(Need, &'static str)> {
    use Need::{May, Must};
    let layout = &machine().layout;
    let mut steps = Steps::new(region);
    if filter.is_none() {
        steps.call(
            Must,
            "ptrace",
            libc::SYS_ptrace,
            [libc::PTRACE_TRACEME as u64, 0, 0, 0, 0],
        );
    }
    let name = steps.data(b"uml-userspace\0");
    steps.call(
        May,
        "prctl(PR_SET_NAME)",
        libc::SYS_prctl,
        [libc::PR_SET_NAME as u64, name, 0, 0, 0],
    );
    // Signals of our terminal are not for guests.
    steps.call(May, "setsid", libc::SYS_setsid, [0; 5]);
    let no_core = steps.words(&[0, 0]);
    steps.call(
        May,
        "setrlimit",
        libc::SYS_setrlimit,
        [u64::from(libc::RLIMIT_CORE), no_core, 0, 0, 0],
    );
    let no_new_privs = libc::PR_SET_NO_NEW_PRIVS as u64;
    steps.call(
        Must,
        "prctl(PR_SET_NO_NEW_PRIVS)",
        libc::SYS_prctl,
        [no_new_privs, 1, 0, 0, 0],
    );
    steps.call(Must, "close", libc::SYS_close, [1, 0, 0, 0, 0]);
    steps.call(Must, "close", libc::SYS_close, [2, 0, 0, 0, 0]);
    let code_end = layout.code + image::len(layout);
    let regions_end = region.stub_addr + layout.region_size;
    for (from, to) in [(0, layout.code), (code_end, layout.regions), (regions_end, TASK_TOP)] {
        steps.call(Must, "munmap", libc::SYS_munmap, [from, to - from, 0, 0, 0]);
    }
    // struct kernel_sigaction: handler, flags, restorer, mask. SIGSEGV and SIGBUS stay open for the guarded access (stub.s).
    let open = 1u64 << (libc::SIGSEGV - 1) | 1 << (libc::SIGBUS - 1);
    const SA_RESTORER: u64 = 0x0400_0000;
    let flags = (libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER) as u64 | SA_RESTORER;
    let action = steps.words(&[
        image::skas_stub_handler(layout),
        flags,
        image::skas_stub_return(layout),
        !open,
    ]);
    for signal in frame::signals() {
        steps.call(
            Must,
            "rt_sigaction",
            libc::SYS_rt_sigaction,
            [signal as u64, action, 0, 8, 0],
        );
    }
    let mask = steps.words(&[frame::guest_sigmask()]);
    steps.call(
        Must,
        "rt_sigprocmask",
        libc::SYS_rt_sigprocmask,
        [libc::SIG_SETMASK as u64, mask, 0, 8, 0],
    );
    const SS_AUTODISARM: u64 = 1 << 31;
    let stack = region.stub_addr + region::STACK as u64;
    let stack = steps.words(&[stack, SS_AUTODISARM, layout.region_size - region::STACK as u64]);
    steps.call(Must, "sigaltstack", libc::SYS_sigaltstack, [stack, 0, 0, 0, 0]);
    if let Some((gate, flags)) = filter {
        let program = filter::program(layout, gate);
        let mut bytes = Vec::with_capacity(8 * program.len());
        for instruction in &program {
            // SAFETY: `Instruction` is eight bytes of plain data.
            bytes.extend(unsafe { std::mem::transmute_copy::<Instruction, [u8; 8]>(instruction) });
        }
        let instructions = steps.data(&bytes);
        let description = steps.words(&[program.len() as u64, instructions]);
        const SECCOMP_SET_MODE_FILTER: u64 = 1;
        steps.call(
            Must,
            "seccomp",
            libc::SYS_seccomp,
            [SECCOMP_SET_MODE_FILTER, flags, description, 0, 0],
        );
    }
    steps.list
}

/// Starts a zygote with a filter, or traced (`None`). Gives the listener of the filter, if it has one.
pub(crate) fn attempt(filter: Option<(CloneGate, u64)>) -> Result<(UserThread, Option<OwnedFd>), Failure> {
    let machine = machine();
    let region = Region::new(&machine.layout, 0).map_err(|errno| match errno {
        Errno::EFBIG => other(
            "no shared memory for guests: raise the limit on file sizes (ulimit -f)",
            errno,
        ),
        _ => other("no shared memory for guests", errno),
    })?;
    let (kernel_end, stub_end) = host::socketpair().map_err(|errno| other("socketpair", errno))?;
    let list = steps(&region, filter);
    region.put32(region::COUNT, list.len() as u32);
    region.put32(region::CAPS, machine.caps);
    region.put64(region::SPIN, 0);
    region.word().store(handoff::STUB, Ordering::Release);

    let pid = program::spawn(&region, &stub_end).map_err(|failure| {
        Failure::Other(match failure {
            program::Failure::Fork(errno) => no_process(errno),
            program::Failure::Exec(error) => error,
        })
    })?;
    drop(stub_end);
    let core = Arc::new(Core::new(pid, pid, 0, region));
    let space = Arc::new(AddressSpace::new(pid, kernel_end, core.clone()));
    let stopped = match filter {
        Some(_) => space.wait(&core, &|| true),
        None => trace::first_stop(pid),
    };
    let result = |step: usize| core.region.get64(region::OPS + step * region::OP_SIZE + 8) as i64;
    if stopped.is_err() {
        space.kill();
        let mut status = 0;
        // SAFETY: `status` is an int for the host to fill in.
        unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) };
        return Err(Failure::Other(InitError::new(format!(
            "the first guest process died while it was set up (wait status {status:#x})"
        ))));
    }
    for (step, (need, name)) in list.iter().enumerate() {
        if *need == Need::May || !(-4095..0).contains(&result(step)) {
            continue;
        }
        let errno = Errno::from_host(-result(step) as i32);
        return Err(match *name {
            "seccomp" => Failure::Filter(errno),
            name => other(&format!("{name} in the first guest process"), errno),
        });
    }
    let Some((gate, _)) = filter else {
        let mut thread = UserThread::assemble(space, core, Regs::start(0, 0));
        thread.is_fresh();
        trace::reset_xstate(&thread.core);
        return Ok((thread, None));
    };
    let frame = Frame::locate(&core.region)
        .ok_or_else(|| Failure::Other(InitError::new("the host's signal frame does not fit into a region")))?;
    frame.normalize(&core.region);
    xstate::reset(&core.region, frame);
    let mut listener = None;
    if gate == CloneGate::Notify {
        let fd = result(list.len() - 1) as i32;
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
