//! `cargo xtask bench [ROW]`: one table, one run: native, ours on both backends, UML if it is installed. Ratios are what counts. Below it the
//! time from the start of `linux` to init's first words, and the memory of the kernel's process at a shell prompt. [`disk`] is a table of its own.

mod disk;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use harness::script::Scratch;
use harness::{Linux, executable};

/// One column of the table.
struct Column {
    title: &'static str,
    /// Names of the rows as they came.
    order: Vec<String>,
    rows: BTreeMap<String, f64>,
}

impl Column {
    fn new(title: &'static str, rows: Vec<(String, f64)>) -> Self {
        Column {
            title,
            order: rows.iter().map(|(name, _)| name.clone()).collect(),
            rows: rows.into_iter().collect(),
        }
    }
}

/// A way to boot: its title, the command line up to the options that all have in common.
struct Machine {
    title: &'static str,
    command: Box<dyn Fn() -> Command>,
}

/// The host's first CPU alone: there both sides of a hand-off must park.
const ONE_CPU: [&str; 3] = ["taskset", "-c", "0"];

/// Ours under both backends and with nowhere to spin, and UML at its best: on one CPU.
fn machines() -> Vec<Machine> {
    let ours: [(&'static str, &'static [&'static str]); 3] = [
        ("seccomp 1", &["seccomp=on", "ncpus=1"]),
        ("seccomp all", &["seccomp=on"]),
        ("ptrace", &["seccomp=off"]),
    ];
    let mut machines: Vec<Machine> = Vec::new();
    for (title, options) in ours {
        let command = move || Linux::new().args(options).command();
        machines.push(Machine {
            title,
            command: Box::new(command),
        });
    }
    machines.push(Machine {
        title: "seccomp, 1 host CPU",
        command: Box::new(|| Linux::new().under(ONE_CPU).arg("seccomp=on").command()),
    });
    let installed = |name: &&str| Command::new(name).arg("--version").output().is_ok();
    if let Some(uml) = ["linux.uml", "/usr/bin/linux.uml"].into_iter().find(installed) {
        let command = move || {
            let mut command = Command::new(ONE_CPU[0]);
            command.args(&ONE_CPU[1..]).args([uml, "mem=512M"]);
            command
        };
        machines.push(Machine {
            title: "UML, 1 CPU",
            command: Box::new(command),
        });
    }
    machines
}

/// Measures and prints the table. An argument measures only the rows whose name holds it.
pub fn run(args: &[String]) -> Result<(), String> {
    if args.first().is_some_and(|word| word == "disk") {
        return disk::run();
    }
    let program = super::guests::build()?.join("bench");
    let row = args.first().map_or("", String::as_str);
    println!("linux: {}", executable().display());
    let native = measure(&program, |program, out, dir| {
        let mut command = Command::new(program);
        command.arg(out).arg(dir).arg(row);
        command
    })?;
    let mut columns = vec![Column::new("native", native)];
    let machines = machines();
    for machine in &machines {
        let rows = measure(&program, |program, out, dir| {
            let mut command = guest((machine.command)(), program);
            command.arg("--").arg(out).arg(dir);
            if !row.is_empty() {
                command.arg(row);
            }
            command
        });
        match rows {
            Ok(rows) => columns.push(Column::new(machine.title, rows)),
            Err(error) => eprintln!("{}: {error}", machine.title),
        }
    }
    print_table(&columns);
    if row.is_empty() {
        whole_machines(&machines, &program);
    }
    Ok(())
}

/// What has no native counterpart: how long a boot takes, and how much memory the kernel's process has.
fn whole_machines(machines: &[Machine], program: &Path) {
    let line = |name: &str, value: &dyn Fn(&Machine) -> Result<String, String>| {
        print!("{name:28}{:>22}", "");
        for machine in machines {
            print!("{:>22}", value(machine).unwrap_or_else(|error| error));
        }
        println!();
    };
    line("start to init, ms", &|machine| {
        let mut best = f64::INFINITY;
        for _ in 0..5 {
            best = best.min(boot(machine, program)?);
        }
        Ok(format!("{best:.1}"))
    });
    line("VmRSS at a prompt, MiB", &|machine| {
        Ok(format!("{:.1}", memory(machine)? / 1024.0))
    });
}

/// From the start of the process to the first words of its init, ms.
fn boot(machine: &Machine, program: &Path) -> Result<f64, String> {
    let mut command = guest((machine.command)(), program);
    command.args(["--", "boot"]);
    let start = Instant::now();
    let mut child = start_piped(command)?;
    let seen = read_until(&mut child, "init runs");
    let time = start.elapsed().as_secs_f64() * 1000.0;
    let _ = child.wait();
    seen.map(|()| time)
}

/// Resident memory of the kernel's process while its init, a shell, waits for a command, KiB.
fn memory(machine: &Machine) -> Result<f64, String> {
    let mut child = start_piped(guest((machine.command)(), Path::new("/bin/sh")))?;
    let seen = read_until(&mut child, "# ");
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let rss = rss.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
    // The shell reads the end of its input, and the machine goes down.
    drop(child.stdin.take());
    let _ = wait(&mut child);
    seen.and(rss.ok_or_else(|| "?".to_owned()))
}

fn start_piped(mut command: Command) -> Result<Child, String> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())
}

/// Reads the console until `text` has come.
fn read_until(child: &mut Child, text: &str) -> Result<(), String> {
    let pipe = child.stdout.as_mut().ok_or("no console")?;
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !seen.ends_with(text.as_bytes()) {
        match pipe.read(&mut byte) {
            Ok(1) => seen.push(byte[0]),
            _ => return Err("ended".to_owned()),
        }
    }
    Ok(())
}

/// A machine that does not go down is killed.
fn wait(child: &mut Child) -> std::io::Result<std::process::ExitStatus> {
    for _ in 0..500 {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.kill()?;
    child.wait()
}

/// A boot from the host's tree with this init; its arguments may follow after "--".
fn guest(mut command: Command, init: &Path) -> Command {
    command.args([
        "rootfstype=hostfs",
        "rw",
        "quiet",
        "con=null",
        "ssl=null",
        "con0=fd:0,fd:1",
        "root=/dev/root",
        "console=tty0",
    ]);
    command.arg(format!("init={}", init.display()));
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

/// One line a row of the first column, with ratios to it.
fn print_table(columns: &[Column]) {
    let Some(first) = columns.first() else { return };
    print!("{:28}", format!("nanoseconds (× {})", first.title));
    for column in columns {
        print!("{:>22}", column.title);
    }
    println!();
    for name in &first.order {
        print!("{name:28}");
        let base = first.rows.get(name);
        for column in columns {
            match (column.rows.get(name), base) {
                (Some(value), Some(base)) => print!("{value:>13.0} {:>8}", format!("×{:.2}", value / base)),
                _ => print!("{:>22}", "-"),
            }
        }
        println!();
    }
}
