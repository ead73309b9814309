//! `cargo xtask judge ext4 WHAT`: the judges of `ext4/tests/volume` at their full size, and kills of real guests.
//!
//! `crash`, `model` and `damage` are tests of that crate that `cargo test` leaves out; here they run in the `judge` profile, which is optimized and
//! checks arithmetic and locks. Each case that is done has a line in `target/judge-ext4/WHAT.log`, so that an interrupted judge goes on where it was;
//! a finished one leaves a table and is removed. [`kill`] and [`programs`] use real guests.

mod kill;
mod programs;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The judges that are tests.
const JUDGES: [(&str, &str); 3] = [
    ("crash", "crash::at_scale"),
    ("model", "model::at_scale"),
    ("damage", "damage::at_scale"),
];

const USAGE: &str = "judge ext4 crash|model|damage [CASES], judge ext4 kill [ROUNDS], judge ext4 programs";

/// Runs the judge that `args` name, with as many cases as they say.
pub fn run(args: &[String]) -> Result<(), String> {
    let [what, rest @ ..] = args else {
        return Err(USAGE.into());
    };
    let count = match rest {
        [] => None,
        [count] => Some(count.parse::<u64>().map_err(|error| format!("{count}: {error}"))?),
        _ => return Err(USAGE.into()),
    };
    match what.as_str() {
        "kill" => return kill::run(count.unwrap_or(100)),
        "programs" => return programs::run(),
        _ => {}
    }
    let (_, test) = JUDGES.iter().find(|(name, _)| name == what).ok_or(USAGE)?;
    let folder = harness::workspace().join("target/judge-ext4");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let log = folder.join(format!("{what}.log"));
    campaign(test, &log, count)?;
    std::fs::remove_file(&log).map_err(|error| format!("{}: {error}", log.display()))
}

/// Runs a test of the crate that is ignored otherwise.
fn campaign(test: &str, log: &Path, count: Option<u64>) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args([
            "test",
            "--profile",
            "judge",
            "--package",
            "ext4",
            "--test",
            "volume",
            "--",
        ])
        .args(["--ignored", "--exact", test, "--nocapture"])
        .current_dir(harness::workspace())
        .env("EXT4_JUDGE_LOG", log);
    if let Some(count) = count {
        command.env("EXT4_JUDGE_COUNT", count.to_string());
    }
    // Images come and go by the thousand: in memory, where there is some.
    let memory = PathBuf::from("/dev/shm");
    if std::env::var_os("TMPDIR").is_none() && memory.is_dir() {
        command.env("TMPDIR", memory);
    }
    let status = command.status().map_err(|error| format!("cargo: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!(
            "{test}: {status}; good cases are in {}, and are not run again",
            log.display()
        ))
    }
}
