//! The UML block device: disks of the guest on files and block devices of the host.
//!
//! * [`spec`]: the words `ubd<n><flags>=<file>[,<backing>][,<serial>]`.  * [`config`](mod@config): the disks there are; adding and removing them.
//! * [`open`]: from a word to a [`store::Store`], what a disk's bytes lie on.  * [`cow`]: copy-on-write files.
//! * `qcow2` (feature): images of QEMU.  * [`driver`] and [`engine`]: requests become calls of the store on the host thread pool,
//!   or, where asked for and possible, requests of an `io_uring` ([`ring`]).
//!
//! Major 98; disk `n` has the minors from `16 n` on: /dev/ubda, /dev/ubda1 …
#![forbid(unsafe_code)]

mod config;
pub mod cow;
mod driver;
mod engine;
mod open;
mod promptness;
#[cfg(feature = "qcow2")]
mod qcow2;
mod refusal;
mod ring;
mod spec;
pub mod store;

pub use config::{UBD_MAJOR, config, configure, get_config, remove};
pub use refusal::Refusal;
pub use spec::{Flags, MOST_DISKS, ParseError, Spec, parse, unit};
