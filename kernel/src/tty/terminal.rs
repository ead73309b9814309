//! [`Tty`]: a terminal, whatever carries its bytes. Settings, line discipline, window, foreground group, users.
//!
//! Readers and writers are in `io`, requests in `ioctl`, sessions in `jobctl`. A [`TtyDriver`] carries the bytes.
//!
//! Lock order: `users` (`TTY`), then `reading` or `writing` (`TTY_LDISC`, never both), then `core` (`TTY_BUFFER`, spinning), then the driver's own.
//! Signals, wake-ups and calls that may take other locks happen after `core` is released: see [`Tty::perform`].

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use arch_um::sync::{Mutex, SpinLock, WaitQueue, order};

use super::driver::{Notice, TtyDriver};
use super::jobctl;
use super::ldisc::{Condition, Effects, Ldisc, Output, Overflow};
use super::termios::{Iflag, Termios, Termios1, WinSize, cc};
use crate::signal::Signal;
use crate::task::Pid;
use crate::vfs::{DevT, PollEvents};
use crate::{Errno, Result};

/// Input goes to the discipline in pieces whose echo fits into its buffer.
const ECHO_STEP: usize = 512;

/// A terminal.
pub struct Tty {
    name: String,
    dev: DevT,
    driver: Arc<dyn TtyDriver>,
    core: SpinLock<Core>,
    /// Readers, and pollers for input.
    pub(super) readable: WaitQueue,
    /// Writers, those who wait for output to leave, and pollers for output.
    pub(super) writable: WaitQueue,
    /// One reader at a time.
    pub(super) reading: Mutex<()>,
    /// One writer at a time: a `write(2)` is not mixed with another.
    pub(super) writing: Mutex<()>,
    users: Mutex<usize>,
    /// Grows with each hang-up: descriptions of an older count are dead.
    hangups: AtomicU32,
}

/// What changes all the time.
pub(super) struct Core {
    pub(super) termios: Termios,
    /// Bits and characters that stay as they are (`TIOCSLCKTRMIOS`).
    pub(super) locked: Termios1,
    pub(super) ldisc: Ldisc,
    /// Input before the discipline.
    backlog: VecDeque<u8>,
    /// The driver was told that there is no room.
    throttled: bool,
    /// `IXOFF`: the far end was sent `VSTOP`.
    far_end_stopped: bool,
    /// The far end sends no more, once the backlog is through.
    ending: bool,
    pub(super) winsize: WinSize,
    /// Foreground process group.
    pub(super) foreground: Option<Pid>,
    /// The session whose controlling terminal this is.
    pub(super) session: Option<Pid>,
    /// `TIOCEXCL`.
    pub(super) exclusive: bool,
}

/// A driver as the discipline's output.
struct Carrier<'a>(&'a dyn TtyDriver);

impl Output for Carrier<'_> {
    fn room(&self) -> usize {
        self.0.write_room()
    }
    fn put(&mut self, data: &[u8]) {
        self.0.write(data);
    }
}

/// What is to be done after `core` is released.
#[must_use]
pub(super) struct Actions {
    effects: Effects,
    foreground: Option<Pid>,
    stopped: bool,
}

impl Core {
    /// Feeds the discipline from the backlog and sends its echo.
    fn pump(&mut self, driver: &dyn TtyDriver, effects: &mut Effects) {
        let Core {
            termios,
            ldisc,
            backlog,
            ..
        } = self;
        let whole = driver.overflow() == Overflow::Split;
        while !backlog.is_empty() {
            if whole && ldisc.echo_waiting() > 0 && !ldisc.stopped() {
                // A human does not outrun his screen; a file does, and its echo waits for slow output like all the rest.
                break;
            }
            let piece = backlog.as_slices().0;
            let taken = ldisc.receive(termios, &piece[..piece.len().min(ECHO_STEP)], effects);
            if taken == 0 {
                break;
            }
            backlog.drain(..taken);
            if !effects.flush_output {
                ldisc.send_echo(&mut Carrier(driver));
            }
        }
        if self.ending && self.backlog.is_empty() {
            self.ending = false;
            self.ldisc.end_input(&self.termios, effects);
        }
        self.show(driver, effects);
    }

    /// Flushes output if a signal asked for it, then sends echo that waits.
    fn show(&mut self, driver: &dyn TtyDriver, effects: &Effects) {
        if effects.flush_output {
            driver.flush_output();
        }
        self.ldisc.send_echo(&mut Carrier(driver));
    }

    fn actions(&self, effects: Effects) -> Actions {
        Actions {
            effects,
            foreground: self.foreground,
            stopped: self.ldisc.stopped(),
        }
    }

    /// Writes processed output; how many bytes of `data` it took.
    pub(super) fn write(&mut self, data: &[u8], driver: &dyn TtyDriver) -> usize {
        self.ldisc.write(&self.termios, data, &mut Carrier(driver))
    }
}

impl Tty {
    /// A terminal called `name` in /dev with the number `dev`.
    pub fn new(name: String, dev: DevT, driver: Arc<dyn TtyDriver>, termios: Termios) -> Arc<Self> {
        let mut ldisc = Ldisc::new();
        ldisc.set_overflow(driver.overflow());
        let core = Core {
            termios,
            locked: Termios1::default(),
            ldisc,
            backlog: VecDeque::new(),
            throttled: false,
            far_end_stopped: false,
            ending: false,
            winsize: WinSize::default(),
            foreground: None,
            session: None,
            exclusive: false,
        };
        Arc::new(Self {
            name,
            dev,
            driver,
            core: SpinLock::new(&order::TTY_BUFFER, core),
            readable: WaitQueue::new(),
            writable: WaitQueue::new(),
            reading: Mutex::new(&order::TTY_LDISC, ()),
            writing: Mutex::new(&order::TTY_LDISC, ()),
            users: Mutex::new(&order::TTY, 0),
            hangups: AtomicU32::new(0),
        })
    }

    /// Its name below /dev.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number.
    pub fn dev(&self) -> DevT {
        self.dev
    }

    /// What carries its bytes.
    pub fn driver(&self) -> &dyn TtyDriver {
        &*self.driver
    }

    /// The settings.
    pub fn termios(&self) -> Termios {
        self.core.lock().termios
    }

    /// The foreground process group (`tcgetpgrp(3)`; /proc/pid/stat's `tpgid`).
    pub fn foreground(&self) -> Option<Pid> {
        self.core.lock().foreground
    }

    /// The session whose controlling terminal this is.
    pub fn session(&self) -> Option<Pid> {
        self.core.lock().session
    }

    /// The window's size.
    pub fn winsize(&self) -> WinSize {
        self.core.lock().winsize
    }

    pub(super) fn with_core<R>(&self, f: impl FnOnce(&mut Core) -> R) -> R {
        f(&mut self.core.lock())
    }

    /// How often it was hung up.
    pub(super) fn hangups(&self) -> u32 {
        self.hangups.load(Ordering::Acquire)
    }

    /// One more user. `EBUSY` when someone has it for himself (`TIOCEXCL`), else the driver's error.
    pub(super) fn acquire(&self) -> Result<()> {
        let privileged = jobctl::is_admin();
        let mut users = self.users.lock();
        if *users > 0 && !privileged && self.core.lock().exclusive {
            return Err(Errno::EBUSY);
        }
        if *users == 0 {
            self.driver.open()?;
            self.core.lock().ldisc.set_overflow(self.driver.overflow());
        }
        *users += 1;
        Ok(())
    }

    /// One user less. Input that waits stays for the next one: a boot script may come and go before the shell that it is meant for.
    pub(super) fn release(&self) {
        let mut users = self.users.lock();
        *users = users.saturating_sub(1);
        if *users == 0 {
            self.core.lock().exclusive = false;
            self.driver.close();
        }
    }

    /// How many descriptions are open.
    pub fn users(&self) -> usize {
        *self.users.lock()
    }

    /// Bytes of input that there is room for; with none, the driver hears [`TtyDriver::accept_input`] later.
    pub fn input_room(&self) -> usize {
        let mut core = self.core.lock();
        let room = self.driver.input_buffer().saturating_sub(core.backlog.len());
        if room == 0 {
            core.throttled = true;
            if core.termios.input(Iflag::IXOFF)
                && let Some(stop) = core.termios.special(cc::VSTOP)
                && !core.far_end_stopped
                && self.driver.write_room() > 0
            {
                core.far_end_stopped = true;
                self.driver.write(&[stop]);
            }
        }
        room
    }

    /// Bytes from the line, in any context that may take the terminal's spin lock. Returns how many there was room for.
    pub fn receive(&self, data: &[u8]) -> usize {
        let room = self.input_room();
        let taken = data.len().min(room);
        let actions = {
            let mut core = self.core.lock();
            core.backlog.extend(&data[..taken]);
            if core.ldisc.at_end() && taken > 0 {
                core.ldisc.resume_input();
            }
            let mut effects = Effects::default();
            core.pump(&*self.driver, &mut effects);
            core.actions(effects)
        };
        self.perform(actions);
        taken
    }

    /// A break or a damaged byte from the line.
    pub fn receive_condition(&self, condition: Condition) {
        let actions = {
            let mut core = self.core.lock();
            let mut effects = Effects::default();
            let Core { termios, ldisc, .. } = &mut *core;
            ldisc.receive_condition(termios, condition, &mut effects);
            core.show(&*self.driver, &effects);
            core.actions(effects)
        };
        self.perform(actions);
    }

    /// The line is at its end (a pipe or file was read to the end): readers get what is there, and then end of file, again and again.
    pub fn receive_end(&self) {
        let actions = {
            let mut core = self.core.lock();
            core.ending = true;
            let mut effects = Effects::default();
            core.pump(&*self.driver, &mut effects);
            core.actions(effects)
        };
        self.perform(actions);
    }

    /// Readers took input, or echo left: moves more of the backlog up and lets the driver go on.
    pub(super) fn move_input(&self) {
        let mut accept = false;
        let actions = {
            let mut core = self.core.lock();
            if core.backlog.is_empty() && !core.throttled && !core.ending {
                return;
            }
            let mut effects = Effects::default();
            core.pump(&*self.driver, &mut effects);
            if core.throttled && core.backlog.len() <= self.driver.input_buffer() / 2 {
                core.throttled = false;
                accept = true;
                if core::mem::take(&mut core.far_end_stopped)
                    && let Some(start) = core.termios.special(cc::VSTART)
                    && self.driver.write_room() > 0
                {
                    self.driver.write(&[start]);
                }
            }
            core.actions(effects)
        };
        self.perform(actions);
        if accept {
            self.driver.accept_input();
        }
    }

    /// The driver has room again or has sent everything. Not under a lock that the terminal's comes before.
    pub fn output_moved(&self) {
        self.core.lock().ldisc.send_echo(&mut Carrier(&*self.driver));
        self.driver.transmit();
        self.writable.wake_key((PollEvents::OUT | PollEvents::WRNORM).bits());
        self.move_input();
    }

    /// The driver sent everything at once, without [`output_moved`](Self::output_moved): who waits for that hears of it. Not under a lock.
    pub fn output_left(&self) {
        let waiting = self.with_core(|core| core.ldisc.echo_waiting() > 0 && !core.ldisc.stopped());
        if waiting && self.driver.write_room() > 0 {
            return self.output_moved();
        }
        if self.writable.has_waiters() {
            self.writable.wake_key((PollEvents::OUT | PollEvents::WRNORM).bits());
        }
    }

    /// Does what a step of the discipline asked for. No lock may be held.
    pub(super) fn perform(&self, actions: Actions) {
        let Actions {
            effects,
            foreground,
            stopped,
        } = actions;
        for &signal in &effects.signals {
            self.signal(foreground, signal);
        }
        if effects.readable {
            self.wake_readers();
        }
        self.driver.transmit();
        if effects.flushed_input {
            self.driver.notify(Notice::FlushedInput);
        }
        if effects.flush_output {
            self.driver.notify(Notice::FlushedOutput);
        }
        if effects.flow_changed {
            self.driver
                .notify(if stopped { Notice::Stopped } else { Notice::Started });
        }
        if effects.flush_output || effects.flow_changed {
            self.output_moved();
        }
    }

    fn wake_readers(&self) {
        self.readable.wake_key((PollEvents::IN | PollEvents::RDNORM).bits());
    }

    /// Wakes everybody: something fundamental changed (hang-up, the far end came or went).
    pub fn wake_everybody(&self) {
        self.readable.wake_all();
        self.writable.wake_all();
    }

    fn signal(&self, group: Option<Pid>, signal: Signal) {
        if let Some(group) = group {
            jobctl::signal_group(group, signal);
        }
    }

    /// New settings (the caller has drained or flushed as asked).
    pub fn set_termios(&self, new: Termios) {
        let (old, new, actions) = {
            let mut core = self.core.lock();
            let new = new.except(&core.locked, &core.termios);
            let old = core::mem::replace(&mut core.termios, new);
            let mut effects = Effects::default();
            core.ldisc.set_termios(&old, &new, &mut effects);
            core.pump(&*self.driver, &mut effects);
            (old, new, core.actions(effects))
        };
        self.driver.configured(&old, &new);
        self.perform(actions);
    }

    /// New window size: the foreground group hears `SIGWINCH` if it differs.
    pub fn set_winsize(&self, new: WinSize) {
        let foreground = {
            let mut core = self.core.lock();
            if core.winsize == new {
                return;
            }
            core.winsize = new;
            core.foreground
        };
        self.signal(foreground, Signal::WINCH);
        self.driver.resized(new);
    }

    /// `tcflush(TCIFLUSH)`.
    pub fn flush_input(&self) {
        {
            let mut core = self.core.lock();
            core.ldisc.flush_input();
            core.backlog.clear();
        }
        self.move_input();
        self.driver.notify(Notice::FlushedInput);
    }

    /// `tcflush(TCOFLUSH)`.
    pub fn flush_output(&self) {
        {
            let mut core = self.core.lock();
            core.ldisc.flush_echo();
            self.driver.flush_output();
        }
        self.driver.notify(Notice::FlushedOutput);
        self.output_moved();
    }

    /// `tcflow(TCOOFF)`.
    pub fn stop_output(&self) {
        self.core.lock().ldisc.stop_by_call();
        self.driver.notify(Notice::Stopped);
    }

    /// `tcflow(TCOON)`.
    pub fn start_output(&self) {
        self.core.lock().ldisc.start_by_call();
        self.driver.notify(Notice::Started);
        self.output_moved();
    }

    /// `tcflow(TCIOFF)` and `tcflow(TCION)`: sends the special character at `index` to the far end.
    pub fn send_special(&self, index: usize) {
        {
            let core = self.core.lock();
            if let Some(byte) = core.termios.special(index)
                && self.driver.write_room() > 0
            {
                self.driver.write(&[byte]);
            }
        }
        self.driver.transmit();
    }

    /// Whether a reader would find something: a line, or a byte in raw mode.
    pub fn has_input(&self) -> bool {
        let core = self.core.lock();
        core.ldisc.readable(&core.termios, 1)
    }

    /// Whether a writer would get something done: eight bytes are the most that one byte becomes.
    pub(super) fn has_output_room(&self) -> bool {
        let core = self.core.lock();
        !core.ldisc.stopped() && self.driver.write_room() >= 8
    }

    /// Marks all descriptions dead: reads give end of file, writes `EIO`. Sessions are the caller's affair ([`jobctl`]).
    pub(super) fn cut_off(&self) {
        self.hangups.fetch_add(1, Ordering::AcqRel);
        {
            let mut core = self.core.lock();
            core.ldisc.flush_input();
            core.ldisc.flush_echo();
            core.ldisc.start_by_call();
            core.foreground = None;
            core.session = None;
        }
        self.driver.hung_up();
        self.wake_everybody();
    }
}
