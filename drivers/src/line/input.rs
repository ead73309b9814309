//! Input of a line: bytes from the host to the terminal, never more than it has room for.
//!
//! A terminal that a human types at is watched all the time, for `^C`. A pipe, file or socket is read only while somebody looks for input and finds
//! none: what the guest never asks for stays where it is, for the next program of the shell script that started us.
//!
//! At its end the terminal is told once ([`Tty::receive_end`]) and the host is asked no more.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arch_um::Errno;
use arch_um::event::{self, EventHandler, Interest, Ready, Source};
use arch_um::host::fd::{self, Kind};
use arch_um::host::tty as host_tty;
use kernel::tty::Tty;
use kernel::tty::termios::cc;

use crate::channel::Host;

/// Bytes read from the host at a time.
const CHUNK: usize = 4096;

/// When the host is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eagerness {
    /// Always: somebody types.
    Watching,
    /// When a reader waits.
    OnDemand,
}

/// See the module.
pub struct Input {
    host: Host,
    eagerness: Eagerness,
    source: OnceLock<Source>,
    tty: OnceLock<Weak<Tty>>,
    /// A reader found nothing since the host was last read.
    wanted: AtomicBool,
    ended: AtomicBool,
}

impl Input {
    /// Over a host file; nothing is read before [`start`](Self::start).
    pub fn new(host: Host, eagerness: Eagerness) -> Arc<Self> {
        let (source, tty) = (OnceLock::new(), OnceLock::new());
        let (wanted, ended) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self {
            host,
            eagerness,
            source,
            tty,
            wanted,
            ended,
        })
    }

    /// Begins to bring input to `tty`.
    ///
    /// # Errors
    /// The host's, for a descriptor that cannot be watched.
    pub fn start(self: &Arc<Self>, tty: Weak<Tty>) -> Result<(), Errno> {
        let _ = self.tty.set(tty);
        if self.source.get().is_none() {
            let handler = Arc::new(Arrival(Arc::downgrade(self)));
            let source = event::register(self.host.fd.as_fd(), Interest::empty(), handler)?;
            let _ = self.source.set(source);
        }
        if self.eagerness == Eagerness::Watching {
            self.resume();
        }
        Ok(())
    }

    /// A reader finds nothing: reads.
    pub fn want(&self) {
        self.wanted.store(true, Ordering::SeqCst);
        self.resume();
    }

    fn resume(&self) {
        if !self.ended.load(Ordering::Relaxed)
            && let Some(source) = self.source.get()
        {
            source.set_interest(Interest::READ);
        }
    }

    /// Reads again if room is all that was missing.
    pub fn room_again(&self) {
        if self.eagerness == Eagerness::Watching || self.wanted.load(Ordering::SeqCst) {
            self.resume();
        }
    }

    fn pause(&self) {
        if let Some(source) = self.source.get() {
            source.set_interest(Interest::empty());
        }
    }

    fn on_ready(&self, ready: Ready) {
        let Some(tty) = self.tty.get().and_then(Weak::upgrade) else {
            return self.pause();
        };
        if self.host.kind == Kind::Terminal && !host_tty::is_foreground(self.host.fd.as_fd()) {
            // What is typed now is meant for somebody else. SIGCONT brings us back.
            return self.pause();
        }
        let mut room = tty.input_room();
        if room == 0 {
            // The terminal calls when there is room, perhaps before this pause: so look again after it.
            self.pause();
            room = tty.input_room();
            if room == 0 {
                return;
            }
            self.resume();
        }
        // Before the bytes can be seen: who wants more after having read them must not be overlooked below.
        self.wanted.store(false, Ordering::SeqCst);
        let mut chunk = [0; CHUNK];
        match fd::read(self.host.fd.as_fd(), &mut chunk[..room.min(CHUNK)]) {
            // `^D` at a host terminal that is not raw: an end that more can follow.
            Ok(0) if self.host.kind == Kind::Terminal && !ready.contains(Ready::HANGUP) => {
                tty.receive(&[tty.termios().cc[cc::VEOF]]);
            }
            Ok(0) => self.end(&tty),
            Ok(count) => {
                // Nobody else fills this terminal, except TIOCSTI by a byte: what does not fit then was typed into a full buffer.
                tty.receive(&chunk[..count]);
                if self.eagerness == Eagerness::OnDemand && tty.has_input() {
                    self.pause();
                    if self.wanted.load(Ordering::SeqCst) {
                        self.resume();
                    }
                }
            }
            Err(Errno::EAGAIN) => {}
            // In the background, or for good: only SIGCONT or the end of the process helps.
            Err(Errno::EIO) if self.host.kind == Kind::Terminal => self.pause(),
            Err(_) => self.end(&tty),
        }
    }

    fn end(&self, tty: &Tty) {
        self.ended.store(true, Ordering::Relaxed);
        self.pause();
        tty.receive_end();
    }
}

struct Arrival(Weak<Input>);

impl EventHandler for Arrival {
    fn ready(&self, ready: Ready) {
        if let Some(input) = self.0.upgrade() {
            input.on_ready(ready);
        }
    }
}
