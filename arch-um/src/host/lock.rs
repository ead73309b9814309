//! Locks on disk images, which keep other instances and real UML away.
//!
//! UML takes a POSIX lock on the whole file (`F_SETLK`), shared for reading, exclusive for writing. Ours is an open-file-description lock on the same
//! bytes: it conflicts with UML's in both directions, and it stays when somebody else in this process (hostfs) opens and closes the
//! same file, which would drop a POSIX lock.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use crate::errno::Errno;

/// Whom a lock keeps away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Writers.
    Shared,
    /// All others.
    Exclusive,
}

/// Locks all of `file` until it is closed. A file system without locks has nothing to hold.
///
/// # Errors
/// The process that has it locked, if the host tells its number.
pub fn take(file: &File, kind: LockKind) -> Result<(), Option<i32>> {
    let kind = match kind {
        LockKind::Shared => libc::F_RDLCK,
        LockKind::Exclusive => libc::F_WRLCK,
    };
    let mut lock = libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    loop {
        // SAFETY: the kernel reads one `flock` that lives over the call.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) } == 0 {
            return Ok(());
        }
        let error = std::io::Error::last_os_error().raw_os_error();
        match Errno::from_host(error.unwrap_or(libc::EIO)) {
            Errno::EINTR => {}
            Errno::EAGAIN | Errno::EACCES => {
                // SAFETY: the kernel reads and writes one `flock` that lives over the call.
                unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) };
                return Err(if lock.l_pid > 0 { Some(lock.l_pid) } else { holder(file) });
            }
            _ => return Ok(()),
        }
    }
}

/// Who holds an open-file-description lock on `file`: the host tells only in /proc/PID/fdinfo.
fn holder(file: &File) -> Option<i32> {
    let sought = file.metadata().ok()?;
    let holds = |pid: i32| {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).ok()?;
        descriptors.flatten().find(|descriptor| {
            let text = std::fs::read_to_string(descriptor.path()).unwrap_or_default();
            let name = descriptor.file_name();
            let open = format!("/proc/{pid}/fd/{}", name.to_string_lossy());
            text.lines().any(|line| line.starts_with("lock:"))
                && std::fs::metadata(open).is_ok_and(|found| (found.dev(), found.ino()) == (sought.dev(), sought.ino()))
        })
    };
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|&pid| holds(pid).is_some())
}
