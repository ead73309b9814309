//! Memory maps: the VMAs of an address space, the calls that change them, faults.
//!
//! Guest memory belongs to the host: a VMA here is a host mapping in the stub, page tables do not exist. [`Mm`] keeps what the guest asked for,
//! `skas::AddressSpace` carries it out: changes are queued there and run by the stub at its next resume.
//!
//! * [`vma`], [`tree`]: mappings and the search for room.  * [`layout`]: where things are put.  * [`space`]: changes of an [`Mm`], fork.
//! * [`mmap`], [`brk`], [`mprotect`], [`mremap`], [`madvise`], [`mlock`], [`msync`], [`memfd`]: the system calls.
//! * `proof`: which files the host maps.  * [`fault`], [`access`], [`cached`]: pages that come late.  * [`maps`]: what /proc shows.  * [`oom`]: the limit of `mem=`.
//!
//! Lock order: the state of an [`Mm`] (`MM`) is taken before page caches and memory accounting, after file locks. It is never held while a file is
//! asked for anything that may sleep on file locks, nor across a user copy; files are let go of after it ([`tree::Detached`]).

pub mod access;
pub mod anon_name;
pub mod brk;
pub mod cached;
pub mod fault;
pub mod layout;
pub mod limits;
pub mod madvise;
pub mod maps;
pub mod memfd;
pub mod mlock;
pub mod mmap;
pub mod mprotect;
pub mod mremap;
pub mod msync;
pub mod oom;
mod proof;
pub mod space;
pub mod tree;
#[cfg(test)]
mod tree_tests;
pub mod vma;
pub mod writers;

pub use layout::{Randomize, set_randomize};
pub use maps::{MapEntry, Program};
pub use space::{Mm, Stats};
