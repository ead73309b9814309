//! `poll(2)`, `ppoll(2)`, `select(2)`, `pselect6(2)`.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use arch_um::sync::WaitError;

use super::timeout::{self, Deadline, Unit};
use crate::abi_struct;
use crate::signal::mask;
use crate::syscall::Context;
use crate::user::UserPtr;
use crate::vfs::fd_table::Fd;
use crate::vfs::file::File;
use crate::vfs::limits;
use crate::vfs::poll::{PollEvents, PollTable, Sleeper};
use crate::{Errno, Result};

abi_struct! {
    /// `struct pollfd`.
    pub struct PollFd {
        fd: i32,
        events: u16,
        revents: u16,
    }
}

/// A file that is watched, and for what.
struct Watch {
    file: Arc<File>,
    wanted: PollEvents,
    /// Its place in the caller's list.
    index: usize,
}

/// Errors and hang-ups are told whether asked for or not.
const ALWAYS: PollEvents = PollEvents::ERR.union(PollEvents::HUP);

/// Waits until `watches` has something or the deadline passes; calls `found` for each ready file. Returns how many there were.
fn wait(watches: &[Watch], deadline: Deadline, mut found: impl FnMut(&Watch, PollEvents)) -> Result<usize> {
    let mut scan = |mut table: Option<&mut PollTable>| {
        let mut count = 0;
        for watch in watches {
            let wanted = watch.wanted;
            if let Some(table) = table.as_deref_mut() {
                table.set_mask(wanted);
            }
            // Once something is ready there will be no sleep: no need to listen to the rest.
            let listen = if count == 0 { table.as_deref_mut() } else { None };
            let ready = watch.file.ops().poll(&watch.file, listen) & wanted;
            if !ready.is_empty() {
                found(watch, ready);
                count += 1;
            }
        }
        count
    };
    let now = scan(None);
    if now > 0 || deadline.is_some_and(|deadline| deadline <= arch_um::time::Instant::now()) {
        return Ok(now);
    }
    let sleeper = Sleeper::new();
    let mut table = PollTable::new(sleeper.clone(), ALWAYS);
    let mut count = scan(Some(&mut table));
    while count == 0 {
        match sleeper.sleep(deadline) {
            Ok(()) => count = scan(None),
            Err(WaitError::TimedOut) => return Ok(scan(None)),
            Err(WaitError::Interrupted) => return Err(Errno::RestartNoHand),
        }
    }
    Ok(count)
}

fn poll(cx: &Context, at: UserPtr<PollFd>, count: usize, deadline: Deadline) -> Result<usize> {
    if count > limits::open_files() {
        return Err(Errno::EINVAL);
    }
    let mut list = at.read_many(count)?;
    let files = cx.files();
    let mut watches = Vec::with_capacity(count);
    let mut invalid = 0;
    for (index, entry) in list.iter_mut().enumerate() {
        entry.revents = 0;
        if entry.fd < 0 {
            continue;
        }
        match files.get(Fd(entry.fd)) {
            Ok(file) => {
                let wanted = PollEvents::from_bits_truncate(u32::from(entry.events)) | ALWAYS;
                watches.push(Watch { file, wanted, index });
            }
            Err(_) => {
                entry.revents = PollEvents::NVAL.bits() as u16;
                invalid += 1;
            }
        }
    }
    // What is not open is an answer too: no wait.
    let deadline = if invalid > 0 {
        Some(arch_um::time::Instant::from_nanos(0))
    } else {
        deadline
    };
    let ready = wait(&watches, deadline, |watch, events| {
        if let Some(entry) = list.get_mut(watch.index) {
            entry.revents = events.bits() as u16;
        }
    })?;
    for (index, entry) in list.iter().enumerate() {
        // Only the answer is written: another thread may be changing the question.
        UserPtr::<u16>::new(at.nth(index).addr().offset(6).0).write(&entry.revents)?;
    }
    Ok(ready + invalid)
}

/// `poll(2)`. After a stop it goes on with the time that was left.
pub fn sys_poll(cx: &Context, fds: UserPtr<PollFd>, count: usize, millis: i32) -> Result<usize> {
    poll_until(cx, fds, count, timeout::from_millis(millis))
}

fn poll_until(cx: &Context, fds: UserPtr<PollFd>, count: usize, deadline: Deadline) -> Result<usize> {
    match poll(cx, fds, count, deadline) {
        Err(Errno::RestartNoHand) => {
            cx.task()
                .set_restart(Box::new(move |cx| poll_until(cx, fds, count, deadline)));
            Err(Errno::RestartBlock)
        }
        other => other,
    }
}

/// `ppoll(2)`.
pub fn sys_ppoll(
    cx: &Context,
    fds: UserPtr<PollFd>,
    count: usize,
    time: UserPtr<[i64; 2]>,
    set: UserPtr<u64>,
    size: usize,
) -> Result<usize> {
    let deadline = timeout::read(time, Unit::Nano)?;
    let set = set.non_null().map(|set| mask::read_set(set, size)).transpose()?;
    let result = mask::with_mask(cx.task(), set, || poll(cx, fds, count, deadline));
    timeout::finish(result, time, Unit::Nano, deadline)
}

/// Descriptors of one kind, as bits.
type Bits = Vec<u64>;

fn read_bits(at: UserPtr<u64>, words: usize) -> Result<Option<Bits>> {
    at.non_null().map(|at| at.read_many(words)).transpose()
}

fn has(bits: &Option<Bits>, fd: usize) -> bool {
    bits.as_ref()
        .and_then(|bits| bits.get(fd / 64))
        .is_some_and(|word| word >> (fd % 64) & 1 == 1)
}

fn set(bits: &mut Option<Bits>, fd: usize) {
    if let Some(word) = bits.as_mut().and_then(|bits| bits.get_mut(fd / 64)) {
        *word |= 1 << (fd % 64);
    }
}

const READABLE: PollEvents = PollEvents::IN
    .union(PollEvents::RDNORM)
    .union(PollEvents::RDBAND)
    .union(ALWAYS);
const WRITABLE: PollEvents = PollEvents::OUT
    .union(PollEvents::WRNORM)
    .union(PollEvents::WRBAND)
    .union(PollEvents::ERR);

fn select(cx: &Context, count: i32, sets: [UserPtr<u64>; 3], deadline: Deadline) -> Result<usize> {
    let files = cx.files();
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?.min(files.capacity());
    let words = count.div_ceil(64);
    let asked = [
        read_bits(sets[0], words)?,
        read_bits(sets[1], words)?,
        read_bits(sets[2], words)?,
    ];
    let mut watches = Vec::new();
    for fd in 0..count {
        let mut wanted = PollEvents::empty();
        for (bits, events) in asked.iter().zip([READABLE, WRITABLE, PollEvents::PRI]) {
            if has(bits, fd) {
                wanted |= events;
            }
        }
        if !wanted.is_empty() {
            watches.push(Watch {
                file: files.get(Fd(fd as i32))?,
                wanted,
                index: fd,
            });
        }
    }
    let mut answer: [Option<Bits>; 3] = asked
        .each_ref()
        .map(|bits| bits.as_ref().map(|bits| alloc::vec![0; bits.len()]));
    let mut bits_set = 0;
    let kinds = [READABLE, WRITABLE, PollEvents::PRI];
    wait(&watches, deadline, |watch, events| {
        for at in 0..3 {
            if has(&asked[at], watch.index) && events.intersects(kinds[at]) {
                set(&mut answer[at], watch.index);
                bits_set += 1;
            }
        }
    })?;
    for (at, bits) in sets.iter().zip(&answer) {
        for (index, word) in bits.iter().flatten().enumerate() {
            at.nth(index).write(word)?;
        }
    }
    Ok(bits_set)
}

/// `select(2)`: the time left is written back.
pub fn sys_select(
    cx: &Context,
    count: i32,
    read: UserPtr<u64>,
    write: UserPtr<u64>,
    except: UserPtr<u64>,
    time: UserPtr<[i64; 2]>,
) -> Result<usize> {
    let deadline = timeout::read(time, Unit::Micro)?;
    let result = select(cx, count, [read, write, except], deadline);
    timeout::finish(result, time, Unit::Micro, deadline)
}

/// `pselect6(2)`: the last argument points to the mask's address and size.
pub fn sys_pselect6(
    cx: &Context,
    count: i32,
    read: UserPtr<u64>,
    write: UserPtr<u64>,
    except: UserPtr<u64>,
    time: UserPtr<[i64; 2]>,
    set: UserPtr<[u64; 2]>,
) -> Result<usize> {
    let deadline = timeout::read(time, Unit::Nano)?;
    let set = match set.non_null() {
        Some(set) => {
            let [addr, size] = set.read()?;
            UserPtr::new(addr)
                .non_null()
                .map(|set| mask::read_set(set, size as usize))
                .transpose()?
        }
        None => None,
    };
    let result = mask::with_mask(cx.task(), set, || select(cx, count, [read, write, except], deadline));
    timeout::finish(result, time, Unit::Nano, deadline)
}
