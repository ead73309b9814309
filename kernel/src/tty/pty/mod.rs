//! Pseudo-terminals (`pty(7)`): a terminal whose far end is a file.
//!
//! [`open_master`] makes a pair: the [`Master`], and the slave, a [`Tty`] whose driver is [`PtyLine`]. What programs write to the slave (and its echo)
//! waits in [`PtyLine`] for the master's reader; what is written to the master goes to the slave's line discipline. `devpts` shows the slave.
//!
//! Lock order: the slave's `core` (`TTY_BUFFER`), then `PtyLine::far` (`DEVICE`). The master never calls the slave with `far` held.

mod master;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};

use arch_um::sync::{SpinLock, WaitQueue, order};
use bitflags::bitflags;

use super::Tty;
use super::driver::{Notice, TtyDriver};
use super::io::{OpenedAs, TtyFile};
use super::termios::{Iflag, Lflag, Termios, cc};
use crate::vfs::PollEvents;
use crate::{Errno, Result};

pub use master::{Master, open_master};

/// Major number of slaves; the minor is the index.
pub const SLAVE_MAJOR: u32 = 136;
/// Most pseudo-terminals at a time (/proc/sys/kernel/pty/max).
pub const MAX: u32 = 4096;
/// Bytes from the slave that wait for the master's reader.
const FAR_LIMIT: usize = 64 * 1024;

bitflags! {
    /// What a master in packet mode reads instead of data (`TIOCPKT`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    struct Status: u8 {
        const FLUSHREAD = 1;
        const FLUSHWRITE = 2;
        const STOP = 4;
        const START = 8;
        const NOSTOP = 16;
        const DOSTOP = 32;
        const IOCTL = 64;
    }
}

/// All pairs that exist, by index.
static PAIRS: SpinLock<BTreeMap<u32, Weak<PtyLine>>> = SpinLock::new(&order::LEAF, BTreeMap::new());

/// An index nobody else has, as long as it lives.
struct Index(u32);

impl Index {
    /// The lowest free one below `limit`. `ENOSPC`.
    fn allocate(limit: u32) -> Result<Self> {
        let mut pairs = PAIRS.lock();
        let free = (0..limit.min(MAX))
            .find(|index| !pairs.contains_key(index))
            .ok_or(Errno::ENOSPC)?;
        pairs.insert(free, Weak::new());
        Ok(Self(free))
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        let gone = PAIRS.lock().remove(&self.0);
        drop(gone);
    }
}

/// How many pairs exist (/proc/sys/kernel/pty/nr).
pub fn count() -> usize {
    PAIRS.lock().len()
}

/// What joins the two ends; the slave's driver.
pub struct PtyLine {
    index: Index,
    far: SpinLock<Far>,
    /// The master's readers.
    readable: WaitQueue,
    /// The master's writers.
    writable: WaitQueue,
    slave: spin::Once<Weak<Tty>>,
}

/// The master's side of the state.
struct Far {
    /// From the slave, for the master.
    data: VecDeque<u8>,
    /// `TIOCPKT`.
    packet: bool,
    status: Status,
    /// `TIOCSPTLCK`: the slave cannot be opened.
    locked: bool,
    /// The slave was open and is not any more.
    slave_closed: bool,
    master_closed: bool,
}

impl PtyLine {
    /// The slave; none when both ends are gone.
    pub fn slave(&self) -> Option<Arc<Tty>> {
        self.slave.get()?.upgrade()
    }

    fn wake_readers(&self, events: PollEvents) {
        self.readable.wake_key(events.bits());
    }

    /// In packet mode, tells the master's reader.
    fn report(&self, clear: Status, set: Status) {
        {
            let mut far = self.far.lock();
            if !far.packet {
                return;
            }
            far.status = (far.status - clear) | set;
        }
        self.wake_readers(PollEvents::IN | PollEvents::RDNORM | PollEvents::PRI);
    }
}

impl TtyDriver for PtyLine {
    fn open(&self) -> Result<()> {
        let mut far = self.far.lock();
        if far.master_closed {
            return Err(Errno::EIO);
        }
        far.slave_closed = false;
        Ok(())
    }

    fn close(&self) {
        self.far.lock().slave_closed = true;
        self.readable.wake_all();
        self.writable.wake_all();
    }

    fn write_room(&self) -> usize {
        FAR_LIMIT - self.far.lock().data.len()
    }

    fn write(&self, data: &[u8]) {
        self.far.lock().data.extend(data);
    }

    /// What the master has not read has left the slave all the same: `tcdrain` on a slave does not wait for it.
    fn queued(&self) -> usize {
        0
    }

    fn transmit(&self) {
        if !self.far.lock().data.is_empty() {
            self.wake_readers(PollEvents::IN | PollEvents::RDNORM);
        }
    }

    fn flush_output(&self) {
        self.far.lock().data.clear();
    }

    fn accept_input(&self) {
        self.writable.wake_key((PollEvents::OUT | PollEvents::WRNORM).bits());
    }

    fn configured(&self, old: &Termios, new: &Termios) {
        let flow = |termios: &Termios| {
            termios.input(Iflag::IXON) && termios.cc[cc::VSTOP] == 0x13 && termios.cc[cc::VSTART] == 0x11
        };
        let external = |termios: &Termios| termios.local(Lflag::EXTPROC);
        let mut set = Status::empty();
        let mut clear = Status::empty();
        if flow(old) != flow(new) {
            clear |= Status::DOSTOP | Status::NOSTOP;
            set |= if flow(new) { Status::DOSTOP } else { Status::NOSTOP };
        }
        if external(old) || external(new) {
            set |= Status::IOCTL;
        }
        if !set.is_empty() {
            self.report(clear, set);
        }
    }

    fn notify(&self, notice: Notice) {
        match notice {
            Notice::FlushedInput => self.report(Status::empty(), Status::FLUSHREAD),
            Notice::FlushedOutput => self.report(Status::empty(), Status::FLUSHWRITE),
            Notice::Stopped => self.report(Status::START, Status::STOP),
            Notice::Started => self.report(Status::STOP, Status::START),
        }
    }

    fn hung_up(&self) {
        self.far.lock().slave_closed = true;
        self.readable.wake_all();
        self.writable.wake_all();
    }

    fn is_gone(&self) -> bool {
        self.far.lock().master_closed
    }

    fn input_buffer(&self) -> usize {
        FAR_LIMIT
    }
}

/// The slave with this index, to be opened. `EIO` while it is locked or when its master is closed, `ENXIO` when there is none.
pub fn open_slave(index: u32) -> Result<Arc<TtyFile>> {
    let line = PAIRS.lock().get(&index).and_then(Weak::upgrade).ok_or(Errno::ENXIO)?;
    let tty = line.slave().ok_or(Errno::EIO)?;
    if line.far.lock().locked {
        return Err(Errno::EIO);
    }
    let file = TtyFile::open(tty, OpenedAs::Itself)?;
    // Also after a hang-up, when the dead descriptions are still open and the driver was not asked.
    line.open()?;
    Ok(file)
}
