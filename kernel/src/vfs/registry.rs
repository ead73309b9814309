//! The kinds of file systems there are, by name (`/proc/filesystems`).

use alloc::vec::Vec;

use arch_um::sync::{SpinLock, order};

use super::inode::FileSystemType;
use crate::{Errno, Result};

static TYPES: SpinLock<Vec<&'static dyn FileSystemType>> = SpinLock::new(&order::LEAF, Vec::new());

/// Makes `kind` known to `mount(2)`. A second one of the same name is ignored.
pub fn register(kind: &'static dyn FileSystemType) {
    let mut types = TYPES.lock();
    if !types.iter().any(|known| known.name() == kind.name()) {
        types.push(kind);
    }
}

/// The kind called `name`; a subtype (`fuse.sshfs`) counts as what stands before the dot. `ENODEV` when it is unknown.
pub fn find(name: &[u8]) -> Result<&'static dyn FileSystemType> {
    let name = name.split(|&byte| byte == b'.').next().unwrap_or(name);
    let types = TYPES.lock();
    types
        .iter()
        .find(|kind| kind.name().as_bytes() == name)
        .copied()
        .ok_or(Errno::ENODEV)
}

/// Every kind, in the order of registration.
pub fn list() -> Vec<&'static dyn FileSystemType> {
    TYPES.lock().clone()
}
