//! The thread of a bound loop device: requests become calls of the file, one after the other.
//!
//! Lock order: `Work::state` ([`order::DRIVER`]) is held for a push or pop only.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use arch_um::sync::{Interruptible, SpinLock, WaitQueue, order};
use core::sync::atomic::Ordering;

use super::{Binding, LoopDevice};
use crate::block::bio::{Bio, Op};
use crate::io::SliceSource;
use crate::vfs::file::WriteAt;
use crate::{Errno, Result};

const KEEP_SIZE: u32 = 1;
const PUNCH_HOLE: u32 = 2;
const ZERO_RANGE: u32 = 16;
/// Zeros written at a time where the file cannot make a hole.
const ZEROS: u64 = 64 << 10;

/// Requests on their way to one worker.
pub(super) struct Work {
    state: SpinLock<State>,
    arrived: WaitQueue,
    ended: WaitQueue,
}

#[derive(Default)]
struct State {
    bios: VecDeque<Bio>,
    stopping: bool,
    over: bool,
}

impl Work {
    /// Starts the thread of `device`.
    ///
    /// # Errors
    /// `EAGAIN`: there is no memory for a stack.
    pub(super) fn start(device: &Arc<LoopDevice>) -> Result<Arc<Self>> {
        let work = Arc::new(Self {
            state: SpinLock::new(&order::DRIVER, State::default()),
            arrived: WaitQueue::new(),
            ended: WaitQueue::new(),
        });
        let (own, device) = (work.clone(), device.clone());
        crate::task::init::spawn_kernel_thread(&device.name(), move || {
            while let Some(bio) = own.next() {
                device.carry_out(bio);
            }
            own.state.lock().over = true;
            own.ended.wake_all();
        })?;
        Ok(work)
    }

    /// Hands a request over. After [`stop`](Self::stop) it fails.
    pub(super) fn push(&self, bio: Bio) {
        let mut state = self.state.lock();
        if state.stopping {
            drop(state);
            bio.complete(Err(Errno::EIO));
            return;
        }
        state.bios.push_back(bio);
        drop(state);
        self.arrived.wake_all();
    }

    /// The next request; none after [`stop`](Self::stop).
    fn next(&self) -> Option<Bio> {
        let look = || {
            let mut state = self.state.lock();
            match state.bios.pop_front() {
                Some(bio) => Some(Some(bio)),
                None => state.stopping.then_some(None),
            }
        };
        self.arrived.wait_until(Interruptible::No, None, look).ok().flatten()
    }

    /// Carries out what is there and ends the thread.
    pub(super) fn stop(&self) {
        self.state.lock().stopping = true;
        self.arrived.wake_all();
        let over = || self.state.lock().over.then_some(());
        let _ = self.ended.wait_until(Interruptible::No, None, over);
    }
}

impl LoopDevice {
    fn carry_out(&self, mut bio: Bio) {
        let outcome = match self.binding() {
            Some(binding) => binding.carry_out(&mut bio),
            None => Err(Errno::EIO),
        };
        if bio.op == Op::Discard && outcome == Err(Errno::EOPNOTSUPP) {
            self.discards.store(false, Ordering::Relaxed);
        } else if let Err(error) = outcome {
            log::error!(
                "I/O error, dev {}, sector {} op {:?}: {error}",
                self.name(),
                bio.offset / crate::block::SECTOR,
                bio.op
            );
        }
        bio.complete(outcome);
    }
}

impl Binding {
    fn carry_out(&self, bio: &mut Bio) -> Result<()> {
        let at = self.settings.offset.checked_add(bio.offset).ok_or(Errno::EIO)?;
        match bio.op {
            Op::Read => {
                let filled = self.file.read_exact_at(at, &mut bio.data)?;
                // The file may have become shorter.
                bio.data[filled..].fill(0);
                Ok(())
            }
            Op::Write => self.write(at, &bio.data),
            Op::Flush => match self.file.ops().sync(&self.file) {
                // What has no storage cannot be synced, and need not.
                Err(Errno::EINVAL) => Ok(()),
                other => other,
            },
            Op::Discard => self.fallocate(PUNCH_HOLE, at, bio.len),
            Op::WriteZeroes => self.write_zeroes(at, bio.len),
        }
    }

    fn write(&self, mut at: u64, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let mut source = SliceSource::new(data);
            let written = self.file.ops().write_at(&self.file, WriteAt::Offset(at), &mut source)?;
            if written.count == 0 {
                return Err(Errno::EIO);
            }
            at += written.count as u64;
            data = &data[written.count..];
        }
        Ok(())
    }

    fn fallocate(&self, mode: u32, at: u64, len: u64) -> Result<()> {
        self.file.ops().fallocate(&self.file, mode | KEEP_SIZE, at, len)
    }

    /// A hole first: a sparse file stays sparse.
    fn write_zeroes(&self, at: u64, len: u64) -> Result<()> {
        for mode in [PUNCH_HOLE, ZERO_RANGE] {
            match self.fallocate(mode, at, len) {
                Err(Errno::EOPNOTSUPP | Errno::ENODEV | Errno::EINVAL | Errno::EPERM) => {}
                outcome => return outcome,
            }
        }
        let zeros = alloc::vec![0; ZEROS.min(len) as usize];
        let mut done = 0;
        while done < len {
            let count = (len - done).min(ZEROS);
            self.write(at + done, &zeros[..count as usize])?;
            done += count;
        }
        Ok(())
    }
}
