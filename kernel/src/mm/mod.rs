//! Memory maps: the VMAs of an address space, the calls that change them, faults.
//!
//! Guest memory belongs to the host: a VMA here is a host mapping in the stub, page tables do not exist. [`Mm`] keeps what the guest asked for,
//! `skas::AddressSpace` carries it out.

use alloc::sync::Arc;

use skas::AddressSpace;

/// An address space: shared by threads and vfork children.
pub struct Mm {
    space: Arc<AddressSpace>,
}

impl Mm {
    /// The host side.
    pub fn space(&self) -> &Arc<AddressSpace> {
        &self.space
    }
}
