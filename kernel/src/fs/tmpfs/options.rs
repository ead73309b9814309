//! Mount options of tmpfs.

use alloc::format;
use alloc::string::String;

use super::PAGE;
use crate::vfs::Mode;
use crate::vfs::inode::MountOption;
use crate::{Errno, Result};

/// What an instance was told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most pages of contents; none without limit.
    pub pages: Option<u64>,
    /// Most inodes; none without limit.
    pub inodes: Option<u64>,
    /// Mode of the root.
    pub mode: Mode,
    /// Owner of the root.
    pub uid: u32,
    /// Group of the root.
    pub gid: u32,
    total: u64,
    default_mode: Mode,
}

impl Options {
    /// Half of `memory` (bytes), mode 1777.
    pub fn with_defaults(memory: u64) -> Self {
        let mode = Mode::from_bits_truncate(0o1777);
        let half = memory / PAGE / 2;
        Self {
            pages: Some(half),
            inodes: Some(half),
            mode,
            uid: 0,
            gid: 0,
            total: memory,
            default_mode: mode,
        }
    }

    /// No limits.
    pub fn unlimited(mode: u32) -> Self {
        let mode = Mode::from_bits_truncate(mode);
        Self {
            pages: None,
            inodes: None,
            mode,
            uid: 0,
            gid: 0,
            total: 0,
            default_mode: mode,
        }
    }

    /// Reads `options`. `EINVAL` for what is unknown or malformed.
    pub fn apply(&mut self, options: &[MountOption]) -> Result<()> {
        for option in options {
            let value = option.value.as_deref();
            match &option.key[..] {
                b"size" => self.pages = limit(self.size(value)?.div_ceil(PAGE)),
                b"nr_blocks" => self.pages = limit(number(value)?),
                b"nr_inodes" => self.inodes = limit(number(value)?),
                b"mode" => self.mode = Mode::from_bits_truncate(octal(value)?),
                b"uid" => self.uid = decimal(value)?,
                b"gid" => self.gid = decimal(value)?,
                b"huge" | b"mpol" | b"inode32" | b"inode64" | b"noswap" => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(())
    }

    /// As ramfs does: `mode=` counts, all else is ignored.
    pub fn apply_mode_only(&mut self, options: &[MountOption]) -> Result<()> {
        for option in options.iter().filter(|option| option.key == b"mode") {
            self.mode = Mode::from_bits_truncate(octal(option.value.as_deref())?);
        }
        Ok(())
    }

    fn size(&self, value: Option<&[u8]>) -> Result<u64> {
        match value.and_then(|value| value.strip_suffix(b"%")) {
            Some(percent) => Ok(self.total / 100 * number(Some(percent))?),
            None => number(value),
        }
    }

    /// The form of /proc/mounts.
    pub fn show(&self) -> String {
        let mut text = String::new();
        if self.total == 0 {
            return text;
        }
        let default = Self::with_defaults(self.total);
        if self.pages != default.pages {
            text += &format!(",size={}k", self.pages.unwrap_or(0) * (PAGE / 1024));
        }
        if self.inodes != default.inodes {
            text += &format!(",nr_inodes={}", self.inodes.unwrap_or(0));
        }
        if self.mode != self.default_mode {
            text += &format!(",mode={:03o}", self.mode.bits());
        }
        if self.uid != 0 {
            text += &format!(",uid={}", self.uid);
        }
        if self.gid != 0 {
            text += &format!(",gid={}", self.gid);
        }
        text + ",inode64"
    }
}

/// 0 means no limit.
fn limit(count: u64) -> Option<u64> {
    (count != 0).then_some(count)
}

fn text(value: Option<&[u8]>) -> Result<&str> {
    value
        .and_then(|value| core::str::from_utf8(value).ok())
        .filter(|text| !text.is_empty())
        .ok_or(Errno::EINVAL)
}

/// A number with an optional k, m, g, t, p or e.
fn number(value: Option<&[u8]>) -> Result<u64> {
    let text = text(value)?;
    let (digits, shift) = match text.as_bytes()[text.len() - 1].to_ascii_lowercase() {
        b'k' => (&text[..text.len() - 1], 10),
        b'm' => (&text[..text.len() - 1], 20),
        b'g' => (&text[..text.len() - 1], 30),
        b't' => (&text[..text.len() - 1], 40),
        b'p' => (&text[..text.len() - 1], 50),
        b'e' => (&text[..text.len() - 1], 60),
        _ => (text, 0),
    };
    let parsed = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    let count: u64 = parsed.map_err(|_| Errno::EINVAL)?;
    count.checked_mul(1 << shift).ok_or(Errno::EINVAL)
}

fn octal(value: Option<&[u8]>) -> Result<u32> {
    u32::from_str_radix(text(value)?, 8)
        .map_err(|_| Errno::EINVAL)
        .map(|mode| mode & 0o7777)
}

fn decimal(value: Option<&[u8]>) -> Result<u32> {
    text(value)?.parse().map_err(|_| Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(key: &str, value: &str) -> MountOption {
        MountOption {
            key: key.as_bytes().to_vec(),
            value: Some(value.as_bytes().to_vec()),
        }
    }

    #[test]
    fn sizes_take_suffixes_and_percents() {
        let mut options = Options::with_defaults(1 << 30);
        options.apply(&[option("size", "64m")]).unwrap();
        assert_eq!(options.pages, Some(64 << 20 >> 12));
        options.apply(&[option("size", "25%"), option("mode", "0700")]).unwrap();
        assert_eq!(options.pages, Some(((1u64 << 30) / 100 * 25).div_ceil(PAGE)));
        assert!(options.show().contains(",mode=700"));
        assert_eq!(options.apply(&[option("size", "")]), Err(Errno::EINVAL));
        assert_eq!(options.apply(&[option("sise", "1")]), Err(Errno::EINVAL));
    }
}
