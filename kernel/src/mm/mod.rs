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
    /// A copy (`fork(2)`) and its user thread, a copy of `user`.
    pub fn fork(self: &Arc<Self>, user: &mut skas::UserThread) -> crate::Result<(Arc<Mm>, skas::UserThread)> {
        let (space, user) = user.fork()?;
        Ok((Arc::new(Self { space }), user))
    }

    #[allow(clippy::result_large_err)]
    /// Mends the fault of `exit`, or says which signal it is.
    pub fn fault(&self, exit: &skas::Exit) -> crate::Result<(), crate::signal::SigInfo> {
        Err(crate::task::run::fault_signal(exit))
    }

    /// The host side.
    pub fn space(&self) -> &Arc<AddressSpace> {
        &self.space
    }
}
