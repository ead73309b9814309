//! Local sockets (`unix(7)`): streams, datagrams, sequenced packets.
//!
//! Two connected sockets know each other weakly; each holds what waits for it in its own [`Inbox`]. Closing one tells the other. A listening
//! socket holds the sockets that `accept` has not taken yet.
//!
//! Lock order: `reading` (sleeping, over user copies, one receiver at a time) before `state` (short) before an inbox. Two sockets' states are
//! never held together. Descriptors sent to a socket that is only reachable through itself are not found again (no collector of circles).

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;

use arch_um::sync::{Interruptible, LockClass, Mutex, SpinLock, WaitQueue, order};
use arch_um::time::{Duration, Instant};

use super::address::{self, Address};
use super::inbox::{CAPACITY, Inbox, Packet, Sender};
use crate::io::{Sink, Source};
use crate::signal::Signal;
use crate::syscall::Context;
use crate::user::UserPtr;
use crate::vfs::file::{File, FileOps, SeekKind, WriteAt, Written};
use crate::vfs::poll::{PollEvents, PollTable};
use crate::vfs::{Path, ioctl, raise};
use crate::{Errno, Result};

/// `SOCK_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes.
    Stream,
    /// Messages, no connection needed.
    Datagram,
    /// Messages over a connection.
    SeqPacket,
}

impl Kind {
    /// From `SOCK_*`. `ESOCKTNOSUPPORT`.
    pub fn from_raw(raw: u32) -> Result<Self> {
        match raw {
            1 => Ok(Self::Stream),
            // SOCK_RAW is taken for SOCK_DGRAM, as BSD did.
            2 | 3 => Ok(Self::Datagram),
            5 => Ok(Self::SeqPacket),
            _ => Err(Errno::ESOCKTNOSUPPORT),
        }
    }

    /// The number in `SO_TYPE`.
    pub fn raw(self) -> i32 {
        match self {
            Self::Stream => 1,
            Self::Datagram => 2,
            Self::SeqPacket => 5,
        }
    }
}

/// `Socket::state`: below the inbox's users, above the inbox.
static STATE: LockClass = LockClass::new("UNIX_SOCKET", 225);

/// An endpoint.
pub struct UnixSocket {
    this: Weak<UnixSocket>,
    kind: Kind,
    state: SpinLock<State>,
    inbox: Inbox,
    reading: Mutex<()>,
    /// Something to receive or to accept, or the end of it.
    read_queue: WaitQueue,
    /// Room in this inbox or this backlog: its senders wait here.
    room_queue: WaitQueue,
}

#[derive(Default)]
struct State {
    address: Option<Address>,
    /// Keeps a bound name's inode in memory.
    place: Option<Path>,
    peer: Option<Weak<UnixSocket>>,
    backlog: Option<Backlog>,
    shut_read: bool,
    shut_write: bool,
    /// The peer will send nothing more.
    peer_done: bool,
    /// The peer is gone.
    peer_gone: bool,
    /// Error for `SO_ERROR` and the next call.
    error: Option<Errno>,
    peer_cred: Option<Sender>,
    own_cred: Sender,
    pass_cred: bool,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

struct Backlog {
    limit: usize,
    waiting: VecDeque<Arc<UnixSocket>>,
}

/// What to send along with bytes.
#[derive(Default)]
pub struct Ancillary {
    /// `SCM_RIGHTS`.
    pub rights: Vec<Arc<File>>,
    /// `SCM_CREDENTIALS` as given; the sender's own otherwise.
    pub sender: Option<Sender>,
}

/// What came along.
#[derive(Default)]
pub struct Received {
    /// Bytes stored.
    pub count: usize,
    /// Bytes the message had (more than stored when it was cut).
    pub full: usize,
    /// `SCM_RIGHTS`.
    pub rights: Vec<Arc<File>>,
    /// From whom.
    pub sender: Option<Sender>,
    /// The sender's name.
    pub from: Option<Address>,
}

/// How to receive.
#[derive(Clone, Copy, Debug, Default)]
pub struct Receive {
    /// `MSG_DONTWAIT` or `O_NONBLOCK`.
    pub nonblocking: bool,
    /// `MSG_PEEK`.
    pub peek: bool,
    /// `MSG_WAITALL`.
    pub wait_all: bool,
}

impl UnixSocket {
    /// A socket that knows nobody.
    pub fn new(kind: Kind, own: Sender) -> Arc<Self> {
        let state = State {
            own_cred: own,
            ..State::default()
        };
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            kind,
            state: SpinLock::new(&STATE, state),
            inbox: Inbox::new(),
            reading: Mutex::new(&order::SOCKET, ()),
            read_queue: WaitQueue::new(),
            room_queue: WaitQueue::new(),
        })
    }

    /// Two that are connected (`socketpair(2)`).
    pub fn pair(kind: Kind, own: Sender) -> [Arc<Self>; 2] {
        let pair = [Self::new(kind, own), Self::new(kind, own)];
        for (one, other) in [(0, 1), (1, 0)] {
            let mut state = pair[one].state.lock();
            state.peer = Some(Arc::downgrade(&pair[other]));
            state.peer_cred = Some(own);
        }
        pair
    }

    /// Itself, shared.
    pub fn shared(&self) -> Option<Arc<Self>> {
        self.this.upgrade()
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its name.
    pub fn address(&self) -> Option<Address> {
        self.state.lock().address.clone()
    }

    /// Holds on to the place it is bound to.
    pub(super) fn keep(&self, place: Path) {
        let old = self.state.lock().place.replace(place);
        drop(old);
    }

    /// `bind(2)`. `EINVAL` when it has a name.
    pub fn bind(self: &Arc<Self>, cx: &Context, name: Option<Address>) -> Result<()> {
        if self.address().is_some() {
            return if name.is_some() { Err(Errno::EINVAL) } else { Ok(()) };
        }
        let name = match name {
            Some(name) => {
                address::bind(cx, self, &name)?;
                name
            }
            None => address::autobind(self)?,
        };
        self.state.lock().address = Some(name);
        Ok(())
    }

    /// `listen(2)`.
    pub fn listen(&self, limit: i32) -> Result<()> {
        if self.kind == Kind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut state = self.state.lock();
        if state.address.is_none() || state.peer.is_some() {
            return Err(Errno::EINVAL);
        }
        let limit = usize::try_from(limit).unwrap_or(4096).min(4096);
        match &mut state.backlog {
            Some(backlog) => backlog.limit = limit,
            None => {
                state.backlog = Some(Backlog {
                    limit,
                    waiting: VecDeque::new(),
                })
            }
        }
        Ok(())
    }

    /// `connect(2)` of a stream to the listener `target`.
    pub fn connect(self: &Arc<Self>, target: &Arc<UnixSocket>, nonblocking: bool) -> Result<()> {
        if target.kind != self.kind {
            return Err(Errno::EPROTOTYPE);
        }
        let own = {
            let state = self.state.lock();
            if state.peer.is_some() {
                return Err(Errno::EISCONN);
            }
            if state.backlog.is_some() {
                return Err(Errno::EINVAL);
            }
            state.own_cred
        };
        let (target_cred, target_address) = {
            let state = target.state.lock();
            (state.own_cred, state.address.clone())
        };
        let server = Self::new(self.kind, target_cred);
        {
            let mut state = server.state.lock();
            state.peer = Some(self.this.clone());
            state.peer_cred = Some(own);
            state.address = target_address;
        }
        let deadline = self.write_deadline();
        let enqueue = || {
            let mut state = target.state.lock();
            let Some(backlog) = &mut state.backlog else {
                return Some(Err(Errno::ECONNREFUSED));
            };
            if backlog.waiting.len() > backlog.limit {
                return nonblocking.then_some(Err(Errno::EAGAIN));
            }
            // Both ends are joined before the listener can hand its end out.
            backlog.waiting.push_back(server.clone());
            Some(Ok(()))
        };
        {
            let mut state = self.state.lock();
            state.peer = Some(Arc::downgrade(&server));
            state.peer_cred = Some(target_cred);
        }
        let joined = wait(&target.room_queue, deadline, enqueue);
        if let Err(error) = joined {
            let mut state = self.state.lock();
            state.peer = None;
            state.peer_cred = None;
            drop(state);
            server.state.lock().peer = None;
            return Err(error);
        }
        target.read_queue.wake_key((PollEvents::IN | PollEvents::RDNORM).bits());
        Ok(())
    }

    /// `connect(2)` of a datagram socket: where it sends to, and whom alone it hears. None dissolves.
    pub fn connect_datagram(&self, target: Option<&Arc<UnixSocket>>) -> Result<()> {
        if target.is_some_and(|target| target.kind != self.kind) {
            return Err(Errno::EPROTOTYPE);
        }
        self.state.lock().peer = target.map(Arc::downgrade);
        Ok(())
    }

    /// `accept(2)`.
    pub fn accept(&self, nonblocking: bool) -> Result<Arc<UnixSocket>> {
        if self.kind == Kind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let deadline = self.read_deadline();
        let take = || {
            let mut state = self.state.lock();
            let Some(backlog) = &mut state.backlog else {
                return Some(Err(Errno::EINVAL));
            };
            match backlog.waiting.pop_front() {
                Some(socket) => Some(Ok(socket)),
                None if state.shut_read => Some(Err(Errno::EINVAL)),
                None => nonblocking.then_some(Err(Errno::EAGAIN)),
            }
        };
        let taken = wait_exclusive(&self.read_queue, deadline, take)?;
        self.room_queue.wake_all();
        Ok(taken)
    }

    /// The connected peer. `ENOTCONN`.
    pub fn peer(&self) -> Result<Arc<UnixSocket>> {
        let peer = self.state.lock().peer.clone().ok_or(Errno::ENOTCONN)?;
        peer.upgrade().ok_or(Errno::ENOTCONN)
    }

    fn read_deadline(&self) -> Option<Instant> {
        self.state.lock().read_timeout.map(|span| Instant::now() + span)
    }

    fn write_deadline(&self) -> Option<Instant> {
        self.state.lock().write_timeout.map(|span| Instant::now() + span)
    }

    /// Sends bytes of `src`; a message as a whole, a stream as far as it goes.
    ///
    /// # Errors
    /// `EPIPE` (the caller raises `SIGPIPE`), `ENOTCONN`, `ECONNREFUSED`, `EMSGSIZE`, `EAGAIN`.
    pub fn send(
        &self,
        to: Option<Arc<UnixSocket>>,
        src: &mut dyn Source,
        mut extra: Ancillary,
        nonblocking: bool,
    ) -> Result<usize> {
        let own = self.check_send()?;
        let sender = extra.sender.unwrap_or(own);
        let explicit = to.is_some();
        let deadline = self.write_deadline();
        let mut done = 0;
        loop {
            let peer = match &to {
                Some(to) => to.clone(),
                None => self.target()?,
            };
            let left = src.remaining();
            if self.kind != Kind::Stream && left > CAPACITY {
                return Err(Errno::EMSGSIZE);
            }
            let mut data = vec![
                0;
                if self.kind == Kind::Stream {
                    left.min(CAPACITY / 4)
                } else {
                    left
                }
            ];
            let got = match src.read(&mut data) {
                Ok(got) => got,
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            };
            data.truncate(got);
            if self.kind == Kind::Stream && data.is_empty() {
                return Ok(done);
            }
            let rights = core::mem::take(&mut extra.rights);
            let from = if self.kind == Kind::Stream {
                None
            } else {
                self.address()
            };
            match self.deliver(
                &peer,
                Packet {
                    data,
                    start: 0,
                    rights,
                    sender,
                    from,
                },
                explicit,
                nonblocking,
                deadline,
            ) {
                Ok(()) => done += got,
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            }
            if self.kind != Kind::Stream || src.remaining() == 0 {
                return Ok(done);
            }
        }
    }

    fn check_send(&self) -> Result<Sender> {
        let mut state = self.state.lock();
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        if state.shut_write {
            return Err(Errno::EPIPE);
        }
        Ok(state.own_cred)
    }

    /// Where an unaddressed send goes.
    fn target(&self) -> Result<Arc<UnixSocket>> {
        let peer = self.state.lock().peer.clone().ok_or(Errno::ENOTCONN)?;
        let gone = if self.kind == Kind::Datagram {
            Errno::ECONNREFUSED
        } else {
            Errno::EPIPE
        };
        peer.upgrade().ok_or(gone)
    }

    fn deliver(
        &self,
        peer: &UnixSocket,
        packet: Packet,
        explicit: bool,
        nonblocking: bool,
        deadline: Option<Instant>,
    ) -> Result<()> {
        let mut packet = Some(packet);
        let attempt = || {
            {
                let state = peer.state.lock();
                if state.shut_read {
                    return Some(Err(Errno::EPIPE));
                }
                // A connected datagram socket hears its peer alone.
                let other = state
                    .peer
                    .as_ref()
                    .is_some_and(|known| !Weak::ptr_eq(known, &self.this));
                if self.kind == Kind::Datagram && explicit && other {
                    return Some(Err(Errno::EPERM));
                }
            }
            if self.kind != Kind::Datagram && self.state.lock().peer_gone {
                return Some(Err(Errno::EPIPE));
            }
            match peer.inbox.push(packet.take()?) {
                Ok(()) => Some(Ok(())),
                Err(back) => {
                    packet = Some(back);
                    nonblocking.then_some(Err(Errno::EAGAIN))
                }
            }
        };
        wait(&peer.room_queue, deadline, attempt)?;
        peer.read_queue.wake_key((PollEvents::IN | PollEvents::RDNORM).bits());
        Ok(())
    }

    /// Waits for something to receive: true for something, false for the end.
    fn wait_input(&self, nonblocking: bool, deadline: Option<Instant>) -> Result<bool> {
        let look = || {
            let (ended, error, connected) = {
                let mut state = self.state.lock();
                let error = if self.inbox.is_empty() {
                    state.error.take()
                } else {
                    None
                };
                (state.shut_read || state.peer_done, error, state.peer.is_some())
            };
            if !self.inbox.is_empty() {
                return Some(Ok(true));
            }
            if let Some(error) = error {
                return Some(Err(error));
            }
            if ended {
                return Some(Ok(false));
            }
            if self.kind != Kind::Datagram && !connected {
                let invalid = if self.kind == Kind::Stream {
                    Errno::EINVAL
                } else {
                    Errno::ENOTCONN
                };
                return Some(Err(invalid));
            }
            nonblocking.then_some(Err(Errno::EAGAIN))
        };
        wait(&self.read_queue, deadline, look)
    }

    /// Receives into `dst`.
    pub fn receive(&self, dst: &mut dyn Sink, how: Receive) -> Result<Received> {
        let deadline = self.read_deadline();
        let mut received = Received::default();
        loop {
            match self.wait_input(how.nonblocking, deadline) {
                Ok(true) => {}
                Ok(false) => return Ok(received),
                Err(_) if received.count > 0 => return Ok(received),
                Err(error) => return Err(error),
            }
            let one_at_a_time = self.reading.lock();
            let more = self.take(dst, how, &mut received)?;
            drop(one_at_a_time);
            self.room_queue.wake_all();
            if more == Taken::Nothing {
                continue;
            }
            let goes_on = self.kind == Kind::Stream && how.wait_all && !how.peek;
            if !goes_on || dst.remaining() == 0 || !received.rights.is_empty() {
                return Ok(received);
            }
        }
    }

    /// Takes packets until `dst` is full, ancillary data changes, or there are no more.
    fn take(&self, dst: &mut dyn Sink, how: Receive, received: &mut Received) -> Result<Taken> {
        let mut taken = Taken::Nothing;
        let mut peeked = Vec::new();
        let result = loop {
            let Some(mut packet) = self.inbox.pop() else {
                break Ok(taken);
            };
            let is_stream = self.kind == Kind::Stream;
            let other_sender = received.sender.is_some_and(|sender| sender != packet.sender);
            if is_stream && taken == Taken::Something && (!packet.rights.is_empty() || other_sender) {
                self.inbox.unpop(packet);
                break Ok(taken);
            }
            let stored = match dst.write(packet.rest()) {
                Ok(stored) => stored,
                Err(error) => {
                    self.inbox.unpop(packet);
                    break if received.count > 0 { Ok(taken) } else { Err(error) };
                }
            };
            taken = Taken::Something;
            received.count += stored;
            received.full += if is_stream { stored } else { packet.rest().len() };
            received.sender = Some(packet.sender);
            received.from = packet.from.clone();
            let had_rights = !packet.rights.is_empty();
            if how.peek {
                received.rights = packet.rights.clone();
                let whole = stored == packet.rest().len();
                peeked.push(packet);
                if !is_stream || !whole || had_rights {
                    break Ok(taken);
                }
                continue;
            }
            received.rights.append(&mut packet.rights);
            packet.start += stored;
            if is_stream && !packet.rest().is_empty() {
                self.inbox.unpop(packet);
                break Ok(taken);
            }
            if !is_stream || had_rights || dst.remaining() == 0 {
                break Ok(taken);
            }
        };
        for packet in peeked.into_iter().rev() {
            self.inbox.unpop(packet);
        }
        result
    }

    /// `shutdown(2)`.
    pub fn shutdown(&self, read: Shut, write: Shut) -> Result<()> {
        let peer = {
            let mut state = self.state.lock();
            if state.peer.is_none() && state.backlog.is_none() && self.kind != Kind::Datagram {
                return Err(Errno::ENOTCONN);
            }
            state.shut_read |= read == Shut::Yes;
            state.shut_write |= write == Shut::Yes;
            state.peer.as_ref().and_then(Weak::upgrade)
        };
        if let Some(peer) = peer
            && self.kind != Kind::Datagram
        {
            if write == Shut::Yes {
                peer.state.lock().peer_done = true;
            }
            peer.wake_all();
        }
        self.wake_all();
        Ok(())
    }

    fn wake_all(&self) {
        self.read_queue.wake_all();
        self.room_queue.wake_all();
    }

    /// The peer has gone: nothing more comes; what it had not read is a reset.
    fn peer_left(&self, unread: bool) {
        {
            let mut state = self.state.lock();
            state.peer_done = true;
            state.peer_gone = true;
            if unread {
                state.error = Some(Errno::ECONNRESET);
            }
        }
        self.wake_all();
    }

    /// `SO_ERROR`: the pending error, once.
    pub fn take_error(&self) -> Option<Errno> {
        self.state.lock().error.take()
    }

    /// `SO_PEERCRED`.
    pub fn peer_cred(&self) -> Option<Sender> {
        self.state.lock().peer_cred
    }

    /// `SO_PASSCRED`.
    pub fn passes_cred(&self) -> bool {
        self.state.lock().pass_cred
    }

    /// Sets `SO_PASSCRED`.
    pub fn set_pass_cred(&self, on: bool) {
        self.state.lock().pass_cred = on;
    }

    /// `SO_RCVTIMEO`, `SO_SNDTIMEO`.
    pub fn timeouts(&self) -> [Option<Duration>; 2] {
        let state = self.state.lock();
        [state.read_timeout, state.write_timeout]
    }

    /// Sets `SO_RCVTIMEO`.
    pub fn set_read_timeout(&self, span: Option<Duration>) {
        self.state.lock().read_timeout = span;
    }

    /// Sets `SO_SNDTIMEO`.
    pub fn set_write_timeout(&self, span: Option<Duration>) {
        self.state.lock().write_timeout = span;
    }

    /// Whether it listens.
    pub fn is_listening(&self) -> bool {
        self.state.lock().backlog.is_some()
    }
}

/// Whether a direction is shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    /// It is.
    Yes,
    /// It stays.
    No,
}

/// Whether a turn found something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Nothing,
    Something,
}

fn map_timeout<R>(result: Result<Result<R>, arch_um::sync::WaitError>) -> Result<R> {
    match result {
        Ok(result) => result,
        Err(arch_um::sync::WaitError::TimedOut) => Err(Errno::EAGAIN),
        Err(error) => Err(error.into()),
    }
}

fn wait<R>(queue: &WaitQueue, deadline: Option<Instant>, attempt: impl FnMut() -> Option<Result<R>>) -> Result<R> {
    map_timeout(queue.wait_until(Interruptible::Yes, deadline, attempt))
}

fn wait_exclusive<R>(
    queue: &WaitQueue,
    deadline: Option<Instant>,
    attempt: impl FnMut() -> Option<Result<R>>,
) -> Result<R> {
    map_timeout(queue.wait_until_exclusive(Interruptible::Yes, deadline, attempt))
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let state = core::mem::take(self.state.get_mut());
        if let Some(address) = &state.address {
            address::release(address, &self.this);
        }
        let unread = !self.inbox.is_empty();
        if let Some(peer) = state.peer.as_ref().and_then(Weak::upgrade)
            && self.kind != Kind::Datagram
        {
            peer.peer_left(unread);
        }
        self.room_queue.wake_all();
        drop(self.inbox.drain());
    }
}

impl FileOps for UnixSocket {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> SeekKind {
        SeekKind::Stream
    }

    fn read_at(&self, file: &File, _pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        if dst.remaining() == 0 {
            return Ok(0);
        }
        let how = Receive {
            nonblocking: file.is_nonblocking(),
            ..Receive::default()
        };
        Ok(self.receive(dst, how)?.count)
    }

    fn write_at(&self, file: &File, _pos: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let sent = self.send(None, src, Ancillary::default(), file.is_nonblocking());
        if sent == Err(Errno::EPIPE) {
            raise(Signal::PIPE);
        }
        Ok(Written { count: sent?, end: 0 })
    }

    fn ioctl(&self, _cx: &Context, _file: &File, cmd: u32, arg: u64) -> Result<usize> {
        const SIOCOUTQ: u32 = 0x5411;
        let bytes = match cmd {
            ioctl::FIONREAD if self.kind == Kind::Stream => self.inbox.bytes(),
            ioctl::FIONREAD => self.inbox.first_len(),
            SIOCOUTQ => self.peer().map_or(0, |peer| peer.inbox.bytes()),
            _ => return Err(Errno::ENOTTY),
        };
        UserPtr::<i32>::new(arg).write(&(bytes as i32))?;
        Ok(0)
    }

    fn announces(&self) -> bool {
        true
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        let peer = self.peer().ok();
        if let Some(table) = table {
            table.listen(&self.read_queue);
            table.listen(&self.room_queue);
            if let Some(peer) = &peer {
                table.listen(&peer.room_queue);
            }
        }
        let readable = PollEvents::IN | PollEvents::RDNORM;
        let writable = PollEvents::OUT | PollEvents::WRNORM;
        let state = self.state.lock();
        let mut events = PollEvents::empty();
        if state.error.is_some() {
            events |= PollEvents::ERR;
        }
        if let Some(backlog) = &state.backlog {
            return if backlog.waiting.is_empty() {
                events
            } else {
                events | readable
            };
        }
        let ended = state.shut_read || state.peer_done;
        if ended {
            events |= PollEvents::RDHUP | readable;
        }
        if (ended && state.shut_write) || state.peer_gone {
            events |= PollEvents::HUP;
        }
        let unconnected = state.peer.is_none() && self.kind != Kind::Datagram;
        if unconnected {
            events |= PollEvents::HUP;
        }
        drop(state);
        if !self.inbox.is_empty() {
            events |= readable;
        }
        // Writing would not block: there is room, or it fails at once.
        if unconnected || peer.is_none_or(|peer| peer.inbox.has_room(CAPACITY / 4)) {
            events |= writable;
        }
        events
    }
}
