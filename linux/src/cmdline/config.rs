//! `--showconfig`: what is built in, in the words of Linux's configuration, for tools that grep it.

/// Built in.
const YES: &[&str] = &[
    "64BIT",
    "UML",
    "UML_X86",
    "X86_64",
    "MMU",
    "SMP",
    "STATIC_LINK",
    "BINFMT_ELF",
    "BINFMT_SCRIPT",
    "MULTIUSER",
    "FUTEX",
    "EPOLL",
    "SIGNALFD",
    "TIMERFD",
    "EVENTFD",
    "POSIX_TIMERS",
    "SHMEM",
    "TMPFS",
    "TMPFS_XATTR",
    "PROC_FS",
    "PROC_SYSCTL",
    "SYSFS",
    "DEVTMPFS",
    "DEVTMPFS_MOUNT",
    "HOSTFS",
    "BLOCK",
    "BLK_DEV",
    "BLK_DEV_UBD",
    "MSDOS_PARTITION",
    "EFI_PARTITION",
    "TTY",
    "UNIX98_PTYS",
    "STDERR_CONSOLE",
    "STDIO_CONSOLE",
    "SSL",
    "NULL_CHAN",
    "PTY_CHAN",
    "TTY_CHAN",
    "FD_CHAN",
    "PRINTK",
    "PRINTK_TIME",
    "MEMFD_CREATE",
    "MEMBARRIER",
    "NET",
    "UNIX",
    "FILE_LOCKING",
    "ADVISE_SYSCALLS",
];

/// Not built in.
const NO: &[&str] = &[
    "MODULES",
    "INET",
    "SYSVIPC",
    "POSIX_MQUEUE",
    "NAMESPACES",
    "CGROUPS",
    "SECCOMP",
    "BPF_SYSCALL",
    "IO_URING",
    "USERFAULTFD",
    "INOTIFY_USER",
    "FANOTIFY",
    "FUSE_FS",
    "OVERLAY_FS",
    "EXT4_FS",
    "BLK_DEV_LOOP",
    "BLK_DEV_INITRD",
    "SWAP",
    "KEYS",
    "AIO",
    "PERF_EVENTS",
    "PORT_CHAN",
    "XTERM_CHAN",
    "MCONSOLE",
    "MAGIC_SYSRQ",
    "UML_TIME_TRAVEL_SUPPORT",
    "KUNIT",
];

/// The whole text.
pub fn text() -> String {
    let mut text = format!(
        "#\n# Automatically generated file; DO NOT EDIT.\n# Linux/um {} Kernel Configuration\n#\n",
        kernel::version::RELEASE
    );
    for name in YES {
        text.push_str(&format!("CONFIG_{name}=y\n"));
    }
    for (name, value) in [
        ("HZ", "100"),
        ("NR_CPUS", "64"),
        ("CON_ZERO_CHAN", "\"fd:0,fd:1\""),
        ("CON_CHAN", "\"pts\""),
        ("SSL_CHAN", "\"pts\""),
    ] {
        text.push_str(&format!("CONFIG_{name}={value}\n"));
    }
    for name in NO {
        text.push_str(&format!("# CONFIG_{name} is not set\n"));
    }
    text
}
