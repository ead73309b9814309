//! [`ImageRing`]: requests of an [`Image`] through the host's `io_uring(7)`, with the same results as the calls of [`Image`].
//!
//! Requests are handed to the host by whoever submits them. What the host can do without waiting it does then; the rest is done by threads of
//! the host's own, and the I/O thread ([`crate::event`]) collects it. A short transfer goes on where it stopped. `queue.rs` is the ring itself.
//!
//! Each request owns its buffer and keeps the ring, so the submitter may go away; the last one that is through closes a ring that was dropped.

mod queue;

use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use smallvec::SmallVec;

use self::queue::{Call, Io, Queue, Reaped};
use crate::errno::Errno;
use crate::event::{self, EventHandler, Interest, Ready, Source};
use crate::host::image::{Durability, Image, PUNCH_HOLE, ZERO_RANGE};

pub use queue::Place;

/// How long a host without memory for requests is left alone.
const RESPITE: Duration = Duration::from_millis(1);

/// A ring for the requests of one image.
pub struct ImageRing {
    image: Arc<Image>,
    queue: Queue<Owner>,
    /// Wakes the I/O thread when the host has completed something.
    source: OnceLock<Source>,
}

/// What a request asks for; each as the method of [`Image`].
#[derive(Debug)]
pub enum Request {
    /// [`Image::read`].
    Read(Vec<u8>),
    /// [`Image::write`].
    Write(Vec<u8>, Durability),
    /// [`Image::flush`].
    Flush,
    /// [`Image::punch_hole`] of so many bytes.
    PunchHole(u64),
    /// [`Image::write_zeroes`] of so many bytes.
    WriteZeroes(u64),
}

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The same request by a call of [`Image`] would have failed so.
    Host(Errno),
    /// The ring is full, or the host gave the request up: it is to be done another way. Part of it may have been done.
    Refused,
}

/// Called once with the request's buffer (empty where it has none), by the submitter or on the I/O thread; may not sleep. Nothing of the ring is
/// held then.
pub type Done = Box<dyn FnOnce(Vec<u8>, Result<(), Failure>) + Send>;

struct Owner {
    /// Keeps the ring while the host has the request.
    _ring: Arc<ImageRing>,
    done: Done,
}

/// A request that is through, and has let go of the ring.
struct Finished {
    done: Done,
    data: Vec<u8>,
    outcome: Result<(), Failure>,
}

type Batch = SmallVec<[Finished; 4]>;

impl ImageRing {
    /// A ring for `image`, which stays locked no longer than others: the host lets go of a ring's file some time after a process has ended, so it
    /// gets an open file of its own.
    ///
    /// # Errors
    /// Why the host gives none: see [`why_not`].
    pub fn new(image: Arc<Image>) -> Result<Arc<Self>, Errno> {
        let queue = Queue::new(image.open_again()?.as_fd())?;
        let ring = Arc::new(Self {
            image,
            queue,
            source: OnceLock::new(),
        });
        let reaper = Arc::new(Reaper(Arc::downgrade(&ring)));
        let source = event::register(ring.queue.as_fd(), Interest::READ, reaper)?;
        // Set once, here.
        let _ = ring.source.set(source);
        Ok(ring)
    }

    /// Starts a request at byte `offset` of the image. `done` may be called before this returns.
    pub fn submit(self: Arc<Self>, request: Request, offset: u64, place: Place, done: Done) {
        let (call, data, len) = match request {
            Request::Read(data) => (Call::Read, data, None),
            Request::Write(data, durability) => (Call::Write(durability), data, None),
            Request::Flush => (Call::Sync, Vec::new(), None),
            Request::PunchHole(len) => (Call::Allocate(PUNCH_HOLE, len), Vec::new(), Some(len)),
            Request::WriteZeroes(len) => (Call::Allocate(ZERO_RANGE, len), Vec::new(), Some(len)),
        };
        let end = offset.checked_add(len.unwrap_or(data.len() as u64));
        let allowed = match (end.and_then(|end| i64::try_from(end).ok()), call) {
            (None, _) => Err(Errno::EINVAL),
            (Some(_), Call::Write(_)) => self.image.takes_writes(),
            (Some(_), _) => Ok(()),
        };
        let io = Io {
            call,
            place,
            offset,
            data,
            done: 0,
            owner: Owner {
                _ring: self.clone(),
                done,
            },
        };
        let mut through = Batch::new();
        match allowed {
            Ok(()) => self.start(io, &mut through),
            Err(errno) => through.push(io.finish(Err(Failure::Host(errno)))),
        }
        self.kick();
        // What the host did at once needs nobody else.
        self.collect(&mut through);
        drop(self);
        deliver(through);
    }

    fn start(&self, io: Io<Owner>, through: &mut Batch) {
        // Nothing to transfer is nothing to ask for.
        if matches!(io.call, Call::Read | Call::Write(_)) && io.done >= io.data.len() {
            through.push(io.finish(Ok(())));
        } else if let Err(io) = self.queue.push(io) {
            through.push(io.finish(Err(Failure::Refused)));
        }
    }

    /// Takes out what the host has completed: into `through`, or into the ring once more if something is left to do.
    fn collect(self: &Arc<Self>, through: &mut Batch) {
        let reaped: Reaped<Owner> = self.queue.reap();
        let mut again = false;
        for (mut io, result) in reaped {
            let outcome = match (io.call, result) {
                (_, Err(Errno::EAGAIN | Errno::EINTR | Errno::ECANCELED)) => Err(Failure::Refused),
                (_, Err(errno)) => Err(Failure::Host(errno)),
                (Call::Read, Ok(0)) => {
                    let end = self.image.ends_at(io.offset + io.done as u64);
                    let done = io.done;
                    end.map(|()| io.data[done..].fill(0)).map_err(Failure::Host)
                }
                (Call::Write(_), Ok(0)) => Err(Failure::Host(Errno::EIO)),
                (Call::Read | Call::Write(_), Ok(count)) => {
                    io.done = io.data.len().min(io.done + count);
                    if io.done < io.data.len() {
                        again = true;
                        self.start(io, through);
                        continue;
                    }
                    Ok(())
                }
                (Call::Sync | Call::Allocate(..), Ok(_)) => Ok(()),
            };
            if matches!(io.call, Call::Write(_)) && outcome.is_ok() {
                self.image.wrote_up_to(io.offset + io.done as u64);
            }
            through.push(io.finish(outcome));
        }
        if again {
            self.kick();
        }
    }

    /// Has the host look into the ring.
    fn kick(self: &Arc<Self>) {
        if self.queue.kick().is_ok() {
            return;
        }
        // Whoever kicks next takes the requests along, but nobody else may.
        let ring = self.clone();
        crate::pool::submit(Box::new(move || {
            while ring.queue.kick().is_err() {
                std::thread::sleep(RESPITE);
            }
        }));
    }
}

impl Io<Owner> {
    /// Lets go of the ring.
    fn finish(self, outcome: Result<(), Failure>) -> Finished {
        Finished {
            done: self.owner.done,
            data: self.data,
            outcome,
        }
    }
}

/// Tells the owners, without the ring: who hears that his request is through may close the image at once, and means it.
fn deliver(through: Batch) {
    for finished in through {
        (finished.done)(finished.data, finished.outcome);
    }
}

/// Called by the I/O thread while completions are waiting.
struct Reaper(Weak<ImageRing>);

impl EventHandler for Reaper {
    fn ready(&self, _ready: Ready) {
        let mut through = Batch::new();
        if let Some(ring) = self.0.upgrade() {
            ring.collect(&mut through);
        }
        deliver(through);
    }
}

/// One clause about a host that refused a ring with `errno`.
pub fn why_not(errno: Errno) -> String {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    match (errno, disabled.as_deref().map_or("0", str::trim)) {
        (Errno::ENOSYS, _) => "the host's kernel or the sandbox around us has none".into(),
        (Errno::EPERM, value @ ("1" | "2")) => format!("the host has kernel.io_uring_disabled={value}"),
        (Errno::EPERM, _) => "the sandbox around us forbids it (seccomp; containers do by default)".into(),
        (Errno::EINVAL, _) => "the host's kernel is too old (5.10 is needed)".into(),
        (Errno::ENOENT, _) => "it wants the host's /proc".into(),
        (Errno::ENOMEM, _) => "the host has no memory for it (before Linux 5.12: ulimit -l)".into(),
        (errno, _) => format!("io_uring_setup: {errno}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_cause() {
        assert!(why_not(Errno::ENOSYS).contains("has none"));
        assert!(why_not(Errno::EINVAL).contains("5.10"));
        assert!(why_not(Errno::EMFILE).contains("EMFILE") || why_not(Errno::EMFILE).contains("open files"));
    }
}
