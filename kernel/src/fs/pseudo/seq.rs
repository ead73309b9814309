//! [`Seq`]: the text of a generated file on its way out.

use alloc::vec::Vec;
use core::fmt;

/// Contents of a generated file: text by `write!`, bytes by [`Seq::bytes`].
#[derive(Default)]
pub struct Seq(Vec<u8>);

impl fmt::Write for Seq {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl Seq {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds `args`.
    pub fn line(&mut self, args: fmt::Arguments<'_>) {
        // Writing into a vector cannot fail.
        let _ = fmt::Write::write_fmt(self, args);
    }

    /// Adds raw bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Adds `bytes` with white space and backslashes as octal escapes, as in /proc/mounts.
    pub fn mangled(&mut self, bytes: &[u8]) {
        self.escaped(bytes, b" \t\n\\#");
    }

    /// Adds `bytes` with those of `special` as octal escapes (`\040`).
    pub fn escaped(&mut self, bytes: &[u8], special: &[u8]) {
        for &byte in bytes {
            if special.contains(&byte) {
                self.line(format_args!("\\{byte:03o}"));
            } else {
                self.0.push(byte);
            }
        }
    }

    /// Pads with blanks up to `column` of the present line.
    pub fn pad_to(&mut self, column: usize) {
        let start = self.0.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        while self.0.len() - start < column {
            self.0.push(b' ');
        }
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The contents.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// `seq!(out, "text {}", x)`: adds formatted text to a [`Seq`].
#[macro_export]
macro_rules! seq {
    ($out:expr, $($arg:tt)*) => { $out.line(format_args!($($arg)*)) };
}

#[cfg(test)]
mod tests {
    use super::Seq;

    #[test]
    fn names_with_blanks_are_escaped() {
        let mut out = Seq::new();
        out.mangled(b"a b\\c\n");
        assert_eq!(out.into_bytes(), b"a\\040b\\134c\\012");
    }
}
