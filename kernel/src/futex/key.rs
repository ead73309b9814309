//! [`Key`]: the identity of a futex word. Words in private memory belong to an address space, words in shared memory to the object that is mapped.

use alloc::sync::Arc;

use arch_um::host::mem::SharedMemory;

use crate::mm::Mm;
use crate::mm::vma::{MappedFile, VmFlags, VmaBacking};
use crate::{Errno, Result};

/// Whether the caller says that no other process maps the word (`FUTEX_PRIVATE_FLAG`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// He says so.
    Private,
    /// It may be in shared memory.
    Shared,
}

/// Which word. Valid as long as its [`Holder`], or the address space, lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A word of one address space.
    Private {
        /// The address space's identity.
        mm: usize,
        /// The address.
        addr: u64,
    },
    /// A word of a shared object.
    Shared {
        /// The object's identity.
        object: usize,
        /// The offset in it.
        offset: u64,
    },
}

/// Keeps the object of a key, so that its identity stays its own.
#[derive(Clone)]
pub enum Holder {
    /// The waiting task's memory does.
    Space,
    /// A file.
    File(Arc<MappedFile>),
    /// Shared anonymous memory.
    Memory(Arc<SharedMemory>),
}

impl Key {
    /// For hashing: spreads neighbouring words.
    pub fn hash(&self) -> u64 {
        let (object, offset) = match *self {
            Key::Private { mm, addr } => (mm as u64, addr >> 2),
            Key::Shared { object, offset } => (!(object as u64), offset >> 2),
        };
        let mixed = (object >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ offset.wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
        mixed ^ mixed >> 29
    }
}

/// The key of the word at `addr`.
///
/// # Errors
/// `EINVAL` unless aligned; `EFAULT` where nothing can be.
pub fn of(mm: &Arc<Mm>, addr: u64, scope: Scope) -> Result<(Key, Holder)> {
    if !addr.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let private = Key::Private {
        mm: Arc::as_ptr(mm) as usize,
        addr,
    };
    if scope == Scope::Private {
        return Ok((private, Holder::Space));
    }
    let state = mm.lock();
    let vma = state.find(addr).ok_or(Errno::EFAULT)?;
    if !vma.flags.contains(VmFlags::SHARED) {
        return Ok((private, Holder::Space));
    }
    let offset = vma.offset_of(addr);
    Ok(match &vma.backing {
        VmaBacking::File(mapped) => (
            Key::Shared {
                object: mapped.identity(),
                offset,
            },
            Holder::File(mapped.clone()),
        ),
        VmaBacking::SharedAnonymous(memory) => (
            Key::Shared {
                object: Arc::as_ptr(memory) as usize,
                offset,
            },
            Holder::Memory(memory.clone()),
        ),
        VmaBacking::Anonymous => (private, Holder::Space),
    })
}
