//! Local sockets (`unix(7)`): streams, datagrams, sequenced packets.
//!
//! Two connected sockets know each other weakly; each holds what waits for it in its own [`Inbox`]. Closing one tells the other. A listening
//! socket holds the sockets that `accept` has not taken yet.
//!
//! * [`connection`]: names, listening, connecting, the end of a connection.  * [`transfer`]: sending and receiving.
//! * [`file`]: the socket as an open file.
//!
//! Lock order: `reading` (sleeping, over user copies, one receiver at a time) before `state` (short) before an inbox. Two sockets' states are
//! never held together. Descriptors sent to a socket that is only reachable through itself are not found again (no collector of circles).

mod connection;
mod file;
mod transfer;

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};

use arch_um::sync::{Interruptible, LockClass, Mutex, SpinLock, WaitQueue, order};
use arch_um::time::{Duration, Instant};

use super::address::{self, Address};
use super::inbox::{Inbox, Sender};
use crate::vfs::Path;
use crate::{Errno, Result};
pub use connection::Shut;
pub use transfer::{Ancillary, Receive, Received};

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

    fn wake_all(&self) {
        self.read_queue.wake_all();
        self.room_queue.wake_all();
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
