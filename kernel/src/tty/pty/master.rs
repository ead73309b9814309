//! [`Master`]: the end of a pair that a terminal emulator holds.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec;
use core::any::Any;

use arch_um::sync::{Interruptible, Mutex, SpinLock, WaitQueue, order};

use super::{Far, Index, PAIRS, PtyLine, SLAVE_MAJOR, Status};
use crate::io::{Sink, Source};
use crate::signal::Signal;
use crate::syscall::Context;
use crate::tty::io::take_turn;
use crate::tty::jobctl::{self, Side};
use crate::tty::numbers::*;
use crate::tty::termios::Termios;
use crate::tty::{Tty, devices, ioctl};
use crate::user::UserPtr;
use crate::vfs::file::{SeekKind, WriteAt, Written};
use crate::vfs::{DevT, File, FileOps, PollEvents, PollTable};
use crate::{Errno, Result};

/// Bytes moved at a time.
const CHUNK: usize = 4096;

/// The master's end: what `open("/dev/ptmx")` gives.
pub struct Master {
    line: Arc<PtyLine>,
    slave: Arc<Tty>,
    reading: Mutex<()>,
    writing: Mutex<()>,
    on_close: spin::Once<Arc<dyn Fn(u32) + Send + Sync>>,
}

/// Makes a pair, slave locked. `ENOSPC` when `limit` indices (or [`MAX`](super::MAX)) are in use.
pub fn open_master(limit: u32) -> Result<Arc<Master>> {
    let index = Index::allocate(limit)?;
    let number = index.0;
    let far = Far {
        data: VecDeque::new(),
        packet: false,
        status: Status::empty(),
        locked: true,
        slave_closed: false,
        master_closed: false,
    };
    let line = Arc::new(PtyLine {
        index,
        far: SpinLock::new(&order::DEVICE, far),
        readable: WaitQueue::new(),
        writable: WaitQueue::new(),
        slave: spin::Once::new(),
    });
    let dev = DevT::new(SLAVE_MAJOR, number);
    let slave = Tty::new(format!("pts/{number}"), dev, line.clone(), Termios::pty_slave());
    line.slave.call_once(|| Arc::downgrade(&slave));
    PAIRS.lock().insert(number, Arc::downgrade(&line));
    let turn = || Mutex::new(&order::TTY_LDISC, ());
    Ok(Arc::new(Master {
        line,
        slave,
        reading: turn(),
        writing: turn(),
        on_close: spin::Once::new(),
    }))
}

impl Master {
    /// Its number in /dev/pts.
    pub fn index(&self) -> u32 {
        self.line.index.0
    }

    /// The other end.
    pub fn slave(&self) -> &Arc<Tty> {
        &self.slave
    }

    /// `TIOCSPTLCK` with 0 (`unlockpt(3)`).
    pub fn unlock(&self) {
        self.line.far.lock().locked = false;
    }

    /// Has `f` called with the index when the master is closed (devpts forgets the node).
    pub fn on_close(&self, f: Arc<dyn Fn(u32) + Send + Sync>) {
        self.on_close.call_once(|| f);
    }

    /// Takes what is there; none when there is nothing.
    fn take(&self, buf: &mut [u8]) -> Option<usize> {
        let mut far = self.line.far.lock();
        let mut head = 0;
        if far.packet {
            if !far.status.is_empty() {
                *buf.first_mut()? = core::mem::take(&mut far.status).bits();
                return Some(1);
            }
            if far.data.is_empty() {
                return None;
            }
            *buf.first_mut()? = 0;
            head = 1;
        }
        let count = far.data.len().min(buf.len() - head);
        for (byte, data) in buf[head..].iter_mut().zip(far.data.drain(..count)) {
            *byte = data;
        }
        (count + head > 0).then_some(count + head)
    }

    fn has_input(&self) -> bool {
        let far = self.line.far.lock();
        !far.data.is_empty() || far.packet && !far.status.is_empty()
    }

    fn slave_closed(&self) -> bool {
        self.line.far.lock().slave_closed
    }

    fn read(&self, file: &File, dst: &mut dyn Sink) -> Result<usize> {
        if dst.remaining() == 0 {
            return Ok(0);
        }
        let _reader = take_turn(&self.reading, file)?;
        let mut buf = vec![0; dst.remaining().min(CHUNK)];
        let mut total = 0;
        loop {
            let room = dst.remaining().min(buf.len());
            if let Some(count) = (room > 0).then(|| self.take(&mut buf[..room])).flatten() {
                match dst.write(&buf[..count]) {
                    Ok(stored) => total += stored,
                    Err(error) if total == 0 => return Err(error),
                    Err(_) => return Ok(total),
                }
                self.slave.output_moved();
                if self.line.far.lock().packet {
                    return Ok(total);
                }
                continue;
            }
            if total > 0 {
                return Ok(total);
            }
            if self.slave_closed() {
                return Err(Errno::EIO);
            }
            if file.is_nonblocking() {
                return Err(Errno::EAGAIN);
            }
            let come = || (self.has_input() || self.slave_closed()).then_some(());
            self.line.readable.wait_until(Interruptible::Yes, None, come)?;
        }
    }

    fn write(&self, file: &File, src: &mut dyn Source) -> Result<usize> {
        let _writer = take_turn(&self.writing, file)?;
        let mut buf = vec![0; src.remaining().min(CHUNK)];
        let mut total = 0;
        while src.remaining() > 0 {
            let count = match src.read(&mut buf) {
                Ok(count) => count,
                Err(error) if total == 0 => return Err(error),
                Err(_) => return Ok(total),
            };
            let mut done = 0;
            loop {
                done += self.slave.receive(&buf[done..count]);
                if done == count {
                    break;
                }
                let so_far = |error| if total + done > 0 { Ok(total + done) } else { Err(error) };
                if file.is_nonblocking() {
                    return so_far(Errno::EAGAIN);
                }
                let moves = || (self.slave.input_room() > 0).then_some(());
                if self.line.writable.wait_until(Interruptible::Yes, None, moves).is_err() {
                    return so_far(Errno::RestartSys);
                }
            }
            total += count;
        }
        Ok(total)
    }

    pub(in crate::tty) fn set_packet(&self, packet: bool) {
        let mut far = self.line.far.lock();
        if packet != far.packet {
            far.packet = packet;
            far.status = Status::empty();
        }
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.line.far.lock().master_closed = true;
        if let Some(f) = self.on_close.get() {
            f(self.index());
        }
        jobctl::hang_up(&self.slave);
    }
}

impl FileOps for Master {
    fn can_signal(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> SeekKind {
        SeekKind::Stream
    }

    fn read_at(&self, file: &File, _pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        self.read(file, dst)
    }

    fn write_at(&self, file: &File, _pos: WriteAt, src: &mut dyn Source) -> Result<Written> {
        self.write(file, src).map(|count| Written { count, end: 0 })
    }

    fn ioctl(&self, cx: &Context, file: &File, cmd: u32, arg: u64) -> Result<usize> {
        let put = |value: i32| UserPtr::<i32>::new(arg).write(&value).map(|()| 0);
        let get = || UserPtr::<i32>::new(arg).read();
        match cmd {
            TIOCGPTN => put(self.index() as i32),
            TIOCSPTLCK => {
                let locked = get()? != 0;
                self.line.far.lock().locked = locked;
                Ok(0)
            }
            TIOCGPTPEER => devices::open_peer(cx, self.index(), arg),
            TIOCGPTLCK => {
                // Memory of a guest is not written under a lock.
                let value = i32::from(self.line.far.lock().locked);
                put(value)
            }
            TIOCPKT => {
                self.set_packet(get()? != 0);
                Ok(0)
            }
            TIOCGPKT => {
                let value = i32::from(self.line.far.lock().packet);
                put(value)
            }
            TIOCSIG => {
                let signal = Signal::new(arg as i32).filter(|s| [Signal::INT, Signal::QUIT, Signal::TSTP].contains(s));
                let signal = signal.ok_or(Errno::EINVAL)?;
                if let Some(group) = self.slave.foreground() {
                    jobctl::signal_group(group, signal);
                }
                Ok(0)
            }
            FIONREAD => {
                let value = self.line.far.lock().data.len() as i32;
                put(value)
            }
            TIOCOUTQ => put(0),
            TCSBRK | TCSBRKP => Ok(0),
            // A master's input is the slave's output and the other way round.
            TCFLSH => match arg {
                TCIFLUSH => {
                    self.slave.flush_output();
                    Ok(0)
                }
                TCOFLUSH => {
                    self.slave.flush_input();
                    Ok(0)
                }
                TCIOFLUSH => {
                    self.slave.flush_output();
                    self.slave.flush_input();
                    Ok(0)
                }
                _ => Err(Errno::EINVAL),
            },
            TIOCSCTTY => {
                let steal = if arg == 1 {
                    jobctl::Steal::Yes
                } else {
                    jobctl::Steal::No
                };
                jobctl::set_controlling(&self.slave, steal, file.access()).map(|()| 0)
            }
            TIOCNOTTY => Err(Errno::ENOTTY),
            _ => match ioctl::set_from_master(&self.slave, cmd, arg) {
                Some(outcome) => outcome,
                None => ioctl::common(&self.slave, Side::Master, cmd, arg),
            },
        }
    }

    fn announces(&self) -> bool {
        true
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.listen(&self.line.readable);
            table.listen(&self.line.writable);
        }
        let mut events = PollEvents::empty();
        if self.slave.input_room() > 0 {
            events |= PollEvents::OUT | PollEvents::WRNORM;
        }
        let far = self.line.far.lock();
        if !far.data.is_empty() {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        if far.packet && !far.status.is_empty() {
            events |= PollEvents::IN | PollEvents::RDNORM | PollEvents::PRI;
        }
        if far.slave_closed {
            events |= PollEvents::HUP;
        }
        events
    }
}
