//! Linux's binary interface on x86-64: numbers, flags and the layout of what crosses into a guest.
//!
//! [`layout`] gives structs a byte form without `unsafe`; each family of numbers has a file of its own.

pub mod layout;

pub use layout::Abi;
