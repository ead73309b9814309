//! This process and its host: identity, limits, memory, processor, other processes.

use crate::errno::Errno;
use crate::host::sys::check;
use std::ffi::CStr;
use std::mem::MaybeUninit;

/// Our process number.
pub fn pid() -> i32 {
    std::process::id() as i32
}

/// Real and effective user id, real and effective group id.
pub fn credentials() -> Credentials {
    // SAFETY: no arguments; these calls cannot fail.
    unsafe {
        Credentials {
            uid: libc::getuid(),
            euid: libc::geteuid(),
            gid: libc::getgid(),
            egid: libc::getegid(),
        }
    }
}

/// Who we are on the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Credentials {
    /// Real user.
    pub uid: u32,
    /// Effective user.
    pub euid: u32,
    /// Real group.
    pub gid: u32,
    /// Effective group.
    pub egid: u32,
}

/// Is there a process with this number (ours to signal or not)?
pub fn process_exists(pid: i32) -> bool {
    // SAFETY: signal 0 only looks.
    pid > 0 && matches!(check(unsafe { libc::kill(pid, 0) }), Ok(_) | Err(Errno::EPERM))
}

/// Sends host signal `signo` to process `pid`.
///
/// # Errors
/// `ESRCH`, `EPERM`; `EINVAL` for groups and "everybody" (`pid` below 1).
pub fn kill(pid: i32, signo: i32) -> Result<(), Errno> {
    if pid < 1 {
        return Err(Errno::EINVAL);
    }
    // SAFETY: plain numbers.
    check(unsafe { libc::kill(pid, signo) })?;
    Ok(())
}

fn limit(resource: libc::__rlimit_resource_t) -> libc::rlimit {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: fills one rlimit; cannot fail for resources that exist.
    unsafe { libc::getrlimit(resource, &mut limit) };
    limit
}

/// Stops this process until somebody continues it (`SIGSTOP`).
pub fn stop() {
    // SAFETY: no memory is passed; a signal to ourselves is always allowed.
    unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
}

/// Raises the soft limit on open descriptors to the hard one; returns what we have then.
pub fn raise_descriptor_limit() -> u64 {
    let mut limit = limit(libc::RLIMIT_NOFILE);
    if limit.rlim_cur < limit.rlim_max {
        let before = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: reads one rlimit.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
            limit.rlim_cur = before;
        }
    }
    limit.rlim_cur
}

/// Has writes beyond the limit on file sizes (`RLIMIT_FSIZE`) fail with `EFBIG` instead of ending this process by `SIGXFSZ`: guests write files too.
pub fn survive_file_size_limit() {
    // SAFETY: sets one signal of ours to be ignored.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Descriptors that a guest process of one thread takes.
const TASK_DESCRIPTORS: u64 = 3;

/// How many guest tasks, each a host thread, this process may have without starving its host or itself: three quarters of what the limits of
/// the user (`RLIMIT_NPROC`), of the control groups around us (`pids.max`) and of the host leave, and descriptors for them.
pub fn task_capacity() -> u64 {
    let number = |path: &str| {
        let text = std::fs::read_to_string(path).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let descriptors = limit(libc::RLIMIT_NOFILE).rlim_cur / (TASK_DESCRIPTORS + 1);
    let mut threads = limit(libc::RLIMIT_NPROC).rlim_cur;
    for knob in ["/proc/sys/kernel/threads-max", "/proc/sys/kernel/pid_max"] {
        threads = threads.min(number(knob).unwrap_or(u64::MAX));
    }
    // "0::/a/b": the limit of every group above us counts.
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| {
        line.strip_prefix("0::")
            .or_else(|| line.split_once(":pids:").map(|(_, path)| path))
    });
    for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/pids"] {
        let mut group = own.unwrap_or("").trim_end_matches('/');
        loop {
            let directory = format!("{mount}{group}");
            if let Some(most) = number(&format!("{directory}/pids.max")) {
                let used = number(&format!("{directory}/pids.current")).unwrap_or(0);
                threads = threads.min(most.saturating_sub(used));
            }
            match group.rsplit_once('/') {
                Some((above, _)) => group = above,
                None => break,
            }
        }
    }
    descriptors.min(threads - threads / 4)
}

/// Soft and hard limit on core dumps in bytes; `None`: unlimited.
pub fn core_limit() -> (Option<u64>, Option<u64>) {
    let limit = limit(libc::RLIMIT_CORE);
    let bytes = |value| (value != libc::RLIM_INFINITY).then_some(value);
    (bytes(limit.rlim_cur), bytes(limit.rlim_max))
}

/// The host CPUs that this process may use, by number.
pub fn allowed_cpus() -> Vec<usize> {
    crate::cpu::initial_affinity()
}

/// What the host calls itself (`uname(2)`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Uname {
    /// `Linux`.
    pub sysname: String,
    /// The host's name.
    pub nodename: String,
    /// Release.
    pub release: String,
    /// Version.
    pub version: String,
    /// `x86_64`.
    pub machine: String,
}

/// What the host calls itself.
pub fn uname() -> Uname {
    let mut names = MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: zero is valid, and the call ends every field with a zero byte.
    let names = unsafe {
        libc::uname(names.as_mut_ptr());
        names.assume_init()
    };
    // SAFETY: as above.
    let text = |field: &[libc::c_char]| unsafe { CStr::from_ptr(field.as_ptr()) }.to_string_lossy().into_owned();
    Uname {
        sysname: text(&names.sysname),
        nodename: text(&names.nodename),
        release: text(&names.release),
        version: text(&names.version),
        machine: text(&names.machine),
    }
}

/// A line of the first processor in the host's `/proc/cpuinfo`: `flags`, `model name`, `cpu MHz`.
pub fn cpuinfo(field: &str) -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    text.lines().take_while(|line| !line.is_empty()).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == field).then(|| value.trim().to_owned())
    })
}

/// The host's memory in bytes, limited to what our control group may use.
pub fn total_memory() -> u64 {
    let host = sysinfo().0;
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    group
        .and_then(|text| text.trim().parse().ok())
        .map_or(host, |max: u64| max.min(host))
}

/// The host's free memory in bytes, as far as programs can have it without swapping (`MemAvailable`).
pub fn available_memory() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = available.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map_or_else(|| sysinfo().1, |kib| kib * 1024)
}

/// Total and free memory in bytes.
fn sysinfo() -> (u64, u64) {
    let mut info = MaybeUninit::<libc::sysinfo>::zeroed();
    // SAFETY: zero is valid, the call fills one structure.
    let info = unsafe {
        libc::sysinfo(info.as_mut_ptr());
        info.assume_init()
    };
    let unit = u64::from(info.mem_unit);
    (info.totalram * unit, info.freeram * unit)
}

/// Memory of this process that is in RAM, in bytes (`/proc/self/statm`).
pub fn resident_memory() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    pages * 4096
}

/// Gives memory back to the host that the heap keeps for later. Takes its time, milliseconds.
pub fn trim_heap() {
    // SAFETY: a number only; the C library locks what it looks at.
    unsafe { libc::malloc_trim(0) };
}

/// Starts a helper program (terminal emulator, network helper) so that it does not inherit what is ours: it may run on all host CPUs and
/// dies with SIGTERM when the kernel does. The caller reaps it (`Child::wait` on a pool thread).
///
/// Call it on a thread that lives as long as the kernel does, such as a virtual CPU's: the helper's death is tied to that one.
///
/// # Errors
/// The host's: `ENOENT`, `EACCES`, `EAGAIN`.
pub fn spawn_helper(command: &mut std::process::Command) -> Result<std::process::Child, Errno> {
    use crate::host::sys::IntoErrno;
    use std::os::unix::process::CommandExt;
    let kernel = pid();
    // SAFETY: between fork and exec: system calls only, no allocation (the mask is read, not made).
    unsafe {
        command.pre_exec(move || {
            crate::cpu::unpin();
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            if libc::getppid() != kernel {
                return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
    command.spawn().map_err(IntoErrno::into_errno)
}

/// Leads a session of its own from now on, if it leads no group already (`setsid(2)`); the terminal is no longer ours to control.
pub fn new_session() -> Result<(), Errno> {
    // SAFETY: no arguments.
    check(unsafe { libc::setsid() })?;
    Ok(())
}

/// Anonymous and shared memory of host process `pid` in bytes, each page divided among those who share it; none when the host does not tell.
///
/// Walks the process's page tables: milliseconds for a large one.
pub fn proportional_memory(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let kilobytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some((kilobytes("Pss_Anon:")? + kilobytes("Pss_Shmem:")?) << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_known() {
        assert_eq!(uname().sysname, "Linux");
        assert!(total_memory() > 16 << 20);
        assert!(available_memory() > 0 && resident_memory() > 0);
        assert!(!allowed_cpus().is_empty());
        assert!(cpuinfo("flags").is_none_or(|flags| flags.contains("sse2")));
        assert!(process_exists(pid()) && !process_exists(-1));
        assert!(raise_descriptor_limit() >= 64);
        assert_eq!(kill(0, 0), Err(Errno::EINVAL));
    }

    #[test]
    fn helpers_run_and_missing_ones_are_told() {
        let mut child = spawn_helper(&mut std::process::Command::new("true")).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(
            spawn_helper(&mut std::process::Command::new("/no/such")).err(),
            Some(Errno::ENOENT)
        );
    }
}
