//! The signal frame in a region: registers, FP state and the description of the signal (`struct rt_sigframe` of x86-64).

use crate::region::{FS_BASE, GS_BASE, Region, SIGINFO, STACK, UCONTEXT};
use crate::{Regs, USER_CS, USER_SS};

const STACK_SP: usize = 16;
const GREGS: usize = 40;
const FPSTATE: usize = GREGS + 23 * 8;
const SIGMASK: usize = 296;
const UCONTEXT_SIZE: usize = 304;

const CSGSFS: usize = 18;
const ERR: usize = 19;
const TRAPNO: usize = 20;

/// Signals that stay unblocked in guest code: those the stub handles. All others are held back on the host.
const SIGNALS: [i32; 7] = [
    libc::SIGSYS,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    crate::handoff::KICK,
];

pub(crate) fn signals() -> [i32; 7] {
    SIGNALS
}

/// What is blocked while guest code runs.
pub(crate) fn guest_sigmask() -> u64 {
    SIGNALS
        .iter()
        .fold(u64::MAX, |mask, signal| mask & !(1 << (signal - 1)))
}

/// Where the frame of a stopped thread lies: offsets into its region, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    ucontext: usize,
}

/// The parts of a siginfo we use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SigInfo {
    pub(crate) code: i32,
    pub(crate) addr: u64,
    pub(crate) syscall: i32,
    pub(crate) arch: u32,
}

impl Frame {
    /// Reads and checks the frame's offset. `None`: nonsense, tampering.
    pub(crate) fn locate(region: &Region) -> Option<Frame> {
        let ucontext = region.get32(UCONTEXT) as usize;
        let inside = ucontext >= STACK && ucontext.is_multiple_of(8) && ucontext + UCONTEXT_SIZE <= region.size();
        inside.then_some(Frame { ucontext })
    }

    /// Reads the registers into `regs`; `fs_base` and `gs_base` from the header.
    pub(crate) fn load(self, region: &Region, regs: &mut Regs) {
        let g = |index: usize| region.get64(self.ucontext + GREGS + 8 * index);
        let selectors = g(CSGSFS);
        *regs = Regs {
            r8: g(0),
            r9: g(1),
            r10: g(2),
            r11: g(3),
            r12: g(4),
            r13: g(5),
            r14: g(6),
            r15: g(7),
            rdi: g(8),
            rsi: g(9),
            rbp: g(10),
            rbx: g(11),
            rdx: g(12),
            rax: g(13),
            rcx: g(14),
            rsp: g(15),
            rip: g(16),
            eflags: g(17),
            cs: selectors & 0xffff,
            gs: selectors >> 16 & 0xffff,
            fs: selectors >> 32 & 0xffff,
            ss: selectors >> 48,
            orig_rax: u64::MAX,
            fs_base: region.get64(FS_BASE),
            gs_base: region.get64(GS_BASE),
            ds: 0,
            es: 0,
        };
    }

    /// Writes the general registers. Selectors stay as they are in the frame.
    pub(crate) fn store(self, region: &Region, regs: &Regs) {
        let r = regs;
        let values = [
            r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rdi, r.rsi, r.rbp, r.rbx, r.rdx, r.rax, r.rcx,
            r.rsp, r.rip, r.eflags,
        ];
        for (index, value) in values.into_iter().enumerate() {
            region.put64(self.ucontext + GREGS + 8 * index, value);
        }
    }

    /// Selectors of 64-bit code and the signal mask of guests: for a frame that guest code has not made.
    pub(crate) fn normalize(self, region: &Region) {
        region.put64(self.ucontext + GREGS + 8 * CSGSFS, USER_CS | USER_SS << 48);
        region.put64(self.ucontext + SIGMASK, guest_sigmask());
    }

    pub(crate) fn error_code(self, region: &Region) -> u64 {
        region.get64(self.ucontext + GREGS + 8 * ERR)
    }
    pub(crate) fn trapno(self, region: &Region) -> u64 {
        region.get64(self.ucontext + GREGS + 8 * TRAPNO)
    }

    /// The siginfo the frame came with. `None`: nonsense.
    pub(crate) fn siginfo(region: &Region) -> Option<SigInfo> {
        let at = region.get32(SIGINFO) as usize;
        if at < STACK || !at.is_multiple_of(8) || at + 128 > region.size() {
            return None;
        }
        Some(SigInfo {
            code: region.get32(at + 8) as i32,
            addr: region.get64(at + 16),
            syscall: region.get32(at + 24) as i32,
            arch: region.get32(at + 28),
        })
    }

    /// Where the FP state lies in the region. `None`: nonsense.
    pub(crate) fn fpstate(self, region: &Region) -> Option<usize> {
        let at = region.get64(self.ucontext + FPSTATE).checked_sub(region.stub_addr)? as usize;
        (at >= STACK && at.is_multiple_of(64) && at + 512 <= region.size()).then_some(at)
    }

    /// Copies the frame of a stopped thread to the same place of another region and makes its pointers point there.
    pub(crate) fn copy_to(self, from: &Region, to: &Region) -> Option<()> {
        let start = self.ucontext - 8;
        let mut bytes = vec![0; from.size() - start];
        from.copy_out(start, &mut bytes)?;
        to.copy_in(start, &bytes)?;
        to.put32(UCONTEXT, self.ucontext as u32);
        to.put32(SIGINFO, from.get32(SIGINFO));
        for field in [STACK_SP, FPSTATE] {
            let at = self.ucontext + field;
            to.put64(at, to.get64(at).wrapping_sub(from.stub_addr).wrapping_add(to.stub_addr));
        }
        Some(())
    }
}
