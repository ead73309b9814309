//! Identities: user and group ids, capabilities, securebits (`credentials(7)`, `capabilities(7)`).
//!
//! A [`Cred`] never changes; a task replaces its own (`Task::set_cred`).

use alloc::sync::Arc;
use alloc::vec::Vec;

use bitflags::bitflags;

bitflags! {
    /// Capability sets, Linux's numbers.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Capabilities: u64 {
        /// `CAP_CHOWN`.
        const CHOWN = 1 << 0;
        /// `CAP_DAC_OVERRIDE`.
        const DAC_OVERRIDE = 1 << 1;
        /// `CAP_DAC_READ_SEARCH`.
        const DAC_READ_SEARCH = 1 << 2;
        /// `CAP_FOWNER`.
        const FOWNER = 1 << 3;
        /// `CAP_FSETID`.
        const FSETID = 1 << 4;
        /// `CAP_KILL`.
        const KILL = 1 << 5;
        /// `CAP_SETGID`.
        const SETGID = 1 << 6;
        /// `CAP_SETUID`.
        const SETUID = 1 << 7;
        /// `CAP_SETPCAP`.
        const SETPCAP = 1 << 8;
        /// `CAP_LINUX_IMMUTABLE`.
        const LINUX_IMMUTABLE = 1 << 9;
        /// `CAP_NET_BIND_SERVICE`.
        const NET_BIND_SERVICE = 1 << 10;
        /// `CAP_NET_BROADCAST`.
        const NET_BROADCAST = 1 << 11;
        /// `CAP_NET_ADMIN`.
        const NET_ADMIN = 1 << 12;
        /// `CAP_NET_RAW`.
        const NET_RAW = 1 << 13;
        /// `CAP_IPC_LOCK`.
        const IPC_LOCK = 1 << 14;
        /// `CAP_IPC_OWNER`.
        const IPC_OWNER = 1 << 15;
        /// `CAP_SYS_MODULE`.
        const SYS_MODULE = 1 << 16;
        /// `CAP_SYS_RAWIO`.
        const SYS_RAWIO = 1 << 17;
        /// `CAP_SYS_CHROOT`.
        const SYS_CHROOT = 1 << 18;
        /// `CAP_SYS_PTRACE`.
        const SYS_PTRACE = 1 << 19;
        /// `CAP_SYS_PACCT`.
        const SYS_PACCT = 1 << 20;
        /// `CAP_SYS_ADMIN`.
        const SYS_ADMIN = 1 << 21;
        /// `CAP_SYS_BOOT`.
        const SYS_BOOT = 1 << 22;
        /// `CAP_SYS_NICE`.
        const SYS_NICE = 1 << 23;
        /// `CAP_SYS_RESOURCE`.
        const SYS_RESOURCE = 1 << 24;
        /// `CAP_SYS_TIME`.
        const SYS_TIME = 1 << 25;
        /// `CAP_SYS_TTY_CONFIG`.
        const SYS_TTY_CONFIG = 1 << 26;
        /// `CAP_MKNOD`.
        const MKNOD = 1 << 27;
        /// `CAP_LEASE`.
        const LEASE = 1 << 28;
        /// `CAP_AUDIT_WRITE`.
        const AUDIT_WRITE = 1 << 29;
        /// `CAP_AUDIT_CONTROL`.
        const AUDIT_CONTROL = 1 << 30;
        /// `CAP_SETFCAP`.
        const SETFCAP = 1 << 31;
        /// `CAP_MAC_OVERRIDE`.
        const MAC_OVERRIDE = 1 << 32;
        /// `CAP_MAC_ADMIN`.
        const MAC_ADMIN = 1 << 33;
        /// `CAP_SYSLOG`.
        const SYSLOG = 1 << 34;
        /// `CAP_WAKE_ALARM`.
        const WAKE_ALARM = 1 << 35;
        /// `CAP_BLOCK_SUSPEND`.
        const BLOCK_SUSPEND = 1 << 36;
        /// `CAP_AUDIT_READ`.
        const AUDIT_READ = 1 << 37;
        /// `CAP_PERFMON`.
        const PERFMON = 1 << 38;
        /// `CAP_BPF`.
        const BPF = 1 << 39;
        /// `CAP_CHECKPOINT_RESTORE`.
        const CHECKPOINT_RESTORE = 1 << 40;
    }
}

/// One identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cred {
    /// Real user.
    pub uid: u32,
    /// Effective user.
    pub euid: u32,
    /// Saved user.
    pub suid: u32,
    /// User for file access.
    pub fsuid: u32,
    /// Real group.
    pub gid: u32,
    /// Effective group.
    pub egid: u32,
    /// Saved group.
    pub sgid: u32,
    /// Group for file access.
    pub fsgid: u32,
    /// Supplementary groups, sorted.
    pub groups: Vec<u32>,
    /// Permitted.
    pub permitted: Capabilities,
    /// In force.
    pub effective: Capabilities,
    /// Kept over exec where the file agrees.
    pub inheritable: Capabilities,
    /// Limit of what exec can give.
    pub bounding: Capabilities,
    /// Kept over exec of unprivileged programs.
    pub ambient: Capabilities,
    /// `PR_SET_SECUREBITS`.
    pub securebits: u32,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
}

impl Cred {
    /// The superuser with every capability.
    pub fn root() -> Arc<Self> {
        Arc::new(Self {
            uid: 0,
            euid: 0,
            suid: 0,
            fsuid: 0,
            gid: 0,
            egid: 0,
            sgid: 0,
            fsgid: 0,
            groups: Vec::new(),
            permitted: Capabilities::all(),
            effective: Capabilities::all(),
            inheritable: Capabilities::empty(),
            bounding: Capabilities::all(),
            ambient: Capabilities::empty(),
            securebits: 0,
            no_new_privs: false,
        })
    }

    /// Whether `capability` is in force.
    pub fn capable(&self, capability: Capabilities) -> bool {
        self.effective.contains(capability)
    }

    /// Whether `gid` is the file-access group or a supplementary one.
    pub fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }
}
