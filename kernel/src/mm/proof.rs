//! Which ways of mapping a file the host has accepted once.
//!
//! A queued mapping that the host refuses can only end the program. So the first mapping of each kind of a file is carried out at once, and its error
//! (`ENODEV` for a file the host cannot map, `EPERM` on a host mount without execution) reaches the caller; those that follow are queued.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU8, Ordering};

use skas::Prot;

use super::vma::{VmFlags, Vma, VmaBacking};
use crate::vfs::file::MapBacking;

const MAPPED: u8 = 1;
const EXECUTABLE: u8 = 2;
const SHARED_WRITABLE: u8 = 4;

/// What is known of a file, a slot of [`crate::vfs::InodeState`].
#[derive(Default)]
struct Known(AtomicU8);

/// Ways of mapping a file that have not been tried yet.
pub(super) struct Wanted {
    known: Arc<Known>,
    ways: u8,
}

impl Wanted {
    /// The host has accepted them.
    pub(super) fn proved(&self) {
        self.known.0.fetch_or(self.ways, Ordering::Relaxed);
    }
}

/// What the host has not yet accepted of the way `vma` maps its file; none when there is nothing to find out.
pub(super) fn of(vma: &Vma) -> Option<Wanted> {
    let VmaBacking::File(mapped) = &vma.backing else {
        return None;
    };
    if !matches!(mapped.backing, MapBacking::Host { .. }) {
        return None;
    }
    let known = mapped.inode()?.state().get_or_init(Known::default);
    let mut ways = MAPPED;
    if vma.prot.contains(Prot::EXEC) {
        ways |= EXECUTABLE;
    }
    if vma.flags.contains(VmFlags::SHARED | VmFlags::MAY_WRITE) {
        ways |= SHARED_WRITABLE;
    }
    let unknown = ways & !known.0.load(Ordering::Relaxed);
    (unknown != 0).then_some(Wanted { known, ways })
}
