//! The host calls of this room, each behind a function that cannot be used wrongly.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

use arch_um::Errno;

/// The last host error of this thread.
pub(crate) fn errno() -> Errno {
    from_io(io::Error::last_os_error())
}

fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result == -1 { Err(errno()) } else { Ok(result) }
}

/// `memfd_create(2)` of a given size, close-on-exec, not executable where the host knows the difference (`vm.memfd_noexec` may demand it).
pub(crate) fn memfd(name: &std::ffi::CStr, len: u64) -> Result<OwnedFd, Errno> {
    const MFD_NOEXEC_SEAL: u32 = 8;
    static NOEXEC: AtomicU32 = AtomicU32::new(MFD_NOEXEC_SEAL);
    let create = |flags: u32| {
        // SAFETY: the name is a C string; the result is a fresh descriptor.
        unsafe {
            let fd = check(libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | flags) as libc::c_long)?;
            Ok(OwnedFd::from_raw_fd(fd as i32))
        }
    };
    let fd = match create(NOEXEC.load(Ordering::Relaxed)) {
        Err(Errno::EINVAL) => {
            NOEXEC.store(0, Ordering::Relaxed);
            create(0)?
        }
        other => other?,
    };
    // SAFETY: plain call on our own descriptor.
    check(unsafe { libc::ftruncate(fd.as_raw_fd(), len as libc::off_t) } as libc::c_long)?;
    Ok(fd)
}

/// A program in a memfd that nobody can change any more, close-on-exec. `EACCES`: the host forbids it (`vm.memfd_noexec`).
pub(crate) fn sealed_program(name: &std::ffi::CStr, bytes: &[u8]) -> Result<OwnedFd, Errno> {
    const MFD_EXEC: u32 = 0x10;
    let create = |flags: u32| {
        let flags = flags | libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: the name is a C string; the result is a fresh descriptor.
        unsafe {
            let fd = check(libc::memfd_create(name.as_ptr(), flags) as libc::c_long)?;
            Ok(File::from_raw_fd(fd as i32))
        }
    };
    let mut file = match create(MFD_EXEC) {
        // Hosts older than 6.3 do not know the flag; all memfds can be run there.
        Err(Errno::EINVAL) => create(0)?,
        other => other?,
    };
    file.write_all(bytes).map_err(from_io)?;
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: plain call on our own descriptor.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } as libc::c_long)?;
    Ok(file.into())
}

/// A program in a file without a name in `$TMPDIR` or /tmp, open for reading, close-on-exec.
pub(crate) fn nameless_program(bytes: &[u8]) -> Result<OwnedFd, Errno> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o700)
        .custom_flags(libc::O_TMPFILE)
        .open(std::env::temp_dir())
        .map_err(from_io)?;
    file.write_all(bytes).map_err(from_io)?;
    // What is open for writing cannot be run.
    let readable = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(from_io)?;
    Ok(readable.into())
}

fn from_io(error: io::Error) -> Errno {
    Errno::from_host(error.raw_os_error().unwrap_or(libc::EIO))
}

/// A pair of connected sockets (`SOCK_SEQPACKET`, so that one message stays one), close-on-exec.
pub(crate) fn socketpair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let mut fds = [0; 2];
    // SAFETY: the array has room for both; the results are fresh descriptors.
    unsafe {
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        check(libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) as libc::c_long)?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

/// The most descriptors one message carries.
pub(crate) const MAX_FDS: usize = 24;

/// Sends descriptors with one byte of data, without waiting.
pub(crate) fn send_fds(socket: BorrowedFd<'_>, fds: &[i32]) -> Result<(), Errno> {
    assert!(!fds.is_empty() && fds.len() <= MAX_FDS);
    let mut control = [0u64; 2 + MAX_FDS / 2];
    let bytes = std::mem::size_of_val(fds);
    let mut byte = [0u8];
    let mut iov = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    // SAFETY: all-zero is a valid msghdr.
    let mut msg: libc::msghdr = unsafe { std::mem::zeroed() };
    msg.msg_iov = &mut iov;
    msg.msg_iovlen = 1;
    msg.msg_control = control.as_mut_ptr().cast();
    // SAFETY: `control` is aligned for a cmsghdr and has room for MAX_FDS descriptors; every pointer in `msg` outlives the call.
    let sent = unsafe {
        msg.msg_controllen = libc::CMSG_SPACE(bytes as u32) as usize;
        let header = libc::CMSG_FIRSTHDR(&msg);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(bytes as u32) as usize;
        std::ptr::copy_nonoverlapping(fds.as_ptr().cast::<u8>(), libc::CMSG_DATA(header), bytes);
        libc::sendmsg(socket.as_raw_fd(), &msg, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
    };
    check(sent as libc::c_long).map(drop)
}

/// `tgkill(2)`.
pub(crate) fn tgkill(pid: i32, tid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) }).map(drop)
}

/// `kill(2)` with `SIGKILL`.
pub(crate) fn kill(pid: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Whether a child has ended, without reaping it.
pub(crate) fn has_ended(pid: i32) -> bool {
    // SAFETY: `info` is a siginfo for the host to fill in.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
        match libc::waitid(libc::P_PID, pid as u32, &mut info, flags) {
            0 => info.si_pid() == pid,
            _ => errno() == Errno::ECHILD,
        }
    }
}

/// Reaps a child if it has ended. True when there is nothing left of it.
pub(crate) fn reap(pid: i32) -> bool {
    let mut status = 0;
    // SAFETY: `status` is an int for the host to fill in.
    let result = unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG | libc::__WALL) };
    result == pid || (result == -1 && errno() == Errno::ECHILD)
}

/// Waits until a child has ended, without reaping it. At once when it is no child of ours (any more).
pub(crate) fn wait_for_end(pid: i32) {
    // SAFETY: `info` is a siginfo for the host to fill in.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOWAIT | libc::__WALL;
        while libc::waitid(libc::P_PID, pid as u32, &mut info, flags) == -1 && errno() == Errno::EINTR {}
    }
}

/// `sched_setaffinity(2)` of another thread (0: the calling one).
pub(crate) fn set_affinity(tid: i32, cpus: &[usize]) {
    // SAFETY: an all-zero set is valid; CPU_SET stays within it for the numbers the host gave us.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for &cpu in cpus.iter().filter(|&&cpu| cpu < libc::CPU_SETSIZE as usize) {
            libc::CPU_SET(cpu, &mut set);
        }
        libc::sched_setaffinity(tid, std::mem::size_of_val(&set), &set);
    }
}

/// The CPUs this thread may use.
pub(crate) fn affinity() -> Vec<usize> {
    // SAFETY: the set is plain memory that the host fills in.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, std::mem::size_of_val(&set), &mut set);
        (0..libc::CPU_SETSIZE as usize)
            .filter(|&cpu| libc::CPU_ISSET(cpu, &set))
            .collect()
    }
}

/// The time stamp counter: constant rate on every host we run on.
pub(crate) fn tsc() -> u64 {
    // SAFETY: RDTSC is always there in 64-bit mode.
    unsafe { core::arch::x86_64::_rdtsc() }
}
