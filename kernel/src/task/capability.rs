//! Capabilities: `capget(2)`, `capset(2)`, and how they follow the user ids (`capabilities(7)`).

use alloc::sync::Arc;

use super::cred::{Capabilities, Cred};
use super::exec::SecureBits;
use super::{Pid, table};
use crate::syscall::Context;
use crate::user::UserPtr;
use crate::{Errno, Result, abi_struct};

abi_struct! {
    /// `struct __user_cap_header_struct`.
    pub struct CapHeader {
        version: u32,
        pid: i32,
    }
}

abi_struct! {
    /// `struct __user_cap_data_struct`: 32 capabilities of each set.
    pub struct CapData {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
}

const VERSION_1: u32 = 0x1998_0330;
const VERSION_2: u32 = 0x2007_1026;
const VERSION_3: u32 = 0x2008_0522;

/// The capabilities that belong to access to files: they follow the file-system user id.
const FS_CAPABILITIES: Capabilities = Capabilities::CHOWN
    .union(Capabilities::DAC_OVERRIDE)
    .union(Capabilities::DAC_READ_SEARCH)
    .union(Capabilities::FOWNER)
    .union(Capabilities::FSETID)
    .union(Capabilities::LINUX_IMMUTABLE)
    .union(Capabilities::MKNOD)
    .union(Capabilities::MAC_OVERRIDE);

/// Capabilities after a change of user ids, unless `SECBIT_NO_SETUID_FIXUP` is set.
pub(super) fn follow_user_ids(old: &Cred, new: &mut Cred) {
    let bits = SecureBits::of(old);
    if bits.contains(SecureBits::NO_SETUID_FIXUP) {
        return;
    }
    let is_root = |cred: &Cred| cred.uid == 0 || cred.euid == 0 || cred.suid == 0;
    if is_root(old) && !is_root(new) {
        if !bits.contains(SecureBits::KEEP_CAPS) {
            new.permitted = Capabilities::empty();
            new.effective = Capabilities::empty();
        }
        // Ambient capabilities never outlive root.
        new.ambient = Capabilities::empty();
    }
    if old.euid == 0 && new.euid != 0 {
        new.effective = Capabilities::empty();
    }
    if old.euid != 0 && new.euid == 0 {
        new.effective = new.permitted;
    }
    if old.euid == new.euid {
        if old.fsuid == 0 && new.fsuid != 0 {
            new.effective -= FS_CAPABILITIES;
        }
        if old.fsuid != 0 && new.fsuid == 0 {
            new.effective |= FS_CAPABILITIES & new.permitted;
        }
    }
}

/// Reads the header's version: how many data structs follow. A wrong one is answered with the version we prefer and `EINVAL`.
fn data_count(header: UserPtr<CapHeader>, data: u64) -> Result<Option<(CapHeader, usize)>> {
    let given = header.read()?;
    match given.version {
        VERSION_1 => Ok(Some((given, 1))),
        VERSION_2 | VERSION_3 => Ok(Some((given, 2))),
        _ => {
            header.write(&CapHeader {
                version: VERSION_3,
                ..given
            })?;
            // A null data pointer only asks for the version.
            if data == 0 { Ok(None) } else { Err(Errno::EINVAL) }
        }
    }
}

/// `capget(2)`.
pub fn sys_capget(cx: &Context, header: UserPtr<CapHeader>, data: u64) -> Result<usize> {
    let Some((header, count)) = data_count(header, data)? else {
        return Ok(0);
    };
    if header.pid < 0 {
        return Err(Errno::EINVAL);
    }
    let cred = match header.pid {
        0 => cx.task().cred(),
        pid => table::task(Pid(pid)).ok_or(Errno::ESRCH)?.cred(),
    };
    if data == 0 {
        return Ok(0);
    }
    for index in 0..count {
        let word = |set: Capabilities| (set.bits() >> (32 * index)) as u32;
        let out = CapData {
            effective: word(cred.effective),
            permitted: word(cred.permitted),
            inheritable: word(cred.inheritable),
        };
        UserPtr::<CapData>::new(data).nth(index).write(&out)?;
    }
    Ok(0)
}

/// `capset(2)`: of the caller only.
pub fn sys_capset(cx: &Context, header: UserPtr<CapHeader>, data: u64) -> Result<usize> {
    let Some((header, count)) = data_count(header, 1)? else {
        return Err(Errno::EINVAL);
    };
    if header.pid != 0 && header.pid != cx.task().tid().0 {
        return Err(Errno::EPERM);
    }
    let words = UserPtr::<CapData>::new(data).read_many(count)?;
    let gather = |word: fn(&CapData) -> u32| {
        let bits = words
            .iter()
            .rev()
            .fold(0u64, |bits, data| bits << 32 | u64::from(word(data)));
        Capabilities::from_bits_truncate(bits)
    };
    let (effective, permitted, inheritable) = (
        gather(|d| d.effective),
        gather(|d| d.permitted),
        gather(|d| d.inheritable),
    );
    let old = cx.task().cred();
    let pool = if old.capable(Capabilities::SETPCAP) {
        old.inheritable | old.bounding
    } else {
        old.inheritable | old.permitted
    };
    let allowed = pool.contains(inheritable)
        && (old.inheritable | old.bounding).contains(inheritable)
        && old.permitted.contains(permitted)
        && permitted.contains(effective);
    if !allowed {
        return Err(Errno::EPERM);
    }
    let ambient = old.ambient & permitted & inheritable;
    cx.task().set_cred(Arc::new(Cred {
        effective,
        permitted,
        inheritable,
        ambient,
        ..(*old).clone()
    }));
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaving_root_drops_all_capabilities_but_with_keep_caps_the_permitted_ones_stay() {
        let root = Cred::root();
        let mut user = (*root).clone();
        (user.uid, user.euid, user.suid, user.fsuid) = (1, 1, 1, 1);
        let mut new = user.clone();
        follow_user_ids(&root, &mut new);
        assert_eq!(
            (new.permitted, new.effective),
            (Capabilities::empty(), Capabilities::empty())
        );

        let mut keeper = (*root).clone();
        keeper.securebits = SecureBits::KEEP_CAPS.bits();
        let mut new = user;
        follow_user_ids(&keeper, &mut new);
        assert_eq!(
            (new.permitted, new.effective),
            (Capabilities::all(), Capabilities::empty())
        );
    }

    #[test]
    fn a_temporary_effective_user_gives_the_capabilities_back() {
        let root = Cred::root();
        let mut away = (*root).clone();
        (away.euid, away.fsuid) = (5, 5);
        follow_user_ids(&root, &mut away);
        assert_eq!(away.effective, Capabilities::empty());
        let mut back = away.clone();
        (back.euid, back.fsuid) = (0, 0);
        follow_user_ids(&away, &mut back);
        assert_eq!(back.effective, Capabilities::all());
    }

    #[test]
    fn the_file_system_user_takes_file_capabilities_along() {
        let root = Cred::root();
        let mut new = (*root).clone();
        new.fsuid = 7;
        follow_user_ids(&root, &mut new);
        assert_eq!(new.effective, Capabilities::all() - FS_CAPABILITIES);
    }
}
