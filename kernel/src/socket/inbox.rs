//! What waits in a socket to be received: packets with their ancillary data, in order and within a limit.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use arch_um::sync::{SpinLock, order};

use super::address::Address;
use crate::vfs::File;

/// Bytes that fit (`net.core.wmem_default`).
pub const CAPACITY: usize = 212_992;
/// Datagrams that fit.
const PACKETS_MAX: usize = 512;

/// Who sent something, as of then (`struct ucred`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// Process.
    pub pid: i32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// One send.
pub struct Packet {
    /// The bytes.
    pub data: Vec<u8>,
    /// How many of them were received already (streams).
    pub start: usize,
    /// Descriptions that travel along (`SCM_RIGHTS`).
    pub rights: Vec<Arc<File>>,
    /// From whom.
    pub sender: Sender,
    /// The sender's name (datagrams).
    pub from: Option<Address>,
}

impl Packet {
    /// What is left of it.
    pub fn rest(&self) -> &[u8] {
        self.data.get(self.start..).unwrap_or(&[])
    }
}

/// The packets.
pub struct Inbox {
    list: SpinLock<VecDeque<Packet>>,
    bytes: AtomicUsize,
}

impl Inbox {
    /// Nothing in it.
    pub fn new() -> Self {
        Self {
            list: SpinLock::new(&order::SOCKET_PEER, VecDeque::new()),
            bytes: AtomicUsize::new(0),
        }
    }

    /// Whether there is nothing to receive.
    pub fn is_empty(&self) -> bool {
        self.list.lock().is_empty()
    }

    /// Bytes in it.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Whether `len` more bytes fit; one packet always fits into an empty box.
    pub fn has_room(&self, len: usize) -> bool {
        let list = self.list.lock();
        list.is_empty() || (self.bytes() + len <= CAPACITY && list.len() < PACKETS_MAX)
    }

    /// Puts `packet` at the end if there is room, else hands it back.
    pub fn push(&self, packet: Packet) -> Result<(), Packet> {
        let mut list = self.list.lock();
        let len = packet.rest().len();
        if !list.is_empty() && (self.bytes() + len > CAPACITY || list.len() >= PACKETS_MAX) {
            return Err(packet);
        }
        self.bytes.fetch_add(len, Ordering::AcqRel);
        list.push_back(packet);
        Ok(())
    }

    /// Takes the first packet.
    pub fn pop(&self) -> Option<Packet> {
        let packet = self.list.lock().pop_front()?;
        self.bytes.fetch_sub(packet.rest().len(), Ordering::AcqRel);
        Some(packet)
    }

    /// Puts a packet (or the rest of one) back to the front.
    pub fn unpop(&self, packet: Packet) {
        self.bytes.fetch_add(packet.rest().len(), Ordering::AcqRel);
        self.list.lock().push_front(packet);
    }

    /// Bytes of the first packet, for `FIONREAD` on datagrams.
    pub fn first_len(&self) -> usize {
        self.list.lock().front().map_or(0, |packet| packet.rest().len())
    }

    /// Takes everything, to be dropped by the caller.
    pub fn drain(&self) -> VecDeque<Packet> {
        self.bytes.store(0, Ordering::Release);
        core::mem::take(&mut *self.list.lock())
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}
