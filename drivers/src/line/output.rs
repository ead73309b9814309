//! Output of a line: a queue of bytes on their way to the host.
//!
//! Terminals hand over bytes ([`Output::push`]) and the kernel log does ([`Output::push_text`]). Writing happens where it cannot block: at once on a
//! descriptor that does not wait, or on a pool thread, one job at a time. What the host does not take waits in the queue; the terminal's writers
//! wait with it. A channel whose far side is gone swallows everything: a broken pipe must not stop the guest.
//!
//! Lock: `queue` (`CONSOLE_OUTPUT`) is taken below the kernel log's own locks; under it happen only host calls that do not wait.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use arch_um::Errno;
use arch_um::event::{self, EventHandler, Interest, Ready, Source};
use arch_um::host::fd::{self, Blocking, Kind};
use arch_um::sync::{SpinLock, SpinLockGuard, order};
use kernel::tty::Tty;

use crate::channel::Host;

/// A terminal's bytes wait for the host up to this.
const LIMIT: usize = 64 * 1024;
/// The kernel log's too, up to this; what comes then is lost on this line (never in the log itself).
const TEXT_LIMIT: usize = 1024 * 1024;
/// How long the way out waits for a host that does not take output.
const LAST_PATIENCE: Duration = Duration::from_millis(1500);

/// Whether something still waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing waits.
    All,
    /// Somebody else sends the rest and tells the terminal.
    Later,
}

/// See the module.
pub struct Output {
    host: Option<Host>,
    queue: SpinLock<Queue>,
    source: OnceLock<Source>,
    /// Somebody was told to wait for room or for an empty queue since the last time it moved.
    tty: OnceLock<Weak<Tty>>,
    broken: AtomicBool,
}

struct Queue {
    data: VecDeque<u8>,
    /// A pool thread is writing, or the event thread watches for room.
    in_hand: bool,
}

impl Output {
    /// Over a host file; none swallows everything.
    ///
    /// # Errors
    /// The host's, for a descriptor that cannot be watched.
    pub fn new(host: Option<Host>) -> Result<Arc<Self>, Errno> {
        let watched = host
            .clone()
            .filter(|host| writes_at_once(host) && host.kind != Kind::File);
        let output = Arc::new(Self {
            host,
            queue: SpinLock::new(
                &order::CONSOLE_OUTPUT,
                Queue {
                    data: VecDeque::new(),
                    in_hand: false,
                },
            ),
            source: OnceLock::new(),
            tty: OnceLock::new(),
            broken: AtomicBool::new(false),
        });
        if let Some(host) = watched {
            let handler = Arc::new(Room(Arc::downgrade(&output)));
            let source = event::register(host.fd.as_fd(), Interest::empty(), handler)?;
            // Just made: nobody else can have set it.
            let _ = output.source.set(source);
        }
        Ok(output)
    }

    /// The terminal whose writers wait for room.
    pub fn attach(&self, tty: Weak<Tty>) {
        let _ = self.tty.set(tty);
    }

    fn swallows(&self) -> bool {
        self.host.is_none() || self.broken.load(Ordering::Relaxed)
    }

    /// Bytes that fit.
    pub fn room(&self) -> usize {
        if self.swallows() {
            LIMIT
        } else {
            LIMIT.saturating_sub(self.queue.lock().data.len())
        }
    }

    /// Bytes that wait.
    pub fn queued(&self) -> usize {
        self.queue.lock().data.len()
    }

    /// Drops what waits (`tcflush(TCOFLUSH)`).
    pub fn flush(&self) {
        self.queue.lock().data.clear();
    }

    /// Queues a terminal's bytes.
    pub fn push(&self, data: &[u8]) {
        if !self.swallows() {
            self.queue.lock().data.extend(data);
        }
    }

    /// Queues and sends the kernel log's text, `\n` as `\r\n`.
    pub fn push_text(self: &Arc<Self>, text: &str) {
        if self.swallows() {
            return;
        }
        let Some(mut queue) = self.lock() else { return };
        for line in text.split_inclusive('\n') {
            if queue.data.len() > TEXT_LIMIT {
                break;
            }
            let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\r\n"));
            queue.data.extend(line.as_bytes());
            queue.data.extend(end.as_bytes());
        }
        drop(queue);
        self.transmit();
    }

    /// The queue. On the way out of the process its holder may have stopped for ever: then none.
    fn lock(&self) -> Option<SpinLockGuard<'_, Queue>> {
        if !arch_um::exit::in_progress() {
            return Some(self.queue.lock());
        }
        let until = Instant::now() + Duration::from_millis(50);
        loop {
            match self.queue.try_lock() {
                None if Instant::now() < until => std::thread::yield_now(),
                outcome => return outcome,
            }
        }
    }

    /// Sends what the host takes without waiting; the rest is left to the event thread or a pool thread.
    pub fn transmit(self: &Arc<Self>) -> Sent {
        let Some(host) = &self.host else { return Sent::All };
        let Some(mut queue) = self.lock() else {
            return Sent::Later;
        };
        if queue.data.is_empty() {
            return Sent::All;
        }
        if queue.in_hand {
            return Sent::Later;
        }
        if !writes_at_once(host) {
            queue.in_hand = true;
            drop(queue);
            let this = self.clone();
            arch_um::pool::submit(Box::new(move || this.write_waiting()));
            return Sent::Later;
        }
        self.send(host, &mut queue);
        if queue.data.is_empty() {
            return Sent::All;
        }
        queue.in_hand = true;
        drop(queue);
        if let Some(source) = self.source.get() {
            source.set_interest(Interest::WRITE);
        }
        Sent::Later
    }

    /// Writes until the host takes no more.
    fn send(&self, host: &Host, queue: &mut Queue) {
        while !queue.data.is_empty() {
            let outcome = match host.kind {
                Kind::Socket => fd::send_now(host.fd.as_fd(), queue.data.as_slices().0),
                _ => fd::write(host.fd.as_fd(), queue.data.as_slices().0),
            };
            match outcome {
                Ok(count) if count > 0 => drop(queue.data.drain(..count)),
                Ok(_) | Err(Errno::EAGAIN) => return,
                Err(_) => {
                    self.broken.store(true, Ordering::Relaxed);
                    queue.data.clear();
                }
            }
        }
    }

    /// The event thread: the host takes more.
    fn on_room(self: &Arc<Self>) {
        let Some(host) = &self.host else { return };
        let left = {
            let mut queue = self.queue.lock();
            self.send(host, &mut queue);
            queue.in_hand = !queue.data.is_empty();
            queue.data.len()
        };
        if left == 0
            && let Some(source) = self.source.get()
        {
            source.set_interest(Interest::empty());
            // Between the last look and now somebody may have queued more and relied on the interest.
            self.transmit();
        }
        if left < LIMIT / 2 {
            self.tell();
        }
    }

    /// A pool thread: a descriptor that may wait is written to where waiting harms nobody.
    fn write_waiting(self: Arc<Self>) {
        let Some(host) = &self.host else { return };
        loop {
            let chunk: Vec<u8> = {
                let mut queue = self.queue.lock();
                let count = queue.data.len().min(4096);
                if count == 0 {
                    queue.in_hand = false;
                    break;
                }
                queue.data.iter().take(count).copied().collect()
            };
            let written = fd::write(host.fd.as_fd(), &chunk);
            {
                let mut queue = self.queue.lock();
                match written {
                    Ok(count) => {
                        let count = count.min(queue.data.len());
                        drop(queue.data.drain(..count));
                    }
                    Err(_) => {
                        self.broken.store(true, Ordering::Relaxed);
                        queue.data.clear();
                    }
                }
            }
            self.tell();
        }
        self.tell();
    }

    fn tell(&self) {
        if let Some(tty) = self.tty.get().and_then(Weak::upgrade) {
            tty.output_moved();
        }
    }

    /// The way out of the process: sends what waits, for a while.
    pub fn drain(&self) {
        let Some(host) = &self.host else { return };
        let until = Instant::now() + LAST_PATIENCE;
        loop {
            let Some(mut queue) = self.lock() else { return };
            if !queue.data.is_empty() && (writes_at_once(host) || !queue.in_hand) {
                self.send(host, &mut queue);
            }
            if queue.data.is_empty() || Instant::now() >= until {
                return;
            }
            drop(queue);
            let _ready = fd::poll(host.fd.as_fd(), Interest::WRITE, Some(Duration::from_millis(20)));
        }
    }
}

/// Whether a write returns at once, done or not. Files are always "ready"; a blocking pipe or terminal is not to be trusted.
fn writes_at_once(host: &Host) -> bool {
    host.blocking == Blocking::No || matches!(host.kind, Kind::Socket | Kind::File | Kind::Device)
}

struct Room(Weak<Output>);

impl EventHandler for Room {
    fn ready(&self, _ready: Ready) {
        if let Some(output) = self.0.upgrade() {
            output.on_room();
        }
    }
}
