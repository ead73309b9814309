//! User and group ids: `setuid(2)`, `setresuid(2)`, `setfsuid(2)`, `setgroups(2)` and their kin (`credentials(7)`).

use alloc::sync::Arc;

use super::capability;
use super::cred::{Capabilities, Cred};
use crate::syscall::Context;
use crate::user::UserPtr;
use crate::{Errno, Result};

/// `NGROUPS_MAX`.
const GROUPS_MAX: usize = 65536;
/// "No change" in the calls that set several ids.
const KEEP: u32 = u32::MAX;

/// Changes a copy of the caller's identity and installs it: capabilities follow the user ids, and a change hides the process from others.
fn change(cx: &Context, f: impl FnOnce(&Cred, &mut Cred) -> Result<()>) -> Result<usize> {
    let task = cx.task();
    let old = task.cred();
    let mut new = (*old).clone();
    f(&old, &mut new)?;
    capability::follow_user_ids(&old, &mut new);
    let fs_changed = old.fsuid != new.fsuid || old.fsgid != new.fsgid;
    if old.euid != new.euid || old.egid != new.egid || fs_changed || !old.permitted.contains(new.permitted) {
        task.process()
            .with_attributes(|attributes| attributes.dumpable = super::process::Dumpable::No);
        task.with_attributes(|attributes| attributes.death_signal = 0);
    }
    task.set_cred(Arc::new(new));
    Ok(0)
}

/// `setuid(2)`.
pub fn sys_setuid(cx: &Context, uid: u32) -> Result<usize> {
    change(cx, |old, new| {
        if uid == KEEP {
            return Err(Errno::EINVAL);
        }
        if old.capable(Capabilities::SETUID) {
            (new.uid, new.suid) = (uid, uid);
        } else if uid != old.uid && uid != old.suid {
            return Err(Errno::EPERM);
        }
        (new.euid, new.fsuid) = (uid, uid);
        Ok(())
    })
}

/// `setgid(2)`.
pub fn sys_setgid(cx: &Context, gid: u32) -> Result<usize> {
    change(cx, |old, new| {
        if gid == KEEP {
            return Err(Errno::EINVAL);
        }
        if old.capable(Capabilities::SETGID) {
            (new.gid, new.sgid) = (gid, gid);
        } else if gid != old.gid && gid != old.sgid {
            return Err(Errno::EPERM);
        }
        (new.egid, new.fsgid) = (gid, gid);
        Ok(())
    })
}

/// `setreuid(2)`.
pub fn sys_setreuid(cx: &Context, ruid: u32, euid: u32) -> Result<usize> {
    change(cx, |old, new| {
        let free = old.capable(Capabilities::SETUID);
        if ruid != KEEP {
            if !free && ruid != old.uid && ruid != old.euid {
                return Err(Errno::EPERM);
            }
            new.uid = ruid;
        }
        if euid != KEEP {
            if !free && euid != old.uid && euid != old.euid && euid != old.suid {
                return Err(Errno::EPERM);
            }
            new.euid = euid;
        }
        if ruid != KEEP || euid != KEEP && euid != old.uid {
            new.suid = new.euid;
        }
        new.fsuid = new.euid;
        Ok(())
    })
}

/// `setregid(2)`.
pub fn sys_setregid(cx: &Context, rgid: u32, egid: u32) -> Result<usize> {
    change(cx, |old, new| {
        let free = old.capable(Capabilities::SETGID);
        if rgid != KEEP {
            if !free && rgid != old.gid && rgid != old.egid {
                return Err(Errno::EPERM);
            }
            new.gid = rgid;
        }
        if egid != KEEP {
            if !free && egid != old.gid && egid != old.egid && egid != old.sgid {
                return Err(Errno::EPERM);
            }
            new.egid = egid;
        }
        if rgid != KEEP || egid != KEEP && egid != old.gid {
            new.sgid = new.egid;
        }
        new.fsgid = new.egid;
        Ok(())
    })
}

/// `setresuid(2)`.
pub fn sys_setresuid(cx: &Context, ruid: u32, euid: u32, suid: u32) -> Result<usize> {
    change(cx, |old, new| {
        let allowed = |id: u32| id == KEEP || [old.uid, old.euid, old.suid].contains(&id);
        if !old.capable(Capabilities::SETUID) && ![ruid, euid, suid].into_iter().all(allowed) {
            return Err(Errno::EPERM);
        }
        for (id, slot) in [(ruid, &mut new.uid), (euid, &mut new.euid), (suid, &mut new.suid)] {
            if id != KEEP {
                *slot = id;
            }
        }
        new.fsuid = new.euid;
        Ok(())
    })
}

/// `setresgid(2)`.
pub fn sys_setresgid(cx: &Context, rgid: u32, egid: u32, sgid: u32) -> Result<usize> {
    change(cx, |old, new| {
        let allowed = |id: u32| id == KEEP || [old.gid, old.egid, old.sgid].contains(&id);
        if !old.capable(Capabilities::SETGID) && ![rgid, egid, sgid].into_iter().all(allowed) {
            return Err(Errno::EPERM);
        }
        for (id, slot) in [(rgid, &mut new.gid), (egid, &mut new.egid), (sgid, &mut new.sgid)] {
            if id != KEEP {
                *slot = id;
            }
        }
        new.fsgid = new.egid;
        Ok(())
    })
}

/// `setfsuid(2)`: returns the id before, never an error.
pub fn sys_setfsuid(cx: &Context, uid: u32) -> Result<usize> {
    let before = cx.task().cred().fsuid;
    let _ = change(cx, |old, new| {
        let own = [old.uid, old.euid, old.suid, old.fsuid].contains(&uid);
        if uid != KEEP && (own || old.capable(Capabilities::SETUID)) {
            new.fsuid = uid;
        }
        Ok(())
    });
    Ok(before as usize)
}

/// `setfsgid(2)`: returns the id before, never an error.
pub fn sys_setfsgid(cx: &Context, gid: u32) -> Result<usize> {
    let before = cx.task().cred().fsgid;
    let _ = change(cx, |old, new| {
        let own = [old.gid, old.egid, old.sgid, old.fsgid].contains(&gid);
        if gid != KEEP && (own || old.capable(Capabilities::SETGID)) {
            new.fsgid = gid;
        }
        Ok(())
    });
    Ok(before as usize)
}

/// `getuid(2)`.
pub fn sys_getuid(cx: &Context) -> Result<usize> {
    Ok(cx.task().cred().uid as usize)
}

/// `geteuid(2)`.
pub fn sys_geteuid(cx: &Context) -> Result<usize> {
    Ok(cx.task().cred().euid as usize)
}

/// `getgid(2)`.
pub fn sys_getgid(cx: &Context) -> Result<usize> {
    Ok(cx.task().cred().gid as usize)
}

/// `getegid(2)`.
pub fn sys_getegid(cx: &Context) -> Result<usize> {
    Ok(cx.task().cred().egid as usize)
}

/// `getresuid(2)`.
pub fn sys_getresuid(cx: &Context, ruid: UserPtr<u32>, euid: UserPtr<u32>, suid: UserPtr<u32>) -> Result<usize> {
    let cred = cx.task().cred();
    ruid.write(&cred.uid)?;
    euid.write(&cred.euid)?;
    suid.write(&cred.suid)?;
    Ok(0)
}

/// `getresgid(2)`.
pub fn sys_getresgid(cx: &Context, rgid: UserPtr<u32>, egid: UserPtr<u32>, sgid: UserPtr<u32>) -> Result<usize> {
    let cred = cx.task().cred();
    rgid.write(&cred.gid)?;
    egid.write(&cred.egid)?;
    sgid.write(&cred.sgid)?;
    Ok(0)
}

/// `getgroups(2)`: the count alone for size 0, `EINVAL` when they do not fit.
pub fn sys_getgroups(cx: &Context, size: i32, list: UserPtr<u32>) -> Result<usize> {
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    let cred = cx.task().cred();
    let count = cred.groups.len();
    if size == 0 {
        return Ok(count);
    }
    if count > size {
        return Err(Errno::EINVAL);
    }
    let bytes: alloc::vec::Vec<u8> = cred.groups.iter().flat_map(|group| group.to_le_bytes()).collect();
    list.addr().write(&bytes)?;
    Ok(count)
}

/// `setgroups(2)`.
pub fn sys_setgroups(cx: &Context, size: u32, list: UserPtr<u32>) -> Result<usize> {
    if !cx.task().cred().capable(Capabilities::SETGID) {
        return Err(Errno::EPERM);
    }
    let size = size as usize;
    if size > GROUPS_MAX {
        return Err(Errno::EINVAL);
    }
    let mut groups = list.read_many(size)?;
    if groups.contains(&KEEP) {
        return Err(Errno::EINVAL);
    }
    groups.sort_unstable();
    let mut new = (*cx.task().cred()).clone();
    new.groups = groups;
    cx.task().set_cred(Arc::new(new));
    Ok(0)
}
