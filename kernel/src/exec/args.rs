//! The argument and environment strings of a new program: collected from the old one's memory, counted against the limits.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::mm::Mm;
use crate::mm::vma::PAGE_SIZE;
use crate::{Errno, Result};

/// Longest single string with its NUL (`MAX_ARG_STRLEN`).
const MAX_STRING: usize = 32 * PAGE_SIZE as usize;
/// Room that is always there, whatever `RLIMIT_STACK` (`ARG_MAX`).
const ARG_MIN: u64 = 128 << 10;
/// Most room ever: three quarters of the default stack.
const ARG_LIMIT: u64 = 6 << 20;
/// Pages of the caller's memory that are kept at hand.
const WINDOW: usize = 4;

/// Strings in a row, each with its NUL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// How many strings.
    pub count: usize,
}

impl Strings {
    /// Adds a string without NUL in it.
    pub fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.bytes.push(0);
        self.count += 1;
    }

    /// Removes the first string.
    fn pop_front(&mut self) {
        if let Some(end) = self.bytes.iter().position(|&byte| byte == 0) {
            self.bytes.drain(..=end);
            self.count -= 1;
        }
    }

    /// Puts strings before all others.
    fn prepend(&mut self, front: Strings) {
        let mut bytes = front.bytes;
        bytes.append(&mut self.bytes);
        self.bytes = bytes;
        self.count += front.count;
    }

    /// The strings, without their NULs.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes
            .split_inclusive(|&byte| byte == 0)
            .map(|text| &text[..text.len() - 1])
    }
}

/// What a program is started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// `argv`.
    pub argv: Strings,
    /// `envp`.
    pub envp: Strings,
    /// Bytes that all strings and the pointers to them may take.
    limit: u64,
}

impl Arguments {
    /// Those of the kernel's own making (init).
    pub fn from_kernel(argv: &[&[u8]], envp: &[&[u8]], stack_limit: u64) -> Result<Self> {
        let mut arguments = Self {
            limit: room(stack_limit),
            ..Self::default()
        };
        argv.iter().for_each(|text| arguments.argv.push(text));
        envp.iter().for_each(|text| arguments.envp.push(text));
        arguments.never_empty();
        arguments.check()?;
        Ok(arguments)
    }

    /// Those that `argv` and `envp` of the calling program point to; a null pointer is an empty list.
    ///
    /// # Errors
    /// `EFAULT`; `E2BIG` when a string or all together are too long.
    pub fn from_user(mm: &Arc<Mm>, argv: u64, envp: u64, stack_limit: u64) -> Result<Self> {
        let mut reader = Reader::new(mm);
        let mut arguments = Self {
            limit: room(stack_limit),
            ..Self::default()
        };
        let mut left = arguments.limit;
        arguments.argv = reader.strings(argv, &mut left)?;
        arguments.envp = reader.strings(envp, &mut left)?;
        arguments.never_empty();
        arguments.check()?;
        Ok(arguments)
    }

    /// A program that is given no argument at all gets one empty string, so that `argv[1]` is not the environment.
    fn never_empty(&mut self) {
        if self.argv.count == 0 {
            self.argv.push(b"");
        }
    }

    /// Runs `interpreter` on `script` in its place.
    pub fn interpret(&mut self, interpreter: &[u8], argument: Option<&[u8]>, script: &[u8]) -> Result<()> {
        self.argv.pop_front();
        let mut front = Strings::default();
        front.push(interpreter);
        if let Some(argument) = argument {
            front.push(argument);
        }
        front.push(script);
        self.argv.prepend(front);
        self.check()
    }

    fn check(&self) -> Result<()> {
        let pointers = (self.argv.count + self.envp.count) as u64 * 8;
        let strings = (self.argv.bytes.len() + self.envp.bytes.len()) as u64;
        if strings + pointers > self.limit {
            Err(Errno::E2BIG)
        } else {
            Ok(())
        }
    }
}

/// Bytes for strings and pointers under a stack limit.
fn room(stack_limit: u64) -> u64 {
    (stack_limit / 4).clamp(ARG_MIN, ARG_LIMIT)
}

/// Reads guest memory by whole pages: strings lie close together.
struct Reader<'a> {
    mm: &'a Arc<Mm>,
    /// The latest last.
    pages: Vec<(u64, Vec<u8>)>,
}

impl<'a> Reader<'a> {
    fn new(mm: &'a Arc<Mm>) -> Self {
        Self {
            mm,
            pages: Vec::with_capacity(WINDOW),
        }
    }

    /// The bytes from `addr` to the end of its page.
    fn rest_of_page(&mut self, addr: u64) -> Result<&[u8]> {
        let page = addr & !(PAGE_SIZE - 1);
        let skip = (addr - page) as usize;
        let known = self.pages.iter().position(|&(start, _)| start == page);
        let index = match known {
            Some(index) => index,
            None => {
                let mut bytes = if self.pages.len() == WINDOW {
                    self.pages.remove(0).1
                } else {
                    vec![0; PAGE_SIZE as usize]
                };
                self.mm.read(page, &mut bytes).map_err(|(_, error)| error)?;
                self.pages.push((page, bytes));
                self.pages.len() - 1
            }
        };
        Ok(&self.pages[index].1[skip..])
    }

    fn word(&mut self, addr: u64) -> Result<u64> {
        let mut word = [0; 8];
        let mut filled = 0;
        while filled < word.len() {
            let bytes = self.rest_of_page(addr.wrapping_add(filled as u64))?;
            let count = bytes.len().min(word.len() - filled);
            word[filled..filled + count].copy_from_slice(&bytes[..count]);
            filled += count;
        }
        Ok(u64::from_le_bytes(word))
    }

    /// Appends the string at `addr` with its NUL. `E2BIG` when it is longer than `limit`.
    fn string(&mut self, addr: u64, limit: usize, out: &mut Vec<u8>) -> Result<()> {
        let mut len = 0;
        loop {
            let bytes = self.rest_of_page(addr.wrapping_add(len as u64))?;
            let end = bytes.iter().position(|&byte| byte == 0);
            let count = end.map_or(bytes.len(), |end| end + 1);
            len += count;
            if len > limit {
                return Err(Errno::E2BIG);
            }
            out.extend_from_slice(&bytes[..count]);
            if end.is_some() {
                return Ok(());
            }
        }
    }

    fn strings(&mut self, list: u64, left: &mut u64) -> Result<Strings> {
        let mut strings = Strings::default();
        if list == 0 {
            return Ok(strings);
        }
        loop {
            let pointer = self.word(list.wrapping_add(strings.count as u64 * 8))?;
            if pointer == 0 {
                return Ok(strings);
            }
            *left = left.checked_sub(8).ok_or(Errno::E2BIG)?;
            let before = strings.bytes.len();
            self.string(pointer, MAX_STRING.min(*left as usize), &mut strings.bytes)?;
            *left -= (strings.bytes.len() - before) as u64;
            strings.count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_gets_the_interpreter_in_front_and_loses_its_first_argument() {
        let mut arguments = Arguments::from_kernel(&[&b"script"[..], b"one"], &[b"A=1"], u64::MAX).unwrap();
        arguments.interpret(b"/bin/sh", Some(b"-e"), b"./script").unwrap();
        let argv: Vec<&[u8]> = arguments.argv.iter().collect();
        assert_eq!(argv, [&b"/bin/sh"[..], b"-e", b"./script", b"one"]);
    }

    #[test]
    fn no_arguments_become_one_empty_string() {
        let arguments = Arguments::from_kernel(&[], &[], 0).unwrap();
        assert_eq!((arguments.argv.count, &arguments.argv.bytes[..]), (1, &b"\0"[..]));
    }

    #[test]
    fn too_many_bytes_are_refused() {
        let long = vec![b'x'; 200 << 10];
        assert_eq!(Arguments::from_kernel(&[&long], &[], 0), Err(Errno::E2BIG));
        assert!(Arguments::from_kernel(&[&long], &[], 8 << 20).is_ok());
    }
}
