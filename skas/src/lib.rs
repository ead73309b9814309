//! Guest address spaces and guest threads.
//!
//! A guest address space is a host process (a *stub*), a guest thread a thread of it. Guest code runs there at native speed on memory that
//! belongs to the host; a small piece of code at the top of the space (the stub image) hands system calls and faults over to the kernel
//! through one word in a page shared by both, and runs mapping changes on the kernel's behalf. `docs/ARCHITECTURE.md` tells why.
//!
//! The kernel sees [`AddressSpace`] and [`UserThread`]; [`init`] comes first.

mod config;
mod exit;
mod layout;
mod mapping;
mod regs;
mod space;
mod stats;
mod thread;

pub use config::{Backend, Config, InitError, SeccompMode};
pub use exit::{Access, Exit, FaultCode};
pub use layout::Layout;
pub use mapping::{Backing, MapFlags, MemoryUsage, Prot, Share};
pub use regs::{Regs, USER_CS, USER_SS};
pub use space::AddressSpace;
pub use stats::{Stats, statistics};
pub use thread::{Kicker, UserThread};

/// Probes the host and starts the zygote from which all guests are forked.
///
/// Must be called once, from a thread that lives as long as the kernel (the initial one): the stubs die with that thread.
/// `report` gets the texts of the boot log piecewise ("Checking that seccomp filters can be installed...", "OK\n").
pub fn init(config: Config, report: &mut dyn FnMut(&str)) -> Result<(), InitError> {
    let _ = (config, report);
    Err(InitError::new("not built in"))
}

/// The backend in use.
pub fn backend() -> Backend {
    Backend::Seccomp
}

/// The layout of guest address spaces.
pub fn layout() -> Layout {
    Layout::new(false, 16384)
}
