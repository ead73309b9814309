//! `mprotect(2)` and `pkey_mprotect(2)`; there are no protection keys on this machine (`pkeys(7)`).

use core::ops::Range;

use skas::Prot;

use super::layout::READ_IMPLIES_EXEC;
use super::limits::Limits;
use super::mmap::protection;
use super::space::{Mm, wants_flush};
use super::vma::{PAGE_SIZE, VmFlags, page_align_up};
use crate::syscall::Context;
use crate::{Errno, Result};
use skas::MapFlags;

const PROT_SEM: u32 = 0x8;
const PROT_GROWSDOWN: u32 = 0x0100_0000;
const PROT_GROWSUP: u32 = 0x0200_0000;

/// `mprotect(2)`.
///
/// # Errors
/// `EINVAL` unaligned or with both growth flags, `ENOMEM` with a hole in the range (what lies before it is changed), `EACCES` for what the file
/// does not allow.
pub fn sys_mprotect(cx: &Context, addr: u64, len: u64, prot: u32) -> Result<usize> {
    let limits = Limits::of(cx.task());
    cx.task().mm().mprotect(addr, len, prot, &limits)?;
    Ok(0)
}

/// `pkey_mprotect(2)`: with key -1 as `mprotect`; there are no others, `EINVAL`.
pub fn sys_pkey_mprotect(cx: &Context, addr: u64, len: u64, prot: u32, key: i32) -> Result<usize> {
    if key == -1 {
        sys_mprotect(cx, addr, len, prot)
    } else {
        Err(Errno::EINVAL)
    }
}

impl Mm {
    /// `mprotect(2)`.
    pub fn mprotect(&self, addr: u64, len: u64, prot: u32, limits: &Limits) -> Result<()> {
        let growth = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
        if growth == PROT_GROWSDOWN | PROT_GROWSUP || !addr.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        if len == 0 {
            return Ok(());
        }
        let len = page_align_up(len).filter(|&len| len != 0).ok_or(Errno::ENOMEM)?;
        let end = addr.checked_add(len).ok_or(Errno::ENOMEM)?;
        if prot & !(7 | PROT_SEM | PROT_GROWSDOWN | PROT_GROWSUP) != 0 {
            return Err(Errno::EINVAL);
        }
        let mut wish = protection(prot);
        if limits.personality & READ_IMPLIES_EXEC != 0 && wish.contains(Prot::READ) {
            wish |= Prot::EXEC;
        }
        let mut state = self.lock();
        let mut start = addr;
        if growth == PROT_GROWSDOWN {
            let vma = state
                .tree
                .at_or_above(addr)
                .filter(|vma| vma.start < end)
                .ok_or(Errno::ENOMEM)?;
            if !vma.flags.contains(VmFlags::GROWSDOWN) {
                return Err(Errno::EINVAL);
            }
            start = vma.start;
        } else if growth == PROT_GROWSUP {
            return Err(Errno::EINVAL);
        }
        state.protect(self, start..end, wish, limits)
    }
}

impl super::space::MmState {
    /// Changes the protection of all mappings of the range, in order, up to the first hole or refusal.
    fn protect(&mut self, mm: &Mm, range: Range<u64>, wish: Prot, limits: &Limits) -> Result<()> {
        let mut at = range.start;
        let mut flush = false;
        let mut proofs = alloc::vec::Vec::new();
        let mut result = Ok(());
        // Each piece with whether the host would hear of it.
        let pieces: alloc::vec::Vec<_> = self
            .tree
            .overlapping(range.clone())
            .map(|vma| vma.piece(range.start, range.end))
            .collect();
        for mut piece in pieces {
            if piece.start > at {
                break;
            }
            at = piece.end;
            if piece.prot == wish {
                continue;
            }
            let missing = wish.contains(Prot::READ) && !piece.flags.contains(VmFlags::MAY_READ)
                || wish.contains(Prot::WRITE) && !piece.flags.contains(VmFlags::MAY_WRITE)
                || wish.contains(Prot::EXEC) && !piece.flags.contains(VmFlags::MAY_EXEC);
            if missing {
                result = Err(Errno::EACCES);
                break;
            }
            let was_data = piece.is_data();
            piece.prot = wish;
            let checked = if piece.is_data() && !was_data {
                let over = self.tree.counts().data.saturating_add(piece.pages()) > limits.data / PAGE_SIZE;
                if over { Err(Errno::ENOMEM) } else { Ok(()) }
            } else {
                Ok(())
            };
            let piece_range = piece.start..piece.end;
            let checked =
                checked.and_then(|()| self.check_map_count(self.tree.growth_of_carve(piece_range.clone()) + 1));
            let changed = checked.and_then(|()| self.protect_on_host(mm.space(), &piece));
            if changed.is_err() {
                result = changed;
                break;
            }
            if wants_flush(&piece, MapFlags::empty()) {
                flush = true;
                proofs.extend(super::proof::of(&piece));
            }
            self.tree.update(piece_range, |vma| vma.prot = wish);
        }
        if result.is_ok() && at < range.end {
            result = Err(Errno::ENOMEM);
        }
        if flush {
            let flushed = mm.space().flush();
            if flushed.is_ok() {
                proofs.iter().for_each(super::proof::Wanted::proved);
            }
            result = result.and(flushed);
        }
        result
    }
}
