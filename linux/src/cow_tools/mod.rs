//! The tools for COW files: `linux mkcow` and `linux moo`, also under their old names `uml_mkcow` and `uml_moo`.
//!
//! * [`mkcow`]: makes a COW file over a backing file.  * [`moo`]: merges a COW file with its backing file.
//!
//! Options, messages and exit statuses are those of uml-utilities, down to which messages are on standard output; where those tools go on into damage (a file merged into itself), ours stop.

mod mkcow;
mod moo;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use arch_um::Errno;
use arch_um::host::image::ImageError;

/// Runs the tool that `words` (the whole command line) asks for, by the name of the program or by its first argument.
pub fn run(words: &[OsString]) -> Option<ExitCode> {
    let program = words.first()?;
    let name = Path::new(program).file_name().and_then(OsStr::to_str);
    let shown = program.to_string_lossy();
    match (name, words.get(1).and_then(|word| word.to_str())) {
        (Some("uml_mkcow"), _) => Some(mkcow::run(&shown, &words[1..])),
        (Some("uml_moo"), _) => Some(moo::run(&shown, &words[1..])),
        (_, Some("mkcow")) => Some(mkcow::run(&format!("{shown} mkcow"), &words[2..])),
        (_, Some("moo")) => Some(moo::run(&format!("{shown} moo"), &words[2..])),
        _ => None,
    }
}

/// `perror(3)`.
fn failed(what: &str, errno: Errno) -> ExitCode {
    eprintln!("{what}: {}", errno.text());
    ExitCode::FAILURE
}

/// A file that cannot be opened, in the words of `perror(3)` where there is an errno.
fn not_opened(what: &str, path: &Path, error: ImageError) -> ExitCode {
    match error {
        ImageError::Open(errno) => failed(what, errno),
        other => {
            eprintln!("{what}: {}", ubd::Refusal::of_image(path, other));
            ExitCode::FAILURE
        }
    }
}
