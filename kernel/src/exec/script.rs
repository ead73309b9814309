//! Interpreter scripts: the `#!` line (`execve(2)`).

use alloc::vec::Vec;

/// How much of a file is looked at to tell what it is (`BINPRM_BUF_SIZE`): a `#!` line must fit.
pub const HEAD_SIZE: usize = 256;

/// A `#!` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The path of the interpreter.
    pub interpreter: Vec<u8>,
    /// The rest of the line, one argument.
    pub argument: Option<Vec<u8>>,
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// The `#!` line at the start of `head`, the first bytes of a file (up to [`HEAD_SIZE`] of them count). None when it is not a script, or names no
/// interpreter, or its path does not fit.
pub fn parse(head: &[u8]) -> Option<Script> {
    let head = &head[..head.len().min(HEAD_SIZE)];
    let rest = head.strip_prefix(b"#!")?;
    // The kernel's buffer is padded with zeros: a NUL ends the text.
    let text = &rest[..rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len())];
    let cut = head.len() == HEAD_SIZE && text.len() == rest.len();
    let line = match text.iter().position(|&byte| byte == b'\n') {
        Some(end) => &text[..end],
        None => {
            // Without an end of line the path may go on behind the buffer: only a blank behind it proves that it does not.
            let start = text.iter().position(|&byte| !is_blank(byte))?;
            if cut && !text[start..].iter().any(|&byte| is_blank(byte)) {
                return None;
            }
            text
        }
    };
    let start = line.iter().position(|&byte| !is_blank(byte))?;
    let end = line.iter().rposition(|&byte| !is_blank(byte))? + 1;
    let line = &line[start..end];
    let (interpreter, rest) = match line.iter().position(|&byte| is_blank(byte)) {
        Some(at) => line.split_at(at),
        None => (line, &[][..]),
    };
    let argument = rest
        .iter()
        .position(|&byte| !is_blank(byte))
        .map(|at| rest[at..].to_vec());
    Some(Script {
        interpreter: interpreter.to_vec(),
        argument,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        parse(text).map(|script| (script.interpreter, script.argument))
    }

    #[test]
    fn a_script_names_an_interpreter_and_at_most_one_argument() {
        assert_eq!(parsed(b"#!/bin/sh\necho"), Some((b"/bin/sh".to_vec(), None)));
        assert_eq!(
            parsed(b"#! \t/bin/awk  -f x \t\nBEGIN"),
            Some((b"/bin/awk".to_vec(), Some(b"-f x".to_vec())))
        );
        assert_eq!(parsed(b"#!/bin/sh"), Some((b"/bin/sh".to_vec(), None)));
        assert_eq!(parsed(b"#!\n/bin/sh"), None);
        assert_eq!(parsed(b"#!   "), None);
        assert_eq!(parsed(b"echo"), None);
    }

    #[test]
    fn a_path_that_may_go_on_behind_the_buffer_is_no_interpreter() {
        let mut text = b"#!/".to_vec();
        text.resize(400, b'x');
        assert_eq!(parsed(&text), None);
        text[200] = b' ';
        assert!(parsed(&text).is_some());
    }
}
