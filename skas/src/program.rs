//! The stub as a program: a small ELF file in a sealed memfd, from which the zygote is exec'd.
//!
//! ```text
//! page 0  ELF header, program headers; at 0x200 the words that the entry needs (`skas_stub_entry` in stub.s)
//! page 1… the stub's code (image.rs)
//! ```
//!
//! It is loaded at [`BASE`], which no stack of the host ever meets, maps its code to `Layout::code` and goes on there; the setup
//! (setup.rs) then unmaps all the rest. So nothing of the kernel's memory, descriptors or signal handlers is ever in a guest's process.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, OwnedFd};

use arch_um::Errno;

use crate::machine::machine;
use crate::region::Region;
use crate::{InitError, Layout, host, image};

/// Where the file is loaded for its first steps.
const BASE: u64 = 0x1000_0000;
const PAGE: u64 = 4096;
/// The entry's words in page 0: parent, address and length of the code, address of the region.
const WORDS: usize = 0x200;

/// Why the program does not run.
pub(crate) enum Failure {
    /// The host makes no process.
    Fork(Errno),
    /// The host forbids to run it.
    Exec(InitError),
}

/// The contents of the file.
fn elf(layout: &Layout, region: &Region) -> Vec<u8> {
    let code = image::bytes(layout);
    let size = PAGE + code.len() as u64;
    let entry = BASE + PAGE + (image::skas_stub_entry(layout) - layout.code);
    let mut file = Vec::with_capacity(size as usize);
    let half = |file: &mut Vec<u8>, values: &[u16]| values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    let word = |file: &mut Vec<u8>, values: &[u32]| values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    let xword = |file: &mut Vec<u8>, values: &[u64]| values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    // elf(5). ELFCLASS64, ELFDATA2LSB, EV_CURRENT
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // ET_EXEC, EM_X86_64
    half(&mut file, &[2, 62]);
    word(&mut file, &[1]);
    // e_entry, e_phoff, e_shoff
    xword(&mut file, &[entry, 64, 0]);
    // e_flags, then sizes and numbers of headers
    word(&mut file, &[0]);
    half(&mut file, &[64, 56, 2, 64, 0, 0]);
    // PT_LOAD, read and execute: offset, virtual and physical address, size in file and memory, alignment
    word(&mut file, &[1, 5]);
    xword(&mut file, &[0, BASE, BASE, size, size, PAGE]);
    // PT_GNU_STACK, read and write: without it some hosts make everything executable
    word(&mut file, &[0x6474_e551, 6]);
    xword(&mut file, &[0, 0, 0, 0, 0, 16]);
    file.resize(WORDS, 0);
    xword(
        &mut file,
        &[machine().pid as u64, layout.code, code.len() as u64, region.stub_addr],
    );
    file.resize(PAGE as usize, 0);
    file.extend(code);
    file
}

/// What the child needs; it shares our memory until its exec.
struct Child {
    program: i32,
    socket: i32,
    region: i32,
    empty: *const libc::c_char,
    path: *const libc::c_char,
    argv: [*const libc::c_char; 2],
    envp: [*const libc::c_char; 1],
    error: i64,
}

/// Starts the program. Its standard descriptors are the control socket, the program itself and the region; it has no others.
pub(crate) fn spawn(region: &Region, socket: &OwnedFd) -> Result<i32, Failure> {
    let bytes = elf(&machine().layout, region);
    let mut refusals = Vec::new();
    for in_memory in [true, false] {
        let (file, what) = if in_memory {
            (host::sealed_program(c"uml-userspace", &bytes), "memfd")
        } else {
            (host::nameless_program(&bytes), "file in $TMPDIR or /tmp")
        };
        match file.and_then(|file| exec(&file, region, socket)) {
            Ok(Ok(pid)) => return Ok(pid),
            Ok(Err(errno)) => return Err(Failure::Fork(errno)),
            Err(errno) => refusals.push(format!("{what}: {}", errno.text())),
        }
    }
    let refusals = refusals.join(", ");
    Err(Failure::Exec(InitError::new(format!(
        "the host does not let the guests' program run ({refusals}): it forbids programs in memory (vm.memfd_noexec=2, or an LSM) and \
         the directory for temporary files is mounted noexec; set vm.memfd_noexec to 1, or TMPDIR to a directory where programs may run"
    ))))
}

/// Starts one candidate. Outer error: the exec was refused; inner error: there was no process.
fn exec(program: &OwnedFd, region: &Region, socket: &OwnedFd) -> Result<Result<i32, Errno>, Errno> {
    const STACK: usize = 64 * 1024;
    let mut stack = vec![0u64; STACK / 8];
    let mut child = Child {
        program: program.as_raw_fd(),
        socket: socket.as_raw_fd(),
        region: region.fd().as_raw_fd(),
        empty: c"".as_ptr(),
        path: c"/proc/self/fd/1".as_ptr(),
        argv: [c"uml-userspace".as_ptr(), std::ptr::null()],
        envp: [std::ptr::null()],
        error: 0,
    };
    // SAFETY: CLONE_VFORK: we sleep here until the child has exec'd or ended, so its stack and argument outlive its use of them. It makes
    // only raw host calls, and no signal handler of ours runs in it: all signals are blocked until its setup sets its own mask.
    let (pid, errno) = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut old: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
        let top = stack.as_mut_ptr().add(STACK / 8 - 8).cast::<c_void>();
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let pid = libc::clone(run, top, flags, (&raw mut child).cast());
        let errno = host::errno();
        libc::pthread_sigmask(libc::SIG_SETMASK, &old, std::ptr::null_mut());
        (pid, errno)
    };
    if pid == -1 {
        return Ok(Err(errno));
    }
    // SAFETY: the child wrote it, if at all, before it ended.
    let error = unsafe { (&raw const child.error).read_volatile() };
    if error == 0 {
        return Ok(Ok(pid));
    }
    host::wait_for_end(pid);
    host::reap(pid);
    Err(Errno::from_host(-error as i32))
}

/// A raw host call: the child shares our thread's `errno`.
#[inline(always)]
unsafe fn call(nr: libc::c_long, args: [u64; 5]) -> i64 {
    let result: i64;
    // SAFETY: the caller vouches for the call.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") nr => result, in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], lateout("rcx") _, lateout("r11") _);
    }
    result
}

/// The child: its own copy of the descriptors is put in order, then it becomes the program.
extern "C" fn run(argument: *mut c_void) -> i32 {
    // SAFETY: `argument` is the Child of `exec`, which sleeps meanwhile; every call works on our own descriptors or ends us.
    unsafe {
        let child = argument.cast::<Child>();
        // First out of the way of 0, 1 and 2, which may be any of ours or missing.
        let mut moved = [0u64; 3];
        for (to, from) in moved
            .iter_mut()
            .zip([(*child).socket, (*child).program, (*child).region])
        {
            let copy = call(libc::SYS_fcntl, [from as u64, libc::F_DUPFD as u64, 3, 0, 0]);
            if copy < 0 {
                (&raw mut (*child).error).write_volatile(copy);
                return 1;
            }
            *to = copy as u64;
        }
        for (to, from) in moved.into_iter().enumerate() {
            call(libc::SYS_dup2, [from, to as u64, 0, 0, 0]);
        }
        if call(libc::SYS_close_range, [3, u64::from(u32::MAX), 0, 0, 0]) < 0 {
            for fd in 3..65536 {
                call(libc::SYS_close, [fd, 0, 0, 0, 0]);
            }
        }
        let (empty, path) = ((*child).empty as u64, (*child).path as u64);
        let (argv, envp) = (&raw const (*child).argv as u64, &raw const (*child).envp as u64);
        let error = call(libc::SYS_execveat, [1, empty, argv, envp, libc::AT_EMPTY_PATH as u64]);
        // Some sandboxes know only the older call.
        call(libc::SYS_execve, [path, argv, envp, 0, 0]);
        (&raw mut (*child).error).write_volatile(error);
    }
    1
}
