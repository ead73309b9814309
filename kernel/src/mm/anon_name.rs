//! Names for anonymous memory: `prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, ...)`.

use alloc::sync::Arc;

use super::vma::{PAGE_SIZE, VmaBacking, page_align_up};
use crate::syscall::Context;
use crate::user::UserAddr;
use crate::{Errno, Result};

const PR_SET_VMA_ANON_NAME: u64 = 0;
/// Longest name with its NUL.
const NAME_MAX: usize = 80;

/// `prctl(PR_SET_VMA, option, addr, len, name)`: a null `name` takes the name away.
///
/// # Errors
/// `EINVAL` for another option, an unaligned address, a name with control characters or any of ``\`$[]``; `EBADF` for a file's mapping;
/// `ENOMEM` with a hole in the range; `EFAULT`.
pub fn set_vma(cx: &Context, option: u64, addr: u64, len: u64, name: UserAddr) -> Result<usize> {
    if option != PR_SET_VMA_ANON_NAME {
        return Err(Errno::EINVAL);
    }
    let name: Option<Arc<[u8]>> = if name.is_null() {
        None
    } else {
        let text = name.read_cstr(NAME_MAX).map_err(|error| match error {
            Errno::ENAMETOOLONG => Errno::EINVAL,
            other => other,
        })?;
        if text
            .iter()
            .any(|&byte| !(b' '..=b'~').contains(&byte) || br"\`$[]".contains(&byte))
        {
            return Err(Errno::EINVAL);
        }
        Some(text.into())
    };
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let len = page_align_up(len).ok_or(Errno::EINVAL)?;
    let end = addr.checked_add(len).ok_or(Errno::EINVAL)?;
    let mm = cx.task().mm();
    let mut state = mm.lock();
    if state
        .tree
        .overlapping(addr..end)
        .any(|vma| matches!(vma.backing, VmaBacking::File(_)))
    {
        return Err(Errno::EBADF);
    }
    state.check_map_count(2)?;
    state.tree.update(addr..end, |vma| vma.name = name.clone());
    if state.tree.covers(addr..end) {
        Ok(0)
    } else {
        Err(Errno::ENOMEM)
    }
}
