//! Guest address spaces and guest threads.
//!
//! A guest address space is a host process (a *stub*), a guest thread a thread of it. Guest code runs there at native speed on memory that
//! belongs to the host; a small piece of code at the top of the space (the stub image) hands system calls and faults over to the kernel
//! through one word in a page shared by both, and runs mapping changes on the kernel's behalf. `docs/ARCHITECTURE.md` tells why.
//!
//! The kernel sees [`AddressSpace`] and [`UserThread`]; [`init`] comes first.
//!
//! Rules for the kernel:
//! * `init` once, from a thread that lives as long as the process: the stubs die with it. No `waitpid(-1)`, no ignored `SIGCHLD`.
//! * seccomp: any host thread may use any object. ptrace: only the thread that called `init` (kicks excepted), `ncpus=1`.
//! * Mapping changes are queued; a run, a flush, a read or write of guest memory performs them. A change made for a space whose threads are
//!   all running (a truncated file) takes effect when one of them is kicked, or at once if any is in the kernel ([`AddressSpace::flush`]).
//! * [`Exit::Interrupted`] may come without a kick. [`Exit::Dead`] is final: treat it as a `SIGKILL` of the whole process.
//! * fork: [`UserThread::fork`]; thread and vfork child: [`UserThread::spawn`]; exec: [`UserThread::reset`], and on `EBUSY` (vfork child, other
//!   threads) [`UserThread::new`], dropping the old one after. Then set registers ([`Regs::start`]) and [`UserThread::reset_xstate`].
//! * Nothing waits for the end of a dead stub, and spaces are forked ahead of need: a host thread of ours does both (keeper.rs). Another wakes
//!   who has slept long for a stub, so that he finds out about its death (watch.rs).
//!
//! A space costs two descriptors of this process, a thread one.

mod config;
mod core;
mod decode;
mod exit;
mod filter;
mod frame;
mod gate;
mod handoff;
mod host;
mod image;
mod keeper;
mod layout;
mod machine;
mod mapping;
mod memory;
mod probe;
mod program;
mod queue;
mod reaper;
mod region;
mod regs;
mod setup;
mod space;
mod stats;
mod thread;
mod trace;
mod watch;
mod xstate;
mod zygote;

pub use config::{Backend, Config, InitError, SeccompMode};
pub use exit::{Access, Exit, FaultCode};
pub use layout::Layout;
pub use machine::{backend, can_spin, init, layout, set_spin};
pub use mapping::{Backing, MapFlags, MemoryUsage, Prot, Share};
pub use regs::{Regs, USER_CS, USER_SS};
pub use space::AddressSpace;
pub use stats::{Stats, statistics};
pub use thread::{Kicker, UserThread, Waiting};
pub use zygote::pool;
