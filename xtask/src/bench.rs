//! `cargo xtask bench`: one table, one run: native, ours on both backends, UML if it is installed. Ratios are what counts.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::script::Scratch;
use harness::{Linux, executable};

/// One column of the table.
struct Column {
    title: &'static str,
    rows: BTreeMap<String, f64>,
}

/// Measures and prints the table.
pub fn run(_args: &[String]) -> Result<(), String> {
    let program = super::guests::build()?.join("bench");
    println!("linux: {}", executable().display());
    let mut order = Vec::new();
    let mut columns = Vec::new();
    let native = measure(&program, |program, out, dir| {
        let mut command = Command::new(program);
        command.arg(out).arg(dir);
        command
    })?;
    order.extend(native.iter().map(|(name, _)| name.clone()));
    columns.push(Column {
        title: "native",
        rows: native.into_iter().collect(),
    });
    let ours: [(&'static str, &[&str]); 3] = [
        ("seccomp 1", &["seccomp=on", "ncpus=1"]),
        ("seccomp all", &["seccomp=on"]),
        ("ptrace", &["seccomp=off"]),
    ];
    for (title, options) in ours {
        match measure(&program, |program, out, dir| {
            guest(Linux::new().args(options).command(), program, out, dir)
        }) {
            Ok(rows) => columns.push(Column {
                title,
                rows: rows.into_iter().collect(),
            }),
            Err(error) => eprintln!("{title}: {error}"),
        }
    }
    if let Some(uml) = ["linux.uml", "/usr/bin/linux.uml"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok())
    {
        // UML is at its best on one CPU.
        let pinned = |program: &Path, out: &Path, dir: &Path| {
            let mut command = Command::new("taskset");
            command.args(["-c", "0", uml, "mem=512M"]);
            guest(command, program, out, dir)
        };
        match measure(&program, pinned) {
            Ok(rows) => columns.push(Column {
                title: "UML, 1 CPU",
                rows: rows.into_iter().collect(),
            }),
            Err(error) => eprintln!("UML: {error}"),
        }
    }
    print(&order, &columns);
    Ok(())
}

/// A boot whose init is the benchmark.
fn guest(mut command: Command, program: &Path, out: &Path, dir: &Path) -> Command {
    command.args([
        "rootfstype=hostfs",
        "rw",
        "quiet",
        "con=null",
        "ssl=null",
        "con0=null,fd:1",
        "root=/dev/root",
        "console=tty0",
    ]);
    command
        .arg(format!("init={}", program.display()))
        .arg("--")
        .arg(out)
        .arg(dir);
    command
}

fn measure(program: &Path, command: impl Fn(&Path, &Path, &Path) -> Command) -> Result<Vec<(String, f64)>, String> {
    let scratch = Scratch::new();
    let out = scratch.path().join("result");
    let done = command(program, &out, scratch.path())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let text = std::fs::read_to_string(&out).map_err(|error| {
        format!(
            "no result ({error}); it ended with {} and said:\n{}",
            done.status,
            String::from_utf8_lossy(&done.stdout)
        )
    })?;
    let row = |line: &str| {
        line.split_once('\t')
            .and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
    };
    Ok(text.lines().filter_map(row).collect())
}

fn print(order: &[String], columns: &[Column]) {
    print!("{:28}", "nanoseconds (× native)");
    for column in columns {
        print!("{:>22}", column.title);
    }
    println!();
    for name in order {
        print!("{name:28}");
        let native = columns[0].rows.get(name);
        for column in columns {
            match (column.rows.get(name), native) {
                (Some(value), Some(native)) => print!("{value:>13.0} {:>8}", format!("×{:.2}", value / native)),
                _ => print!("{:>22}", "-"),
            }
        }
        println!();
    }
}
