//! `SIGIO` (`fcntl(2)`: `O_ASYNC`, `F_SETOWN`, `F_SETSIG`): a file that becomes ready tells its owner by a signal.
//!
//! A file with `O_ASYNC` keeps a [`PollTable`]; its queues call a [`Link`] with any lock held, so all that does is to hand itself to a kernel thread,
//! which sends. Changes that come before the thread has run are one signal.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use arch_um::sync::{Interruptible, SpinLock, WaitQueue, Wake, order};

use super::fd_table::Fd;
use super::file::File;
use super::pipe::PipeEnd;
use super::poll::{PollEvents, PollTable};
use crate::signal::info::{SigDetail, SigInfo, Signal};
use crate::signal::send;
use crate::task::{Capabilities, Cred, Pid, Task, table};
use crate::{Errno, Result};

/// Whom a signal goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Nobody.
    #[default]
    Nobody,
    /// One thread (`F_OWNER_TID`).
    Thread(Pid),
    /// A process.
    Process(Pid),
    /// A process group.
    Group(Pid),
}

/// Who gets `SIGIO`, and as what.
#[derive(Clone, Debug, Default)]
pub struct FileOwner {
    /// Whom.
    pub target: Target,
    /// The signal instead of `SIGIO`; 0 for `SIGIO` without any details.
    pub signal: u8,
    /// Who asked for it: he must be allowed to signal the owner.
    pub cred: Option<Arc<Cred>>,
}

/// `F_SETOWN` on behalf of `cred`.
///
/// # Errors
/// `ESRCH` where nobody has this number.
pub fn set_owner(file: &File, target: Target, cred: Arc<Cred>) -> Result<()> {
    let exists = match target {
        Target::Nobody => true,
        Target::Thread(pid) | Target::Process(pid) => table::task(pid).is_some(),
        Target::Group(group) => !table::group(group).is_empty(),
    };
    if !exists {
        return Err(Errno::ESRCH);
    }
    let mut owner = file.owner().lock();
    owner.target = target;
    let old = owner.cred.replace(cred);
    drop(owner);
    drop(old);
    Ok(())
}

/// What the other side's end is told as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// `POLL_HUP`.
    HangUp,
    /// There is something to read, the end; writing fails at once: pipes.
    Readiness,
}

/// What the queues of one file call.
struct Link {
    owner: Arc<SpinLock<FileOwner>>,
    /// Asked where a wake-up does not say what it is for.
    file: Weak<File>,
    fd: Fd,
    end: End,
    /// Events since the last signal.
    events: AtomicU32,
    is_queued: AtomicBool,
}

/// Links with something to tell, on their way to the kernel thread.
static QUEUE: SpinLock<VecDeque<Arc<Link>>> = SpinLock::new(&order::LEAF, VecDeque::new());
static BED: WaitQueue = WaitQueue::new();

/// The link as a queue knows it; it hands on a share of itself.
struct Waker(Arc<Link>);

impl Wake for Waker {
    fn wake(&self, key: u32) {
        self.0.events.fetch_or(key, Ordering::AcqRel);
        if !self.0.is_queued.swap(true, Ordering::AcqRel) {
            QUEUE.lock().push_back(self.0.clone());
            BED.wake_one();
        }
    }
}

/// The table of a file that tells its owner from now on; `fd` is what the signal names.
pub fn start(file: &Arc<File>, fd: Fd) -> PollTable {
    static THREAD: spin::Once<()> = spin::Once::new();
    THREAD.call_once(|| {
        if let Err(error) = crate::task::spawn_kernel_thread("kfasync", run) {
            log::error!("no thread for SIGIO can be started: {error}");
        }
    });
    let link = Link {
        owner: file.owner().clone(),
        file: Arc::downgrade(file),
        fd,
        end: match file.ops_as::<PipeEnd>() {
            Some(_) => End::Readiness,
            None => End::HangUp,
        },
        events: AtomicU32::new(0),
        is_queued: AtomicBool::new(false),
    };
    let all = PollEvents::IN | PollEvents::OUT | PollEvents::PRI | PollEvents::RDHUP;
    let mut table = PollTable::new(Arc::new(Waker(Arc::new(link))), all);
    file.ops().poll(file, Some(&mut table));
    table
}

fn run() {
    loop {
        let next = BED.wait_until(Interruptible::No, None, || QUEUE.lock().pop_front());
        let Ok(link) = next else { continue };
        // Cleared before the events are taken: what comes later queues the link again.
        link.is_queued.store(false, Ordering::Release);
        let mut events = PollEvents::from_bits_truncate(link.events.swap(0, Ordering::AcqRel));
        if events.is_empty()
            && let Some(file) = link.file.upgrade()
        {
            events = file.ops().poll(&file, None);
        }
        let owner = link.owner.lock().clone();
        let (code, band) = code(link.end, events);
        tell(&owner, link.fd, code, band.bits());
    }
}

/// Sends the owner of a file his signal; `code` and `band` are `si_code` and `si_band`, for who has asked for a signal that tells.
pub(super) fn tell(owner: &FileOwner, fd: Fd, code: i32, band: u32) {
    let Some(cred) = &owner.cred else { return };
    let info = |to: &Task| may_signal(cred, to).then(|| info(owner, fd, code, band));
    match owner.target {
        Target::Nobody => {}
        Target::Thread(pid) => {
            if let Some(task) = table::task(pid)
                && let Some(info) = info(&task)
            {
                send::to_task(&task, info);
            }
        }
        Target::Process(pid) => {
            if let Some(task) = table::task(pid)
                && let Some(info) = info(&task)
            {
                send::to_process(task.process(), info);
            }
        }
        Target::Group(group) => {
            for process in table::group(group) {
                if let Some(info) = process.any_thread().and_then(|task| info(&task)) {
                    send::to_process(&process, info);
                }
            }
        }
    }
}

/// `fcntl(2)`: as `kill(2)`, but by the user numbers at the time of `F_SETOWN`.
fn may_signal(cred: &Cred, to: &Task) -> bool {
    let theirs = to.cred();
    cred.capable(Capabilities::KILL)
        || [cred.euid, cred.uid]
            .iter()
            .any(|uid| [theirs.suid, theirs.uid].contains(uid))
}

fn info(owner: &FileOwner, fd: Fd, code: i32, band: u32) -> SigInfo {
    let Some(signal) = Signal::new(owner.signal.into()) else {
        return SigInfo::kernel(Signal::IO);
    };
    SigInfo {
        signal,
        code,
        errno: 0,
        detail: SigDetail::Poll {
            band: i64::from(band),
            fd: fd.0,
        },
    }
}

/// `si_code` and `si_band`: one thing, what matters most.
fn code(end: End, events: PollEvents) -> (i32, PollEvents) {
    const POLL_IN: (i32, PollEvents) = (1, PollEvents::IN.union(PollEvents::RDNORM));
    const POLL_OUT: (i32, PollEvents) = (2, PollEvents::OUT.union(PollEvents::WRNORM).union(PollEvents::WRBAND));
    const POLL_ERR: (i32, PollEvents) = (4, PollEvents::ERR);
    const POLL_PRI: (i32, PollEvents) = (5, PollEvents::PRI.union(PollEvents::RDBAND));
    const POLL_HUP: (i32, PollEvents) = (6, PollEvents::HUP.union(PollEvents::ERR));
    let has = |event| events.intersects(event);
    match end {
        End::HangUp if has(PollEvents::HUP | PollEvents::RDHUP) => POLL_HUP,
        End::HangUp if has(PollEvents::ERR) => POLL_ERR,
        End::Readiness if has(PollEvents::OUT | PollEvents::ERR) && !has(PollEvents::IN) => POLL_OUT,
        _ if has(PollEvents::PRI) => POLL_PRI,
        _ if has(PollEvents::OUT) && !has(PollEvents::IN) => POLL_OUT,
        _ => POLL_IN,
    }
}
