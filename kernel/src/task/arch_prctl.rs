//! `arch_prctl(2)`: the bases of FS and GS.

use crate::syscall::Context;
use crate::user::UserPtr;
use crate::{Errno, Result};

const SET_GS: i32 = 0x1001;
const SET_FS: i32 = 0x1002;
const GET_FS: i32 = 0x1003;
const GET_GS: i32 = 0x1004;
const GET_CPUID: i32 = 0x1011;
const SET_CPUID: i32 = 0x1012;

/// `arch_prctl(2)`. `EPERM` for a base beyond user memory, `EINVAL` for what is configured out (shadow stacks and the rest).
pub fn sys_arch_prctl(cx: &Context, code: i32, addr: u64) -> Result<usize> {
    let in_user = addr < skas::layout().task_size;
    match code {
        SET_FS | SET_GS if !in_user => Err(Errno::EPERM),
        SET_FS => {
            cx.user().regs_mut().fs_base = addr;
            Ok(0)
        }
        SET_GS => {
            cx.user().regs_mut().gs_base = addr;
            Ok(0)
        }
        GET_FS | GET_GS => {
            let base = {
                let user = cx.user();
                if code == GET_FS {
                    user.regs().fs_base
                } else {
                    user.regs().gs_base
                }
            };
            UserPtr::<u64>::new(addr).write(&base)?;
            Ok(0)
        }
        GET_CPUID => Ok(1),
        // CPUID faulting needs the processor.
        SET_CPUID => Err(Errno::ENODEV),
        _ => Err(Errno::EINVAL),
    }
}
