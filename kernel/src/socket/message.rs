//! `struct msghdr` and ancillary data (`cmsg(3)`).

use alloc::vec::Vec;

use super::inbox::Sender;
use super::unix::{Ancillary, Received};
use crate::abi::Abi;
use crate::abi_struct;
use crate::syscall::Context;
use crate::task::Capabilities;
use crate::user::{UserAddr, UserIo, UserPtr};
use crate::vfs::calls::io::{IoVec, read_iovec};
use crate::vfs::fd_table::{CloseOnExec, Fd};
use crate::{Errno, Result};

abi_struct! {
    /// `struct msghdr`.
    pub struct MsgHdr {
        /// Address.
        pub name: u64,
        /// Its length.
        pub name_len: u32,
        pad: u32,
        /// Pieces of data.
        pub iov: u64,
        /// How many.
        pub iov_len: u64,
        /// Ancillary data.
        pub control: u64,
        /// Its length.
        pub control_len: u64,
        /// `MSG_*` on the way back.
        pub flags: u32,
        pad2: u32,
    }
}

abi_struct! {
    /// `struct cmsghdr`.
    pub struct CmsgHdr {
        len: u64,
        level: i32,
        kind: i32,
    }
}

abi_struct! {
    /// `struct ucred`.
    pub struct Ucred {
        /// Process.
        pub pid: i32,
        /// User.
        pub uid: u32,
        /// Group.
        pub gid: u32,
    }
}

const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
const SCM_CREDENTIALS: i32 = 2;
/// Most descriptors in one message.
const SCM_MAX_FD: usize = 253;
/// Most bytes of ancillary data (`net.core.optmem_max`).
const CONTROL_MAX: usize = 128 * 1024;

/// `MSG_CTRUNC`: ancillary data did not fit.
pub const MSG_CTRUNC: u32 = 8;

impl MsgHdr {
    /// The data's buffers.
    pub fn data(&self) -> Result<UserIo> {
        let count = usize::try_from(self.iov_len)
            .ok()
            .filter(|&count| count <= 1024)
            .ok_or(Errno::EMSGSIZE)?;
        Ok(UserIo::new(read_iovec(UserPtr::<IoVec>::new(self.iov), count)?))
    }

    /// The ancillary data that goes along.
    pub fn ancillary(&self, cx: &Context) -> Result<Ancillary> {
        let mut ancillary = Ancillary::default();
        if self.control == 0 || self.control_len == 0 {
            return Ok(ancillary);
        }
        let len = usize::try_from(self.control_len)
            .ok()
            .filter(|&len| len <= CONTROL_MAX)
            .ok_or(Errno::ENOBUFS)?;
        let mut raw = alloc::vec![0; len];
        UserAddr(self.control).read(&mut raw)?;
        let mut rest = &raw[..];
        while rest.len() >= CmsgHdr::SIZE {
            let head = CmsgHdr::decode(&rest[..CmsgHdr::SIZE]);
            let len = usize::try_from(head.len).map_err(|_| Errno::EINVAL)?;
            if len < CmsgHdr::SIZE || len > rest.len() {
                return Err(Errno::EINVAL);
            }
            if head.level == SOL_SOCKET {
                take(cx, head.kind, &rest[CmsgHdr::SIZE..len], &mut ancillary)?;
            }
            rest = &rest[len.next_multiple_of(8).min(rest.len())..];
        }
        Ok(ancillary)
    }

    /// Gives what came along; returns the length used and the flags to tell.
    pub fn give(
        &self,
        cx: &Context,
        received: &mut Received,
        cloexec: CloseOnExec,
        with_cred: bool,
    ) -> Result<(u64, u32)> {
        let mut control = Control {
            at: self.control,
            room: self.control_len as usize,
            used: 0,
            flags: 0,
        };
        if with_cred {
            let Sender { pid, uid, gid } = received.sender.unwrap_or_default();
            control.put(SCM_CREDENTIALS, &Ucred { pid, uid, gid }.to_bytes())?;
        }
        let rights = core::mem::take(&mut received.rights);
        if !rights.is_empty() {
            let fit = control.room.saturating_sub(CmsgHdr::SIZE) / 4;
            if fit < rights.len() {
                control.flags |= MSG_CTRUNC;
            }
            let mut fds = Vec::new();
            for file in rights.into_iter().take(fit) {
                match cx.files().install(file, cloexec) {
                    Ok(Fd(fd)) => fds.extend_from_slice(&fd.to_le_bytes()),
                    Err(_) => {
                        control.flags |= MSG_CTRUNC;
                        break;
                    }
                }
            }
            if !fds.is_empty() {
                control.put(SCM_RIGHTS, &fds)?;
            }
        }
        Ok((control.used, control.flags))
    }
}

fn take(cx: &Context, kind: i32, data: &[u8], ancillary: &mut Ancillary) -> Result<()> {
    match kind {
        SCM_RIGHTS => {
            if data.len() / 4 + ancillary.rights.len() > SCM_MAX_FD {
                return Err(Errno::EINVAL);
            }
            for raw in data.chunks_exact(4) {
                ancillary.rights.push(cx.files().get_any(Fd(i32::decode(raw)))?);
            }
        }
        SCM_CREDENTIALS => {
            if data.len() != Ucred::SIZE {
                return Err(Errno::EINVAL);
            }
            let Ucred { pid, uid, gid } = Ucred::decode(data);
            let cred = cx.task().cred();
            let own_uid = [cred.uid, cred.euid, cred.suid].contains(&uid) || cred.capable(Capabilities::SETUID);
            let own_gid = [cred.gid, cred.egid, cred.sgid].contains(&gid) || cred.capable(Capabilities::SETGID);
            let own_pid = cx.task().process().pid().0 == pid || cred.capable(Capabilities::SYS_ADMIN);
            if !(own_uid && own_gid && own_pid) {
                return Err(Errno::EPERM);
            }
            ancillary.sender = Some(Sender { pid, uid, gid });
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// A guest's buffer for ancillary data.
struct Control {
    at: u64,
    room: usize,
    used: u64,
    flags: u32,
}

impl Control {
    fn put(&mut self, kind: i32, data: &[u8]) -> Result<()> {
        let full = CmsgHdr::SIZE + data.len();
        if self.at == 0 || self.room < CmsgHdr::SIZE {
            self.flags |= MSG_CTRUNC;
            return Ok(());
        }
        let len = full.min(self.room);
        if len < full {
            self.flags |= MSG_CTRUNC;
        }
        let mut raw = CmsgHdr {
            len: len as u64,
            level: SOL_SOCKET,
            kind,
        }
        .to_bytes();
        raw.extend_from_slice(&data[..len - CmsgHdr::SIZE]);
        UserAddr(self.at).write(&raw)?;
        let step = len.next_multiple_of(8).min(self.room);
        self.at += step as u64;
        self.room -= step;
        self.used += step as u64;
        Ok(())
    }
}
