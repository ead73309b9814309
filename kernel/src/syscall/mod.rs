//! The edge: registers become typed arguments, a [`Context`] goes along, results become registers.
//!
//! One system call is one function `sys_*`, in a file by family beside its subject; `table_x86_64.rs` names them all.

pub mod table_x86_64;

use core::cell::{Cell, RefCell, RefMut};

use alloc::sync::Arc;
use arch_um::cpu::Kick;
use skas::{Kicker, UserThread};

use crate::abi::Abi;
use crate::task::{ExitStatus, Pid, Task};
use crate::user::{UserAddr, UserPtr};
use crate::vfs::fd_table::{Fd, FdTable};

/// What a system call works with: the calling task and its user thread.
pub struct Context {
    task: Arc<Task>,
    user: RefCell<UserThread>,
    kick: RefCell<Arc<dyn Kick>>,
    /// The last fault or exception, for the next signal frame.
    pub(crate) fault: Cell<FaultRecord>,
    /// Set by `exit(2)`: the loop ends the task when the call is over.
    pub(crate) exit: Cell<Option<ExitStatus>>,
}

/// What the processor said of the last fault or exception (`sigcontext`).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FaultRecord {
    pub addr: u64,
    pub error_code: u64,
    pub trapno: u64,
}

/// Interrupts the user thread of a context.
struct UserKick(Kicker);

impl Kick for UserKick {
    fn kick(&self) {
        self.0.kick();
    }
}

impl Context {
    /// The context of `task`, whose user code runs in `user`.
    pub fn new(task: Arc<Task>, user: UserThread) -> Self {
        let kick: Arc<dyn Kick> = Arc::new(UserKick(user.kicker()));
        Self {
            task,
            user: RefCell::new(user),
            kick: RefCell::new(kick),
            fault: Cell::default(),
            exit: Cell::new(None),
        }
    }

    /// The user thread is another one now (`execve(2)`): interrupts go there.
    pub(crate) fn user_replaced(&self) {
        *self.kick.borrow_mut() = Arc::new(UserKick(self.user.borrow().kicker()));
    }

    /// Ends the process as `SIGKILL` does, once the call at hand is over: there is nothing to return to.
    pub fn kill(&self) {
        self.exit.set(Some(crate::task::exit::kill(self.task.process())));
    }

    /// What ends a run of the user thread.
    pub(crate) fn kick(&self) -> Arc<dyn Kick> {
        self.kick.borrow().clone()
    }

    /// Takes the user thread out at the end.
    pub(crate) fn into_user(self) -> UserThread {
        self.user.into_inner()
    }

    /// The calling task.
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// Its descriptors.
    pub fn files(&self) -> Arc<FdTable> {
        self.task.files()
    }

    /// Its user thread: registers, stub (clone, exec, sigreturn). Never held across a sleep.
    pub fn user(&self) -> RefMut<'_, UserThread> {
        self.user.borrow_mut()
    }
}

/// A type that a system call argument register converts to. Truncates as C's conversion does.
pub trait FromRegister: Sized {
    /// From the 64-bit register.
    fn from_register(value: u64) -> Self;
}

macro_rules! from_register {
    ($($int:ty),*) => {$(
        impl FromRegister for $int {
            fn from_register(value: u64) -> Self {
                value as $int
            }
        }
    )*};
}
from_register!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize);

impl FromRegister for Fd {
    fn from_register(value: u64) -> Self {
        Fd(value as i32)
    }
}

impl FromRegister for Pid {
    fn from_register(value: u64) -> Self {
        Pid(value as i32)
    }
}

impl FromRegister for UserAddr {
    fn from_register(value: u64) -> Self {
        UserAddr(value)
    }
}

impl<T: Abi> FromRegister for UserPtr<T> {
    fn from_register(value: u64) -> Self {
        UserPtr::new(value)
    }
}
