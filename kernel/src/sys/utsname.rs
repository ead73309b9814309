//! Names of the system: `uname(2)`, `sethostname(2)`, `setdomainname(2)`.

use alloc::vec::Vec;

use arch_um::sync::{SpinLock, WaitQueue, order};
use core::sync::atomic::{AtomicU64, Ordering};

use super::require;
use crate::syscall::Context;
use crate::task::Capabilities;
use crate::user::{UserPtr, UserSlice};
use crate::version::{MACHINE, RELEASE, VERSION};
use crate::{Errno, Result, abi_struct};

/// Longest name, without the NUL.
const NAME_MAX: usize = 64;
/// The name of the kernel.
pub const SYSNAME: &str = "Linux";
/// What a name reads as that nobody has set.
const UNSET: &[u8] = b"(none)";
const UNAME26: u32 = 0x0002_0000;

struct Names {
    node: Option<Vec<u8>>,
    domain: Option<Vec<u8>>,
}

static NAMES: SpinLock<Names> = SpinLock::new(
    &order::LEAF,
    Names {
        node: None,
        domain: None,
    },
);
static CHANGES: AtomicU64 = AtomicU64::new(0);
static CHANGED: WaitQueue = WaitQueue::new();

abi_struct! {
    /// `struct utsname`.
    pub struct UtsnameAbi {
        /// `Linux`.
        pub sysname: Field,
        /// Host name.
        pub nodename: Field,
        /// Kernel release.
        pub release: Field,
        /// Kernel version.
        pub version: Field,
        /// Processor.
        pub machine: Field,
        /// NIS domain.
        pub domainname: Field,
    }
}

/// A name with its NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field([u8; NAME_MAX + 1]);

impl Default for Field {
    fn default() -> Self {
        Self([0; NAME_MAX + 1])
    }
}

impl crate::abi::Abi for Field {
    const SIZE: usize = NAME_MAX + 1;
    fn encode(&self, out: &mut [u8]) {
        out[..Self::SIZE].copy_from_slice(&self.0);
    }
    fn decode(bytes: &[u8]) -> Self {
        let mut field = Self::default();
        field.0.copy_from_slice(&bytes[..Self::SIZE]);
        field
    }
}

impl From<&[u8]> for Field {
    fn from(name: &[u8]) -> Self {
        let mut field = Self::default();
        let len = name.len().min(NAME_MAX);
        field.0[..len].copy_from_slice(&name[..len]);
        field
    }
}

/// The host name.
pub fn hostname() -> Vec<u8> {
    NAMES.lock().node.clone().unwrap_or_else(|| UNSET.to_vec())
}

/// The NIS domain name.
pub fn domainname() -> Vec<u8> {
    NAMES.lock().domain.clone().unwrap_or_else(|| UNSET.to_vec())
}

/// Sets the host name (also the boot command line's `hostname=`). Cut to 64 bytes and at the first NUL or line feed.
pub fn set_hostname(name: &[u8]) {
    NAMES.lock().node = Some(clean(name));
    changed();
}

/// Sets the NIS domain name.
pub fn set_domainname(name: &[u8]) {
    NAMES.lock().domain = Some(clean(name));
    changed();
}

fn clean(name: &[u8]) -> Vec<u8> {
    let end = name
        .iter()
        .position(|&byte| byte == 0 || byte == b'\n')
        .unwrap_or(name.len());
    name[..end.min(NAME_MAX)].to_vec()
}

fn changed() {
    CHANGES.fetch_add(1, Ordering::AcqRel);
    CHANGED.wake_all();
}

/// A number that grows with each change, and the queue that tells (`poll(2)` on /proc/sys/kernel/hostname).
pub fn events() -> (u64, &'static WaitQueue) {
    (CHANGES.load(Ordering::Acquire), &CHANGED)
}

/// The release as programs of `PER_UNAME26` want to see it: they cannot read a major number above 2.
fn release_for(personality: u32) -> Vec<u8> {
    if personality & UNAME26 == 0 {
        return RELEASE.as_bytes().to_vec();
    }
    let mut parts = RELEASE.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let rest = RELEASE.find('-').map_or("", |at| &RELEASE[at..]);
    let shown = if major >= 4 { 60 + minor } else { 40 + minor };
    alloc::format!("2.6.{shown}{rest}").into_bytes()
}

/// `uname(2)`.
pub fn sys_uname(cx: &Context, out: UserPtr<UtsnameAbi>) -> Result<usize> {
    let personality = cx.task().with_attributes(|attributes| attributes.personality);
    let release = release_for(personality);
    let names = UtsnameAbi {
        sysname: SYSNAME.as_bytes().into(),
        nodename: hostname().as_slice().into(),
        release: release.as_slice().into(),
        version: VERSION.as_bytes().into(),
        machine: MACHINE.as_bytes().into(),
        domainname: domainname().as_slice().into(),
    };
    out.write(&names)?;
    Ok(0)
}

fn read_name(cx: &Context, name: UserSlice) -> Result<Vec<u8>> {
    require(cx, Capabilities::SYS_ADMIN)?;
    if name.len > NAME_MAX {
        return Err(Errno::EINVAL);
    }
    let mut bytes = alloc::vec![0; name.len];
    name.addr.read(&mut bytes)?;
    Ok(bytes)
}

/// `sethostname(2)`.
pub fn sys_sethostname(cx: &Context, name: UserSlice) -> Result<usize> {
    set_hostname(&read_name(cx, name)?);
    Ok(0)
}

/// `setdomainname(2)`.
pub fn sys_setdomainname(cx: &Context, name: UserSlice) -> Result<usize> {
    set_domainname(&read_name(cx, name)?);
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Abi;

    #[test]
    fn names_end_at_the_first_line_feed() {
        assert_eq!(clean(b"box\nmore"), b"box");
        assert_eq!(clean(&[b'x'; 100]).len(), NAME_MAX);
    }

    #[test]
    fn utsname_has_six_fields_of_65_bytes() {
        assert_eq!(UtsnameAbi::SIZE, 6 * 65);
    }

    #[test]
    fn old_programs_see_a_release_of_2_6() {
        assert!(release_for(UNAME26).starts_with(b"2.6.72"));
        assert_eq!(release_for(0), RELEASE.as_bytes());
    }
}
