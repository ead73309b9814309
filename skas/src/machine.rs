//! What `init` found out about the host and set up: one object for the life of the process.

use std::sync::OnceLock;

use arch_um::Errno;

use crate::gate::Gate;
use crate::handoff::SpinPolicy;
use crate::probe::Denied;
use crate::zygote::{self, Zygote};
use crate::{Backend, Config, InitError, Layout, SeccompMode, host, probe};

pub(crate) struct Machine {
    pub(crate) layout: Layout,
    pub(crate) backend: Backend,
    pub(crate) spin: SpinPolicy,
    /// `region::CAP_*` for every region.
    pub(crate) caps: u32,
    pub(crate) host_cpus: Vec<usize>,
    /// Our process id, which every new stub compares with its parent's.
    pub(crate) pid: i32,
    /// The thread that called `init`.
    pub(crate) init_thread: i32,
    pub(crate) gate: OnceLock<Gate>,
    pub(crate) zygote: OnceLock<Zygote>,
}

static MACHINE: OnceLock<Machine> = OnceLock::new();

/// The machine. Panics before `init`: a mistake of the program, not of a guest.
pub(crate) fn machine() -> &'static Machine {
    MACHINE.get().expect("skas::init comes first")
}

/// Probes the host and starts the zygote from which all guests are forked.
///
/// Must be called once, from a thread that lives as long as the kernel (the initial one): the stubs die with that thread. The process must
/// not ignore `SIGCHLD` nor wait for children it does not know (`waitpid(-1)`).
/// `report` gets the texts of the boot log piecewise ("Checking that seccomp filters can be installed...", "OK\n").
pub fn init(config: Config, report: &mut dyn FnMut(&str)) -> Result<(), InitError> {
    let host_cpus = if config.host_cpus.is_empty() {
        host::affinity()
    } else {
        config.host_cpus.clone()
    };
    // SAFETY: getauxval and getpid only return numbers.
    let (frame, hwcap2, pid, init_thread) = unsafe {
        (
            libc::getauxval(libc::AT_MINSIGSTKSZ),
            libc::getauxval(libc::AT_HWCAP2),
            libc::getpid(),
            libc::gettid(),
        )
    };
    // Two frames: that of the guest and one of a fault in the stub itself.
    let stack = 2 * frame.max(4096) + 1024;
    let region_size = (crate::region::STACK as u64 + stack).next_power_of_two();
    let fsgsbase = if hwcap2 & 2 != 0 {
        crate::region::CAP_FSGSBASE
    } else {
        0
    };
    let backend = choose(config.seccomp, report)?;
    // Where ptrace is only what is left (`SeccompMode::Auto`), the caller goes on with one CPU.
    if backend == Backend::Ptrace && config.ncpus > 1 && config.seccomp == SeccompMode::Off {
        return Err(InitError::new("SMP is not supported with PTRACE userspace."));
    }
    let caps = match backend {
        Backend::Seccomp => fsgsbase,
        Backend::Ptrace => crate::region::CAP_PTRACE,
    };
    let machine = Machine {
        layout: Layout::new(config.low_2g, region_size),
        backend,
        spin: SpinPolicy::new(),
        caps,
        host_cpus,
        pid,
        init_thread,
        gate: OnceLock::new(),
        zygote: OnceLock::new(),
    };
    if MACHINE.set(machine).is_err() {
        return Err(InitError::new("guest execution has been set up already"));
    }
    match backend {
        Backend::Seccomp => zygote::start(),
        Backend::Ptrace => zygote::start_traced(),
    }
}

/// The boot log's probes, and the backend that follows from them and the option.
fn choose(mode: SeccompMode, report: &mut dyn FnMut(&str)) -> Result<Backend, InitError> {
    if mode != SeccompMode::Off {
        report("Checking that seccomp filters can be installed...");
        match probe::seccomp() {
            Ok(()) => {
                report("OK\n");
                return Ok(Backend::Seccomp);
            }
            Err(Denied::Fork(errno)) => return Err(no_process(errno)),
            Err(Denied::Backend(cause)) => {
                report("missing\n");
                if mode == SeccompMode::On {
                    return Err(InitError::new(format!(
                        "seccomp filters cannot be used ({cause}): allow seccomp(2) in the container or sandbox around us, or use \
                         seccomp=off for ptrace"
                    )));
                }
                log::info!("seccomp filters cannot be used ({cause}), trying ptrace");
            }
        }
    }
    report("Checking that ptrace can change system call numbers...");
    match probe::ptrace() {
        Ok(()) => {
            report("OK\nChecking syscall emulation for ptrace...OK\n");
            Ok(Backend::Ptrace)
        }
        Err(Denied::Fork(errno)) => Err(no_process(errno)),
        Err(Denied::Backend(cause)) => {
            report("missing\n");
            Err(InitError::new(format!(
                "ptrace of our own child is denied ({cause}): a container's seccomp profile, Yama (kernel.yama.ptrace_scope) or another \
                 LSM forbids it; allow ptrace (in Docker: --cap-add=SYS_PTRACE){}",
                if mode == SeccompMode::Off {
                    ", or use seccomp=on"
                } else {
                    " or seccomp filters"
                }
            )))
        }
    }
}

/// The host makes no process for a guest.
pub(crate) fn no_process(errno: Errno) -> InitError {
    let way_out = match errno {
        Errno::EAGAIN => {
            ": raise the limit on processes and threads of this user (ulimit -u), or pids.max of the control group around us"
        }
        Errno::ENOMEM => ": free memory on the host, or allow overcommitment (vm.overcommit_memory)",
        _ => "",
    };
    InitError::new(format!(
        "no host process for a guest can be forked ({}){way_out}",
        errno.text()
    ))
}

/// The backend in use.
pub fn backend() -> Backend {
    machine().backend
}

/// The layout of guest address spaces.
pub fn layout() -> Layout {
    machine().layout
}

/// Whether [`Waiting::Spin`](crate::Waiting) makes a difference: ptrace sleeps in the host.
pub fn can_spin() -> bool {
    machine().backend == Backend::Seccomp
}

/// How long either side spins for a hand-off before it sleeps, in microseconds, where [`Waiting::Spin`](crate::Waiting) is in force; 0:
/// sleep at once. For tuning and tests.
pub fn set_spin(kernel_us: u64, stub_us: u64) {
    machine().spin.set(kernel_us, stub_us);
}
