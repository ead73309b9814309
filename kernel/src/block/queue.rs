//! The request queue of a disk: bounded, merging, between those who submit and the driver.
//!
//! Bios that come together ([`Queue::submit`] of several: a plug), or that wait because [`DEPTH`] requests are with the driver already, are joined
//! when they touch. A joined request has one buffer, for a copy of a few KiB costs less than one more trip to the host. Bios of one call have no
//! order among themselves. Requests of [`BioFlags`] that the driver cannot do are made of flushes here.
//!
//! Lock order: `Queue::state` ([`order::BLOCK_QUEUE`]); the driver and completions are called without it.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use arch_um::sync::{Interruptible, SpinLock, WaitQueue, order};
use arch_um::time::Instant;

use super::bio::{Bio, BioFlags, BlockDriver, Op};
use super::flush::{Flushes, Verdict};
use super::stats::{Counters, each};
use crate::{Errno, Result};

/// Requests with the driver at a time: twice the threads of the host pool, so that none of them waits for us.
const DEPTH: usize = 32;
/// Requests that wait; who brings more sleeps (/sys/block/DISK/queue/nr_requests).
pub const NR_REQUESTS: usize = 128;
/// Waiting requests that a new bio is compared with, from the back.
const MERGE_LOOK: usize = 8;
/// Largest bio that is joined: with more the copy costs more than the trip.
const MERGE_BIO: u64 = 128 << 10;

/// One disk's queue.
pub struct Queue {
    driver: Arc<dyn BlockDriver>,
    counters: Arc<Counters>,
    state: SpinLock<State>,
    flushes: Flushes,
    room: WaitQueue,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Request>,
    running: usize,
    /// Somebody is in [`Queue::run`]: a driver that completes at once does not nest.
    dispatching: bool,
}

/// Bios in a row that go to the driver as one.
struct Request {
    op: Op,
    offset: u64,
    len: u64,
    start: Instant,
    bios: Vec<Bio>,
}

impl Request {
    /// Takes `bio` in if it touches at either end.
    fn join(&mut self, bio: Bio, limit: u64) -> core::result::Result<(), Bio> {
        let joins = self.op == bio.op
            && matches!(bio.op, Op::Read | Op::Write | Op::Discard)
            && (bio.flags - BioFlags::AHEAD).is_empty()
            && (bio.op == Op::Discard || bio.len <= MERGE_BIO && self.bios.iter().all(|held| held.len <= MERGE_BIO))
            && (bio.op == Op::Discard || self.len + bio.len <= limit)
            && self.bios.first().is_some_and(|held| {
                held.flags == bio.flags
                    && held.partition.as_ref().map(Arc::as_ptr) == bio.partition.as_ref().map(Arc::as_ptr)
            });
        if joins && Some(bio.offset) == self.offset.checked_add(self.len) {
            self.len += bio.len;
            self.bios.push(bio);
        } else if joins && Some(self.offset) == bio.offset.checked_add(bio.len) {
            self.offset = bio.offset;
            self.len += bio.len;
            self.bios.insert(0, bio);
        } else {
            return Err(bio);
        }
        Ok(())
    }

    /// The one bio that the driver gets, and the parts that it stands for, if there are several.
    fn into_bio(mut self) -> (Bio, Vec<Bio>) {
        if self.bios.len() == 1
            && let Some(bio) = self.bios.pop()
        {
            return (bio, Vec::new());
        }
        let mut data = Vec::new();
        match self.op {
            Op::Write => {
                data.reserve_exact(self.len as usize);
                for bio in &self.bios {
                    data.extend_from_slice(&bio.data);
                }
            }
            Op::Read => data.resize(self.len as usize, 0),
            _ => {}
        }
        let mut whole = Bio::new(self.op, self.offset, self.len, data, Box::new(|_, _| ()));
        whole.flags = self.bios.first().map_or(BioFlags::empty(), |bio| bio.flags);
        (whole, self.bios)
    }
}

impl Queue {
    /// A queue before `driver`, counted in `counters`.
    pub fn new(driver: Arc<dyn BlockDriver>, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            driver,
            counters,
            state: SpinLock::new(&order::BLOCK_QUEUE, State::default()),
            flushes: Flushes::default(),
            room: WaitQueue::new(),
        })
    }

    /// The driver behind it.
    pub fn driver(&self) -> &Arc<dyn BlockDriver> {
        &self.driver
    }

    /// Takes `bios` in, in any order, joined where they touch. Sleeps while the queue is full.
    pub fn submit(self: &Arc<Self>, mut bios: Vec<Bio>) {
        if arch_um::thread::try_current().is_some() {
            // A full queue drains by itself; nothing can interrupt this wait.
            let _ = self.room.wait_until(Interruptible::No, None, || {
                (self.state.lock().waiting.len() < NR_REQUESTS).then_some(())
            });
        }
        bios.sort_by_key(|bio| bio.offset);
        for bio in bios {
            self.prepare(bio);
        }
        self.run();
    }

    /// As [`submit`](Self::submit), from completions: never sleeps.
    fn resubmit(self: &Arc<Self>, bio: Bio) {
        match bio.op {
            Op::Flush => self.flush(bio),
            _ => self.enqueue(bio),
        }
        self.run();
    }

    /// Enqueues a flush, if it is needed and nobody is doing it.
    fn flush(self: &Arc<Self>, bio: Bio) {
        match self.flushes.ask(bio) {
            Verdict::Done(bio) => bio.complete(Ok(())),
            Verdict::Joined => {}
            Verdict::Send(mut bio, number) => {
                let queue = self.clone();
                bio.wrap(move |bio, outcome, done| {
                    let joined = queue.flushes.ended(number, outcome);
                    done(bio, outcome);
                    joined.into_iter().for_each(|bio| bio.complete(outcome));
                });
                self.enqueue(bio);
            }
        }
    }

    /// Turns what the driver cannot do into what it can, and enqueues.
    fn prepare(self: &Arc<Self>, mut bio: Bio) {
        let cached = self.driver.has_write_cache();
        if bio.op == Op::Flush && !cached {
            bio.complete(Ok(()));
            return;
        }
        if !cached {
            bio.flags -= BioFlags::PREFLUSH | BioFlags::FUA;
        }
        if bio.flags.contains(BioFlags::FUA) && !self.driver.can_fua() {
            bio.flags -= BioFlags::FUA;
            let queue = self.clone();
            bio.wrap(move |bio, outcome, done| {
                if outcome.is_err() {
                    return done(bio, outcome);
                }
                queue.resubmit(flush(move |outcome| done(bio, outcome)));
            });
        }
        if bio.op == Op::Flush {
            return self.flush(bio);
        }
        if !bio.flags.contains(BioFlags::PREFLUSH) {
            return self.enqueue(bio);
        }
        bio.flags -= BioFlags::PREFLUSH;
        let queue = self.clone();
        self.flush(flush(move |outcome| match outcome {
            Ok(()) => queue.resubmit(bio),
            Err(error) => bio.complete(Err(error)),
        }));
    }

    fn enqueue(&self, mut bio: Bio) {
        let limit = u64::from(self.driver.limits().max_transfer);
        let now = Instant::now();
        let mut state = self.state.lock();
        for request in state.waiting.iter_mut().rev().take(MERGE_LOOK) {
            let (op, len, partition) = (bio.op, bio.len, bio.partition.clone());
            match request.join(bio, limit) {
                Ok(()) => {
                    drop(state);
                    self.counters.merge(op, len);
                    if let Some(partition) = partition {
                        partition.merge(op, len);
                    }
                    return;
                }
                Err(back) => bio = back,
            }
        }
        each(&self.counters, &bio, |counters| counters.begin(bio.op, now));
        state.waiting.push_back(Request {
            op: bio.op,
            offset: bio.offset,
            len: bio.len,
            start: now,
            bios: alloc::vec![bio],
        });
    }

    /// Gives the driver what it may have.
    fn run(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if state.dispatching {
            return;
        }
        state.dispatching = true;
        while state.running < DEPTH {
            let Some(request) = state.waiting.pop_front() else {
                break;
            };
            state.running += 1;
            drop(state);
            self.start(request);
            state = self.state.lock();
        }
        state.dispatching = false;
        drop(state);
        self.room.wake_all();
    }

    fn start(self: &Arc<Self>, request: Request) {
        let (op, start) = (request.op, request.start);
        // Only what was not joined is counted at the end: the rest was when it joined.
        let first_len = request.bios.first().map_or(0, |bio| bio.len);
        let partition = request.bios.first().and_then(|bio| bio.partition.clone());
        let (mut bio, parts) = request.into_bio();
        let queue = self.clone();
        bio.wrap(move |bio, outcome, done| {
            let now = Instant::now();
            queue.counters.end(op, first_len, start, now);
            if let Some(partition) = &partition {
                partition.end(op, first_len, start, now);
            }
            queue.state.lock().running -= 1;
            let stable = op == Op::Write && bio.flags.contains(BioFlags::FUA) && outcome.is_ok();
            if !matches!(op, Op::Read | Op::Flush) && !stable {
                queue.flushes.written();
            }
            if parts.is_empty() {
                done(bio, outcome);
            } else {
                queue.finish_parts(bio, parts, outcome);
            }
            queue.run();
        });
        self.driver.submit(bio);
    }

    /// Gives every part of a joined request its outcome. After a failure each is tried alone, so that one bad block fails one bio.
    fn finish_parts(self: &Arc<Self>, whole: Bio, parts: Vec<Bio>, outcome: Result<()>) {
        for mut part in parts {
            match outcome {
                Err(_) => {
                    part.flags |= BioFlags::ALONE;
                    self.enqueue(part);
                }
                Ok(()) => {
                    let at = (part.offset - whole.offset) as usize;
                    let got = match part.op {
                        Op::Read => whole.data.get(at..at + part.len as usize).map(|data| {
                            part.data.clear();
                            part.data.extend_from_slice(data);
                        }),
                        _ => Some(()),
                    };
                    part.complete(got.ok_or(Errno::EIO));
                }
            }
        }
    }
}

/// A flush that tells `done`.
fn flush(done: impl FnOnce(Result<()>) + Send + 'static) -> Bio {
    Bio::new(Op::Flush, 0, 0, Vec::new(), Box::new(move |_, outcome| done(outcome)))
}
