//! Mount options of proc: `hidepid=`, `gid=`, `subset=pid`.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::fs::pseudo::instance::Options;
use crate::task::Cred;
use crate::vfs::inode::MountSource;
use crate::{Errno, Result};

/// How much of other users' processes is hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HidePid {
    /// Nothing.
    Off,
    /// What is in their directories.
    NoAccess,
    /// The directories too.
    Invisible,
    /// As `Invisible`, and the group of `gid=` is not exempt.
    PtraceAble,
}

impl HidePid {
    fn parse(text: &[u8]) -> Option<Self> {
        Some(match text {
            b"0" | b"off" => Self::Off,
            b"1" | b"noaccess" => Self::NoAccess,
            b"2" | b"invisible" => Self::Invisible,
            b"4" | b"ptraceable" => Self::PtraceAble,
            _ => return None,
        })
    }

    fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Off,
            1 => Self::NoAccess,
            2 => Self::Invisible,
            _ => Self::PtraceAble,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::NoAccess => "noaccess",
            Self::Invisible => "invisible",
            Self::PtraceAble => "ptraceable",
        }
    }
}

/// Options of one mount.
#[derive(Debug, Default)]
pub struct ProcOptions {
    hide: AtomicU32,
    gid: AtomicU32,
    only_processes: AtomicBool,
}

impl ProcOptions {
    /// From the words of a mount. `EINVAL` for one that proc does not know.
    pub fn parse(source: &MountSource) -> Result<Self> {
        let options = Self::default();
        options.apply(source)?;
        Ok(options)
    }

    fn apply(&self, source: &MountSource) -> Result<()> {
        for option in &source.options {
            let value = option.value.as_deref().ok_or(Errno::EINVAL)?;
            match option.key.as_slice() {
                b"hidepid" => {
                    let hide = HidePid::parse(value).ok_or(Errno::EINVAL)?;
                    self.hide.store(hide as u32, Ordering::Relaxed);
                }
                b"gid" => {
                    let gid = core::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    self.gid.store(gid.ok_or(Errno::EINVAL)?, Ordering::Relaxed);
                }
                b"subset" if value == b"pid" => self.only_processes.store(true, Ordering::Relaxed),
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(())
    }

    /// `hidepid=`.
    pub fn hide(&self) -> HidePid {
        HidePid::from_number(self.hide.load(Ordering::Relaxed))
    }

    /// Whether files that are not about processes are there (not with `subset=pid`).
    pub fn shows_system(&self) -> bool {
        !self.only_processes.load(Ordering::Relaxed)
    }

    /// Whether `cred` is in the group that sees everything (`gid=`).
    pub fn exempts(&self, cred: &Cred) -> bool {
        self.hide() != HidePid::PtraceAble && cred.in_group(self.gid.load(Ordering::Relaxed))
    }
}

impl Options for ProcOptions {
    fn show(&self) -> String {
        let mut text = String::new();
        let gid = self.gid.load(Ordering::Relaxed);
        if gid != 0 {
            text.push_str(&format!(",gid={gid}"));
        }
        if self.hide() != HidePid::Off {
            text.push_str(&format!(",hidepid={}", self.hide().name()));
        }
        if !self.shows_system() {
            text.push_str(",subset=pid");
        }
        text
    }

    fn change(&self, source: &MountSource) -> Result<()> {
        self.apply(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::inode::MountOption;

    fn source(key: &[u8], value: &[u8]) -> MountSource {
        let option = MountOption {
            key: key.to_vec(),
            value: Some(value.to_vec()),
        };
        MountSource {
            options: alloc::vec![option],
            ..MountSource::default()
        }
    }

    #[test]
    fn hidepid_takes_numbers_and_names() {
        let options = ProcOptions::parse(&source(b"hidepid", b"2")).unwrap();
        assert_eq!(options.show(), ",hidepid=invisible");
        options.change(&source(b"hidepid", b"ptraceable")).unwrap();
        assert_eq!(options.hide(), HidePid::PtraceAble);
        assert!(ProcOptions::parse(&source(b"hidepid", b"3")).is_err());
        assert!(ProcOptions::parse(&source(b"nonsense", b"1")).is_err());
    }
}
