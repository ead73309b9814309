//! What the entries of a process ask of its address space: the one place that knows `mm`.

use alloc::sync::Arc;
use alloc::vec::Vec;

pub(super) use crate::mm::maps::{MapEntry, MapName, Program};
pub(super) use crate::mm::space::Stats;
pub(super) use crate::mm::vma::VmFlags;

use crate::mm::Mm;

/// Sums for `stat`, `statm` and `status`. Asks the host for what is resident.
pub(super) fn stats(mm: &Mm) -> Stats {
    mm.stats()
}

/// The program that runs there.
pub(super) fn program(mm: &Mm) -> Arc<Program> {
    mm.program()
}

/// The mappings in order of address.
pub(super) fn maps(mm: &Mm) -> Vec<MapEntry> {
    mm.maps()
}

/// The auxiliary vector's bytes.
pub(super) fn auxv(mm: &Mm) -> Vec<u8> {
    mm.auxv_bytes()
}
