//! The machine under the kernel: virtual CPUs, kernel threads, locks, clocks, host events, printk and safe host calls.
//!
//! This room and `skas` are the only ones that hold `unsafe` code and raw host calls. Everything above speaks to the host through
//! the types here. Neighbours: `skas` builds guest address spaces on it, `kernel` is written against it, `drivers`, `hostfs` and
//! `ubd` use [`host`] and [`event`].
//!
//! * [`cpu`]: virtual CPUs (host threads), running user code, rescheduling.
//! * [`thread`] and [`sched`]: kernel threads (switched stacks) and the policy that orders them.
//! * [`sync`]: spin locks, sleeping locks, wait queues, and the one list of lock classes ([`sync::order`]).
//! * [`time`]: clocks and timers. [`event`]: the I/O thread, our interrupt controller. [`pool`]: blocking host calls.
//! * [`printk`]: the kernel log. [`exit`]: every way out of the process.
//! * [`host`]: safe wrappers of host system calls.

#![warn(missing_docs)]

pub mod cpu;
pub mod errno;
pub mod event;
pub mod exit;
pub mod host;
pub mod pool;
pub mod printk;
pub mod sched;
pub mod sync;
pub mod thread;
pub mod time;

pub use errno::Errno;
