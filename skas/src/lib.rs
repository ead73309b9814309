//! Guest address spaces and guest threads.
//!
//! A guest address space is a host process (a *stub*), a guest thread a thread of it. Guest code runs there at native speed on memory that
//! belongs to the host; a small piece of code at the top of the space (the stub image) hands system calls and faults over to the kernel
//! through one word in a page shared by both, and runs mapping changes on the kernel's behalf. `docs/ARCHITECTURE.md` tells why.
//!
//! The kernel sees [`AddressSpace`] and [`UserThread`]; [`init`] comes first.

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
mod layout;
mod machine;
mod mapping;
mod memory;
mod probe;
mod queue;
mod reaper;
mod region;
mod regs;
mod space;
mod stats;
mod thread;
mod trace;
mod xstate;
mod zygote;

pub use config::{Backend, Config, InitError, SeccompMode};
pub use exit::{Access, Exit, FaultCode};
pub use layout::Layout;
pub use machine::{backend, init, layout, set_spin};
pub use mapping::{Backing, MapFlags, MemoryUsage, Prot, Share};
pub use regs::{Regs, USER_CS, USER_SS};
pub use space::AddressSpace;
pub use stats::{Stats, statistics};
pub use thread::{Kicker, UserThread};
pub use zygote::refill_pool;
