//! `epoll_create1(2)`, `epoll_ctl(2)`, `epoll_wait(2)` and their relatives.

use alloc::sync::Arc;

use super::{EPOLLET, EPOLLEXCLUSIVE, Epoll, EpollEvent, Interest, instance};
use crate::signal::mask;
use crate::syscall::Context;
use crate::user::UserPtr;
use crate::vfs::anon;
use crate::vfs::calls::timeout::{self, Deadline, Unit};
use crate::vfs::fd_table::{CloseOnExec, Fd};
use crate::vfs::file::{File, OpenFlags};
use crate::vfs::poll::PollEvents;
use crate::{Errno, Result};

const EPOLLWAKEUP: u32 = 1 << 29;

const EPOLL_CTL_ADD: u32 = 1;
const EPOLL_CTL_DEL: u32 = 2;
const EPOLL_CTL_MOD: u32 = 3;

impl EpollEvent {
    const BYTES: i32 = 12;
}

/// Most events of one call (as many as fit into `int` bytes).
const EVENTS_MAX: i32 = i32::MAX / EpollEvent::BYTES;

/// `epoll_create1(2)`.
pub fn sys_epoll_create1(cx: &Context, flags: u32) -> Result<usize> {
    let flags = OpenFlags::from_bits_retain(flags);
    if !OpenFlags::CLOEXEC.contains(flags) {
        return Err(Errno::EINVAL);
    }
    let file = anon::file(Epoll::new(), "[eventpoll]", flags | OpenFlags::RDWR, cx.task().cred());
    let Fd(fd) = cx.files().install(file, CloseOnExec::from(flags))?;
    Ok(fd as usize)
}

/// `epoll_create(2)`: the size is of no use since Linux 2.6.8, but must be positive.
pub fn sys_epoll_create(cx: &Context, size: i32) -> Result<usize> {
    if size <= 0 {
        return Err(Errno::EINVAL);
    }
    sys_epoll_create1(cx, 0)
}

/// `epoll_ctl(2)`.
pub fn sys_epoll_ctl(cx: &Context, epfd: Fd, op: u32, fd: Fd, event: UserPtr<EpollEvent>) -> Result<usize> {
    let raw = if op == EPOLL_CTL_DEL {
        EpollEvent::default()
    } else {
        event.read()?
    };
    let files = cx.files();
    let epoll_file = files.get(epfd)?;
    let file = files.get(fd)?;
    if !file.ops().announces() {
        return Err(Errno::EPERM);
    }
    let epoll = instance(&epoll_file)?;
    if Arc::ptr_eq(&epoll_file, &file) {
        return Err(Errno::EINVAL);
    }
    let interest = Interest {
        events: raw.events & !EPOLLWAKEUP,
        data: raw.data,
    };
    match op {
        EPOLL_CTL_ADD => {
            check_exclusive(raw.events, &file)?;
            match instance(&file) {
                Ok(inner) => epoll.watch_instance(fd, &file, &inner, interest)?,
                Err(_) => epoll.add(fd, &file, interest)?,
            }
        }
        EPOLL_CTL_DEL => epoll.remove((fd.0, file.id()))?,
        EPOLL_CTL_MOD => {
            check_exclusive(raw.events, &file)?;
            epoll.modify(fd, &file, interest)?;
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// `EPOLLEXCLUSIVE` goes with few other bits, and not with nested instances.
fn check_exclusive(events: u32, file: &File) -> Result<()> {
    if events & EPOLLEXCLUSIVE == 0 {
        return Ok(());
    }
    let plain = PollEvents::IN | PollEvents::OUT | PollEvents::ERR | PollEvents::HUP;
    let allowed = plain.bits() | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
    if events & !allowed != 0 || file.ops_as::<Epoll>().is_some() {
        Err(Errno::EINVAL)
    } else {
        Ok(())
    }
}

fn wait(cx: &Context, epfd: Fd, out: UserPtr<EpollEvent>, limit: i32, deadline: Deadline) -> Result<usize> {
    if limit <= 0 || limit > EVENTS_MAX {
        return Err(Errno::EINVAL);
    }
    let file = cx.files().get(epfd)?;
    let epoll = instance(&file)?;
    // The list is bounded by what is watched, not by what the guest says.
    let events = epoll.wait(limit as usize, deadline)?;
    for (index, event) in events.iter().enumerate() {
        out.nth(index).write(event)?;
    }
    Ok(events.len())
}

/// `epoll_wait(2)`. Never restarted.
pub fn sys_epoll_wait(cx: &Context, epfd: Fd, out: UserPtr<EpollEvent>, limit: i32, millis: i32) -> Result<usize> {
    wait(cx, epfd, out, limit, timeout::from_millis(millis))
}

/// `epoll_pwait(2)`.
pub fn sys_epoll_pwait(
    cx: &Context,
    epfd: Fd,
    out: UserPtr<EpollEvent>,
    limit: i32,
    millis: i32,
    set: UserPtr<u64>,
    size: usize,
) -> Result<usize> {
    let set = set.non_null().map(|set| mask::read_set(set, size)).transpose()?;
    mask::with_mask(cx.task(), set, || {
        wait(cx, epfd, out, limit, timeout::from_millis(millis))
    })
}

/// `epoll_pwait2(2)`.
pub fn sys_epoll_pwait2(
    cx: &Context,
    epfd: Fd,
    out: UserPtr<EpollEvent>,
    limit: i32,
    time: UserPtr<[i64; 2]>,
    set: UserPtr<u64>,
    size: usize,
) -> Result<usize> {
    let deadline = timeout::read(time, Unit::Nano)?;
    let set = set.non_null().map(|set| mask::read_set(set, size)).transpose()?;
    mask::with_mask(cx.task(), set, || wait(cx, epfd, out, limit, deadline))
}
