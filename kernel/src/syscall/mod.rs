//! The edge: registers become typed arguments, a [`Context`] goes along, results become registers.
//!
//! One system call is one function `sys_*`, in a file by family beside its subject; `table_x86_64.rs` names them all.

use core::cell::{RefCell, RefMut};

use alloc::sync::Arc;
use skas::UserThread;

use crate::abi::Abi;
use crate::task::{Pid, Task};
use crate::user::{UserAddr, UserPtr};
use crate::vfs::fd_table::{Fd, FdTable};

/// What a system call works with: the calling task and its user thread.
pub struct Context {
    task: Arc<Task>,
    user: RefCell<UserThread>,
}

impl Context {
    /// The context of `task`, whose user code runs in `user`.
    pub fn new(task: Arc<Task>, user: UserThread) -> Self {
        Self {
            task,
            user: RefCell::new(user),
        }
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
