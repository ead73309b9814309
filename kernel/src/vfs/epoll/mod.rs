//! `epoll(7)`.
//!
//! An [`Epoll`] watches files through [`Entry`]s. A wake-up of a watched file puts its entry on the ready list; `epoll_wait` asks the file itself
//! and puts a level-triggered entry back as long as it is ready. An entry holds its file weakly: with the last descriptor it fades away.
//!
//! What instances may watch each other is in `nesting`, the system calls are in [`calls`].
//!
//! Lock order: `entries` is never held while a file is polled. `ready` and `Entry::interest` are leaves, because wake-ups come with any lock held.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering};

use arch_um::sync::{Interruptible, Mutex, SpinLock, WaitError, WaitQueue, Wake, order};

pub mod calls;
mod nesting;

use crate::abi_struct;
use crate::vfs::calls::timeout::Deadline;
use crate::vfs::fd_table::Fd;
use crate::vfs::file::{File, FileOps, SeekKind};
use crate::vfs::poll::{PollEvents, PollTable, Share};
use crate::{Errno, Result};

abi_struct! {
    /// `struct epoll_event`, packed.
    pub struct EpollEvent {
        events: u32,
        data: u64,
    }
}

const EPOLLEXCLUSIVE: u32 = 1 << 28;
const EPOLLONESHOT: u32 = 1 << 30;
const EPOLLET: u32 = 1 << 31;

/// An instance.
pub struct Epoll {
    this: Weak<Epoll>,
    entries: Mutex<BTreeMap<(i32, u64), Arc<Entry>>>,
    ready: SpinLock<VecDeque<Arc<Entry>>>,
    queue: WaitQueue,
    /// The instances that watch this one, once for each of their entries.
    watchers: SpinLock<Vec<Weak<Epoll>>>,
}

/// One watched file under one descriptor number.
struct Entry {
    epoll: Weak<Epoll>,
    key: (i32, u64),
    file: Weak<File>,
    interest: SpinLock<Interest>,
    /// It is on the ready list.
    queued: AtomicBool,
    table: SpinLock<Option<PollTable>>,
}

#[derive(Clone, Copy)]
struct Interest {
    events: u32,
    data: u64,
}

impl Interest {
    /// What is waited for; nothing after a one-shot has fired.
    fn wanted(self) -> PollEvents {
        if self.events & PollEvents::all().bits() == 0 {
            return PollEvents::empty();
        }
        PollEvents::from_bits_truncate(self.events) | PollEvents::ERR | PollEvents::HUP
    }
}

/// What a watched file's queues call.
struct Link(Weak<Entry>);

impl Wake for Link {
    fn wake(&self, _key: u32) {
        if let Some(entry) = self.0.upgrade() {
            entry.announce();
        }
    }

    fn wake_exclusive(&self, key: u32) -> bool {
        let has_woken = self.0.upgrade().is_some_and(|entry| entry.announce());
        let is_end = key & (PollEvents::ERR | PollEvents::HUP).bits() != 0;
        has_woken && !is_end
    }
}

impl Entry {
    /// Something may have happened: onto the ready list. Whether someone waits for this instance.
    fn announce(self: &Arc<Self>) -> bool {
        let Some(epoll) = self.epoll.upgrade() else {
            return false;
        };
        if !self.queued.swap(true, Ordering::AcqRel) {
            epoll.ready.lock().push_back(self.clone());
        }
        let has_waiters = epoll.queue.has_waiters();
        epoll.queue.wake(1, (PollEvents::IN | PollEvents::RDNORM).bits());
        has_waiters
    }

    /// Listens to the file for what it is interested in now, and looks at once.
    fn listen(self: &Arc<Self>, file: &File) {
        let interest = *self.interest.lock();
        let wanted = interest.wanted();
        let share = match interest.events & EPOLLEXCLUSIVE {
            0 => Share::All,
            _ => Share::One,
        };
        let mut table = PollTable::new(Arc::new(Link(Arc::downgrade(self))), wanted).shared(share);
        let now = file.ops().poll(file, Some(&mut table)) & wanted;
        let old = self.table.lock().replace(table);
        drop(old);
        if !now.is_empty() {
            self.announce();
        }
    }

    fn silence(&self) {
        let table = self.table.lock().take();
        drop(table);
    }
}

impl Epoll {
    fn new() -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            entries: Mutex::new(&order::EPOLL, BTreeMap::new()),
            ready: SpinLock::new(&order::LEAF, VecDeque::new()),
            queue: WaitQueue::new(),
            watchers: SpinLock::new(&order::LEAF, Vec::new()),
        })
    }

    fn add(self: &Arc<Self>, fd: Fd, file: &Arc<File>, interest: Interest) -> Result<()> {
        let key = (fd.0, file.id());
        let entry = Arc::new(Entry {
            epoll: Arc::downgrade(self),
            key,
            file: Arc::downgrade(file),
            interest: SpinLock::new(&order::LEAF, interest),
            queued: AtomicBool::new(false),
            table: SpinLock::new(&order::LEAF, None),
        });
        {
            let mut entries = self.entries.lock();
            if entries.contains_key(&key) {
                return Err(Errno::EEXIST);
            }
            // Ids of files never come back, so faded entries only cost memory: swept here.
            if entries.len() >= 64 && entries.len().is_power_of_two() {
                entries.retain(|_, entry| entry.file.strong_count() > 0);
            }
            entries.insert(key, entry.clone());
        }
        entry.listen(file);
        Ok(())
    }

    fn modify(&self, fd: Fd, file: &Arc<File>, interest: Interest) -> Result<()> {
        let entry = self
            .entries
            .lock()
            .get(&(fd.0, file.id()))
            .cloned()
            .ok_or(Errno::ENOENT)?;
        {
            let mut now = entry.interest.lock();
            if (now.events | interest.events) & EPOLLEXCLUSIVE != 0 {
                return Err(Errno::EINVAL);
            }
            *now = interest;
        }
        entry.listen(file);
        Ok(())
    }

    fn remove(&self, key: (i32, u64)) -> Result<()> {
        let entry = self.entries.lock().remove(&key).ok_or(Errno::ENOENT)?;
        entry.silence();
        entry.interest.lock().events = 0;
        if let Some(inner) = entry.file.upgrade().and_then(|file| instance(&file).ok()) {
            inner.forget_watcher(self);
        }
        Ok(())
    }

    /// Whether something may be ready.
    fn has_ready(&self) -> bool {
        !self.ready.lock().is_empty()
    }

    /// Takes up to `limit` events off the ready list.
    fn collect(&self, limit: usize) -> Vec<EpollEvent> {
        let mut events = Vec::new();
        let mut again = Vec::new();
        // What is announced while this runs waits for the next call.
        let mut turns = self.ready.lock().len();
        while turns > 0 && events.len() < limit {
            turns -= 1;
            let Some(entry) = self.ready.lock().pop_front() else {
                break;
            };
            // Cleared before the file is asked: a change after the look puts the entry back on the list.
            entry.queued.store(false, Ordering::SeqCst);
            let Some(file) = entry.file.upgrade() else {
                let _ = self.remove(entry.key);
                continue;
            };
            let interest = *entry.interest.lock();
            let ready = file.ops().poll(&file, None) & interest.wanted();
            if ready.is_empty() {
                continue;
            }
            events.push(EpollEvent {
                events: ready.bits(),
                data: interest.data,
            });
            if interest.events & EPOLLONESHOT != 0 {
                entry.interest.lock().events &= !PollEvents::all().bits();
            } else if interest.events & EPOLLET == 0 {
                again.push(entry);
            }
        }
        if !again.is_empty() {
            let mut list = self.ready.lock();
            for entry in again {
                if !entry.queued.swap(true, Ordering::AcqRel) {
                    list.push_back(entry);
                }
            }
        }
        if self.has_ready() {
            // Another waiter may take what is left.
            self.queue.wake(1, (PollEvents::IN | PollEvents::RDNORM).bits());
        }
        events
    }

    fn wait(&self, limit: usize, deadline: Deadline) -> Result<Vec<EpollEvent>> {
        loop {
            let events = self.collect(limit);
            if !events.is_empty() {
                return Ok(events);
            }
            let woken = self
                .queue
                .wait_until_exclusive(Interruptible::Yes, deadline, || self.has_ready().then_some(()));
            match woken {
                Ok(()) => {}
                Err(WaitError::TimedOut) => return Ok(self.collect(limit)),
                Err(WaitError::Interrupted) => return Err(Errno::EINTR),
            }
        }
    }
}

impl FileOps for Epoll {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> SeekKind {
        SeekKind::Stream
    }

    fn announces(&self) -> bool {
        true
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.listen(&self.queue);
        }
        let list: Vec<_> = self.ready.lock().iter().cloned().collect();
        let is_ready = |entry: &Arc<Entry>| {
            let wanted = entry.interest.lock().wanted();
            entry
                .file
                .upgrade()
                .is_some_and(|file| (file.ops().poll(&file, None)).intersects(wanted))
        };
        if list.iter().any(is_ready) {
            PollEvents::IN | PollEvents::RDNORM
        } else {
            PollEvents::empty()
        }
    }
}

/// The instance behind `file`. `EINVAL` when it is none.
fn instance(file: &File) -> Result<Arc<Epoll>> {
    file.ops_as::<Epoll>()
        .and_then(|epoll| epoll.this.upgrade())
        .ok_or(Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{SliceSink, SliceSource};
    use crate::task::Cred;
    use crate::vfs::anon;
    use crate::vfs::file::{OpenFlags, WriteAt};
    use crate::vfs::pipe;

    fn interest(events: u32, data: u64) -> Interest {
        Interest { events, data }
    }

    fn put(file: &File, data: &[u8]) {
        file.ops()
            .write_at(file, WriteAt::End, &mut SliceSource::new(data))
            .unwrap();
    }

    fn get(file: &File, count: usize) {
        let mut out = alloc::vec![0; count];
        assert_eq!(file.ops().read_at(file, 0, &mut SliceSink::new(&mut out)), Ok(count));
    }

    fn data(events: &[EpollEvent]) -> Vec<u64> {
        events.iter().map(|event| event.data).collect()
    }

    #[test]
    fn level_triggered_comes_again_and_edge_triggered_only_once_per_write() {
        let epoll = Epoll::new();
        let [reader, writer] = pipe::pipe(OpenFlags::empty(), &Cred::root());
        epoll.add(Fd(1), &reader, interest(PollEvents::IN.bits(), 1)).unwrap();
        epoll
            .add(Fd(2), &reader, interest(PollEvents::IN.bits() | EPOLLET, 2))
            .unwrap();
        assert!(epoll.collect(9).is_empty());
        put(&writer, b"ab");
        assert_eq!(data(&epoll.collect(9)), [1, 2]);
        assert_eq!(data(&epoll.collect(9)), [1]);
        put(&writer, b"c");
        assert_eq!(epoll.collect(9).len(), 2);
        get(&reader, 3);
        assert!(epoll.collect(9).is_empty());
        assert_eq!(epoll.add(Fd(1), &reader, interest(0, 0)), Err(Errno::EEXIST));
    }

    #[test]
    fn one_shot_sleeps_until_it_is_armed_again() {
        let epoll = Epoll::new();
        let [reader, writer] = pipe::pipe(OpenFlags::empty(), &Cred::root());
        let once = interest(PollEvents::IN.bits() | EPOLLONESHOT, 1);
        epoll.add(Fd(1), &reader, once).unwrap();
        put(&writer, b"a");
        assert_eq!(epoll.collect(9).len(), 1);
        put(&writer, b"b");
        assert!(epoll.collect(9).is_empty());
        epoll.modify(Fd(1), &reader, once).unwrap();
        assert_eq!(epoll.collect(9).len(), 1);
    }

    #[test]
    fn a_file_without_descriptors_fades_from_the_list() {
        let epoll = Epoll::new();
        let [reader, writer] = pipe::pipe(OpenFlags::empty(), &Cred::root());
        epoll.add(Fd(1), &reader, interest(PollEvents::IN.bits(), 1)).unwrap();
        put(&writer, b"a");
        drop(reader);
        assert!(epoll.collect(9).is_empty());
        assert!(epoll.entries.lock().is_empty());
    }

    #[test]
    fn an_instance_is_ready_when_what_it_watches_is() {
        let make = || anon::file(Epoll::new(), "[eventpoll]", OpenFlags::empty(), Cred::root());
        let (one, two) = (make(), make());
        let (a, b) = (instance(&one).unwrap(), instance(&two).unwrap());
        a.watch_instance(Fd(2), &two, &b, interest(PollEvents::IN.bits(), 0))
            .unwrap();
        let [reader, writer] = pipe::pipe(OpenFlags::empty(), &Cred::root());
        b.add(Fd(3), &reader, interest(PollEvents::IN.bits(), 7)).unwrap();
        put(&writer, b"x");
        assert_eq!(a.collect(9).len(), 1);
    }

    #[test]
    fn a_hang_up_is_told_unasked() {
        let epoll = Epoll::new();
        let [reader, writer] = pipe::pipe(OpenFlags::empty(), &Cred::root());
        epoll.add(Fd(1), &reader, interest(PollEvents::PRI.bits(), 1)).unwrap();
        drop(writer);
        assert_eq!(epoll.collect(9)[0].events, PollEvents::HUP.bits());
    }
}
