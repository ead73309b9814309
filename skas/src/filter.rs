//! The seccomp filter of every stub: guest code traps, the stub's own calls pass one by one (`seccomp(2)`, classic BPF).
//!
//! The first four instructions decide for guest code: architecture and the high word of the instruction pointer. In the stub's page
//! each call is allowed only at its own instruction (image.rs), with its number and arguments checked, so that a guest that jumps there
//! can at most do to itself what the kernel would do on its request. The bound on addresses: high words of address and length
//! sum to at most that of `task_size`, which leaves 8 GiB below the stub where a carry may end up (layout.rs).

use crate::Layout;
use crate::image::*;

/// `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instruction {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

const LD: u16 = 0x20;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const JSET: u16 = 0x45;
const ADD_X: u16 = 0x0c;
const TAX: u16 = 0x07;
const RET: u16 = 0x06;

const KILL: u32 = 0x8000_0000;
const TRAP: u32 = 0x0003_0000;
const ALLOW: u32 = 0x7fff_0000;
const NOTIFY: u32 = 0x7fc0_0000;

const NR: u32 = 0;
const ARCH: u32 = 4;
const IP: u32 = 8;
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// What to do with the one allowed way of creating processes and threads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloneGate {
    /// Ask the kernel through the listener.
    Notify,
    /// Let it pass: no listener on this host.
    Open,
}

/// A condition on the arguments of an allowed call.
enum Check {
    /// An argument equals one of two values.
    Is(usize, u64, u64),
    /// An argument is not zero (low word).
    NotZero(usize),
    /// An argument has no bits outside the mask.
    Within(usize, u32),
    /// An argument has these bits.
    Has(usize, u32),
    /// Address and length stay in the guest's part.
    Guest(usize, usize),
    /// The address lies in the regions.
    Region(usize),
}

struct Program {
    code: Vec<Instruction>,
}

impl Program {
    fn emit(&mut self, code: u16, k: u32, jt: u8, jf: u8) {
        self.code.push(Instruction { code, jt, jf, k });
    }
    fn load(&mut self, offset: u32) {
        self.emit(LD, offset, 0, 0);
    }
    fn ret(&mut self, action: u32) {
        self.emit(RET, action, 0, 0);
    }
    /// Kills unless the comparison holds.
    fn require(&mut self, code: u16, k: u32) {
        self.emit(code, k, 1, 0);
        self.ret(KILL);
    }
    /// Kills if the comparison holds.
    fn refuse(&mut self, code: u16, k: u32) {
        self.emit(code, k, 0, 1);
        self.ret(KILL);
    }
    fn low(arg: usize) -> u32 {
        16 + 8 * arg as u32
    }
    fn high(arg: usize) -> u32 {
        Self::low(arg) + 4
    }

    fn check(&mut self, check: &Check, layout: &Layout) {
        match *check {
            Check::Is(arg, a, b) => {
                debug_assert!(a >> 32 == b >> 32);
                self.load(Self::high(arg));
                self.require(JEQ, (a >> 32) as u32);
                self.load(Self::low(arg));
                self.emit(JEQ, a as u32, 2, 0);
                self.emit(JEQ, b as u32, 1, 0);
                self.ret(KILL);
            }
            Check::NotZero(arg) => {
                self.load(Self::low(arg));
                self.refuse(JEQ, 0);
            }
            Check::Within(arg, mask) => {
                self.load(Self::high(arg));
                self.require(JEQ, 0);
                self.load(Self::low(arg));
                self.refuse(JSET, !mask);
            }
            Check::Has(arg, bits) => {
                self.load(Self::low(arg));
                self.require(JSET, bits);
            }
            Check::Guest(addr, len) => {
                let top = layout.task_size;
                let (of, top) = if top >> 32 == 0 {
                    for arg in [addr, len] {
                        self.load(Self::high(arg));
                        self.require(JEQ, 0);
                    }
                    (Self::low as fn(usize) -> u32, top as u32)
                } else {
                    (Self::high as fn(usize) -> u32, (top >> 32) as u32)
                };
                self.load(of(addr));
                self.refuse(JGE, top);
                self.emit(TAX, 0, 0, 0);
                self.load(of(len));
                self.refuse(JGT, top);
                self.emit(ADD_X, 0, 0, 0);
                self.refuse(JGT, top);
            }
            Check::Region(addr) => {
                self.load(Self::high(addr));
                self.require(JEQ, (layout.regions >> 32) as u32);
                self.load(Self::low(addr));
                self.require(JGE, layout.regions as u32);
                self.refuse(
                    JGE,
                    layout.regions as u32 + (layout.region_count as u64 * layout.region_size) as u32,
                );
            }
        }
    }

    fn site(&mut self, ip: u64, nr: libc::c_long, checks: &[Check], action: u32, layout: &Layout) {
        let mut body = Program { code: Vec::new() };
        body.load(NR);
        body.require(JEQ, nr as u32);
        for check in checks {
            body.check(check, layout);
        }
        body.ret(action);
        self.emit(
            JEQ,
            ip as u32,
            0,
            u8::try_from(body.code.len()).expect("a site's checks are short"),
        );
        self.code.append(&mut body.code);
    }
}

/// The filter program for a layout.
pub(crate) fn program(layout: &Layout, gate: CloneGate) -> Vec<Instruction> {
    use Check::*;
    let end = layout.code + len(layout);
    let mut p = Program { code: Vec::new() };
    p.load(ARCH);
    p.emit(JEQ, AUDIT_ARCH_X86_64, 1, 0);
    p.ret(TRAP);
    p.load(IP + 4);
    p.emit(JEQ, (layout.code >> 32) as u32, 1, 0);
    p.ret(TRAP);
    p.load(IP);
    p.emit(JGE, layout.code as u32, 1, 0);
    p.ret(TRAP);
    p.emit(JGE, end as u32, 0, 1);
    p.ret(TRAP);

    const FIXED_KINDS: u32 = (libc::MAP_SHARED
        | libc::MAP_PRIVATE
        | libc::MAP_FIXED
        | libc::MAP_ANONYMOUS
        | libc::MAP_NORESERVE
        | libc::MAP_LOCKED
        | libc::MAP_POPULATE) as u32;
    let region_flags = (libc::MAP_SHARED | libc::MAP_FIXED | libc::MAP_POPULATE) as u64;
    let size = layout.region_size;
    let fork = (libc::CLONE_PARENT | libc::SIGCHLD) as u64;
    let clone = match gate {
        CloneGate::Notify => NOTIFY,
        CloneGate::Open => ALLOW,
    };
    let mut site =
        |ip: fn(&Layout) -> u64, nr, checks: &[Check], action| p.site(ip(layout), nr, checks, action, layout);
    site(skas_ip_sigreturn, libc::SYS_rt_sigreturn, &[], ALLOW);
    site(skas_ip_park, libc::SYS_futex, &[Is(1, 0, 0)], ALLOW);
    site(skas_ip_wake, libc::SYS_futex, &[Is(1, 1, 1)], ALLOW);
    site(
        skas_ip_mmap,
        libc::SYS_mmap,
        &[Guest(0, 1), Within(2, 7), Within(3, FIXED_KINDS), Has(3, 0x10)],
        ALLOW,
    );
    site(skas_ip_munmap, libc::SYS_munmap, &[Guest(0, 1)], ALLOW);
    site(
        skas_ip_mprotect,
        libc::SYS_mprotect,
        &[Guest(0, 1), Within(2, 7)],
        ALLOW,
    );
    site(skas_ip_recvmsg, libc::SYS_recvmsg, &[Is(0, 0, 0)], ALLOW);
    site(skas_ip_close, libc::SYS_close, &[NotZero(0)], ALLOW);
    site(
        skas_ip_mremap,
        libc::SYS_mremap,
        &[Guest(0, 1), Guest(4, 2), Is(3, 0, 3)],
        ALLOW,
    );
    site(skas_ip_madvise, libc::SYS_madvise, &[Guest(0, 1)], ALLOW);
    site(skas_ip_set_fs, libc::SYS_arch_prctl, &[Is(0, 0x1002, 0x1002)], ALLOW);
    site(skas_ip_set_gs, libc::SYS_arch_prctl, &[Is(0, 0x1001, 0x1001)], ALLOW);
    site(
        skas_ip_clone,
        libc::SYS_clone,
        &[Is(0, fork, 0x50f00), Is(1, 0, 0), Is(2, 0, 0), Is(3, 0, 0), Is(4, 0, 0)],
        clone,
    );
    site(skas_ip_pdeathsig, libc::SYS_prctl, &[Is(0, 1, 1), Is(1, 9, 9)], ALLOW);
    site(skas_ip_getppid, libc::SYS_getppid, &[], ALLOW);
    site(
        skas_ip_map_region,
        libc::SYS_mmap,
        &[
            Region(0),
            Is(1, size, size),
            Is(2, 3, 3),
            Is(3, region_flags, region_flags),
        ],
        ALLOW,
    );
    site(
        skas_ip_dontfork,
        libc::SYS_madvise,
        &[Region(0), Is(1, size, size), Is(2, 10, 10)],
        ALLOW,
    );
    site(skas_ip_dup2, libc::SYS_dup2, &[Is(1, 0, 0)], ALLOW);
    site(skas_ip_last_wake, libc::SYS_futex, &[Is(1, 1, 1)], ALLOW);
    site(skas_ip_exit, libc::SYS_exit, &[], ALLOW);
    site(skas_ip_exit_group, libc::SYS_exit_group, &[], ALLOW);
    p.ret(KILL);
    p.code
}
