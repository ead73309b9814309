//! Descriptors as such: pipes, event counters, socket pairs, passing descriptors, waiting for one, blocking modes.
//!
//! Everything made here is close-on-exec.

use crate::errno::Errno;
use crate::event::{Interest, Ready};
use crate::host::sys::{check, owned, retry, retry_owned, write_all_raw};
use core::time::Duration;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Does a call on a descriptor wait?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blocking {
    /// It waits.
    Yes,
    /// It fails with `EAGAIN` instead.
    No,
}

/// What kind of socket a pair is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketKind {
    /// Bytes in order.
    Stream,
    /// Messages, each by itself.
    Datagram,
    /// Messages in order, with end of file.
    SeqPacket,
}

/// A pipe: the reading end, the writing end.
///
/// # Errors
/// `EMFILE`, `ENFILE`.
pub fn pipe(blocking: Blocking) -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = libc::O_CLOEXEC | if blocking == Blocking::No { libc::O_NONBLOCK } else { 0 };
    let mut fds = [-1; 2];
    // SAFETY: room for two descriptors.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), flags) })?;
    // SAFETY: the host has just made both for us.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// An event counter that does not block (`eventfd(2)`).
///
/// # Errors
/// `EMFILE`, `ENFILE`.
pub fn eventfd() -> Result<OwnedFd, Errno> {
    // SAFETY: plain numbers.
    owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
}

/// Two connected local sockets.
///
/// # Errors
/// `EMFILE`, `ENFILE`.
pub fn socketpair(kind: SocketKind) -> Result<(OwnedFd, OwnedFd), Errno> {
    let kind = match kind {
        SocketKind::Stream => libc::SOCK_STREAM,
        SocketKind::Datagram => libc::SOCK_DGRAM,
        SocketKind::SeqPacket => libc::SOCK_SEQPACKET,
    };
    let mut fds = [-1; 2];
    // SAFETY: room for two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()) })?;
    // SAFETY: the host has just made both for us.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// A second descriptor for the same open file.
///
/// # Errors
/// `EMFILE`.
pub fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    // SAFETY: the descriptor is borrowed, so open.
    retry_owned(|| unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) })
}

/// A duplicate of descriptor number `fd` as the process was given it by its starter (`con0=fd:5`).
///
/// # Errors
/// `EBADF` if there is none.
pub fn inherited(fd: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: a number that is no descriptor is an error, not harm: the duplicate is ours.
    retry_owned(|| unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) })
}

/// Reads what is there.
///
/// # Errors
/// The host's; `EAGAIN` where the descriptor does not block.
pub fn read(fd: BorrowedFd<'_>, buf: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the slice is valid for writing.
    retry(|| unsafe { libc::read(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) }).map(|n| n as usize)
}

/// Writes what fits.
///
/// # Errors
/// The host's; `EAGAIN` where the descriptor does not block, `EPIPE`.
pub fn write(fd: BorrowedFd<'_>, buf: &[u8]) -> Result<usize, Errno> {
    // SAFETY: the slice is valid for reading.
    retry(|| unsafe { libc::write(fd.as_raw_fd(), buf.as_ptr().cast(), buf.len()) }).map(|n| n as usize)
}

/// Writes everything, waiting (on the host) where the descriptor does not block.
///
/// # Errors
/// The host's.
pub fn write_all(fd: BorrowedFd<'_>, buf: &[u8]) -> Result<(), Errno> {
    write_all_raw(fd.as_raw_fd(), buf)
}

/// The status flags (`F_GETFL`): access mode, `O_APPEND`, `O_NONBLOCK`.
///
/// # Errors
/// The host's.
pub fn status_flags(fd: BorrowedFd<'_>) -> Result<i32, Errno> {
    // SAFETY: the descriptor is borrowed, so open.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })
}

/// Sets whether calls on the open file wait. Others that share the open file (the shell, for a terminal) are affected too.
///
/// # Errors
/// The host's.
pub fn set_blocking(fd: BorrowedFd<'_>, blocking: Blocking) -> Result<(), Errno> {
    let old = status_flags(fd)?;
    let new = if blocking == Blocking::No {
        old | libc::O_NONBLOCK
    } else {
        old & !libc::O_NONBLOCK
    };
    if new != old {
        // SAFETY: the descriptor is borrowed, so open.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, new) })?;
    }
    Ok(())
}

/// Waits (on the host) until `fd` is ready or `timeout` is over; `None` waits for ever, zero only looks. Empty: not ready.
///
/// # Errors
/// The host's.
pub fn poll(fd: BorrowedFd<'_>, interest: Interest, timeout: Option<Duration>) -> Result<Ready, Errno> {
    let mut events = 0;
    if interest.contains(Interest::READ) {
        events |= libc::POLLIN;
    }
    if interest.contains(Interest::WRITE) {
        events |= libc::POLLOUT;
    }
    let mut entry = libc::pollfd {
        fd: fd.as_raw_fd(),
        events,
        revents: 0,
    };
    let limit = timeout.map(|t| libc::timespec {
        tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(t.subsec_nanos()),
    });
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: one valid entry, a valid or no timeout, no signal mask.
    retry(|| unsafe { libc::ppoll(&mut entry, 1, limit, ptr::null()) })?;
    let has = |flag: i16| entry.revents & flag != 0;
    let mut ready = Ready::empty();
    ready.set(Ready::READ, has(libc::POLLIN));
    ready.set(Ready::WRITE, has(libc::POLLOUT));
    ready.set(Ready::HANGUP, has(libc::POLLHUP));
    ready.set(Ready::ERROR, has(libc::POLLERR | libc::POLLNVAL));
    Ok(ready)
}

/// What stands behind a descriptor, as far as reading and writing differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A terminal.
    Terminal,
    /// A pipe or FIFO.
    Pipe,
    /// A socket.
    Socket,
    /// A regular file or block device: never blocks, never "not ready".
    File,
    /// Another character device.
    Device,
}

/// What stands behind `fd`, and the number of the device or file (equal for two descriptors of the same thing).
///
/// # Errors
/// The host's.
pub fn kind(fd: BorrowedFd<'_>) -> Result<(Kind, (u64, u64)), Errno> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the call fills the structure when it succeeds.
    let stat = unsafe {
        check(libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()))?;
        stat.assume_init()
    };
    let kind = match stat.st_mode & libc::S_IFMT {
        libc::S_IFCHR if is_terminal(fd) => Kind::Terminal,
        libc::S_IFCHR | libc::S_IFDIR => Kind::Device,
        libc::S_IFIFO => Kind::Pipe,
        libc::S_IFSOCK => Kind::Socket,
        _ => Kind::File,
    };
    Ok((kind, (stat.st_dev, stat.st_ino)))
}

/// Opens the file, pipe or terminal behind `fd` anew, with the same access: locks and modes of the two are not one another's. So calls on a pipe need
/// not wait and others that share `fd`'s open file (the shell) do not notice.
///
/// # Errors
/// The host's: `EACCES` for a terminal of somebody else, `ENOENT` without /proc, `ENXIO` for sockets.
pub fn reopen(fd: BorrowedFd<'_>, blocking: Blocking) -> Result<OwnedFd, Errno> {
    let kept = status_flags(fd)? & (libc::O_ACCMODE | libc::O_SYNC | libc::O_DSYNC);
    let path = crate::host::sys::cstring(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_bytes())?;
    let wait = if blocking == Blocking::No { libc::O_NONBLOCK } else { 0 };
    let flags = kept | wait | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: a C string and numbers.
    retry_owned(|| unsafe { libc::open(path.as_ptr(), flags) })
}

/// Writes to a socket without waiting.
///
/// # Errors
/// `EAGAIN`, `EPIPE`.
pub fn send_now(socket: BorrowedFd<'_>, data: &[u8]) -> Result<usize, Errno> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the slice is valid for reading.
    retry(|| unsafe { libc::send(socket.as_raw_fd(), data.as_ptr().cast(), data.len(), flags) }).map(|n| n as usize)
}

/// Is it a terminal?
pub fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: the descriptor is borrowed, so open.
    unsafe { libc::isatty(fd.as_raw_fd()) == 1 }
}

/// Most descriptors in one message.
pub const MAX_FDS: usize = 16;

/// Room for a control message with [`MAX_FDS`] descriptors, aligned for its header.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; 128]);

/// Sends `data` with `fds` attached (at most [`MAX_FDS`]) over a local socket. Returns the bytes sent.
///
/// # Errors
/// The host's; `EINVAL` for too many descriptors.
pub fn send_with_fds(socket: BorrowedFd<'_>, data: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
    if fds.len() > MAX_FDS {
        return Err(Errno::EINVAL);
    }
    let mut control = Control([MaybeUninit::zeroed(); 128]);
    let mut iov = libc::iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    };
    // SAFETY: zero is a valid msghdr; every pointer put in lives until the call is over, the control buffer has room for MAX_FDS
    // descriptors, and the host only reads through them.
    unsafe {
        let mut msg: libc::msghdr = mem::zeroed();
        msg.msg_iov = &mut iov;
        msg.msg_iovlen = 1;
        if !fds.is_empty() {
            let bytes = mem::size_of_val(fds) as u32;
            msg.msg_control = control.0.as_mut_ptr().cast();
            msg.msg_controllen = libc::CMSG_SPACE(bytes) as usize;
            let header = libc::CMSG_FIRSTHDR(&msg);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(bytes) as usize;
            let slots = libc::CMSG_DATA(header).cast::<RawFd>();
            for (i, fd) in fds.iter().enumerate() {
                slots.add(i).write_unaligned(fd.as_raw_fd());
            }
        }
        retry(|| libc::sendmsg(socket.as_raw_fd(), &msg, libc::MSG_NOSIGNAL)).map(|n| n as usize)
    }
}

/// Receives data and the descriptors that came with it. Zero bytes: end of file.
///
/// # Errors
/// The host's; `EAGAIN` where the socket does not block.
pub fn recv_with_fds(socket: BorrowedFd<'_>, data: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut control = Control([MaybeUninit::zeroed(); 128]);
    let mut iov = libc::iovec {
        iov_base: data.as_mut_ptr().cast(),
        iov_len: data.len(),
    };
    let mut fds = Vec::new();
    // SAFETY: zero is a valid msghdr; every pointer put in lives until the call is over. The host tells the length of the control data
    // it wrote, the CMSG functions stay inside it, and each descriptor in it is new and ours.
    let n = unsafe {
        let mut msg: libc::msghdr = mem::zeroed();
        msg.msg_iov = &mut iov;
        msg.msg_iovlen = 1;
        msg.msg_control = control.0.as_mut_ptr().cast();
        msg.msg_controllen = control.0.len();
        let n = retry(|| libc::recvmsg(socket.as_raw_fd(), &mut msg, libc::MSG_CMSG_CLOEXEC))?;
        let mut header = libc::CMSG_FIRSTHDR(&msg);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let slots = libc::CMSG_DATA(header).cast::<RawFd>();
                let bytes = (*header).cmsg_len - libc::CMSG_LEN(0) as usize;
                for i in 0..bytes / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(slots.add(i).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(&msg, header);
        }
        n as usize
    };
    Ok((n, fds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn descriptors_cross_a_socket_and_still_work() {
        let (a, b) = socketpair(SocketKind::SeqPacket).unwrap();
        let (r, w) = pipe(Blocking::No).unwrap();
        assert_eq!(send_with_fds(a.as_fd(), b"two", &[r.as_fd(), w.as_fd()]), Ok(3));
        let mut buf = [0; 8];
        let (n, fds) = recv_with_fds(b.as_fd(), &mut buf).unwrap();
        assert_eq!((&buf[..n], fds.len()), (&b"two"[..], 2));
        assert_eq!(write(fds[1].as_fd(), b"x"), Ok(1));
        assert_eq!(read(r.as_fd(), &mut buf), Ok(1));
        assert_eq!(read(fds[0].as_fd(), &mut buf), Err(Errno::EAGAIN));
        drop(a);
        assert_eq!(recv_with_fds(b.as_fd(), &mut buf).map(|r| r.0), Ok(0));
        assert_eq!(send_with_fds(b.as_fd(), b"x", &[]), Err(Errno::EPIPE));
    }

    #[test]
    fn poll_tells_readiness_and_hang_up() {
        let (r, w) = pipe(Blocking::Yes).unwrap();
        assert_eq!(
            poll(r.as_fd(), Interest::READ, Some(Duration::ZERO)),
            Ok(Ready::empty())
        );
        write_all(w.as_fd(), b"x").unwrap();
        assert_eq!(poll(r.as_fd(), Interest::READ, None), Ok(Ready::READ));
        drop(w);
        assert_eq!(poll(r.as_fd(), Interest::READ, None), Ok(Ready::READ | Ready::HANGUP));
        assert!(inherited(9999).is_err());
    }
}
