//! The alternate signal stack: `sigaltstack(2)`.

use super::state::AltStack;
use crate::syscall::Context;
use crate::task::Task;
use crate::user::UserPtr;
use crate::{Errno, Result};

const SS_ONSTACK: i32 = 1;
const SS_DISABLE: i32 = 2;
/// Disarmed while a handler runs.
const SS_AUTODISARM: i32 = 1 << 31;
/// `MINSIGSTKSZ`.
const MIN_SIZE: u64 = 2048;

/// Whether `sp` is on the stack that `stack` describes. With `SS_AUTODISARM` it never is: the stack may be used anew.
pub(super) fn contains(stack: &AltStack, sp: u64) -> bool {
    stack.flags & SS_AUTODISARM == 0 && contains_address(stack, sp)
}

/// As [`contains`], by addresses alone.
pub(super) fn contains_address(stack: &AltStack, sp: u64) -> bool {
    stack.size != 0 && sp > stack.sp && sp - stack.sp <= stack.size
}

/// Whether a handler may switch to it with the stack pointer where it is.
pub(super) fn is_usable(stack: &AltStack, sp: u64) -> bool {
    stack.size != 0 && !contains(stack, sp)
}

/// As the guest sees it.
fn reported(stack: &AltStack, sp: u64) -> AltStack {
    let state = match stack.size {
        0 => SS_DISABLE,
        _ if contains(stack, sp) => SS_ONSTACK,
        _ => 0,
    };
    AltStack {
        flags: state | stack.flags & SS_AUTODISARM,
        ..*stack
    }
}

/// A handler has been put on some stack: an `SS_AUTODISARM` stack is off until sigreturn.
pub(super) fn autodisarm(task: &Task) {
    let mut own = task.signals.lock();
    if own.altstack.flags & SS_AUTODISARM != 0 {
        own.altstack = AltStack::default();
    }
}

/// sigreturn: back to the stack of the frame. Nonsense changes nothing.
pub(super) fn restore(task: &Task, stack: AltStack) {
    let _ = set(task, stack);
}

fn set(task: &Task, stack: AltStack) -> Result<()> {
    let mode = stack.flags & !SS_AUTODISARM;
    if mode != 0 && mode != SS_ONSTACK && mode != SS_DISABLE {
        return Err(Errno::EINVAL);
    }
    let new = if mode == SS_DISABLE {
        AltStack {
            sp: 0,
            size: 0,
            flags: stack.flags,
            pad: 0,
        }
    } else if stack.size < MIN_SIZE {
        return Err(Errno::ENOMEM);
    } else {
        AltStack { pad: 0, ..stack }
    };
    task.signals.lock().altstack = new;
    Ok(())
}

/// `sigaltstack(2)`. `EPERM` for a change while running on it, `EINVAL` for unknown flags, `ENOMEM` for one below `MINSIGSTKSZ`.
pub fn sys_sigaltstack(cx: &Context, new: UserPtr<AltStack>, old: UserPtr<AltStack>) -> Result<usize> {
    let task = cx.task();
    let sp = cx.user().regs().rsp;
    let now = task.signals.lock().altstack;
    if let Some(new) = new.non_null() {
        let new = new.read()?;
        if contains(&now, sp) {
            return Err(Errno::EPERM);
        }
        set(task, new)?;
    }
    if let Some(old) = old.non_null() {
        old.write(&reported(&now, sp))?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_contains_its_top_but_not_its_lowest_byte() {
        let stack = AltStack {
            sp: 0x1000,
            size: 0x2000,
            flags: 0,
            pad: 0,
        };
        assert!(contains(&stack, 0x3000));
        assert!(!contains(&stack, 0x1000));
        assert!(!contains(&stack, 0x3001));
        assert_eq!(reported(&stack, 0x2000).flags, SS_ONSTACK);
        assert_eq!(reported(&stack, 0x8000).flags, 0);
        assert_eq!(reported(&AltStack::default(), 0x8000).flags, SS_DISABLE);
        assert!(!contains(
            &AltStack {
                flags: SS_AUTODISARM,
                ..stack
            },
            0x2000
        ));
    }
}
