//! Sending and receiving.

use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;

use arch_um::time::Instant;

use super::{Kind, UnixSocket, wait};
use crate::io::{Sink, Source};
use crate::socket::address::Address;
use crate::socket::inbox::{CAPACITY, Packet, Sender};
use crate::vfs::file::File;
use crate::vfs::poll::PollEvents;
use crate::{Errno, Result};

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

/// Whether a turn found something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Nothing,
    Something,
}

impl UnixSocket {
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
}
