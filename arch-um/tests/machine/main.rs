//! Tests of the running machine. `cpu::run` never returns, so each test boots in a child process (this program with `--run NAME`) and
//! ends it by `exit`; the parent judges status and output.

#![allow(missing_docs)]

mod exits;
mod io;
mod locks;
mod measure;
mod ring;
mod threads;

use std::io::Read;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// One test: what the child does, and what the parent wants to see of it.
pub struct Test {
    pub name: &'static str,
    pub run: fn(),
    pub want: Want,
}

/// How the child must end, and what its output must have.
pub struct Want {
    pub status: Status,
    pub output: &'static [&'static str],
}

/// As `wait(2)` tells it.
#[derive(PartialEq, Eq, Debug)]
pub enum Status {
    Code(i32),
    Signal(i32),
}

/// Exit status 0.
pub const PASS: Want = Want {
    status: Status::Code(0),
    output: &[],
};

#[macro_export]
macro_rules! tests {
    ($($name:ident => $want:expr;)*) => {
        pub const TESTS: &[$crate::Test] =
            &[$($crate::Test { name: stringify!($name), run: $name, want: $want }),*];
    };
}

/// Boots `ncpus` CPUs, runs `main`, and ends the process with 0 when it returns.
pub fn boot(ncpus: usize, main: impl FnOnce() + Send + 'static) -> ! {
    arch_um::printk::register_console(std::sync::Arc::new(arch_um::printk::StdConsole::Stdout));
    arch_um::cpu::run(
        ncpus,
        Box::new(move || {
            main();
            arch_um::exit::exit(0)
        }),
    )
}

const HANG_GUARD: Duration = Duration::from_secs(60);

fn judge(test: &Test) -> Result<Duration, String> {
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let start = Instant::now();
    // Who runs the tests may ignore signals (`nohup`), and the machine would go on ignoring them.
    let mut child = Command::new("env")
        .arg("--default-signal")
        .arg(exe)
        .args(["--run", test.name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let mut out = child.stdout.take().expect("piped");
    let mut err = child.stderr.take().expect("piped");
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        out.read_to_end(&mut text).map(|_| text)
    });
    let err_reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        err.read_to_end(&mut text).map(|_| text)
    });
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
            break status;
        }
        if start.elapsed() > HANG_GUARD {
            child.kill().map_err(|e| e.to_string())?;
            child.wait().map_err(|e| e.to_string())?;
            return Err("hangs".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let took = start.elapsed();
    let mut output = reader.join().expect("reader").map_err(|e| e.to_string())?;
    output.extend(err_reader.join().expect("reader").map_err(|e| e.to_string())?);
    let output = String::from_utf8_lossy(&output).into_owned();
    use std::os::unix::process::ExitStatusExt;
    let got = match status.signal() {
        Some(signal) => Status::Signal(signal),
        None => Status::Code(status.code().unwrap_or(-1)),
    };
    if got != test.want.status {
        return Err(format!("ended with {got:?}, wanted {:?}\n{output}", test.want.status));
    }
    for want in test.want.output {
        if !output.contains(want) {
            return Err(format!("no {want:?} in the output:\n{output}"));
        }
    }
    Ok(took)
}

fn main() -> ExitCode {
    let all = [threads::TESTS, locks::TESTS, io::TESTS, ring::TESTS, exits::TESTS];
    let all = || all.iter().flat_map(|tests| tests.iter());
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name] = args.as_slice()
        && flag == "--run"
    {
        if name == "measure" {
            measure::run();
        }
        match all().find(|test| test.name == name) {
            Some(test) => (test.run)(),
            None => eprintln!("no test {name}"),
        }
        // A test that boots does not come back.
        return ExitCode::SUCCESS;
    }
    let filter = args.iter().find(|arg| !arg.starts_with("--"));
    let (mut passed, mut failed) = (0, 0);
    // Without the checker there is nothing to detect.
    let possible = |test: &&Test| arch_um::sync::LOCKDEP || !test.name.ends_with("_is_detected");
    for test in all()
        .filter(possible)
        .filter(|test| filter.is_none_or(|f| test.name.contains(f.as_str())))
    {
        match judge(test) {
            Ok(took) => {
                println!("test {} ... ok ({} ms)", test.name, took.as_millis());
                passed += 1;
            }
            Err(why) => {
                println!("test {} ... FAILED: {why}", test.name);
                failed += 1;
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
