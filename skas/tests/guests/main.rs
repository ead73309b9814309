//! Claims about guest spaces and threads, each run in a process of its own under each backend.
//!
//! `cargo test -p skas [words of a name]`. Programs are in `programs.rs`, claims by subject in the other files.

mod hostile;
mod life;
mod memory;
mod programs;
mod state;

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use skas::{Config, SeccompMode};

type Test = (&'static str, fn());

macro_rules! tests {
    ($($module:ident: $($name:ident)*;)*) => { &[$($((stringify!($name), $module::$name as fn()),)*)*] };
}

const TESTS: &[Test] = tests! {
    state: a_system_call_is_answered_and_leaves_registers_as_hardware_does
        a_wild_pointer_gives_address_and_access a_processor_exception_gives_its_signal
        int_0x80_and_x32_numbers_are_foreign a_vsyscall_looks_like_a_system_call
        vector_registers_survive_a_system_call_and_a_fork a_bad_xstate_image_is_refused
        fs_base_is_set_and_reported a_beyond_end_of_file_access_is_a_bus_error;
    memory: anonymous_memory_needs_no_exit a_private_file_mapping_keeps_writes_and_a_shared_one_does_not
        an_error_in_the_queue_is_reported_with_its_errno fork_copies_private_memory_and_shares_shared_memory
        reset_empties_the_space user_memory_access_counts_exactly forced_writes_go_through_protection
        remap_moves_pages cmpxchg_is_exact_and_faults residency_and_usage_are_reported a_queued_change_is_in_force_before_any_thread_runs long_queues_are_split;
    life: sixty_four_forks_live_at_once eight_threads_run_in_parallel_and_die a_vfork_child_shares_memory_and_its_thread_is_reused
        a_kick_ends_a_spinning_guest a_kick_before_run_ends_it_at_once
        a_kick_on_its_way_to_an_ending_thread_harms_nobody_else a_killed_stub_is_dead
        no_stub_outlives_the_kernel dropped_spaces_leave_no_process;
    hostile: jumping_to_any_host_call_of_the_stub_harms_only_oneself a_region_full_of_nonsense_kills_only_its_process
        a_stack_pointer_in_the_region_is_harmless descriptors_of_the_kernel_are_not_in_the_stub
        clone_without_command_makes_no_process a_thread_that_spoils_its_sibling_s_commands_dies_with_it
        a_guest_that_forges_its_signal_mask_dies_when_kicked;
};

/// Tests that need several kernel threads, and the vsyscalls that the host answers itself under ptrace.
const SECCOMP_ONLY: &[&str] = &[
    "a_vsyscall_looks_like_a_system_call",
    "a_thread_that_spoils_its_sibling_s_commands_dies_with_it",
    "a_guest_that_forges_its_signal_mask_dies_when_kicked",
    "a_queued_change_is_in_force_before_any_thread_runs",
    "eight_threads_run_in_parallel_and_die",
    "jumping_to_any_host_call_of_the_stub_harms_only_oneself",
    "clone_without_command_makes_no_process",
];

fn start(mode: &str) {
    let seccomp = if mode == "ptrace" {
        SeccompMode::Off
    } else {
        SeccompMode::On
    };
    let config = Config {
        seccomp,
        low_2g: mode == "low",
        ncpus: 1,
        host_cpus: Vec::new(),
    };
    if let Err(error) = skas::init(config, &mut |_| ()) {
        eprintln!("{error}");
        std::process::exit(77);
    }
    if mode == "parked" {
        skas::set_spin(0, 0);
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name, mode] = &args[..]
        && flag == "--one"
    {
        start(mode);
        TESTS.iter().find(|(known, _)| known == name).expect("a known test").1();
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|arg| arg == "--list") {
        TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let words: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let mut failed = 0;
    for mode in ["seccomp", "parked", "low", "ptrace"] {
        for (name, _) in TESTS {
            let label = format!("{mode}::{name}");
            if !words.iter().all(|word| label.contains(*word)) || mode == "ptrace" && SECCOMP_ONLY.contains(name) {
                continue;
            }
            let (ok, output) = run_one(name, mode);
            println!("test {label} ... {}", if ok { "ok" } else { "FAILED" });
            if !ok {
                println!("{output}");
                failed += 1;
            }
        }
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs one test in a child of ours, with a guard against hangs.
fn run_one(name: &str, mode: &str) -> (bool, String) {
    let me = std::env::current_exe().expect("our own path");
    let mut child = Command::new(me)
        .args(["--one", name, mode])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ourselves can be started");
    let end = Instant::now() + Duration::from_secs(120);
    let mut hung = false;
    let status = loop {
        match child.try_wait().expect("our own child") {
            Some(status) => break status,
            None if Instant::now() > end => {
                hung = true;
                let _ = child.kill();
                break child.wait().expect("our own child");
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let mut output = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = std::io::Read::read_to_string(&mut stderr, &mut output);
    }
    if hung {
        output += "hung";
    }
    (status.success(), format!("{status}\n{output}"))
}
