//! The programs of `tests/guest` print what they saw; the host's Linux says what is right, under both backends.

use harness::script::{in_guest, natively};
use harness::{Backend, workspace};

fn same_as_native(program: &str, backend: Backend) {
    let path = workspace().join("target/guest").join(program);
    assert!(path.exists(), "{} is not built: cargo xtask guests", path.display());
    let command = path.display().to_string();
    let (native, guest) = (natively(&command), in_guest(backend, &command));
    assert_eq!(native.status, 0, "the program itself fails:\n{}", native.output);
    let differences: Vec<String> = diff(&native.output, &guest.output);
    assert!(
        differences.is_empty(),
        "{program} under {backend:?}:\n{}",
        differences.join("\n")
    );
    assert_eq!(guest.status, native.status, "{program} under {backend:?}");
}

/// Lines that only one side has, in order.
fn diff(native: &str, guest: &str) -> Vec<String> {
    let (native, guest): (Vec<_>, Vec<_>) = (native.lines().collect(), guest.lines().collect());
    let longest = native.len().max(guest.len());
    (0..longest)
        .filter(|&index| native.get(index) != guest.get(index))
        .map(|index| format!("  native: {:?}\n  guest:  {:?}", native.get(index), guest.get(index)))
        .take(20)
        .collect()
}

macro_rules! programs {
    ($($name:ident),* $(,)?) => {
        mod seccomp {
            $(#[test] fn $name() { super::same_as_native(stringify!($name), harness::Backend::Seccomp); })*
        }
        mod ptrace {
            $(#[test] fn $name() { super::same_as_native(stringify!($name), harness::Backend::Ptrace); })*
        }
    };
}

programs!(
    fork_memory,
    signals,
    signal_frames,
    job_control,
    clone_flags,
    identities,
    threads,
    files,
    poll,
    memory,
    mappings,
    futexes,
    exec_forms,
    process,
    timers,
    devices
);
