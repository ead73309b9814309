//! Descriptors: small integers for open file descriptions.
//!
//! Lock order: `FD_TABLE` is held for the look or the change only; descriptions are closed and dropped after it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use arch_um::sync::{SpinLock, order};

use super::file::{File, OpenFlags};
use super::{limits, lock};
use crate::{Errno, Result};

/// A file descriptor as a guest gave it; any value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fd(pub i32);

impl Fd {
    /// The working directory in the place of a descriptor (`AT_FDCWD`).
    pub const CWD: Fd = Fd(-100);

    fn index(self) -> Result<usize> {
        usize::try_from(self.0).map_err(|_| Errno::EBADF)
    }
}

/// Whether a descriptor goes away on `execve(2)` (`FD_CLOEXEC`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseOnExec {
    /// It is closed.
    Yes,
    /// It stays.
    No,
}

impl From<OpenFlags> for CloseOnExec {
    fn from(flags: OpenFlags) -> Self {
        if flags.contains(OpenFlags::CLOEXEC) {
            Self::Yes
        } else {
            Self::No
        }
    }
}

/// The descriptors of a task; shared with `CLONE_FILES`.
pub struct FdTable {
    id: u64,
    slots: SpinLock<Slots>,
}

#[derive(Clone)]
struct Slot {
    file: Arc<File>,
    cloexec: CloseOnExec,
}

#[derive(Default)]
struct Slots {
    list: Vec<Option<Slot>>,
    /// No descriptor below this one is free.
    first_free: usize,
}

impl Slots {
    fn lowest_free(&mut self, from: usize, limit: usize) -> Result<usize> {
        let start = from.max(self.first_free);
        let free = (start..self.list.len())
            .find(|&at| self.list[at].is_none())
            .unwrap_or(start.max(self.list.len()));
        if free >= limit {
            return Err(Errno::EMFILE);
        }
        if free >= self.list.len() {
            self.list.resize(free + 1, None);
        }
        if from <= self.first_free {
            self.first_free = free + 1;
        }
        Ok(free)
    }

    fn take(&mut self, at: usize) -> Option<Slot> {
        let slot = self.list.get_mut(at)?.take()?;
        self.first_free = self.first_free.min(at);
        Some(slot)
    }
}

impl FdTable {
    /// An empty table.
    pub fn new() -> Arc<Self> {
        Self::with(Slots::default())
    }

    fn with(slots: Slots) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            slots: SpinLock::new(&order::FD_TABLE, slots),
        })
    }

    /// Its identity: who owns a POSIX record lock.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The description behind `fd`; `EBADF`, also for `O_PATH` descriptors.
    #[inline]
    pub fn get(&self, fd: Fd) -> Result<Arc<File>> {
        let file = self.get_any(fd)?;
        if file.is_path_only() {
            Err(Errno::EBADF)
        } else {
            Ok(file)
        }
    }

    /// The description behind `fd`, opened with `O_PATH` or not; `EBADF`.
    #[inline]
    pub fn get_any(&self, fd: Fd) -> Result<Arc<File>> {
        let at = fd.index()?;
        let slots = self.slots.lock();
        slots
            .list
            .get(at)
            .and_then(Option::as_ref)
            .map(|slot| slot.file.clone())
            .ok_or(Errno::EBADF)
    }

    /// Gives `file` the lowest free descriptor. `EMFILE` at `RLIMIT_NOFILE`.
    pub fn install(&self, file: Arc<File>, cloexec: impl Into<CloseOnExec>) -> Result<Fd> {
        self.install_from(0, file, cloexec)
    }

    /// Gives `file` the lowest free descriptor that is not below `from` (`F_DUPFD`). `EINVAL` when `from` is at the limit.
    pub fn install_from(&self, from: usize, file: Arc<File>, cloexec: impl Into<CloseOnExec>) -> Result<Fd> {
        let limit = limits::open_files();
        if from > 0 && from >= limit {
            return Err(Errno::EINVAL);
        }
        let slot = Slot {
            file,
            cloexec: cloexec.into(),
        };
        let mut slots = self.slots.lock();
        match slots.lowest_free(from, limit) {
            Ok(at) => {
                slots.list[at] = Some(slot);
                Ok(Fd(at as i32))
            }
            Err(error) => {
                drop(slots);
                Err(error)
            }
        }
    }

    /// Gives both files a descriptor or neither (`pipe2(2)`, `socketpair(2)`).
    pub fn install_pair(&self, files: [Arc<File>; 2], cloexec: CloseOnExec) -> Result<[Fd; 2]> {
        let [first, second] = files;
        let first = self.install(first, cloexec)?;
        match self.install(second, cloexec) {
            Ok(second) => Ok([first, second]),
            Err(error) => {
                let _ = self.close(first);
                Err(error)
            }
        }
    }

    /// Makes `fd` stand for `file`; what it stood for is closed (`dup2(2)`). `EBADF` for a number beyond the limit.
    pub fn replace(&self, fd: Fd, file: Arc<File>, cloexec: CloseOnExec) -> Result<()> {
        let at = fd.index()?;
        if at >= limits::open_files() {
            return Err(Errno::EBADF);
        }
        let old = {
            let mut slots = self.slots.lock();
            if at >= slots.list.len() {
                slots.list.resize(at + 1, None);
            }
            slots.list[at].replace(Slot { file, cloexec })
        };
        if let Some(old) = old {
            // dup2 closes in silence.
            let _ = self.closed(old.file);
        }
        Ok(())
    }

    /// Takes `fd` out of the table without closing rules; the caller has the description now.
    pub fn take(&self, fd: Fd) -> Result<Arc<File>> {
        let at = fd.index()?;
        let taken = self.slots.lock().take(at);
        taken.map(|slot| slot.file).ok_or(Errno::EBADF)
    }

    /// `close(2)`: the descriptor is free whatever the result.
    pub fn close(&self, fd: Fd) -> Result<()> {
        let file = self.take(fd)?;
        self.closed(file)
    }

    /// A descriptor of this table let go of `file`.
    fn closed(&self, file: Arc<File>) -> Result<()> {
        if file.is_path_only() {
            return Ok(());
        }
        let result = file.ops().flush(&file);
        lock::release_posix(&file, self.id);
        result
    }

    /// Closes the descriptors `first..=last` that are open (`close_range(2)`).
    pub fn close_range(&self, first: u32, last: u32) {
        let mut at = first as usize;
        while let Some(slot) = self.next_open(&mut at, last) {
            let _ = self.closed(slot.file);
        }
    }

    fn next_open(&self, at: &mut usize, last: u32) -> Option<Slot> {
        let mut slots = self.slots.lock();
        while *at < slots.list.len() && *at <= last as usize {
            *at += 1;
            if let Some(slot) = slots.take(*at - 1) {
                return Some(slot);
            }
        }
        None
    }

    /// Sets close-on-exec for `first..=last` (`CLOSE_RANGE_CLOEXEC`).
    pub fn mark_range(&self, first: u32, last: u32) {
        let mut slots = self.slots.lock();
        let end = slots.list.len().min((last as usize).saturating_add(1));
        let start = (first as usize).min(end);
        for slot in slots.list[start..end].iter_mut().flatten() {
            slot.cloexec = CloseOnExec::Yes;
        }
    }

    /// Closes what is marked close-on-exec (`execve(2)`).
    pub fn close_on_exec(&self) {
        let mut closing = Vec::new();
        {
            let mut slots = self.slots.lock();
            for at in 0..slots.list.len() {
                if slots.list[at]
                    .as_ref()
                    .is_some_and(|slot| slot.cloexec == CloseOnExec::Yes)
                {
                    closing.extend(slots.take(at));
                }
            }
        }
        for slot in closing {
            let _ = self.closed(slot.file);
        }
    }

    /// Closes everything (`exit(2)`); also done when the table is dropped.
    pub fn close_all(&self) {
        self.close_range(0, u32::MAX);
    }

    /// `F_GETFD`.
    pub fn close_on_exec_of(&self, fd: Fd) -> Result<CloseOnExec> {
        let at = fd.index()?;
        let slots = self.slots.lock();
        slots
            .list
            .get(at)
            .and_then(Option::as_ref)
            .map(|slot| slot.cloexec)
            .ok_or(Errno::EBADF)
    }

    /// `F_SETFD`.
    pub fn set_close_on_exec(&self, fd: Fd, cloexec: CloseOnExec) -> Result<()> {
        let at = fd.index()?;
        let mut slots = self.slots.lock();
        slots
            .list
            .get_mut(at)
            .and_then(Option::as_mut)
            .ok_or(Errno::EBADF)?
            .cloexec = cloexec;
        Ok(())
    }

    /// A copy of its own: the same descriptions under the same numbers (`fork(2)`).
    pub fn fork(&self) -> Arc<Self> {
        let slots = self.slots.lock();
        let copy = Slots {
            list: slots.list.clone(),
            first_free: slots.first_free,
        };
        drop(slots);
        Self::with(copy)
    }

    /// The open descriptors in order (/proc/pid/fd).
    pub fn list(&self) -> Vec<(Fd, Arc<File>, CloseOnExec)> {
        let slots = self.slots.lock();
        let open = slots.list.iter().enumerate();
        open.filter_map(|(at, slot)| {
            slot.as_ref()
                .map(|slot| (Fd(at as i32), slot.file.clone(), slot.cloexec))
        })
        .collect()
    }

    /// How many descriptors there is room for now (`FDSize` of /proc/pid/status).
    pub fn capacity(&self) -> usize {
        self.slots.lock().list.len().next_multiple_of(64).max(64)
    }
}

impl Drop for FdTable {
    fn drop(&mut self) {
        let list = core::mem::take(&mut self.slots.get_mut().list);
        for slot in list.into_iter().flatten() {
            let _ = self.closed(slot.file);
        }
    }
}
