//! Memory of other processes: `process_vm_readv(2)`, `process_vm_writev(2)`.

use alloc::sync::Arc;
use alloc::vec::Vec;

use skas::AddressSpace;

use super::{Pid, ptrace, table};
use crate::syscall::Context;
use crate::user::{UserAddr, UserPtr};
use crate::{Errno, Result};

/// `UIO_MAXIOV`.
const IOV_MAX: u64 = 1024;
/// What one call moves at most, as every call that moves data (`MAX_RW_COUNT`).
const BYTES_MAX: u64 = 0x7fff_f000;
/// Bytes copied at a time.
const CHUNK: usize = 64 << 10;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    FromRemote,
    ToRemote,
}

/// `process_vm_readv(2)`.
pub fn sys_process_vm_readv(
    cx: &Context,
    pid: Pid,
    local: u64,
    local_count: u64,
    remote: u64,
    remote_count: u64,
    flags: u64,
) -> Result<usize> {
    transfer(
        cx,
        pid,
        (local, local_count),
        (remote, remote_count),
        flags,
        Direction::FromRemote,
    )
}

/// `process_vm_writev(2)`.
pub fn sys_process_vm_writev(
    cx: &Context,
    pid: Pid,
    local: u64,
    local_count: u64,
    remote: u64,
    remote_count: u64,
    flags: u64,
) -> Result<usize> {
    transfer(
        cx,
        pid,
        (local, local_count),
        (remote, remote_count),
        flags,
        Direction::ToRemote,
    )
}

/// A list of ranges being walked.
struct Walk {
    ranges: Vec<[u64; 2]>,
    at: usize,
    offset: u64,
}

impl Walk {
    /// Reads an iovec. `EINVAL` for too many entries or a negative length; the total is cut.
    fn read(addr: u64, count: u64) -> Result<Self> {
        if count > IOV_MAX {
            return Err(Errno::EINVAL);
        }
        let mut ranges = UserPtr::<[u64; 2]>::new(addr).read_many(count as usize)?;
        let mut left = BYTES_MAX;
        for [_, len] in &mut ranges {
            if *len > i64::MAX as u64 {
                return Err(Errno::EINVAL);
            }
            *len = (*len).min(left);
            left -= *len;
        }
        Ok(Self {
            ranges,
            at: 0,
            offset: 0,
        })
    }

    /// Address and length of what comes next.
    fn next(&mut self) -> Option<(u64, u64)> {
        loop {
            let [addr, len] = *self.ranges.get(self.at)?;
            if self.offset < len {
                return Some((addr.wrapping_add(self.offset), len - self.offset));
            }
            self.at += 1;
            self.offset = 0;
        }
    }
}

fn transfer(
    cx: &Context,
    pid: Pid,
    local: (u64, u64),
    remote: (u64, u64),
    flags: u64,
    direction: Direction,
) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let mut local = Walk::read(local.0, local.1)?;
    let mut remote = Walk::read(remote.0, remote.1)?;
    if local.next().is_none() || remote.next().is_none() {
        return Ok(0);
    }
    let task = table::task(pid).ok_or(Errno::ESRCH)?;
    ptrace::may_access(cx.task(), &task)?;
    let space = task.try_mm().ok_or(Errno::ESRCH)?.space().clone();
    let mut done = 0;
    while let (Some((here, room)), Some((there, left))) = (local.next(), remote.next()) {
        let len = room.min(left).min(CHUNK as u64);
        match copy(&space, here, there, len as usize, direction) {
            Ok(()) => {}
            Err((0, error)) if done == 0 => return Err(error),
            Err((count, _)) => return Ok(done + count),
        }
        local.offset += len;
        remote.offset += len;
        done += len as usize;
    }
    Ok(done)
}

fn copy(
    space: &Arc<AddressSpace>,
    here: u64,
    there: u64,
    len: usize,
    direction: Direction,
) -> Result<(), (usize, Errno)> {
    let mut buffer = alloc::vec![0; len];
    match direction {
        Direction::FromRemote => {
            let (count, outcome) = match space.read(there, &mut buffer) {
                Ok(()) => (len, Ok(())),
                Err((count, error)) => (count, Err((count, error))),
            };
            UserAddr(here).write(&buffer[..count]).map_err(|error| (0, error))?;
            outcome
        }
        Direction::ToRemote => {
            UserAddr(here).read(&mut buffer).map_err(|error| (0, error))?;
            space.write(there, &buffer)
        }
    }
}
