//! What is asked of a new task: the flags, the arguments of the system calls, and which of them make sense together.

use bitflags::bitflags;

use super::clone;
use crate::abi::Abi;
use crate::syscall::Context;
use crate::task::pid::PID_MAX;
use crate::task::{Capabilities, Pid};
use crate::user::{UserAddr, UserPtr};
use crate::{Errno, Result, abi_struct};

bitflags! {
    /// `clone(2)`'s flags.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CloneFlags: u64 {
        /// `CLONE_VM`.
        const VM = 0x100;
        /// `CLONE_FS`.
        const FS = 0x200;
        /// `CLONE_FILES`.
        const FILES = 0x400;
        /// `CLONE_SIGHAND`.
        const SIGHAND = 0x800;
        /// `CLONE_PIDFD`.
        const PIDFD = 0x1000;
        /// `CLONE_PTRACE`.
        const PTRACE = 0x2000;
        /// `CLONE_VFORK`.
        const VFORK = 0x4000;
        /// `CLONE_PARENT`.
        const PARENT = 0x8000;
        /// `CLONE_THREAD`.
        const THREAD = 0x1_0000;
        /// `CLONE_NEWNS`.
        const NEWNS = 0x2_0000;
        /// `CLONE_SYSVSEM`.
        const SYSVSEM = 0x4_0000;
        /// `CLONE_SETTLS`.
        const SETTLS = 0x8_0000;
        /// `CLONE_PARENT_SETTID`.
        const PARENT_SETTID = 0x10_0000;
        /// `CLONE_CHILD_CLEARTID`.
        const CHILD_CLEARTID = 0x20_0000;
        /// `CLONE_DETACHED`.
        const DETACHED = 0x40_0000;
        /// `CLONE_UNTRACED`.
        const UNTRACED = 0x80_0000;
        /// `CLONE_CHILD_SETTID`.
        const CHILD_SETTID = 0x100_0000;
        /// `CLONE_NEWCGROUP`.
        const NEWCGROUP = 0x200_0000;
        /// `CLONE_NEWUTS`.
        const NEWUTS = 0x400_0000;
        /// `CLONE_NEWIPC`.
        const NEWIPC = 0x800_0000;
        /// `CLONE_NEWUSER`.
        const NEWUSER = 0x1000_0000;
        /// `CLONE_NEWPID`.
        const NEWPID = 0x2000_0000;
        /// `CLONE_NEWNET`.
        const NEWNET = 0x4000_0000;
        /// `CLONE_IO`.
        const IO = 0x8000_0000;
        /// `CLONE_CLEAR_SIGHAND`.
        const CLEAR_SIGHAND = 1 << 32;
        /// `CLONE_INTO_CGROUP`.
        const INTO_CGROUP = 1 << 33;
        /// `CLONE_NEWTIME`.
        const NEWTIME = 0x80;
    }
}

/// The low byte of `clone(2)`'s flags: the exit signal.
const CSIGNAL: u64 = 0xff;
/// What makes a namespace: none is configured in.
pub(crate) const NAMESPACES: CloneFlags = CloneFlags::NEWNS
    .union(CloneFlags::NEWCGROUP)
    .union(CloneFlags::NEWUTS)
    .union(CloneFlags::NEWIPC)
    .union(CloneFlags::NEWUSER)
    .union(CloneFlags::NEWPID)
    .union(CloneFlags::NEWNET)
    .union(CloneFlags::NEWTIME);

/// What a new task shall be.
pub(super) struct Request {
    pub(super) flags: CloneFlags,
    /// 0 for none.
    pub(super) exit_signal: i32,
    /// The stack pointer; 0 keeps the parent's.
    pub(super) stack: u64,
    pub(super) tls: u64,
    pub(super) parent_tid: u64,
    pub(super) child_tid: u64,
    pub(super) pidfd: u64,
    /// The number it must have.
    pub(super) set_tid: Option<Pid>,
}

abi_struct! {
    /// `struct clone_args`.
    pub struct CloneArgs {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }
}

/// The first published size of `struct clone_args`.
const CLONE_ARGS_SIZE_VER0: usize = 64;
/// Nested pid namespaces at most: the limit on `set_tid_size`.
const MAX_PID_NS_LEVEL: u64 = 32;

/// `fork(2)`.
pub fn sys_fork(cx: &Context) -> Result<usize> {
    clone(cx, Request::plain(CloneFlags::empty()))
}

/// `vfork(2)`.
pub fn sys_vfork(cx: &Context) -> Result<usize> {
    clone(cx, Request::plain(CloneFlags::VM | CloneFlags::VFORK))
}

/// `clone(2)`, x86-64's order of arguments.
pub fn sys_clone(cx: &Context, flags: u64, stack: u64, parent_tid: u64, child_tid: u64, tls: u64) -> Result<usize> {
    // The register's upper half does not count, and the low byte is the exit signal.
    let bits = flags & u64::from(u32::MAX) & !CSIGNAL;
    let flags_typed = CloneFlags::from_bits_retain(bits);
    if flags_typed.contains(CloneFlags::PIDFD | CloneFlags::PARENT_SETTID) {
        // Both results would go to the same place.
        return Err(Errno::EINVAL);
    }
    let exit_signal = (flags & CSIGNAL) as i32;
    clone(
        cx,
        Request {
            flags: flags_typed,
            exit_signal,
            stack,
            tls,
            parent_tid,
            child_tid,
            pidfd: parent_tid,
            set_tid: None,
        },
    )
}

/// `clone3(2)`.
pub fn sys_clone3(cx: &Context, args: UserAddr, size: usize) -> Result<usize> {
    let args = read_args(args, size)?;
    let known = CloneFlags::all().bits() & !CloneFlags::DETACHED.bits();
    let flags = CloneFlags::from_bits_retain(args.flags);
    let thread_like = flags.intersects(CloneFlags::THREAD | CloneFlags::PARENT);
    let stack_is_odd = (args.stack == 0) != (args.stack_size == 0);
    if args.flags & !known != 0
        || args.exit_signal & !CSIGNAL != 0
        || args.exit_signal > 64
        || flags.contains(CloneFlags::SIGHAND | CloneFlags::CLEAR_SIGHAND)
        || thread_like && args.exit_signal != 0
        || stack_is_odd
        || args.set_tid_size > MAX_PID_NS_LEVEL
        || (args.set_tid == 0) != (args.set_tid_size == 0)
    {
        return Err(Errno::EINVAL);
    }
    if flags.contains(CloneFlags::INTO_CGROUP) {
        arch_um::stub!("clone3 into a control group");
        return Err(Errno::EINVAL);
    }
    if flags.contains(CloneFlags::PIDFD | CloneFlags::PARENT_SETTID) && args.pidfd == args.parent_tid {
        return Err(Errno::EINVAL);
    }
    let stack = args
        .stack
        .checked_add(args.stack_size)
        .filter(|&top| top <= skas::layout().task_size)
        .ok_or(Errno::EINVAL)?;
    let set_tid = wanted_tid(cx, &args)?;
    clone(
        cx,
        Request {
            flags,
            exit_signal: args.exit_signal as i32,
            stack,
            tls: args.tls,
            parent_tid: args.parent_tid,
            child_tid: args.child_tid,
            pidfd: args.pidfd,
            set_tid,
        },
    )
}

/// Reads a versioned struct: shorter is padded with zeros, longer must be zero beyond what is known (`E2BIG`).
fn read_args(addr: UserAddr, size: usize) -> Result<CloneArgs> {
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    if size < CLONE_ARGS_SIZE_VER0 {
        return Err(Errno::EINVAL);
    }
    let mut bytes = alloc::vec![0; size.max(CloneArgs::SIZE)];
    addr.read(&mut bytes[..size])?;
    if bytes[CloneArgs::SIZE..].iter().any(|&byte| byte != 0) {
        return Err(Errno::E2BIG);
    }
    Ok(CloneArgs::decode(&bytes[..CloneArgs::SIZE]))
}

/// The number that `set_tid` asks for. There is one pid namespace, so one number at most.
fn wanted_tid(cx: &Context, args: &CloneArgs) -> Result<Option<Pid>> {
    if args.set_tid_size == 0 {
        return Ok(None);
    }
    let tid: i32 = UserPtr::new(args.set_tid).read()?;
    if args.set_tid_size > 1 || tid <= 0 || tid >= PID_MAX {
        return Err(Errno::EINVAL);
    }
    let cred = cx.task().cred();
    if !cred.capable(Capabilities::SYS_ADMIN) && !cred.capable(Capabilities::CHECKPOINT_RESTORE) {
        return Err(Errno::EPERM);
    }
    Ok(Some(Pid(tid)))
}

impl Request {
    fn plain(flags: CloneFlags) -> Self {
        Self {
            flags,
            exit_signal: 17,
            stack: 0,
            tls: 0,
            parent_tid: 0,
            child_tid: 0,
            pidfd: 0,
            set_tid: None,
        }
    }

    /// Combinations that make no sense. `EINVAL`.
    pub(super) fn check(&self, cx: &Context) -> Result<()> {
        let flags = self.flags;
        let has = |bits: CloneFlags| flags.contains(bits);
        let init_escapes = has(CloneFlags::PARENT) && cx.task().process().signals.lock().unkillable;
        if has(CloneFlags::THREAD) && !has(CloneFlags::SIGHAND)
            || has(CloneFlags::SIGHAND) && !has(CloneFlags::VM)
            || has(CloneFlags::PIDFD) && flags.intersects(CloneFlags::THREAD | CloneFlags::DETACHED)
            || init_escapes
            || self.exit_signal > 64
        {
            return Err(Errno::EINVAL);
        }
        if flags.intersects(NAMESPACES) {
            arch_um::stub!("namespaces");
            return Err(Errno::EINVAL);
        }
        Ok(())
    }
}
