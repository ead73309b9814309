//! What `execve(2)` does to a task besides its memory: the other threads go, handlers and identities change.
//!
//! In this order: [`de_thread`]; [`release_memory`] while the old memory is in place; the new memory; [`start_program`].

use alloc::sync::Arc;
use alloc::vec::Vec;

use bitflags::bitflags;

use super::cred::{Capabilities, Cred};
use super::process::Dumpable;
use super::{Task, robust, table};
use crate::signal::state::AltStack;
use crate::signal::{Signal, send};
use crate::syscall::Context;
use crate::time::ProcessTimers;
use crate::{Errno, Result};

/// Ends all other threads of the process; the caller becomes its leader, with the leader's number.
///
/// `EAGAIN` when the process is being killed or another thread was faster: the caller dies of it on its way out.
pub fn de_thread(cx: &Context) -> Result<()> {
    let task = cx.task();
    let process = task.process();
    send::kill_siblings(task)?;
    let alone = || {
        table::with_node(process, |node| node.threads.len() == 1)
            .unwrap_or(true)
            .then_some(())
    };
    let outcome = task.wait_killable(&process.exit_wait, alone);
    let old_leader = match outcome {
        Ok(()) if !task.is_leader() => table::tree().take_over_leader(task),
        _ => None,
    };
    {
        let mut group = process.signals.lock();
        group.exec = None;
    }
    drop(old_leader);
    outcome.map_err(|_| Errno::EAGAIN)
}

/// Lets go of what the old program left in memory that is about to be replaced: robust futexes, the word of `set_tid_address(2)`.
pub fn release_memory(cx: &Context) {
    let task = cx.task();
    robust::exit_robust_list(task);
    task.with_attributes(|attributes| attributes.robust_list = (0, 0));
    task.clear_child_tid();
}

/// Whether the file may be read by who runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readable {
    /// Yes.
    Yes,
    /// No: nobody may look into the process.
    No,
}

/// The new memory is in place: handlers, stack, name, identity become the new program's, a `vfork` parent goes on.
pub fn start_program(cx: &Context, name: &[u8], identity: &NewIdentity, readable: Readable) {
    let task = cx.task();
    let process = task.process();
    cx.user_replaced();
    let actions = process.actions();
    let own = actions.duplicate();
    own.reset_handlers();
    drop(process.set_actions(Arc::new(own)));
    task.signals.lock().altstack = AltStack::default();
    drop(task.take_restart());
    ProcessTimers::exec(process);
    task.set_comm(name);
    let old = task.cred();
    let cred = &identity.cred;
    let changes = old.euid != cred.euid || old.egid != cred.egid || !old.permitted.contains(cred.permitted);
    task.with_attributes(|attributes| {
        if changes || identity.secure == Secure::Yes {
            attributes.death_signal = 0;
        }
    });
    let exposed = cred.euid == cred.uid && cred.egid == cred.gid && readable == Readable::Yes;
    process.with_attributes(|attributes| {
        attributes.dumpable = if exposed { Dumpable::User } else { Dumpable::No };
        attributes.execed = true;
        attributes.membarrier = 0;
        attributes.thp_disabled = false;
    });
    task.set_cred(cred.clone());
    usual_exit_signals(task);
    if task.complete_vfork() {
        // What the parent does next is mostly to wait.
        arch_um::thread::stand_aside();
    }
}

/// A program that runs something else gets `CHLD` from its children, and sends it, whatever `clone(2)` said.
fn usual_exit_signals(task: &Task) {
    let pid = task.process().pid();
    let mut tree = table::tree();
    let children: Vec<_> = tree.children(pid).map(|child| child.process.pid()).collect();
    for process in children.into_iter().chain([pid]) {
        if let Some(node) = tree.node_mut(process) {
            node.exit_signal = Signal::CHLD.number();
        }
    }
}

/// What a program file says of the identity that runs it. Nothing for a file system mounted `nosuid`.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileIdentity {
    /// The owner, for a set-user-id file.
    pub uid: Option<u32>,
    /// The group, for a set-group-id file.
    pub gid: Option<u32>,
    /// `security.capability`.
    pub capabilities: Option<FileCapabilities>,
}

/// The capabilities of a file (`capabilities(7)`).
#[derive(Clone, Copy, Debug)]
pub struct FileCapabilities {
    /// Given to the program.
    pub permitted: Capabilities,
    /// Given if the caller has them inheritable.
    pub inheritable: Capabilities,
    /// Whether they are in force at once.
    pub effective: EffectiveBit,
}

/// The effective bit of a file's capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EffectiveBit {
    /// In force at once.
    Set,
    /// The program raises them.
    Clear,
}

/// Whether the program must distrust its environment (`AT_SECURE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secure {
    /// It has more rights than who started it.
    Yes,
    /// It has not.
    No,
}

/// The identity of the new program.
#[derive(Clone, Debug)]
pub struct NewIdentity {
    /// The identity itself.
    pub cred: Arc<Cred>,
    /// For the auxiliary vector.
    pub secure: Secure,
}

bitflags! {
    /// `PR_SET_SECUREBITS`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SecureBits: u32 {
        /// Root gets no capabilities at exec.
        const NOROOT = 1 << 0;
        /// Cannot be changed.
        const NOROOT_LOCKED = 1 << 1;
        /// Changes of the user id change no capabilities.
        const NO_SETUID_FIXUP = 1 << 2;
        /// Cannot be changed.
        const NO_SETUID_FIXUP_LOCKED = 1 << 3;
        /// Permitted capabilities survive leaving root.
        const KEEP_CAPS = 1 << 4;
        /// Cannot be changed.
        const KEEP_CAPS_LOCKED = 1 << 5;
        /// No ambient capabilities may be raised.
        const NO_CAP_AMBIENT_RAISE = 1 << 6;
        /// Cannot be changed.
        const NO_CAP_AMBIENT_RAISE_LOCKED = 1 << 7;
    }
}

impl SecureBits {
    /// Those of an identity.
    pub fn of(cred: &Cred) -> Self {
        Self::from_bits_retain(cred.securebits)
    }
}

/// The identity under which `old` runs a file with `file`'s bits. `EPERM` when the bounding set withholds what the file's effective bit promises.
pub fn new_identity(old: &Cred, file: &FileIdentity) -> Result<NewIdentity> {
    let mut new = old.clone();
    let honored = if old.no_new_privs {
        FileIdentity::default()
    } else {
        *file
    };
    if let Some(uid) = honored.uid {
        new.euid = uid;
    }
    if let Some(gid) = honored.gid {
        new.egid = gid;
    }
    let mut effective = EffectiveBit::Clear;
    new.permitted = Capabilities::empty();
    if let Some(caps) = honored.capabilities {
        new.permitted = old.inheritable & caps.inheritable | old.bounding & caps.permitted;
        effective = caps.effective;
        if effective == EffectiveBit::Set && !new.permitted.contains(caps.permitted) {
            return Err(Errno::EPERM);
        }
    }
    // A set-user-id root file with capabilities of its own gives only those.
    let own_caps_only = honored.capabilities.is_some() && new.uid != 0 && new.euid == 0;
    if !SecureBits::of(old).contains(SecureBits::NOROOT) && !own_caps_only {
        if new.euid == 0 || new.uid == 0 {
            new.permitted = old.bounding | old.inheritable;
        }
        if new.euid == 0 {
            effective = EffectiveBit::Set;
        }
    }
    let is_setid = new.euid != old.uid || new.egid != old.gid;
    (new.suid, new.fsuid) = (new.euid, new.euid);
    (new.sgid, new.fsgid) = (new.egid, new.egid);
    if honored.capabilities.is_some() || is_setid {
        new.ambient = Capabilities::empty();
    }
    new.permitted |= new.ambient;
    new.effective = if effective == EffectiveBit::Set {
        new.permitted
    } else {
        new.ambient
    };
    new.securebits &= !SecureBits::KEEP_CAPS.bits();
    let gains = effective == EffectiveBit::Set || !new.ambient.contains(new.permitted);
    let secure = if is_setid || new.uid != 0 && gains {
        Secure::Yes
    } else {
        Secure::No
    };
    Ok(NewIdentity {
        cred: Arc::new(new),
        secure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> Cred {
        let mut cred = (*Cred::root()).clone();
        (cred.uid, cred.euid, cred.suid, cred.fsuid) = (uid, uid, uid, uid);
        (cred.gid, cred.egid, cred.sgid, cred.fsgid) = (uid, uid, uid, uid);
        (cred.permitted, cred.effective) = (Capabilities::empty(), Capabilities::empty());
        cred
    }

    #[test]
    fn root_keeps_all_capabilities_and_is_not_secure() {
        let new = new_identity(&Cred::root(), &FileIdentity::default()).unwrap();
        assert_eq!(new.cred.effective, Capabilities::all());
        assert_eq!(new.secure, Secure::No);
    }

    #[test]
    fn a_set_user_id_root_program_has_root_power_and_is_secure() {
        let file = FileIdentity {
            uid: Some(0),
            ..FileIdentity::default()
        };
        let new = new_identity(&user(1000), &file).unwrap();
        assert_eq!(
            (new.cred.uid, new.cred.euid, new.cred.suid, new.cred.fsuid),
            (1000, 0, 0, 0)
        );
        assert_eq!(new.cred.effective, Capabilities::all());
        assert_eq!(new.secure, Secure::Yes);
    }

    #[test]
    fn no_new_privs_makes_set_user_id_and_file_capabilities_void() {
        let mut old = user(1000);
        old.no_new_privs = true;
        let capabilities = Some(FileCapabilities {
            permitted: Capabilities::NET_RAW,
            inheritable: Capabilities::empty(),
            effective: EffectiveBit::Set,
        });
        let new = new_identity(
            &old,
            &FileIdentity {
                uid: Some(0),
                gid: None,
                capabilities,
            },
        )
        .unwrap();
        assert_eq!(new.cred.euid, 1000);
        assert_eq!(new.cred.permitted, Capabilities::empty());
    }

    #[test]
    fn file_capabilities_are_cut_by_the_bounding_set() {
        let mut old = user(1000);
        let caps = FileCapabilities {
            permitted: Capabilities::NET_RAW,
            inheritable: Capabilities::empty(),
            effective: EffectiveBit::Set,
        };
        let file = FileIdentity {
            capabilities: Some(caps),
            ..FileIdentity::default()
        };
        assert_eq!(new_identity(&old, &file).unwrap().cred.effective, Capabilities::NET_RAW);
        old.bounding = Capabilities::empty();
        assert_eq!(new_identity(&old, &file).unwrap_err(), Errno::EPERM);
    }

    #[test]
    fn an_unprivileged_program_keeps_ambient_capabilities_only() {
        let mut old = user(1000);
        old.permitted = Capabilities::CHOWN | Capabilities::KILL;
        old.effective = old.permitted;
        old.inheritable = Capabilities::KILL;
        old.ambient = Capabilities::KILL;
        let new = new_identity(&old, &FileIdentity::default()).unwrap();
        assert_eq!(new.cred.permitted, Capabilities::KILL);
        assert_eq!(new.cred.effective, Capabilities::KILL);
    }
}
