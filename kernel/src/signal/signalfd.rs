//! `signalfd4(2)`: signals as a file.
//!
//! The file belongs to nobody: each reader takes what is pending for itself.

use alloc::sync::Arc;
use core::any::Any;

use arch_um::sync::{Interruptible, SpinLock, order};

use super::deliver;
use super::info::{SigDetail, SigInfo, SigSet};
use super::mask::read_set;
use crate::abi::Abi;
use crate::io::Sink;
use crate::syscall::Context;
use crate::task;
use crate::user::UserPtr;
use crate::vfs::fd_table::Fd;
use crate::vfs::file::SeekKind;
use crate::vfs::{File, FileOps, OpenFlags, PollEvents, PollTable, anon};
use crate::{Errno, Result, abi_struct};

abi_struct! {
    /// `struct signalfd_siginfo`.
    pub struct SignalfdSiginfo {
        signo: u32,
        errno: i32,
        code: i32,
        pid: u32,
        uid: u32,
        fd: i32,
        tid: u32,
        band: u32,
        overrun: u32,
        trapno: u32,
        status: i32,
        int: i32,
        ptr: u64,
        utime: u64,
        stime: u64,
        addr: u64,
        addr_lsb: u16,
        pad2: u16,
        syscall: i32,
        call_addr: u64,
        arch: u32,
        pad: [u8; 28],
    }
}

impl SignalfdSiginfo {
    fn new(info: &SigInfo) -> Self {
        let base = Self {
            signo: info.signal.number() as u32,
            errno: info.errno,
            code: info.code,
            ..Self::default()
        };
        match info.detail {
            SigDetail::None => base,
            SigDetail::Sender { pid, uid, value } => Self {
                pid: pid.0 as u32,
                uid,
                int: value as i32,
                ptr: value,
                ..base
            },
            SigDetail::Child {
                pid,
                uid,
                status,
                utime,
                stime,
            } => Self {
                pid: pid.0 as u32,
                uid,
                status,
                utime: utime as u64,
                stime: stime as u64,
                ..base
            },
            SigDetail::Fault { addr } => Self { addr, ..base },
            SigDetail::Timer { id, overrun, value } => Self {
                tid: id as u32,
                overrun: overrun as u32,
                int: value as i32,
                ptr: value,
                ..base
            },
            SigDetail::Poll { band, fd } => Self {
                band: band as u32,
                fd,
                ..base
            },
            SigDetail::Sys { call_addr, nr, arch } => Self {
                call_addr,
                syscall: nr,
                arch,
                ..base
            },
            SigDetail::Raw(bytes) => {
                let value = u64::decode(&bytes[8..16]);
                Self {
                    pid: u32::decode(&bytes[0..4]),
                    uid: u32::decode(&bytes[4..8]),
                    int: value as i32,
                    ptr: value,
                    ..base
                }
            }
        }
    }
}

/// What stands behind a signalfd.
struct SignalFd {
    set: SpinLock<SigSet>,
}

impl SignalFd {
    fn set(&self) -> SigSet {
        *self.set.lock()
    }
}

impl FileOps for SignalFd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> SeekKind {
        SeekKind::Stream
    }

    fn read_at(&self, file: &File, _pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        let size = SignalfdSiginfo::SIZE;
        if dst.remaining() < size {
            return Err(Errno::EINVAL);
        }
        let task = task::current();
        let mut done = 0;
        while dst.remaining() >= size {
            let next = match deliver::dequeue(&task, self.set()) {
                Some(info) => info,
                // Only the first one is worth waiting for.
                None if done > 0 => break,
                None if file.is_nonblocking() => return Err(Errno::EAGAIN),
                None => task
                    .process()
                    .signal_wait
                    .wait_until(Interruptible::Yes, None, || deliver::dequeue(&task, self.set()))?,
            };
            match dst.write(&SignalfdSiginfo::new(&next).to_bytes()) {
                Ok(count) => done += count,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn announces(&self) -> bool {
        true
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        let Some(task) = task::try_current() else {
            return PollEvents::empty();
        };
        if let Some(table) = table {
            table.listen(&task.process().signal_wait);
        }
        if task.pending().intersect(self.set()).is_empty() {
            PollEvents::empty()
        } else {
            PollEvents::IN | PollEvents::RDNORM
        }
    }
}

/// `signalfd4(2)`: a new file, or another set for an old one.
pub fn sys_signalfd4(cx: &Context, fd: Fd, set: UserPtr<u64>, size: usize, flags: u32) -> Result<usize> {
    let set = read_set(set, size)?.minus(SigSet::UNBLOCKABLE);
    let flags = OpenFlags::from_bits_retain(flags);
    if !(OpenFlags::CLOEXEC | OpenFlags::NONBLOCK).contains(flags) {
        return Err(Errno::EINVAL);
    }
    if fd == Fd(-1) {
        let ops = Arc::new(SignalFd {
            set: SpinLock::new(&order::LEAF, set),
        });
        let file = anon::file(ops, "[signalfd]", flags | OpenFlags::RDWR, cx.task().cred());
        return cx.files().install(file, flags).map(|fd| fd.0 as usize);
    }
    let file = cx.files().get(fd)?;
    let old = file.ops_as::<SignalFd>().ok_or(Errno::EINVAL)?;
    *old.set.lock() = set;
    cx.task().process().signal_wait.wake_all();
    Ok(fd.0 as usize)
}

/// `signalfd(2)`.
pub fn sys_signalfd(cx: &Context, fd: Fd, set: UserPtr<u64>, size: usize) -> Result<usize> {
    sys_signalfd4(cx, fd, set, size, 0)
}
