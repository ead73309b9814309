//! `socket(2)`, `bind(2)`, `connect(2)`, `accept(2)`, `send(2)`, `recv(2)` and their relatives.

use alloc::sync::Arc;

use super::address::{self, Address, Given};
use super::inbox::Sender;
use super::message::MsgHdr;
use super::unix::{Ancillary, Kind, Receive, Received, Shut, UnixSocket};
use crate::abi_struct;
use crate::io::{Sink, Source};
use crate::signal::Signal;
use crate::syscall::Context;
use crate::user::{UserAddr, UserPtr, UserSlice};
use crate::vfs::calls::timeout::{self, Unit};
use crate::vfs::fd_table::{CloseOnExec, Fd};
use crate::vfs::file::{File, OpenFlags};
use crate::vfs::rw::MAX_RW_COUNT;
use crate::vfs::{anon, raise};
use crate::{Errno, Result};

const MSG_OOB: u32 = 1;
const MSG_PEEK: u32 = 2;
const MSG_TRUNC: u32 = 0x20;
const MSG_DONTWAIT: u32 = 0x40;
const MSG_EOR: u32 = 0x80;
const MSG_WAITALL: u32 = 0x100;
const MSG_NOSIGNAL: u32 = 0x4000;
const MSG_WAITFORONE: u32 = 0x10000;
const MSG_CMSG_CLOEXEC: u32 = 0x4000_0000;

fn own(cx: &Context) -> Sender {
    let cred = cx.task().cred();
    Sender {
        pid: cx.task().process().pid().0,
        uid: cred.euid,
        gid: cred.egid,
    }
}

/// The socket behind a descriptor. `ENOTSOCK`.
pub(super) fn socket_of(cx: &Context, fd: Fd) -> Result<(Arc<File>, Arc<UnixSocket>)> {
    let file = cx.files().get(fd)?;
    let socket = file
        .ops_as::<UnixSocket>()
        .and_then(UnixSocket::shared)
        .ok_or(Errno::ENOTSOCK)?;
    Ok((file, socket))
}

/// Kind and flags of `SOCK_*`; the family must be ours.
fn parse(domain: i32, kind: u32, protocol: i32) -> Result<(Kind, OpenFlags)> {
    let flags = OpenFlags::from_bits_retain(kind & !0xf);
    if !(OpenFlags::CLOEXEC | OpenFlags::NONBLOCK).contains(flags) {
        return Err(Errno::EINVAL);
    }
    if domain != i32::from(address::AF_UNIX) {
        arch_um::stub!("socket families other than AF_UNIX");
        return Err(Errno::EAFNOSUPPORT);
    }
    if protocol != 0 && protocol != 1 {
        return Err(Errno::EPROTONOSUPPORT);
    }
    Ok((Kind::from_raw(kind & 0xf)?, flags))
}

fn file(cx: &Context, socket: Arc<UnixSocket>, flags: OpenFlags) -> Arc<File> {
    let cred = cx.task().cred();
    File::new(socket, Some(anon::socket_path(&cred)), flags | OpenFlags::RDWR, cred)
}

/// `socket(2)`.
pub fn sys_socket(cx: &Context, domain: i32, kind: u32, protocol: i32) -> Result<usize> {
    let (kind, flags) = parse(domain, kind, protocol)?;
    let file = file(cx, UnixSocket::new(kind, own(cx)), flags);
    Ok(cx.files().install(file, flags)?.0 as usize)
}

/// `socketpair(2)`.
pub fn sys_socketpair(cx: &Context, domain: i32, kind: u32, protocol: i32, out: UserPtr<[i32; 2]>) -> Result<usize> {
    let (kind, flags) = parse(domain, kind, protocol)?;
    let files = UnixSocket::pair(kind, own(cx)).map(|socket| file(cx, socket, flags));
    let [one, two] = cx.files().install_pair(files, CloseOnExec::from(flags))?;
    out.write(&[one.0, two.0]).inspect_err(|_| {
        let _ = cx.files().close(one);
        let _ = cx.files().close(two);
    })?;
    Ok(0)
}

/// `bind(2)`; without a name a free abstract one is taken.
pub fn sys_bind(cx: &Context, fd: Fd, addr: UserAddr, len: u32) -> Result<usize> {
    let (_file, socket) = socket_of(cx, fd)?;
    let name = match address::read(addr, len)? {
        Given::Named(name) => Some(name),
        Given::Nameless => None,
        Given::Unspecified => return Err(Errno::EINVAL),
    };
    socket.bind(cx, name)?;
    Ok(0)
}

/// `listen(2)`.
pub fn sys_listen(cx: &Context, fd: Fd, backlog: i32) -> Result<usize> {
    socket_of(cx, fd)?.1.listen(backlog)?;
    Ok(0)
}

/// `connect(2)`.
pub fn sys_connect(cx: &Context, fd: Fd, addr: UserAddr, len: u32) -> Result<usize> {
    let (file, socket) = socket_of(cx, fd)?;
    let given = address::read(addr, len)?;
    if socket.kind() == Kind::Datagram {
        let target = match given {
            Given::Unspecified => None,
            Given::Nameless => return Err(Errno::EINVAL),
            Given::Named(name) => Some(address::find(cx, &name, &cx.task().cred())?),
        };
        socket.connect_datagram(target.as_ref())?;
        return Ok(0);
    }
    let Given::Named(name) = given else {
        return Err(Errno::EINVAL);
    };
    let target = address::find(cx, &name, &cx.task().cred())?;
    socket.connect(&target, file.is_nonblocking())?;
    Ok(0)
}

/// `accept4(2)`.
pub fn sys_accept4(cx: &Context, fd: Fd, addr: UserAddr, len: UserPtr<i32>, flags: u32) -> Result<usize> {
    let flags = OpenFlags::from_bits_retain(flags);
    if !(OpenFlags::CLOEXEC | OpenFlags::NONBLOCK).contains(flags) {
        return Err(Errno::EINVAL);
    }
    let (listener, socket) = socket_of(cx, fd)?;
    let accepted = socket.accept(listener.is_nonblocking())?;
    if !addr.is_null() {
        let name = accepted.peer().ok().and_then(|peer| peer.address());
        address::write(name.as_ref(), addr, len)?;
    }
    let file = file(cx, accepted, flags);
    Ok(cx.files().install(file, flags)?.0 as usize)
}

/// `accept(2)`.
pub fn sys_accept(cx: &Context, fd: Fd, addr: UserAddr, len: UserPtr<i32>) -> Result<usize> {
    sys_accept4(cx, fd, addr, len, 0)
}

/// `getsockname(2)`.
pub fn sys_getsockname(cx: &Context, fd: Fd, addr: UserAddr, len: UserPtr<i32>) -> Result<usize> {
    let (_file, socket) = socket_of(cx, fd)?;
    address::write(socket.address().as_ref(), addr, len)?;
    Ok(0)
}

/// `getpeername(2)`.
pub fn sys_getpeername(cx: &Context, fd: Fd, addr: UserAddr, len: UserPtr<i32>) -> Result<usize> {
    let (_file, socket) = socket_of(cx, fd)?;
    address::write(socket.peer()?.address().as_ref(), addr, len)?;
    Ok(0)
}

/// `shutdown(2)`.
pub fn sys_shutdown(cx: &Context, fd: Fd, how: u32) -> Result<usize> {
    let (_file, socket) = socket_of(cx, fd)?;
    let (read, write) = match how {
        0 => (Shut::Yes, Shut::No),
        1 => (Shut::No, Shut::Yes),
        2 => (Shut::Yes, Shut::Yes),
        _ => return Err(Errno::EINVAL),
    };
    socket.shutdown(read, write)?;
    Ok(0)
}

/// The socket an address on a send means. Streams take none.
fn destination(cx: &Context, socket: &UnixSocket, addr: UserAddr, len: u32) -> Result<Option<Arc<UnixSocket>>> {
    if addr.is_null() || len == 0 {
        return Ok(None);
    }
    if socket.kind() != Kind::Datagram {
        return Err(if socket.peer().is_ok() {
            Errno::EISCONN
        } else {
            Errno::EOPNOTSUPP
        });
    }
    match address::read(addr, len)? {
        Given::Named(name) => {
            let target = address::find(cx, &name, &cx.task().cred())?;
            if target.kind() == Kind::Datagram {
                Ok(Some(target))
            } else {
                Err(Errno::EPROTOTYPE)
            }
        }
        _ => Err(Errno::EINVAL),
    }
}

fn send(
    file: &File,
    socket: &UnixSocket,
    to: Option<Arc<UnixSocket>>,
    data: &mut dyn Source,
    extra: Ancillary,
    flags: u32,
) -> Result<usize> {
    if flags & MSG_OOB != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let sent = socket.send(to, data, extra, flags & MSG_DONTWAIT != 0 || file.is_nonblocking());
    if sent == Err(Errno::EPIPE) && flags & MSG_NOSIGNAL == 0 && socket.kind() != Kind::Datagram {
        raise(Signal::PIPE);
    }
    sent
}

fn bounded(buf: UserSlice) -> UserSlice {
    UserSlice {
        len: buf.len.min(MAX_RW_COUNT),
        ..buf
    }
}

/// `sendto(2)`.
pub fn sys_sendto(cx: &Context, fd: Fd, buf: UserSlice, flags: u32, addr: UserAddr, len: u32) -> Result<usize> {
    let (file, socket) = socket_of(cx, fd)?;
    let to = destination(cx, &socket, addr, len)?;
    send(
        &file,
        &socket,
        to,
        &mut bounded(buf).reader(),
        Ancillary::default(),
        flags,
    )
}

fn send_message(cx: &Context, fd: Fd, message: &MsgHdr, flags: u32) -> Result<usize> {
    let (file, socket) = socket_of(cx, fd)?;
    let to = destination(cx, &socket, UserAddr(message.name), message.name_len)?;
    let extra = message.ancillary(cx)?;
    send(&file, &socket, to, &mut message.data()?, extra, flags)
}

/// `sendmsg(2)`.
pub fn sys_sendmsg(cx: &Context, fd: Fd, message: UserPtr<MsgHdr>, flags: u32) -> Result<usize> {
    send_message(cx, fd, &message.read()?, flags)
}

abi_struct! {
    /// `struct mmsghdr`.
    pub struct MMsgHdr {
        message: [u64; 7],
        count: u32,
        pad: u32,
    }
}

fn header(at: UserPtr<MMsgHdr>) -> UserPtr<MsgHdr> {
    UserPtr::new(at.addr().0)
}

fn put_count(at: UserPtr<MMsgHdr>, count: usize) -> Result<()> {
    UserPtr::<u32>::new(at.addr().offset(56).0).write(&(count as u32))
}

/// `sendmmsg(2)`.
pub fn sys_sendmmsg(cx: &Context, fd: Fd, list: UserPtr<MMsgHdr>, count: u32, flags: u32) -> Result<usize> {
    let mut done = 0;
    while done < count.min(1024) as usize {
        let at = list.nth(done);
        let sent = header(at)
            .read()
            .and_then(|message| send_message(cx, fd, &message, flags));
        match sent.and_then(|sent| put_count(at, sent)) {
            Ok(()) => done += 1,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn receive(file: &File, socket: &UnixSocket, dst: &mut dyn Sink, flags: u32) -> Result<Received> {
    if flags & MSG_OOB != 0 {
        return Err(Errno::EINVAL);
    }
    let how = Receive {
        nonblocking: flags & MSG_DONTWAIT != 0 || file.is_nonblocking(),
        peek: flags & MSG_PEEK != 0,
        wait_all: flags & MSG_WAITALL != 0,
    };
    if dst.remaining() == 0 && socket.kind() == Kind::Stream {
        return Ok(Received::default());
    }
    socket.receive(dst, how)
}

fn told(socket: &UnixSocket, received: &Received, flags: u32) -> usize {
    if flags & MSG_TRUNC != 0 && socket.kind() != Kind::Stream {
        received.full
    } else {
        received.count
    }
}

/// `recvfrom(2)`.
pub fn sys_recvfrom(
    cx: &Context,
    fd: Fd,
    buf: UserSlice,
    flags: u32,
    addr: UserAddr,
    len: UserPtr<i32>,
) -> Result<usize> {
    let (file, socket) = socket_of(cx, fd)?;
    let received = receive(&file, &socket, &mut bounded(buf).writer(), flags)?;
    if !addr.is_null() {
        give_name(received.from.as_ref(), addr, len)?;
    }
    Ok(told(&socket, &received, flags))
}

/// A sender without a name has no address at all, not even a family.
fn give_name(name: Option<&Address>, addr: UserAddr, len: UserPtr<i32>) -> Result<()> {
    match name {
        Some(_) => address::write(name, addr, len),
        None => len.write(&0),
    }
}

fn receive_message(cx: &Context, fd: Fd, at: UserPtr<MsgHdr>, flags: u32) -> Result<usize> {
    let (file, socket) = socket_of(cx, fd)?;
    let mut message = at.read()?;
    let mut received = receive(&file, &socket, &mut message.data()?, flags)?;
    let cloexec = if flags & MSG_CMSG_CLOEXEC != 0 {
        CloseOnExec::Yes
    } else {
        CloseOnExec::No
    };
    let (used, mut back) = message.give(cx, &mut received, cloexec, socket.passes_cred())?;
    if socket.kind() != Kind::Stream && received.full > received.count {
        back |= MSG_TRUNC;
    }
    if socket.kind() == Kind::SeqPacket && received.count > 0 {
        back |= MSG_EOR;
    }
    if message.name != 0 {
        let raw = received
            .from
            .as_ref()
            .map(|name| address::encode(Some(name)))
            .unwrap_or_default();
        let room = raw.len().min(message.name_len as usize);
        UserAddr(message.name).write(&raw[..room])?;
        message.name_len = raw.len() as u32;
    }
    message.control_len = used;
    message.flags = back | flags & MSG_CMSG_CLOEXEC;
    at.write(&message)?;
    Ok(told(&socket, &received, flags))
}

/// `recvmsg(2)`.
pub fn sys_recvmsg(cx: &Context, fd: Fd, message: UserPtr<MsgHdr>, flags: u32) -> Result<usize> {
    receive_message(cx, fd, message, flags)
}

/// `recvmmsg(2)`: the timeout is looked at between messages, as on Linux.
pub fn sys_recvmmsg(
    cx: &Context,
    fd: Fd,
    list: UserPtr<MMsgHdr>,
    count: u32,
    flags: u32,
    time: UserPtr<[i64; 2]>,
) -> Result<usize> {
    let deadline = timeout::read(time, Unit::Nano)?;
    let mut flags_now = flags & !MSG_WAITFORONE;
    let mut done = 0;
    while done < count.min(1024) as usize {
        let at = list.nth(done);
        let got = receive_message(cx, fd, header(at), flags_now);
        match got.and_then(|got| put_count(at, got)) {
            Ok(()) => done += 1,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
        if flags & MSG_WAITFORONE != 0 {
            flags_now |= MSG_DONTWAIT;
        }
        if deadline.is_some_and(|deadline| deadline <= arch_um::time::Instant::now()) {
            break;
        }
    }
    timeout::write_back(time, Unit::Nano, deadline)?;
    Ok(done)
}
