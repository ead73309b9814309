//! `membarrier(2)`: memory barriers on all threads of a process, by interrupting those that run.

use super::{Task, table};
use crate::syscall::Context;
use crate::{Errno, Result};

const QUERY: i32 = 0;
const GLOBAL: i32 = 1;
const GLOBAL_EXPEDITED: i32 = 1 << 1;
const REGISTER_GLOBAL_EXPEDITED: i32 = 1 << 2;
const PRIVATE_EXPEDITED: i32 = 1 << 3;
const REGISTER_PRIVATE_EXPEDITED: i32 = 1 << 4;
const PRIVATE_EXPEDITED_SYNC_CORE: i32 = 1 << 5;
const REGISTER_PRIVATE_EXPEDITED_SYNC_CORE: i32 = 1 << 6;
const GET_REGISTRATIONS: i32 = 1 << 9;
const KNOWN: i32 = GLOBAL
    | GLOBAL_EXPEDITED
    | REGISTER_GLOBAL_EXPEDITED
    | PRIVATE_EXPEDITED
    | REGISTER_PRIVATE_EXPEDITED
    | PRIVATE_EXPEDITED_SYNC_CORE
    | REGISTER_PRIVATE_EXPEDITED_SYNC_CORE
    | GET_REGISTRATIONS;

/// `membarrier(2)`. `EPERM` for a private command without registration.
pub fn sys_membarrier(cx: &Context, command: i32, flags: u32, _cpu: i32) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let task = cx.task();
    let register = |bit: i32| {
        task.process()
            .with_attributes(|attributes| attributes.membarrier |= bit as u32)
    };
    let registered = || {
        task.process()
            .with_attributes(|attributes| attributes.membarrier as i32)
    };
    match command {
        QUERY => return Ok(KNOWN as usize),
        GLOBAL | GLOBAL_EXPEDITED => {
            for process in table::processes() {
                process.threads().iter().for_each(|thread| interrupt(task, thread));
            }
        }
        REGISTER_GLOBAL_EXPEDITED | REGISTER_PRIVATE_EXPEDITED | REGISTER_PRIVATE_EXPEDITED_SYNC_CORE => {
            register(command)
        }
        PRIVATE_EXPEDITED if registered() & REGISTER_PRIVATE_EXPEDITED == 0 => return Err(Errno::EPERM),
        PRIVATE_EXPEDITED_SYNC_CORE if registered() & REGISTER_PRIVATE_EXPEDITED_SYNC_CORE == 0 => {
            return Err(Errno::EPERM);
        }
        PRIVATE_EXPEDITED | PRIVATE_EXPEDITED_SYNC_CORE => {
            task.process()
                .threads()
                .iter()
                .for_each(|thread| interrupt(task, thread));
        }
        GET_REGISTRATIONS => return Ok(registered() as usize),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// Makes a running thread pass through the host's kernel, which is a barrier.
fn interrupt(own: &Task, thread: &Task) {
    if thread.tid() == own.tid() {
        return;
    }
    if let Some(thread) = thread.thread().filter(|thread| thread.is_running()) {
        arch_um::cpu::resched(thread.last_cpu());
    }
}
