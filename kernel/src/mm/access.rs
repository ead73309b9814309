//! Copies to and from guest memory that bring in pages which come late: stacks not grown yet, pages of cached files.

use alloc::sync::Arc;

use skas::Access;

use super::space::Mm;
use super::vma::PAGE_SIZE;
use crate::Errno;

impl Mm {
    /// Fills `buf` from `addr` on.
    ///
    /// # Errors
    /// How many bytes were copied, and `EFAULT`.
    #[inline]
    pub fn read(self: &Arc<Self>, addr: u64, buf: &mut [u8]) -> Result<(), (usize, Errno)> {
        match self.space().read(addr, buf) {
            Ok(()) => Ok(()),
            Err(fault) => self.copy_late(addr, buf.len(), Access::Read, fault, |from| {
                self.space().read(addr.wrapping_add(from as u64), &mut buf[from..])
            }),
        }
    }

    /// Stores `data` from `addr` on. As [`read`](Self::read).
    #[inline]
    pub fn write(self: &Arc<Self>, addr: u64, data: &[u8]) -> Result<(), (usize, Errno)> {
        match self.space().write(addr, data) {
            Ok(()) => Ok(()),
            Err(fault) => self.copy_late(addr, data.len(), Access::Write, fault, |from| {
                self.space().write(addr.wrapping_add(from as u64), &data[from..])
            }),
        }
    }

    /// The copy stopped: brings in the page it stopped at and goes on, until there is no page to bring in.
    #[cold]
    fn copy_late(
        self: &Arc<Self>,
        addr: u64,
        len: usize,
        access: Access,
        mut fault: (usize, Errno),
        mut go_on: impl FnMut(usize) -> Result<(), (usize, Errno)>,
    ) -> Result<(), (usize, Errno)> {
        let mut done = fault.0;
        // The page that was brought in without the copy getting any further: a second time would be for ever.
        let mut stuck_at = None;
        loop {
            if fault.1 != Errno::EFAULT {
                return Err((done, fault.1));
            }
            let at = addr.wrapping_add(done as u64);
            // The host may stop at the start of its piece although the absent page comes later in it.
            let brought = self.bring_in_some(at, (len - done) as u64, access);
            if !brought || stuck_at == Some(done) {
                return Err((done, Errno::EFAULT));
            }
            match go_on(done) {
                Ok(()) => return Ok(()),
                Err((0, error)) => {
                    stuck_at = Some(done);
                    fault.1 = error;
                }
                Err((more, error)) => {
                    done += more;
                    fault.1 = error;
                }
            }
        }
    }

    /// Brings in the page at `at`, or the first one behind it that wants to be.
    fn bring_in_some(self: &Arc<Self>, at: u64, len: u64, access: Access) -> bool {
        let mut page = at;
        let end = at.saturating_add(len);
        let mut brought = false;
        // Pages far behind the stop have their turn when the copy stops there.
        let limit = end.min(at.saturating_add(2 * PAGE_SIZE));
        while page < limit {
            brought |= self.bring_in(page, access);
            page = (page & !(PAGE_SIZE - 1)).saturating_add(PAGE_SIZE);
        }
        brought
    }

    /// Makes the page at `addr` present where it is only late. Whether there was something to do.
    pub fn bring_in(self: &Arc<Self>, addr: u64, access: Access) -> bool {
        self.resolve(addr, access).unwrap_or(super::fault::Resolved::Nothing) == super::fault::Resolved::Done
    }
}
