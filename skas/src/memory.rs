//! Guest memory from the kernel's side: `process_vm_readv(2)`, `/proc/PID/mem`, and what the host tells about residency.

use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::Relaxed;

use arch_um::Errno;

use crate::machine::machine;
use crate::{AddressSpace, MemoryUsage, host};

impl AddressSpace {
    /// Copies guest memory out. Queued changes are flushed first (as far as a thread is free to do it). On failure the number of bytes
    /// copied, exact, and `EFAULT` (`ESRCH`: process gone).
    pub fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), (usize, Errno)> {
        self.transfer(addr, buf.as_mut_ptr(), buf.len(), libc::SYS_process_vm_readv)
    }

    /// Copies into guest memory, respecting page protection. Otherwise like [`read`](Self::read).
    pub fn write(&self, addr: u64, buf: &[u8]) -> Result<(), (usize, Errno)> {
        self.transfer(addr, buf.as_ptr().cast_mut(), buf.len(), libc::SYS_process_vm_writev)
    }

    fn transfer(&self, addr: u64, local: *mut u8, len: usize, call: libc::c_long) -> Result<(), (usize, Errno)> {
        if len == 0 {
            return Ok(());
        }
        if self.is_dead() {
            return Err((0, Errno::ESRCH));
        }
        if self.has_pending()
            && let Err(errno) = self.flush()
            && errno != Errno::EAGAIN
        {
            return Err((0, if errno == Errno::ESRCH { errno } else { Errno::EFAULT }));
        }
        // The stub's own memory is not the guest's.
        let allowed = machine().layout.task_size.saturating_sub(addr).min(len as u64) as usize;
        let mut done = 0;
        while done < allowed {
            // SAFETY: `local` is valid for `len` bytes (readable, and writable for reads); the remote address is the host's to check.
            let moved = unsafe {
                let local = libc::iovec {
                    iov_base: local.add(done).cast(),
                    iov_len: allowed - done,
                };
                let remote = libc::iovec {
                    iov_base: (addr as usize + done) as *mut _,
                    iov_len: allowed - done,
                };
                libc::syscall(
                    call,
                    self.pid,
                    &raw const local,
                    1usize,
                    &raw const remote,
                    1usize,
                    0usize,
                )
            };
            match moved {
                1.. => done += moved as usize,
                0 => break,
                _ => match host::errno() {
                    Errno::ESRCH => {
                        self.kill();
                        return Err((done, Errno::ESRCH));
                    }
                    _ => break,
                },
            }
        }
        self.copied.fetch_add(done as u64, Relaxed);
        if done == len {
            Ok(())
        } else {
            Err((done, Errno::EFAULT))
        }
    }

    /// Copies into guest memory whatever its protection: private pages are copied first, as `PTRACE_POKEDATA` does. Read-only shared
    /// mappings stay closed (`EFAULT`).
    pub fn write_forced(&self, addr: u64, buf: &[u8]) -> Result<(), (usize, Errno)> {
        if buf.is_empty() {
            return Ok(());
        }
        if self.is_dead() {
            return Err((0, Errno::ESRCH));
        }
        let _ = self.flush();
        let allowed = machine().layout.task_size.saturating_sub(addr).min(buf.len() as u64) as usize;
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(format!("/proc/{}/mem", self.pid));
        let file = file.map_err(|_| (0, if self.is_dead() { Errno::ESRCH } else { Errno::EFAULT }))?;
        let mut done = 0;
        while done < allowed {
            match file.write_at(&buf[done..allowed], addr + done as u64) {
                Ok(0) | Err(_) => break,
                Ok(n) => done += n,
            }
        }
        if done == buf.len() {
            Ok(())
        } else {
            Err((done, Errno::EFAULT))
        }
    }

    /// Memory of the host process, 0 when it is gone. The stub's own few pages are included.
    pub fn memory_usage(&self) -> MemoryUsage {
        let mut usage = MemoryUsage::default();
        if self.is_dead() {
            return usage;
        }
        let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", self.pid)) else {
            return usage;
        };
        for line in status.lines() {
            let mut words = line.split_ascii_whitespace();
            let field = match words.next() {
                Some("RssAnon:") => &mut usage.rss_anon,
                Some("RssFile:") => &mut usage.rss_file,
                Some("RssShmem:") => &mut usage.rss_shmem,
                _ => continue,
            };
            *field = words.next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024;
        }
        usage
    }

    /// Which pages of a page-aligned range are in memory, one entry a page (`mincore(2)`), from `/proc/PID/pagemap`. A page of a file that is
    /// in the host's page cache but not mapped yet reads as absent. All present where the host does not tell.
    pub fn resident(&self, addr: u64, len: u64) -> Vec<bool> {
        let _ = self.flush();
        let pages = (len / 4096) as usize;
        let mut entries = vec![0u8; pages * 8];
        let read = std::fs::File::open(format!("/proc/{}/pagemap", self.pid))
            .and_then(|file| file.read_exact_at(&mut entries, addr / 4096 * 8));
        match read {
            Ok(()) => entries.chunks_exact(8).map(|entry| entry[7] & 0x80 != 0).collect(),
            Err(_) => vec![true; pages],
        }
    }
}
