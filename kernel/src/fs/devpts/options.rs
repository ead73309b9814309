//! Mount options of devpts: `uid=`, `gid=`, `mode=`, `ptmxmode=`, `max=`, `newinstance`.

use alloc::string::String;
use core::fmt::Write;

use crate::tty::pty;
use crate::vfs::inode::MountOption;
use crate::{Errno, Result};

/// How an instance makes its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Owner of slaves instead of who opens the master.
    pub uid: Option<u32>,
    /// Group of slaves instead of the opener's.
    pub gid: Option<u32>,
    /// Permission bits of slaves.
    pub mode: u32,
    /// Permission bits of `ptmx`.
    pub ptmx_mode: u32,
    /// Most slaves at a time.
    pub max: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            uid: None,
            gid: None,
            mode: 0o600,
            ptmx_mode: 0,
            max: pty::MAX,
        }
    }
}

impl Options {
    /// Reads mount options over `base`. `EINVAL` for what it does not know.
    pub fn parse(given: &[MountOption], base: Options) -> Result<Options> {
        let mut options = base;
        for MountOption { key, value } in given {
            let text = value.as_deref().and_then(|value| core::str::from_utf8(value).ok());
            let number = |radix| {
                text.and_then(|text| u32::from_str_radix(text, radix).ok())
                    .ok_or(Errno::EINVAL)
            };
            match key.as_slice() {
                b"uid" => options.uid = Some(number(10)?),
                b"gid" => options.gid = Some(number(10)?),
                b"mode" => options.mode = number(8)? & 0o777,
                b"ptmxmode" => options.ptmx_mode = number(8)? & 0o777,
                b"max" => options.max = Some(number(10)?).filter(|&max| max <= 1 << 20).ok_or(Errno::EINVAL)?,
                // Every mount is a new instance anyway.
                b"newinstance" => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(options)
    }

    /// As /proc/mounts shows them.
    pub fn show(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        if let Some(uid) = self.uid {
            let _ = write!(text, ",uid={uid}");
        }
        if let Some(gid) = self.gid {
            let _ = write!(text, ",gid={gid}");
        }
        let _ = write!(text, ",mode={:03o},ptmxmode={:03o}", self.mode, self.ptmx_mode);
        if self.max < pty::MAX {
            let _ = write!(text, ",max={}", self.max);
        }
        text
    }
}
