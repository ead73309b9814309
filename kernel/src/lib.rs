//! The Linux in it: tasks, signals, memory maps, files, terminals, blocks, time, and the system calls over them.
//!
//! No `unsafe` and no `std`: the machine is reached through `arch_um`, guest memory and guest threads through `skas`. Rooms above
//! (`hostfs`, `ubd`, `drivers`) implement the traits of [`vfs`], [`device`], [`block`] and [`tty`] and register themselves upward.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod abi;
pub mod block;
pub mod boot;
pub mod device;
pub mod exec;
#[macro_use]
pub mod fs;
pub mod futex;
pub mod io;
pub mod mm;
pub mod page_cache;
pub mod signal;
pub mod socket;
pub mod sys;
pub mod syscall;
pub mod task;
pub mod time;
pub mod tty;
pub mod user;
pub mod version;
pub mod vfs;

pub use arch_um::Errno;

/// What every fallible kernel operation returns.
pub type Result<T, E = Errno> = core::result::Result<T, E>;
