//! `cargo xtask bench disk`: an ext4 image under the work of a day, natively on a loop device (as root, where the host has one), in our guests
//! (the disk served by the pool of threads, and once by io_uring) and in UML's. Each gets a fresh image made by `mke2fs`.
//!
//! Rows that end with an `fsync` compare the native column with ours alone: UML completes a flush without any call to the host (none of 300 `fsync` of the guest
//! becomes one, as `perf stat -e syscalls:sys_enter_fdatasync` shows), ours makes one `fdatasync` and one `RWF_DSYNC` write of each. With `barrier=0` nobody
//! flushes, and all may be compared.

use std::path::Path;
use std::process::{Command, Stdio};

use harness::Linux;
use harness::script::Scratch;

use super::{Column, Machine, guest, machines, measure, print_table};

/// Bytes of the image.
const IMAGE: u64 = 1 << 30;

/// Measures and prints the table.
pub fn run() -> Result<(), String> {
    let program = crate::guests::build()?.join("disk");
    let mut columns = Vec::new();
    match native(&program) {
        Ok(rows) => columns.push(Column::new("native", rows)),
        Err(error) => eprintln!("native: {error}"),
    }
    let mut machines = machines();
    machines.insert(
        1,
        Machine {
            title: "seccomp 1, io_uring",
            command: Box::new(|| Linux::new().args(["seccomp=on", "ncpus=1", "ubd=io_uring"]).command()),
        },
    );
    for machine in machines {
        let rows = with_image(|image| {
            measure(&program, |program, out, _| {
                let mut command = (machine.command)();
                command.arg(format!("ubda={}", image.display()));
                let mut command = guest(command, program);
                command.arg("--").arg(out).arg("/dev/ubda");
                command
            })
        });
        match rows {
            Ok(rows) => columns.push(Column::new(machine.title, rows)),
            Err(error) => eprintln!("{}: {error}", machine.title),
        }
    }
    print_table(&columns);
    println!(
        "UML answers fsync without one on the host: sequential writes and fsync can be compared with it where barrier=0, for then nobody flushes."
    );
    Ok(())
}

/// The host's own ext4 on a loop device.
fn native(program: &Path) -> Result<Vec<(String, f64)>, String> {
    with_image(|image| {
        let made = Command::new("losetup").args(["-f", "--show"]).arg(image).output();
        let made = made.map_err(|error| format!("losetup: {error}"))?;
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).trim().to_owned());
        }
        let device = String::from_utf8_lossy(&made.stdout).trim().to_owned();
        let rows = measure(program, |program, out, _| {
            let mut command = Command::new(program);
            command.arg(out).arg(&device);
            command
        });
        let _ = Command::new("losetup").args(["-d", &device]).status();
        rows
    })
}

fn with_image<T>(work: impl FnOnce(&Path) -> Result<T, String>) -> Result<T, String> {
    let scratch = Scratch::new();
    let image = scratch.path().join("image");
    let file = std::fs::File::create(&image).map_err(|error| format!("{}: {error}", image.display()))?;
    file.set_len(IMAGE).map_err(|error| error.to_string())?;
    let made = Command::new("mke2fs")
        .args(["-q", "-t", "ext4"])
        .arg(&image)
        .stdin(Stdio::null())
        .status();
    match made {
        Ok(status) if status.success() => work(&image),
        Ok(status) => Err(format!("mke2fs ended with {status}")),
        Err(error) => Err(format!("mke2fs: {error}: install e2fsprogs")),
    }
}
