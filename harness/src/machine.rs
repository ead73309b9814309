//! Test programs that boot the machine inside themselves. It never returns, so each test runs in a child process: the program again, with
//! `--run NAME`, in a scratch directory of its own.

use std::process::{Command, ExitCode, Stdio};

use crate::guard::{hang_guard, wait};
use crate::script::Scratch;

/// A test: its name, and what the booted machine does.
pub type Test = (&'static str, fn());

/// `main` of such a program. `boot` starts the machine, calls the test in it and ends the process with status 0 when that returns. Arguments are words
/// that the names of the wanted tests have.
pub fn main(tests: &[Test], boot: fn(fn())) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name] = args.as_slice()
        && flag == "--run"
    {
        boot(tests.iter().find(|test| test.0 == name).expect("a test of this name").1);
        return ExitCode::FAILURE;
    }
    let words: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let mut code = ExitCode::SUCCESS;
    for (name, _) in tests
        .iter()
        .filter(|test| words.iter().all(|word| test.0.contains(*word)))
    {
        let result = child(name);
        println!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        if let Err(why) = result {
            println!("{why}");
            code = ExitCode::FAILURE;
        }
    }
    code
}

fn child(name: &str) -> Result<(), String> {
    let scratch = Scratch::new();
    let mut child = std::env::current_exe()
        .and_then(|program| {
            Command::new(program)
                .args(["--run", name])
                .current_dir(scratch.path())
                .stdin(Stdio::null())
                .spawn()
        })
        .map_err(|error| error.to_string())?;
    match wait(&mut child, hang_guard()) {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
