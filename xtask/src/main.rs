//! Developer tasks: `cargo xtask <task>`.

mod bench;
mod ext4;
mod guests;
mod image;
mod judge;
mod ltp;
mod qcow2;
mod test;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask <task>

  test [FILTER]   builds everything and runs all tests; installs what the tests need (Debian packages) when it may
  guests          compiles the guest programs of tests/guest and tests/bench into target/guest
  image KIND OUT  makes a bootable root image, busybox or debian; image --help tells more
  judge debian    makes a Debian image, boots it on both backends, and lets apt and dpkg work in it; needs a mirror
  judge python    runs Python's tests of the system natively and in a guest, and reports what fails only there
  judge ext4 crash   cuts the power of an ext4 driver's disk 20 000 times; also: model (operations at random, four readers), damage (broken
                  images), kill (guests killed at work), programs (fsx, stress-ng, bonnie++ in a guest); a number: how many cases
  judge ltp DIR   runs the system call tests of an installed LTP natively (as root) and in a guest; --ptrace, names of tests
  judge qcow2     builds linux with qcow2 and lets qemu-img judge what guests write (as root: it mounts a tmpfs)
  judge stress    runs stress-ng's stressors in a guest, two seconds each
  bench [ROW]     measures system calls, faults, mappings, processes and files natively, in our guests and, if installed, in UML's;
                  also the time of a boot and the kernel's memory
  bench disk      the same for an ext4 image: sequential, random, many small files, fsync; natively on a loop device,
                  in our guests with a pool of threads and with io_uring
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.first().map(String::as_str) {
        Some("test") => test::run(&args[1..]),
        Some("guests") => guests::build().map(drop),
        Some("image") => image::run(&args[1..]),
        Some("judge") => judge::run(&args[1..]),
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
