//! Local sockets without a guest: pairs, messages, descriptions on their way, ends.

extern crate std;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::inbox::{CAPACITY, Sender};
use super::unix::{Ancillary, Kind, Receive, Received, Shut, UnixSocket};
use crate::io::{SliceSink, SliceSource};
use crate::task::Cred;
use crate::vfs::file::OpenFlags;
use crate::vfs::poll::PollEvents;
use crate::vfs::{File, pipe};
use crate::{Errno, Result};

fn pair(kind: Kind) -> [Arc<UnixSocket>; 2] {
    UnixSocket::pair(kind, Sender { pid: 7, uid: 1, gid: 2 })
}

fn send(socket: &UnixSocket, data: &[u8]) -> Result<usize> {
    socket.send(None, &mut SliceSource::new(data), Ancillary::default(), true)
}

fn receive(socket: &UnixSocket, room: usize, how: Receive) -> Result<(Vec<u8>, Received)> {
    let mut buffer = vec![0; room];
    let received = socket.receive(&mut SliceSink::new(&mut buffer), how)?;
    buffer.truncate(received.count);
    Ok((buffer, received))
}

fn now() -> Receive {
    Receive {
        nonblocking: true,
        ..Receive::default()
    }
}

fn poll(socket: &Arc<UnixSocket>) -> PollEvents {
    let file = File::new(socket.clone(), None, OpenFlags::RDWR, Cred::root());
    file.ops().poll(&file, None)
}

#[test]
fn a_stream_joins_sends_and_messages_keep_their_ends() {
    let [a, b] = pair(Kind::Stream);
    assert_eq!(send(&a, b"hello "), Ok(6));
    assert_eq!(send(&a, b"world"), Ok(5));
    assert_eq!(receive(&b, 8, now()).unwrap().0, b"hello wo");
    assert_eq!(receive(&b, 8, now()).unwrap().0, b"rld");
    let [a, b] = pair(Kind::SeqPacket);
    send(&a, b"one").unwrap();
    send(&a, b"two two").unwrap();
    assert_eq!(receive(&b, 8, now()).unwrap().0, b"one");
    let (data, received) = receive(&b, 3, now()).unwrap();
    assert_eq!((&data[..], received.full), (&b"two"[..], 7));
    assert_eq!(receive(&b, 3, now()).err(), Some(Errno::EAGAIN));
}

#[test]
fn peeking_leaves_everything_in_place() {
    let [a, b] = pair(Kind::Stream);
    send(&a, b"abc").unwrap();
    send(&a, b"def").unwrap();
    let peek = Receive { peek: true, ..now() };
    assert_eq!(receive(&b, 5, peek).unwrap().0, b"abcde");
    assert_eq!(receive(&b, 9, now()).unwrap().0, b"abcdef");
}

#[test]
fn descriptions_travel_with_their_bytes_and_stop_a_read() {
    let [a, b] = pair(Kind::Stream);
    let [reader, writer] = pipe::pipe(OpenFlags::empty(), &Cred::root());
    send(&a, b"before").unwrap();
    let extra = Ancillary {
        rights: vec![writer.clone()],
        sender: None,
    };
    a.send(None, &mut SliceSource::new(b"with"), extra, true).unwrap();
    send(&a, b"behind").unwrap();
    assert_eq!(receive(&b, 99, now()).unwrap().0, b"before");
    let (data, received) = receive(&b, 99, now()).unwrap();
    assert_eq!(data, b"with");
    assert!(Arc::ptr_eq(&received.rights[0], &writer));
    assert_eq!(received.sender, Some(Sender { pid: 7, uid: 1, gid: 2 }));
    assert_eq!(receive(&b, 99, now()).unwrap().0, b"behind");
    drop(reader);
}

#[test]
fn the_end_is_read_after_the_data_and_writing_to_it_is_epipe() {
    let [a, b] = pair(Kind::Stream);
    send(&a, b"last").unwrap();
    drop(a);
    assert!(poll(&b).contains(PollEvents::IN | PollEvents::HUP | PollEvents::RDHUP));
    assert_eq!(receive(&b, 9, now()).unwrap().0, b"last");
    assert_eq!(receive(&b, 9, now()).unwrap().0, b"");
    assert_eq!(send(&b, b"x"), Err(Errno::EPIPE));
}

#[test]
fn a_half_that_is_shut_down_ends_the_other_side_only() {
    let [a, b] = pair(Kind::Stream);
    a.shutdown(Shut::No, Shut::Yes).unwrap();
    assert_eq!(receive(&b, 9, now()).unwrap().0, b"");
    assert_eq!(send(&a, b"x"), Err(Errno::EPIPE));
    send(&b, b"still").unwrap();
    assert_eq!(receive(&a, 9, now()).unwrap().0, b"still");
}

#[test]
fn unread_bytes_of_a_closed_peer_are_a_reset() {
    let [a, b] = pair(Kind::Stream);
    send(&a, b"never read").unwrap();
    drop(b);
    assert_eq!(receive(&a, 9, now()).err(), Some(Errno::ECONNRESET));
    assert_eq!(receive(&a, 9, now()).unwrap().0, b"");
}

#[test]
fn a_full_inbox_stops_the_sender_until_it_is_read() {
    let [a, b] = pair(Kind::Stream);
    let data = vec![5; CAPACITY / 4];
    let mut sent = 0;
    while let Ok(count) = send(&a, &data) {
        sent += count;
    }
    assert!((CAPACITY - data.len()..=CAPACITY).contains(&sent));
    assert!(!poll(&a).contains(PollEvents::OUT));
    let reader = std::thread::spawn(move || {
        let mut got = 0;
        loop {
            match receive(&b, 10_000, Receive::default()).unwrap().0.len() {
                0 => return got,
                count => got += count,
            }
        }
    });
    let more = a
        .send(
            None,
            &mut SliceSource::new(&vec![6; 1_000_000]),
            Ancillary::default(),
            false,
        )
        .unwrap();
    drop(a);
    assert_eq!(more, 1_000_000);
    assert_eq!(reader.join().unwrap(), sent + more);
}

#[test]
fn a_message_larger_than_the_inbox_is_refused() {
    let [a, _b] = pair(Kind::Datagram);
    assert_eq!(send(&a, &vec![0; CAPACITY + 1]), Err(Errno::EMSGSIZE));
    let alone = UnixSocket::new(Kind::Stream, Sender::default());
    assert_eq!(send(&alone, b"x"), Err(Errno::ENOTCONN));
    assert!(poll(&alone).contains(PollEvents::HUP));
}
