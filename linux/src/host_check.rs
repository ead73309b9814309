//! What happens on the host before the machine starts: limits, the "Checking …" lines, the backend.

use skas::{Backend, SeccompMode};

use crate::cmdline::options::Setup;

/// More virtual CPUs than this are only there when asked for.
const DEFAULT_MOST_CPUS: usize = 8;
/// Fewest descriptors a guest can live with.
const LEAST_DESCRIPTORS: u64 = 64;

/// Raises what can be raised, probes the host and starts the user-thread backend. Returns the number of virtual CPUs.
///
/// Must be called on the initial host thread, which lives as long as the kernel: stubs die with it.
///
/// # Errors
/// One sentence: what the host denies and the way out.
pub fn prepare(setup: &Setup) -> Result<usize, String> {
    arch_um::host::process::survive_file_size_limit();
    let descriptors = arch_um::host::process::raise_descriptor_limit();
    if descriptors < LEAST_DESCRIPTORS {
        return Err(format!(
            "the host allows only {descriptors} open files, {LEAST_DESCRIPTORS} are needed: raise the limit (ulimit -n 1024)"
        ));
    }
    let mut say = |text: &str| {
        if !setup.quiet {
            eprint!("{text}");
        }
    };
    let limit = |value: Option<u64>| value.map_or("NONE".into(), |bytes| bytes.to_string());
    let (soft, hard) = arch_um::host::process::core_limit();
    say(&format!(
        "Core dump limits :\n\tsoft - {}\n\thard - {}\n",
        limit(soft),
        limit(hard)
    ));

    let host_cpus = arch_um::host::process::allowed_cpus();
    let default_cpus = host_cpus.len().clamp(1, DEFAULT_MOST_CPUS);
    let ncpus = match (setup.seccomp, setup.ncpus) {
        (SeccompMode::Off, Some(2..)) => {
            return Err("SMP is not supported with PTRACE userspace: leave out ncpus= or use seccomp=on".into());
        }
        (SeccompMode::Off, _) => 1,
        (_, asked) => asked.unwrap_or(default_cpus),
    };
    let config = skas::Config {
        seccomp: setup.seccomp,
        low_2g: setup.low_2g,
        ncpus,
        host_cpus,
    };
    skas::init(config, &mut say).map_err(|error| error.to_string())?;
    match (skas::backend(), setup.ncpus) {
        (Backend::Ptrace, Some(2..)) => Err(
            "SMP is not supported with PTRACE userspace, and seccomp does not work on this host: leave out ncpus="
                .into(),
        ),
        (Backend::Ptrace, _) => Ok(1),
        (Backend::Seccomp, _) => Ok(ncpus),
    }
}
