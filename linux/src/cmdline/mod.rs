//! The command line: UML's options first, the kernel's parameters from what they leave.
//!
//! [`options`] is the table of UML's options (name, help and handler side by side); [`params`] reads the kernel's generic parameters
//! (`root=`, `init=`, `console=` …) and sorts the rest into init's arguments and environment; [`config`] is the text of `--showconfig`.

pub mod config;
pub mod options;
pub mod params;

use options::{OPTIONS, Setup, Verdict};

/// Longest kernel command line in bytes (`COMMAND_LINE_SIZE` of UML).
const COMMAND_LINE_SIZE: usize = 4096;

/// What the words of the command line ask for.
pub enum Request {
    /// Print this and exit with status 0.
    Print(String),
    /// Boot.
    Boot(Box<Setup>),
}

/// Reads the words behind the program's name.
///
/// Each word goes to the first option whose name it begins with; a word that no option keeps becomes part of the kernel command line.
/// `root=98:0` and `console=tty0` are added when missing, in front of `--`, so that a guest's init does not get them as arguments.
///
/// # Errors
/// One sentence that names the bad word, why, and what would be right.
pub fn parse(words: &[String]) -> Result<Request, String> {
    let mut setup = Box::new(Setup::default());
    let mut kernel = Vec::new();
    let mut init_args = Vec::new();
    // UML skips a first word that begins with a blank.
    let skipped = usize::from(words.first().is_some_and(|first| first.starts_with(' ')));
    let mut words = words[skipped..].iter();
    let any = words.len() > 0;
    while let Some(word) = words.next() {
        if word == "--" {
            init_args.extend(words.by_ref().cloned());
            break;
        }
        let mut keep = true;
        for option in OPTIONS {
            let Some(rest) = word.strip_prefix(option.name) else {
                continue;
            };
            match (option.handler)(&mut setup, rest)? {
                Verdict::NotMine => continue,
                Verdict::Kept => keep = false,
                Verdict::PassedOn => {}
                Verdict::Print(text) => return Ok(Request::Print(text)),
            }
            break;
        }
        if keep {
            kernel.push(quoted(word));
        }
    }
    if !any {
        // Without a word: a shell on the host's own tree.
        kernel.extend(["rootfstype=hostfs".into(), "init=/bin/sh".into()]);
    }
    let has = |key: &str, kernel: &[String]| kernel.iter().any(|word| word.trim_start_matches('"').starts_with(key));
    if !has("root=", &kernel) {
        kernel.push("root=98:0".into());
    }
    if !has("console=", &kernel) {
        kernel.push("console=tty0".into());
    }
    setup.parameters = kernel.join(" ");
    if !init_args.is_empty() {
        kernel.push("--".into());
        kernel.extend(init_args.iter().map(|word| quoted(word)));
    }
    setup.init_args = init_args;
    setup.command_line = kernel.join(" ");
    if setup.command_line.len() >= COMMAND_LINE_SIZE {
        return Err(format!(
            "the kernel command line has {} bytes, more than {}: pass long arguments in a file",
            setup.command_line.len(),
            COMMAND_LINE_SIZE - 1
        ));
    }
    Ok(Request::Boot(setup))
}

/// A word as the kernel's parser reads it back in one piece, where that is possible. (UML joins with blanks and loses the shell's quoting; what stands
/// behind `--` reaches init untouched here.)
fn quoted(word: &str) -> String {
    if !word.contains(char::is_whitespace) && !word.is_empty() || word.contains('"') {
        word.to_owned()
    } else {
        format!("\"{word}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(words: &[&str]) -> Setup {
        let words: Vec<String> = words.iter().map(|word| word.to_string()).collect();
        match parse(&words) {
            Ok(Request::Boot(setup)) => *setup,
            Ok(Request::Print(text)) => panic!("printed {text}"),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn root_and_console_are_added_in_front_of_inits_arguments() {
        assert_eq!(
            boot(&["init=/x", "--", "a1"]).command_line,
            "init=/x root=98:0 console=tty0 -- a1"
        );
        assert_eq!(
            boot(&["root=none", "console=ttyS1"]).command_line,
            "root=none console=ttyS1"
        );
    }

    #[test]
    fn without_a_word_a_shell_on_the_hosts_tree_boots() {
        assert_eq!(
            boot(&[]).command_line,
            "rootfstype=hostfs init=/bin/sh root=98:0 console=tty0"
        );
    }

    #[test]
    fn words_with_blanks_stay_one_word() {
        let setup = boot(&["init=/bin/sh", "--", "-c", "echo a b"]);
        assert_eq!(params::Params::parse(&setup.command_line).init_args, ["-c", "echo a b"]);
        assert_eq!(
            boot(&["init=/bin/sh", "--", "-c", "echo \"a  b\""]).init_args,
            ["-c", "echo \"a  b\""]
        );
    }

    #[test]
    fn umls_own_options_do_not_reach_the_kernel_command_line() {
        let setup = boot(&["mem=128M", "seccomp=off", "ncpus=2", "umid=x", "foo=bar"]);
        assert_eq!(setup.command_line, "foo=bar root=98:0 console=tty0");
        assert_eq!((setup.memory, setup.ncpus), (128 << 20, Some(2)));
    }

    #[test]
    fn a_bad_value_is_named_in_the_error() {
        let error = |word: &str| parse(&[word.to_owned()]).err().expect("an error");
        assert!(error("seccomp=maybe").contains("Invalid seccomp option 'maybe', expected on/auto/off"));
        assert!(error("mem=lots").contains("mem=lots"));
        assert!(error("ncpus=0").contains("ncpus=0"));
    }
}
