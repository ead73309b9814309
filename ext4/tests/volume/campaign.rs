//! Many cases of one judge, on all processors: each in a thread of its own, so that one that panics is told with its number and the others go on.
//!
//! `EXT4_JUDGE_LOG` names a file that gets a line for each case; those it calls good already are not run again. `EXT4_JUDGE_CASES` (`17` or
//! `100..200`) chooses some.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long a case may take, on the slowest machine.
const HANG: Duration = Duration::from_secs(1800);

/// What a case is and does.
pub struct Campaign<'a> {
    /// What is counted: points, images.
    pub units: &'a str,
    /// The row of the table a case belongs to.
    pub row: &'a (dyn Fn(u64) -> String + Sync),
    /// Runs a case: how many units were good, or what was not.
    pub run: &'a (dyn Fn(u64) -> Result<u64, String> + Sync),
}

/// What a number of cases came to.
#[derive(Default)]
struct Row {
    cases: u64,
    units: u64,
    bad: u64,
}

impl Campaign<'_> {
    /// Runs the cases.
    ///
    /// # Panics
    /// When one of them is bad; with all that were.
    pub fn judge(&self, cases: Range<u64>) {
        let log = std::env::var_os("EXT4_JUDGE_LOG");
        let before = log
            .as_ref()
            .and_then(|path| std::fs::read_to_string(path).ok())
            .unwrap_or_default();
        let table = Mutex::new(BTreeMap::<String, Row>::new());
        let failures = Mutex::new(Vec::new());
        let note = |case: u64, outcome: &Result<u64, String>| {
            let mut table = table.lock().unwrap();
            let row = table.entry((self.row)(case)).or_default();
            row.cases += 1;
            match outcome {
                Ok(units) => row.units += units,
                Err(text) => {
                    row.bad += 1;
                    failures.lock().unwrap().push(format!("case {case}: {text}"));
                }
            }
        };
        let mut known = BTreeSet::new();
        for line in before.lines() {
            if let ["good", case, units] = line.split(' ').collect::<Vec<_>>()[..]
                && let (Ok(case), Ok(units)) = (case.parse(), units.parse())
                && cases.contains(&case)
                && known.insert(case)
            {
                note(case, &Ok(units));
            }
        }
        let file = log.map(|path| {
            OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .expect("a log of cases")
        });
        let (next, last) = (AtomicU64::new(cases.start), cases.end);
        let threads = std::thread::available_parallelism().map_or(2, |count| count.get());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let case = next.fetch_add(1, Ordering::Relaxed);
                        if case >= last {
                            break;
                        }
                        if known.contains(&case) {
                            continue;
                        }
                        let outcome = guarded(case, || (self.run)(case));
                        note(case, &outcome);
                        if let Some(mut file) = file.as_ref() {
                            let line = match &outcome {
                                Ok(units) => format!("good {case} {units}\n"),
                                Err(text) => format!("bad {case} {}: {text}\n", (self.row)(case)),
                            };
                            file.write_all(line.as_bytes()).expect("a line in the log of cases");
                            println!("{} of {last}: {}", case + 1, line.trim_end());
                        }
                    }
                });
            }
        });
        self.show(&table.lock().unwrap());
        let failures = failures.lock().unwrap();
        assert!(
            failures.is_empty(),
            "{} bad cases:\n{}",
            failures.len(),
            failures.join("\n")
        );
    }

    fn show(&self, table: &BTreeMap<String, Row>) {
        println!("{:>8} {:>8} {:>8}", "cases", self.units, "bad");
        for (name, row) in table {
            println!("{:8} {:8} {:8}  {name}", row.cases, row.units, row.bad);
        }
        let sum = |of: fn(&Row) -> u64| table.values().map(of).sum::<u64>();
        println!(
            "{:8} {:8} {:8}  in all",
            sum(|row| row.cases),
            sum(|row| row.units),
            sum(|row| row.bad)
        );
    }
}

/// Runs a case in a thread of its own; one that hangs ends the process, because nothing else could end it.
fn guarded(case: u64, run: impl FnOnce() -> Result<u64, String> + Send) -> Result<u64, String> {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if wait.recv_timeout(HANG) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                eprintln!("case {case} hangs");
                std::process::abort();
            }
        });
        let outcome = scope.spawn(run).join();
        drop(done);
        outcome.unwrap_or_else(|panic| Err(words(&*panic)))
    })
}

/// What a panic said.
pub fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    format!(
        "panic: {}",
        text.or(panic.downcast_ref::<&str>().copied())
            .unwrap_or("without words")
    )
}

/// The cases that the environment asks for, or those below `count`.
pub fn chosen(count: u64) -> Range<u64> {
    let Ok(text) = std::env::var("EXT4_JUDGE_CASES") else {
        return 0..count;
    };
    let parsed = match text.split_once("..") {
        Some((start, end)) => start.parse().and_then(|start| Ok(start..end.parse()?)),
        None => text.parse().map(|case| case..case + 1),
    };
    parsed.expect("EXT4_JUDGE_CASES is a number or a range")
}

/// A number in the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}
