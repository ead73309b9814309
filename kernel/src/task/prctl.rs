//! `prctl(2)`: the odds and ends of a task.

use alloc::sync::Arc;

use super::cred::{Capabilities, Cred};
use super::exec::SecureBits;
use super::process::Dumpable;
use super::{COMM_LEN, Task, table};
use crate::signal::Signal;
use crate::syscall::Context;
use crate::user::{UserAddr, UserPtr};
use crate::{Errno, Result};

/// Option numbers.
mod option {
    pub const SET_PDEATHSIG: i32 = 1;
    pub const GET_PDEATHSIG: i32 = 2;
    pub const GET_DUMPABLE: i32 = 3;
    pub const SET_DUMPABLE: i32 = 4;
    pub const GET_KEEPCAPS: i32 = 7;
    pub const SET_KEEPCAPS: i32 = 8;
    pub const GET_TIMING: i32 = 13;
    pub const SET_TIMING: i32 = 14;
    pub const SET_NAME: i32 = 15;
    pub const GET_NAME: i32 = 16;
    pub const GET_SECCOMP: i32 = 21;
    pub const SET_SECCOMP: i32 = 22;
    pub const CAPBSET_READ: i32 = 23;
    pub const CAPBSET_DROP: i32 = 24;
    pub const GET_TSC: i32 = 25;
    pub const SET_TSC: i32 = 26;
    pub const GET_SECUREBITS: i32 = 27;
    pub const SET_SECUREBITS: i32 = 28;
    pub const SET_TIMERSLACK: i32 = 29;
    pub const GET_TIMERSLACK: i32 = 30;
    pub const MCE_KILL: i32 = 33;
    pub const MCE_KILL_GET: i32 = 34;
    pub const SET_MM: i32 = 35;
    pub const SET_VMA: i32 = 0x5356_4d41;
    pub const SET_CHILD_SUBREAPER: i32 = 36;
    pub const GET_CHILD_SUBREAPER: i32 = 37;
    pub const SET_NO_NEW_PRIVS: i32 = 38;
    pub const GET_NO_NEW_PRIVS: i32 = 39;
    pub const GET_TID_ADDRESS: i32 = 40;
    pub const SET_THP_DISABLE: i32 = 41;
    pub const GET_THP_DISABLE: i32 = 42;
    pub const CAP_AMBIENT: i32 = 47;
    pub const SET_PTRACER: i32 = 0x5961_6d61;
}

/// `prctl(2)`. `EINVAL` for options that are not known or configured out, and for arguments that must be zero.
pub fn sys_prctl(cx: &Context, option: i32, arg2: u64, arg3: u64, arg4: u64, arg5: u64) -> Result<usize> {
    let task = cx.task();
    let only = |unused: &[u64]| {
        if unused.iter().any(|&arg| arg != 0) {
            Err(Errno::EINVAL)
        } else {
            Ok(())
        }
    };
    match option {
        option::SET_PDEATHSIG => set_death_signal(task, arg2),
        option::GET_PDEATHSIG => {
            let signal = task.with_attributes(|attributes| attributes.death_signal);
            UserPtr::<i32>::new(arg2).write(&signal)?;
            Ok(0)
        }
        option::GET_DUMPABLE => Ok(task.process().with_attributes(|attributes| attributes.dumpable) as usize),
        option::SET_DUMPABLE => set_dumpable(task, arg2),
        option::GET_KEEPCAPS => Ok(usize::from(
            SecureBits::of(&task.cred()).contains(SecureBits::KEEP_CAPS),
        )),
        option::SET_KEEPCAPS => set_keep_caps(task, arg2),
        option::GET_TIMING => Ok(0),
        option::SET_TIMING => only(&[arg2]).map(|()| 0),
        option::SET_NAME => set_name(task, arg2),
        option::GET_NAME => get_name(task, arg2),
        option::GET_SECCOMP => Ok(0),
        option::SET_SECCOMP => {
            arch_um::stub!("seccomp");
            Err(Errno::EINVAL)
        }
        option::CAPBSET_READ => Ok(usize::from(task.cred().bounding.contains(one_capability(arg2)?))),
        option::CAPBSET_DROP => drop_from_bounding(task, arg2),
        option::GET_TSC => {
            UserPtr::<i32>::new(arg2).write(&1)?;
            Ok(0)
        }
        // PR_TSC_ENABLE is what always holds.
        option::SET_TSC => {
            if arg2 == 1 {
                Ok(0)
            } else {
                Err(Errno::EINVAL)
            }
        }
        option::GET_SECUREBITS => Ok(task.cred().securebits as usize),
        option::SET_SECUREBITS => set_securebits(task, arg2),
        option::SET_TIMERSLACK => {
            task.with_attributes(|attributes| {
                attributes.timer_slack = if arg2 == 0 || arg2 > i64::MAX as u64 {
                    attributes.default_timer_slack
                } else {
                    arg2
                };
            });
            Ok(0)
        }
        option::GET_TIMERSLACK => Ok(task.with_attributes(|attributes| attributes.timer_slack) as usize),
        option::MCE_KILL => {
            only(&[arg4, arg5])?;
            set_mce_kill(task, arg2, arg3)
        }
        option::MCE_KILL_GET => {
            only(&[arg2, arg3, arg4, arg5])?;
            Ok(task.with_attributes(|attributes| {
                if attributes.mce_kill == 0 {
                    2
                } else {
                    attributes.mce_kill - 1
                }
            }) as usize)
        }
        option::SET_MM => {
            arch_um::stub!("prctl PR_SET_MM");
            Err(Errno::EINVAL)
        }
        option::SET_VMA => crate::mm::anon_name::set_vma(cx, arg2, arg3, arg4, UserAddr(arg5)),
        option::SET_CHILD_SUBREAPER => set_subreaper(task, arg2),
        option::GET_CHILD_SUBREAPER => {
            let is = task.process().with_attributes(|attributes| attributes.is_subreaper);
            UserPtr::<i32>::new(arg2).write(&i32::from(is))?;
            Ok(0)
        }
        option::SET_NO_NEW_PRIVS => {
            if arg2 != 1 || arg3 != 0 || arg4 != 0 || arg5 != 0 {
                return Err(Errno::EINVAL);
            }
            change(task, |cred| cred.no_new_privs = true)
        }
        option::GET_NO_NEW_PRIVS => {
            only(&[arg2, arg3, arg4, arg5])?;
            Ok(usize::from(task.cred().no_new_privs))
        }
        option::GET_TID_ADDRESS => {
            let addr = task.with_attributes(|attributes| attributes.clear_child_tid);
            UserPtr::<u64>::new(arg2).write(&addr)?;
            Ok(0)
        }
        option::SET_THP_DISABLE => {
            only(&[arg3, arg4, arg5])?;
            task.process()
                .with_attributes(|attributes| attributes.thp_disabled = arg2 != 0);
            Ok(0)
        }
        option::GET_THP_DISABLE => {
            only(&[arg2, arg3, arg4, arg5])?;
            Ok(usize::from(
                task.process().with_attributes(|attributes| attributes.thp_disabled),
            ))
        }
        option::CAP_AMBIENT => ambient(task, arg2, arg3, [arg4, arg5]),
        // Yama is configured out.
        option::SET_PTRACER => Err(Errno::EINVAL),
        _ => Err(Errno::EINVAL),
    }
}

fn change(task: &Task, f: impl FnOnce(&mut Cred)) -> Result<usize> {
    let mut new = (*task.cred()).clone();
    f(&mut new);
    task.set_cred(Arc::new(new));
    Ok(0)
}

fn set_death_signal(task: &Task, signal: u64) -> Result<usize> {
    let number = i32::try_from(signal).map_err(|_| Errno::EINVAL)?;
    if number != 0 && Signal::new(number).is_none() {
        return Err(Errno::EINVAL);
    }
    task.with_attributes(|attributes| attributes.death_signal = number);
    Ok(0)
}

fn set_dumpable(task: &Task, value: u64) -> Result<usize> {
    let dumpable = match value {
        0 => Dumpable::No,
        1 => Dumpable::User,
        // 2 can only come from a set-user-id program.
        _ => return Err(Errno::EINVAL),
    };
    task.process()
        .with_attributes(|attributes| attributes.dumpable = dumpable);
    Ok(0)
}

fn set_keep_caps(task: &Task, value: u64) -> Result<usize> {
    if value > 1 {
        return Err(Errno::EINVAL);
    }
    let bits = SecureBits::of(&task.cred());
    if bits.contains(SecureBits::KEEP_CAPS_LOCKED) {
        return Err(Errno::EPERM);
    }
    let new = if value == 1 {
        bits | SecureBits::KEEP_CAPS
    } else {
        bits - SecureBits::KEEP_CAPS
    };
    change(task, |cred| cred.securebits = new.bits())
}

fn set_name(task: &Task, addr: u64) -> Result<usize> {
    // As far as its NUL or 15 bytes; what lies behind need not be readable.
    let name = match UserAddr(addr).read_cstr(COMM_LEN) {
        Err(Errno::ENAMETOOLONG) => {
            let mut bytes = [0; COMM_LEN];
            UserAddr(addr).read(&mut bytes)?;
            bytes.to_vec()
        }
        name => name?,
    };
    task.set_comm(&name);
    Ok(0)
}

fn get_name(task: &Task, addr: u64) -> Result<usize> {
    let mut bytes = [0; COMM_LEN + 1];
    let comm = task.comm();
    bytes[..comm.as_bytes().len()].copy_from_slice(comm.as_bytes());
    UserAddr(addr).write(&bytes)?;
    Ok(0)
}

/// A capability by its number. `EINVAL`.
fn one_capability(number: u64) -> Result<Capabilities> {
    let bit = u32::try_from(number)
        .ok()
        .and_then(|number| 1u64.checked_shl(number))
        .ok_or(Errno::EINVAL)?;
    Capabilities::from_bits(bit)
        .filter(|set| !set.is_empty())
        .ok_or(Errno::EINVAL)
}

fn drop_from_bounding(task: &Task, number: u64) -> Result<usize> {
    let capability = one_capability(number);
    if !task.cred().capable(Capabilities::SETPCAP) {
        return Err(Errno::EPERM);
    }
    let capability = capability?;
    change(task, |cred| cred.bounding -= capability)
}

fn set_securebits(task: &Task, value: u64) -> Result<usize> {
    let old = task.cred();
    let before = SecureBits::of(&old);
    let locks = SecureBits::NOROOT_LOCKED
        | SecureBits::NO_SETUID_FIXUP_LOCKED
        | SecureBits::KEEP_CAPS_LOCKED
        | SecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    let new = u32::try_from(value)
        .ok()
        .and_then(SecureBits::from_bits)
        .ok_or(Errno::EPERM)?;
    // A lock stays, and what it locks too (the bit below it).
    let held = before & locks;
    let frozen = SecureBits::from_bits_retain(held.bits() >> 1 | held.bits());
    let touched = before.symmetric_difference(new);
    if touched.intersects(frozen) || !old.capable(Capabilities::SETPCAP) {
        return Err(Errno::EPERM);
    }
    change(task, |cred| cred.securebits = new.bits())
}

fn set_mce_kill(task: &Task, command: u64, policy: u64) -> Result<usize> {
    let kept = match (command, policy) {
        (0, 0) => 0,
        (1, 0..=2) => policy as u32 + 1,
        _ => return Err(Errno::EINVAL),
    };
    task.with_attributes(|attributes| attributes.mce_kill = kept);
    Ok(0)
}

/// Becomes a subreaper: every process below learns to look for one.
fn set_subreaper(task: &Task, value: u64) -> Result<usize> {
    let process = task.process();
    process.with_attributes(|attributes| attributes.is_subreaper = value != 0);
    if value == 0 {
        return Ok(0);
    }
    let tree = table::tree();
    let mut below: alloc::vec::Vec<_> = tree.children(process.pid()).collect();
    while let Some(node) = below.pop() {
        node.process
            .with_attributes(|attributes| attributes.has_subreaper = true);
        below.extend(tree.children(node.process.pid()));
    }
    Ok(0)
}

/// `PR_CAP_AMBIENT`.
fn ambient(task: &Task, command: u64, number: u64, rest: [u64; 2]) -> Result<usize> {
    const IS_SET: u64 = 1;
    const RAISE: u64 = 2;
    const LOWER: u64 = 3;
    const CLEAR_ALL: u64 = 4;
    if rest != [0, 0] {
        return Err(Errno::EINVAL);
    }
    if command == CLEAR_ALL {
        if number != 0 {
            return Err(Errno::EINVAL);
        }
        return change(task, |cred| cred.ambient = Capabilities::empty());
    }
    let capability = one_capability(number)?;
    let cred = task.cred();
    match command {
        IS_SET => Ok(usize::from(cred.ambient.contains(capability))),
        RAISE => {
            let allowed = cred.permitted.contains(capability)
                && cred.inheritable.contains(capability)
                && !SecureBits::of(&cred).contains(SecureBits::NO_CAP_AMBIENT_RAISE);
            if !allowed {
                return Err(Errno::EPERM);
            }
            change(task, |cred| cred.ambient |= capability)
        }
        LOWER => change(task, |cred| cred.ambient -= capability),
        _ => Err(Errno::EINVAL),
    }
}
