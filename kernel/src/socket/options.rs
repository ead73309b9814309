//! `getsockopt(2)`, `setsockopt(2)` at the level of all sockets (`socket(7)`).

use arch_um::time::Duration;

use super::calls::socket_of;
use super::inbox::{CAPACITY, Sender};
use super::message::Ucred;
use crate::abi::Abi;
use crate::syscall::Context;
use crate::user::{UserAddr, UserPtr};
use crate::vfs::fd_table::Fd;
use crate::{Errno, Result};

const SOL_SOCKET: i32 = 1;
const SO_DEBUG: i32 = 1;
const SO_REUSEADDR: i32 = 2;
const SO_TYPE: i32 = 3;
const SO_ERROR: i32 = 4;
const SO_SNDBUF: i32 = 7;
const SO_RCVBUF: i32 = 8;
const SO_PRIORITY: i32 = 12;
const SO_LINGER: i32 = 13;
const SO_REUSEPORT: i32 = 15;
const SO_PASSCRED: i32 = 16;
const SO_PEERCRED: i32 = 17;
const SO_RCVLOWAT: i32 = 18;
const SO_SNDLOWAT: i32 = 19;
const SO_RCVTIMEO: i32 = 20;
const SO_SNDTIMEO: i32 = 21;
const SO_TIMESTAMP: i32 = 29;
const SO_ACCEPTCONN: i32 = 30;
const SO_SNDBUFFORCE: i32 = 32;
const SO_RCVBUFFORCE: i32 = 33;
const SO_PROTOCOL: i32 = 38;
const SO_DOMAIN: i32 = 39;

/// `getsockopt(2)`.
pub fn sys_getsockopt(cx: &Context, fd: Fd, level: i32, name: i32, out: UserAddr, len: UserPtr<i32>) -> Result<usize> {
    let (_file, socket) = socket_of(cx, fd)?;
    if level != SOL_SOCKET {
        return Err(Errno::EOPNOTSUPP);
    }
    let int = |value: i32| value.to_le_bytes().to_vec();
    let flag = |on: bool| int(i32::from(on));
    let span = |span: Option<Duration>| {
        let span = span.unwrap_or_default();
        [span.as_secs() as i64, i64::from(span.subsec_micros())].to_bytes()
    };
    let value = match name {
        SO_TYPE => int(socket.kind().raw()),
        SO_ERROR => int(socket.take_error().map_or(0, Errno::code)),
        SO_SNDBUF | SO_RCVBUF => int(CAPACITY as i32),
        SO_PASSCRED => flag(socket.passes_cred()),
        SO_PEERCRED => {
            let none = Sender {
                pid: 0,
                uid: u32::MAX,
                gid: u32::MAX,
            };
            let Sender { pid, uid, gid } = socket.peer_cred().unwrap_or(none);
            Ucred { pid, uid, gid }.to_bytes()
        }
        SO_ACCEPTCONN => flag(socket.is_listening()),
        SO_PROTOCOL => int(0),
        SO_DOMAIN => int(i32::from(super::address::AF_UNIX)),
        SO_RCVTIMEO => span(socket.timeouts()[0]),
        SO_SNDTIMEO => span(socket.timeouts()[1]),
        SO_LINGER => [0i32, 0].to_bytes(),
        SO_RCVLOWAT | SO_SNDLOWAT => int(1),
        SO_DEBUG | SO_REUSEADDR | SO_REUSEPORT | SO_PRIORITY | SO_TIMESTAMP => int(0),
        _ => return Err(Errno::ENOPROTOOPT),
    };
    let room = usize::try_from(len.read()?).map_err(|_| Errno::EINVAL)?;
    let count = room.min(value.len());
    out.write(&value[..count])?;
    len.write(&(count as i32))?;
    Ok(0)
}

/// `setsockopt(2)`. What has no meaning for local sockets is accepted, as on Linux.
pub fn sys_setsockopt(cx: &Context, fd: Fd, level: i32, name: i32, value: UserAddr, len: i32) -> Result<usize> {
    let (_file, socket) = socket_of(cx, fd)?;
    if level != SOL_SOCKET {
        return Err(Errno::EOPNOTSUPP);
    }
    if len < 4 {
        return Err(Errno::EINVAL);
    }
    let number = UserPtr::<i32>::new(value.0).read()?;
    match name {
        SO_PASSCRED => socket.set_pass_cred(number != 0),
        SO_RCVTIMEO | SO_SNDTIMEO => {
            if len < 16 {
                return Err(Errno::EINVAL);
            }
            let [sec, usec] = UserPtr::<[i64; 2]>::new(value.0).read()?;
            if !(0..1_000_000).contains(&usec) {
                return Err(Errno::EDOM);
            }
            let whole = u64::try_from(sec).unwrap_or(0);
            let span = Duration::from_secs(whole) + Duration::from_micros(usec as u64);
            let span = (!span.is_zero()).then_some(span);
            if name == SO_RCVTIMEO {
                socket.set_read_timeout(span)
            } else {
                socket.set_write_timeout(span)
            }
        }
        SO_TYPE | SO_ERROR | SO_ACCEPTCONN | SO_PROTOCOL | SO_DOMAIN | SO_PEERCRED => return Err(Errno::ENOPROTOOPT),
        SO_DEBUG | SO_REUSEADDR | SO_REUSEPORT | SO_PRIORITY | SO_SNDBUF | SO_RCVBUF | SO_LINGER | SO_RCVLOWAT
        | SO_TIMESTAMP | SO_SNDBUFFORCE | SO_RCVBUFFORCE | 5 | 6 | 9 | 10 | 11 => {}
        _ => return Err(Errno::ENOPROTOOPT),
    }
    Ok(0)
}
