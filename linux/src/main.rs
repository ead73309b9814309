//! The executable: reads the command line, starts the machine, boots.
//!
//! * [`cmdline`]: options and parameters.  * [`boot`]: from the first kernel thread to init.  * [`instance`]: the directory of a named instance.
//! * [`host_check`]: what is said and tried before the machine starts.  * [`cow_tools`]: `linux mkcow` and `linux moo`.

mod boot;
mod cmdline;
mod cow_tools;
mod host_check;
mod instance;

use std::process::ExitCode;

use cmdline::Request;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    if let Some(status) = cow_tools::run(&words) {
        return status;
    }
    let words: Vec<String> = words
        .iter()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let setup = match cmdline::parse(&words) {
        Ok(Request::Print(text)) => return print(&text),
        Ok(Request::Boot(setup)) => setup,
        Err(error) => {
            eprintln!("linux: {error}");
            return ExitCode::FAILURE;
        }
    };
    match host_check::prepare(&setup) {
        Ok(ncpus) => arch_um::cpu::run(ncpus, Box::new(move || boot::boot(*setup))),
        Err(error) => {
            eprintln!("linux: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints to standard output; a reader that left early (`linux --help | head`) is no failure.
fn print(text: &str) -> ExitCode {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}
