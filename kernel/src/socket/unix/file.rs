//! The socket as an open file: `read`, `write`, `ioctl`, `poll`.

use core::any::Any;

use super::{Ancillary, Kind, Receive, UnixSocket};
use crate::io::{Sink, Source};
use crate::signal::Signal;
use crate::socket::inbox::CAPACITY;
use crate::syscall::Context;
use crate::user::UserPtr;
use crate::vfs::file::{File, FileOps, SeekKind, WriteAt, Written};
use crate::vfs::poll::{PollEvents, PollTable};
use crate::vfs::{ioctl, raise};
use crate::{Errno, Result};

impl FileOps for UnixSocket {
    fn can_signal(&self) -> bool {
        true
    }

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
