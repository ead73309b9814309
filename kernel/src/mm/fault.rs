//! Page faults that reach the kernel: the host serves all of its own; here come growing stacks, pages of cached files, and errors.

use alloc::sync::Arc;

use skas::{Access, Exit, FaultCode, MapFlags, Prot};

use super::limits::Limits;
use super::space::{Mm, MmState, map_on_host};
use super::tree::STACK_GUARD_GAP;
use super::vma::{PAGE_SIZE, VmFlags, page_align_down};
use crate::Errno;
use crate::signal::info::SigDetail;
use crate::signal::{SigInfo, Signal};
use crate::task;

/// `si_code` of a `SIGSEGV`: nothing is mapped there.
const SEGV_MAPERR: i32 = 1;
/// `si_code` of a `SIGSEGV`: the mapping forbids it.
const SEGV_ACCERR: i32 = 2;
/// `si_code` of a `SIGBUS`: no such page in the file.
const BUS_ADRERR: i32 = 2;

/// Bytes a stack grows by at once, where there is room: a fault less for each page.
const GROWTH: u64 = 32 * PAGE_SIZE;
/// How often the same fault may come again without anything to do before it is an error: other threads change mappings meanwhile.
const PATIENCE: u32 = 16;

/// What a look at a fault led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    /// The page is there now.
    Done,
    /// The mapping allows the access and nothing was to be done.
    Nothing,
}

/// Why a fault is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    NotMapped,
    Forbidden,
    NoPage,
}

impl Mm {
    /// Answers a fault of user code. On success the instruction runs again.
    ///
    /// # Errors
    /// The signal for the thread: `SIGSEGV` or `SIGBUS`.
    #[allow(clippy::result_large_err)]
    pub fn fault(self: &Arc<Self>, exit: &Exit) -> Result<(), SigInfo> {
        let Exit::Fault { addr, access, code, .. } = *exit else {
            return Err(SigInfo::kernel(Signal::SEGV));
        };
        if code == FaultCode::Bus {
            return Err(signal(Refused::NoPage, addr));
        }
        match self.resolve(addr, access) {
            Ok(Resolved::Done) => Ok(()),
            Ok(Resolved::Nothing) if self.be_patient(addr) => {
                // A change that is still queued, or was carried out between the fault and now. An error shows at the next run.
                let _ = self.space().flush();
                Ok(())
            }
            Ok(Resolved::Nothing) => {
                let refused = if code == FaultCode::MapErr {
                    Refused::NotMapped
                } else {
                    Refused::Forbidden
                };
                Err(signal(refused, addr))
            }
            Err(refused) => Err(signal(refused, addr)),
        }
    }

    fn be_patient(&self, addr: u64) -> bool {
        let mut state = self.lock();
        let (last, count) = state.idle_fault;
        state.idle_fault = if last == addr { (addr, count + 1) } else { (addr, 1) };
        state.idle_fault.1 < PATIENCE
    }

    /// Makes the page at `addr` usable where that is possible.
    pub(super) fn resolve(self: &Arc<Self>, addr: u64, access: Access) -> Result<Resolved, Refused> {
        {
            let mut state = self.lock();
            match state.tree.find(addr) {
                Some(vma) if !allows(vma.prot, access) => return Err(Refused::Forbidden),
                Some(vma) if vma.is_cached() => {}
                Some(_) => return Ok(Resolved::Nothing),
                None => {
                    state.grow_stack(self, addr, access)?;
                    state.idle_fault.1 = 0;
                    return Ok(Resolved::Done);
                }
            }
        }
        self.fault_cached(addr, access).map_err(|_| Refused::NoPage)?;
        Ok(Resolved::Done)
    }
}

/// Whether user code may do this: on x86-64 what can be written or run can be read.
fn allows(prot: Prot, access: Access) -> bool {
    match access {
        Access::Read => !prot.is_empty(),
        Access::Write => prot.contains(Prot::WRITE),
        Access::Exec => prot.contains(Prot::EXEC),
    }
}

impl MmState {
    /// Grows the mapping above `addr` down to it, if it is a stack and there is room.
    fn grow_stack(&mut self, mm: &Mm, addr: u64, access: Access) -> Result<(), Refused> {
        let page = page_align_down(addr);
        let stack = self
            .tree
            .at_or_above(addr)
            .filter(|vma| vma.flags.contains(VmFlags::GROWSDOWN));
        let stack = stack.ok_or(Refused::NotMapped)?.clone();
        let limits = task::try_current().map(|task| Limits::of(&task));
        let limit = limits.map_or(u64::MAX, |limits| limits.stack);
        // The guard gap to what lies below; a mapping that cannot be touched is as good as a gap.
        let floor = match self.tree.below(stack.start) {
            Some(below) if below.flags.contains(VmFlags::GROWSDOWN) || below.prot.is_empty() => below.end,
            Some(below) => below.end.saturating_add(STACK_GUARD_GAP),
            None => self.layout.min_addr,
        };
        let lowest = stack.end.saturating_sub(limit).max(floor).max(self.layout.min_addr);
        if page < lowest {
            return Err(Refused::NotMapped);
        }
        if !allows(stack.prot, access) {
            return Err(Refused::Forbidden);
        }
        let start = stack
            .start
            .saturating_sub(GROWTH)
            .max(page_align_down(lowest + PAGE_SIZE - 1))
            .min(page);
        let pages = (stack.start - start) / PAGE_SIZE;
        if let Some(limits) = limits {
            self.may_expand(&limits, pages, false).map_err(|_| Refused::NotMapped)?;
            let locked = (self.tree.counts().locked + pages) * PAGE_SIZE;
            if stack.flags.contains(VmFlags::LOCKED) && locked > limits.memlock && !limits.may_lock {
                return Err(Refused::NotMapped);
            }
        }
        let mut grown = stack.piece(stack.start, stack.end);
        grown.start = start;
        grown.end = stack.start;
        map_on_host(mm.space(), &grown, MapFlags::empty()).map_err(|_: Errno| Refused::NotMapped)?;
        self.tree.grow_down(stack.start, start);
        self.peak_total = self.peak_total.max(self.tree.counts().total);
        Ok(())
    }
}

fn signal(refused: Refused, addr: u64) -> SigInfo {
    let (signal, code) = match refused {
        Refused::NotMapped => (Signal::SEGV, SEGV_MAPERR),
        Refused::Forbidden => (Signal::SEGV, SEGV_ACCERR),
        Refused::NoPage => (Signal::BUS, BUS_ADRERR),
    };
    SigInfo {
        signal,
        code,
        errno: 0,
        detail: SigDetail::Fault { addr },
    }
}
