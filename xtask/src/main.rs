//! Developer tasks: `cargo xtask <task>`.

mod bench;
mod guests;
mod test;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask <task>

  test [FILTER]   builds everything and runs all tests; installs what the tests need (Debian packages) when it may
  guests          compiles the guest programs of tests/guest and tests/bench into target/guest
  bench [ROW]     measures system calls, faults, mappings, processes and files natively, in our guests and, if installed, in UML's;
                  also the time of a boot and the kernel's memory
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.first().map(String::as_str) {
        Some("test") => test::run(&args[1..]),
        Some("guests") => guests::build().map(drop),
        Some("bench") => bench::run(&args[1..]),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
