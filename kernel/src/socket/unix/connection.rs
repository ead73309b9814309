//! Names, listening, connecting, and the end of a connection.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};

use super::{Backlog, Kind, UnixSocket, wait, wait_exclusive};
use crate::socket::address::{self, Address};
use crate::syscall::Context;
use crate::vfs::poll::PollEvents;
use crate::{Errno, Result};

/// Whether a direction is shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    /// It is.
    Yes,
    /// It stays.
    No,
}

impl UnixSocket {
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

    /// The peer has gone: nothing more comes; what it had not read is a reset.
    pub(super) fn peer_left(&self, unread: bool) {
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
}
