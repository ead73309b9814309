//! What a process does on each signal: `sigaction(2)`.

use arch_um::sync::{SpinLock, order};
use bitflags::bitflags;

use super::info::{SigSet, Signal};
use super::send;
use crate::syscall::Context;
use crate::user::UserPtr;
use crate::{Errno, Result, abi_struct};

bitflags! {
    /// `sa_flags`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct ActionFlags: u64 {
        /// No `SIGCHLD` when a child stops.
        const NOCLDSTOP = 0x1;
        /// Children do not become zombies.
        const NOCLDWAIT = 0x2;
        /// The handler takes three arguments.
        const SIGINFO = 0x4;
        /// Tag bits in `si_addr` are kept.
        const EXPOSE_TAGBITS = 0x800;
        /// `restorer` is set.
        const RESTORER = 0x0400_0000;
        /// On the alternate stack.
        const ONSTACK = 0x0800_0000;
        /// Restart system calls.
        const RESTART = 0x1000_0000;
        /// Do not block the signal in its handler.
        const NODEFER = 0x4000_0000;
        /// Back to the default before the handler runs.
        const RESETHAND = 0x8000_0000;
    }
}

/// `SIG_DFL`.
pub const SIG_DFL: u64 = 0;
/// `SIG_IGN`.
pub const SIG_IGN: u64 = 1;

/// What happens by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    /// Nothing.
    Ignore,
    /// The process stops.
    Stop,
    /// The process ends.
    Terminate,
    /// The process ends with a core dump.
    Core,
}

impl Signal {
    /// What it does without a handler.
    pub const fn default_action(self) -> DefaultAction {
        match self {
            Signal::CONT | Signal::CHLD | Signal::WINCH | Signal::URG => DefaultAction::Ignore,
            Signal::STOP | Signal::TSTP | Signal::TTIN | Signal::TTOU => DefaultAction::Stop,
            Signal::QUIT | Signal::ILL | Signal::TRAP | Signal::ABRT | Signal::FPE => DefaultAction::Core,
            Signal::SEGV | Signal::BUS | Signal::SYS | Signal::XCPU | Signal::XFSZ => DefaultAction::Core,
            _ => DefaultAction::Terminate,
        }
    }
}

/// One disposition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// [`SIG_DFL`], [`SIG_IGN`] or an address.
    pub handler: u64,
    /// How.
    pub flags: ActionFlags,
    /// Where the handler returns to.
    pub restorer: u64,
    /// Blocked while the handler runs.
    pub mask: SigSet,
}

impl Action {
    /// Whether it does nothing on `signal`.
    pub fn ignores(&self, signal: Signal) -> bool {
        match self.handler {
            SIG_IGN => true,
            SIG_DFL => signal.default_action() == DefaultAction::Ignore,
            _ => false,
        }
    }

    /// Whether a function of the program takes the signal.
    pub fn is_handler(&self) -> bool {
        self.handler != SIG_DFL && self.handler != SIG_IGN
    }
}

abi_struct! {
    /// The kernel's `struct sigaction` of x86-64.
    pub struct SigactionAbi {
        /// Handler.
        pub handler: u64,
        /// Flags.
        pub flags: u64,
        /// Restorer.
        pub restorer: u64,
        /// Mask.
        pub mask: u64,
    }
}

/// The dispositions of all signals; shared by `CLONE_SIGHAND`.
pub struct Actions {
    table: SpinLock<[Action; 64]>,
}

impl Default for Actions {
    fn default() -> Self {
        Self {
            table: SpinLock::new(&order::SIGNAL_ACTIONS, [Action::default(); 64]),
        }
    }
}

impl Actions {
    /// What happens on `signal`.
    pub fn get(&self, signal: Signal) -> Action {
        self.table.lock()[signal.index()]
    }

    /// Replaces what happens on `signal`; returns what did.
    pub fn set(&self, signal: Signal, action: Action) -> Action {
        core::mem::replace(&mut self.table.lock()[signal.index()], action)
    }

    /// A copy (`fork(2)`).
    pub fn duplicate(&self) -> Self {
        Self {
            table: SpinLock::new(&order::SIGNAL_ACTIONS, *self.table.lock()),
        }
    }

    /// Everything as by default (`CLONE_CLEAR_SIGHAND`: what is ignored stays ignored, as for exec).
    pub fn reset_handlers(&self) {
        for action in self.table.lock().iter_mut() {
            let handler = if action.handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
            *action = Action {
                handler,
                ..Action::default()
            };
        }
    }

    /// The signals that are ignored and those that are caught, for `/proc/PID/status`.
    pub fn sets(&self) -> (SigSet, SigSet) {
        let (mut ignored, mut caught) = (SigSet::EMPTY, SigSet::EMPTY);
        for (action, number) in self.table.lock().iter().zip(1..) {
            let Some(signal) = Signal::new(number) else { continue };
            if action.handler == SIG_IGN {
                ignored = ignored.with(signal);
            } else if action.is_handler() {
                caught = caught.with(signal);
            }
        }
        (ignored, caught)
    }
}

/// `rt_sigaction(2)`. `EINVAL` for a wrong set size, an unknown signal, and a change of `KILL` or `STOP`.
pub fn sys_rt_sigaction(
    cx: &Context,
    number: i32,
    new: UserPtr<SigactionAbi>,
    old: UserPtr<SigactionAbi>,
    size: usize,
) -> Result<usize> {
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    let new = new.non_null().map(UserPtr::read).transpose()?;
    let signal = Signal::new(number).ok_or(Errno::EINVAL)?;
    if new.is_some() && SigSet::UNBLOCKABLE.contains(signal) {
        return Err(Errno::EINVAL);
    }
    let process = cx.task().process();
    let actions = process.actions();
    let before = match new {
        Some(new) => {
            let action = Action {
                handler: new.handler,
                flags: ActionFlags::from_bits_truncate(new.flags),
                restorer: new.restorer,
                mask: SigSet(new.mask).minus(SigSet::UNBLOCKABLE),
            };
            let before = actions.set(signal, action);
            if action.ignores(signal) {
                // POSIX.1-2024, 2.4.3: what is pending is discarded, blocked or not.
                send::discard(process, SigSet::of(signal));
            }
            before
        }
        None => actions.get(signal),
    };
    if let Some(old) = old.non_null() {
        old.write(&SigactionAbi {
            handler: before.handler,
            flags: before.flags.bits(),
            restorer: before.restorer,
            mask: before.mask.0,
        })?;
    }
    Ok(0)
}
