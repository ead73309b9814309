//! `memfd_create(2)`.

use alloc::vec::Vec;

use bitflags::bitflags;

use crate::fs::tmpfs::shared::{self, Sealing};
use crate::syscall::Context;
use crate::user::UserAddr;
use crate::vfs::Mode;
use crate::vfs::fd_table::CloseOnExec;
use crate::{Errno, Result};

/// Longest name, without its NUL.
const NAME_MAX: usize = 249;

bitflags! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct MemfdFlags: u32 {
        const CLOEXEC = 1;
        const ALLOW_SEALING = 2;
        const HUGETLB = 4;
        const NOEXEC_SEAL = 8;
        const EXEC = 16;
    }
}

/// `F_SEAL_EXEC`.
const SEAL_EXEC: u32 = 32;

/// `memfd_create(2)`.
///
/// # Errors
/// `EINVAL` for flags, huge pages (configured out) and a name that is too long; `EFAULT`, `EMFILE`, `ENOSPC`.
pub fn sys_memfd_create(cx: &Context, name: UserAddr, flags: u32) -> Result<usize> {
    let flags = MemfdFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    let exclusive = MemfdFlags::EXEC | MemfdFlags::NOEXEC_SEAL;
    if flags.contains(exclusive) || flags.contains(MemfdFlags::HUGETLB) {
        return Err(Errno::EINVAL);
    }
    let text = name.read_cstr(NAME_MAX + 1).map_err(|error| match error {
        Errno::ENAMETOOLONG => Errno::EINVAL,
        other => other,
    })?;
    let mut label = Vec::from(&b"memfd:"[..]);
    label.extend_from_slice(&text);
    let noexec = flags.contains(MemfdFlags::NOEXEC_SEAL);
    let mode = Mode::from_bits_truncate(if noexec { 0o666 } else { 0o777 });
    // Sealed against execution means that it can be sealed.
    let sealing = if flags.contains(MemfdFlags::ALLOW_SEALING) || noexec {
        Sealing::Allowed
    } else {
        Sealing::Forbidden
    };
    let file = shared::file(&label, mode, sealing, cx.task().cred())?;
    if noexec && let Some(inode) = file.ops_as::<crate::fs::tmpfs::inode::TmpInode>() {
        inode.add_seals(SEAL_EXEC)?;
    }
    let cloexec = if flags.contains(MemfdFlags::CLOEXEC) {
        CloseOnExec::Yes
    } else {
        CloseOnExec::No
    };
    cx.files().install(file, cloexec).map(|fd| fd.0 as usize)
}
