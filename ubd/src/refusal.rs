//! [`Refusal`]: why a disk is not made, for the guest's administrator (an errno) and for the user of `linux` (one sentence).

use std::fmt;
use std::path::Path;

use arch_um::Errno;
use arch_um::host::image::ImageError;

/// An errno and one sentence: the file, the cause, the way out; in UML's words where it has some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    errno: Errno,
    text: String,
}

impl Refusal {
    /// A refusal. It is one line, whatever the names in it: they may come from a damaged header.
    pub fn new(errno: Errno, text: impl Into<String>) -> Self {
        let mut line = String::new();
        for character in text.into().chars() {
            if character.is_control() {
                line.extend(character.escape_default());
            } else {
                line.push(character);
            }
        }
        Self { errno, text: line }
    }

    /// An image that cannot be opened.
    pub fn of_image(path: &Path, error: ImageError) -> Self {
        let shown = path.display();
        match error {
            ImageError::Open(errno) => Self::new(
                errno,
                format!("\"{shown}\" cannot be opened: {errno}; check the path and its permissions"),
            ),
            ImageError::NotADisk => Self::new(
                Errno::EINVAL,
                format!("\"{shown}\" is neither a file nor a block device; give a disk image"),
            ),
            ImageError::Locked(Some(pid)) => Self::new(
                Errno::EAGAIN,
                format!(
                    "F_SETLK failed, file already locked by pid {pid}: \"{shown}\" is in use (flag \"c\" shares a disk on purpose)"
                ),
            ),
            ImageError::Locked(None) => Self::new(
                Errno::EAGAIN,
                format!("\"{shown}\" is locked by another process (flag \"c\" shares a disk on purpose)"),
            ),
        }
    }

    /// A file that cannot be read.
    pub fn unreadable(path: &Path, errno: Errno) -> Self {
        Self::new(
            errno,
            format!(
                "\"{}\" cannot be read: {errno}; look into the host's log",
                path.display()
            ),
        )
    }

    /// What a guest's administrator gets.
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// What a user reads.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_several_lines_is_told_in_one() {
        let refusal = Refusal::unreadable(Path::new("a\nb\u{1b}c"), Errno::EIO);
        assert!(
            refusal.text().starts_with("\"a\\nb\\u{1b}c\" cannot be read"),
            "{refusal}"
        );
    }
}
