//! What the command line decides about guest execution, and what the rest may ask about the result.

use std::fmt;

/// `seccomp=on|off|auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeccompMode {
    /// Fail when seccomp filters cannot be installed.
    On,
    /// Use ptrace.
    Off,
    /// Seccomp if it works, else ptrace.
    Auto,
}

/// What [`init`](crate::init) needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which backend.
    pub seccomp: SeccompMode,
    /// Keep guest and stub below 2 GiB (`HOST_2G_2G`).
    pub low_2g: bool,
    /// How many virtual CPUs will call [`UserThread::run`](crate::UserThread::run) in parallel; one, if [`backend`](crate::backend) is
    /// [`Backend::Ptrace`] afterwards.
    pub ncpus: usize,
    /// The host CPUs this process may use (`sched_getaffinity(2)`). Empty: asked from the host.
    pub host_cpus: Vec<usize>,
}

/// Why no guest can be run: what failed, the cause, the way out.
#[derive(Clone, Debug)]
pub struct InitError {
    pub(crate) text: String,
}

impl InitError {
    pub(crate) fn new(text: impl Into<String>) -> InitError {
        InitError { text: text.into() }
    }
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for InitError {}

/// How guest code is trapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A seccomp filter and a signal handler in the stub.
    Seccomp,
    /// `PTRACE_SYSEMU`. All calls of this crate must come from the thread that called [`init`](crate::init).
    Ptrace,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Seccomp => "seccomp",
            Backend::Ptrace => "ptrace",
        })
    }
}
