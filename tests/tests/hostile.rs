//! A hostile guest harms itself alone.

use harness::script::{Scratch, in_guest, in_guest_with, natively};
use harness::{Backend, Linux, workspace};

const NEIGHBOUR: &str = "(while :; do echo alive; sleep 0.1; done) >/dev/null & \n";
const NEIGHBOUR_LIVES: &str = "kill $! && echo neighbour lived";

#[test]
fn wild_arguments_to_every_system_call_harm_only_the_caller() {
    for backend in Backend::ALL {
        let program = workspace().join("target/guest/hostile").display().to_string();
        let script = format!("{NEIGHBOUR}{program}\n{NEIGHBOUR_LIVES}");
        let ran = in_guest(backend, &script);
        assert!(ran.output.contains("survived"), "{backend:?}: {}", ran.output);
        assert!(ran.output.contains("neighbour lived"), "{backend:?}: {}", ran.output);
    }
}

#[test]
fn attacks_on_the_stub_and_on_the_borders_of_the_address_space_harm_only_the_attacker() {
    for backend in Backend::ALL {
        let program = workspace().join("target/guest/hostile_stub").display().to_string();
        let linux = Linux::hostfs(backend).guard(std::time::Duration::from_secs(600));
        let (ran, _) = in_guest_with(linux, &format!("{NEIGHBOUR}{program}; {NEIGHBOUR_LIVES}"));
        assert!(ran.output.contains("survived"), "{backend:?}: {}", ran.output);
        assert!(!ran.output.contains("succeeded"), "{backend:?}: {}", ran.output);
        assert!(ran.output.contains("neighbour lived"), "{backend:?}: {}", ran.output);
    }
}

/// Runs one of the greedy programs in a guest with a neighbour; what they printed.
fn in_company(backend: Backend, command: &str, options: &[&str]) -> (String, String) {
    let linux = Linux::hostfs(backend).args(options);
    let program = workspace().join("target/guest").display().to_string();
    let script = format!("{NEIGHBOUR}{program}/{command}; echo status $?; {NEIGHBOUR_LIVES}");
    let (ran, outcome) = in_guest_with(linux, &script);
    assert!(
        ran.output.contains("neighbour lived"),
        "{backend:?}: {command}: {}",
        ran.output
    );
    (ran.output, outcome.console())
}

#[test]
fn damaged_programs_fail_with_an_errno_or_die_by_a_signal() {
    for backend in Backend::ALL {
        let (output, _) = in_company(backend, "broken_elf 2000", &[]);
        assert!(output.contains("survived 2000"), "{backend:?}: {output}");
    }
}

#[test]
fn a_thread_bomb_meets_eagain_and_a_free_place_is_used_again() {
    for backend in Backend::ALL {
        let (output, _) = in_company(backend, "greedy threads", &["mem=256M"]);
        assert!(output.contains("threads: EAGAIN after many"), "{backend:?}: {output}");
        assert!(output.contains("one more: 0"), "{backend:?}: {output}");
    }
}

#[test]
fn fork_bombs_meet_eagain_and_end_with_their_last_process() {
    let bomb = "bomb() { bomb | bomb & }; bomb; sleep 3; kill -KILL -1";
    let as_user = "setpriv --reuid 1000 --regid 1000 --clear-groups";
    for backend in Backend::ALL {
        for limit in ["ulimit -u 200", "true"] {
            let script = format!(
                "{NEIGHBOUR}{as_user} bash -c '{limit}; {bomb}' 2>/dev/null; sleep 1\nls /proc | grep -c '^[0-9]'; {NEIGHBOUR_LIVES}"
            );
            let (ran, _) = in_guest_with(Linux::hostfs(backend).arg("mem=1G"), &script);
            assert!(
                ran.output.contains("neighbour lived"),
                "{backend:?} {limit}: {}",
                ran.output
            );
        }
    }
}

#[test]
fn the_largest_process_is_killed_when_memory_is_used_up_and_the_shell_lives_on() {
    for backend in Backend::ALL {
        let (output, console) = in_company(backend, "greedy memory", &["mem=128M"]);
        assert!(output.contains("status 137"), "{backend:?}: {output}");
        assert!(
            console.contains("Out of memory: Killed process"),
            "{backend:?}: {console}"
        );
        assert!(console.contains("(greedy) total-vm:"), "{backend:?}: {console}");
    }
}

#[test]
fn a_hundred_thousand_open_files_are_no_more_than_that() {
    for backend in Backend::ALL {
        let (output, _) = in_company(backend, "greedy files", &[]);
        for part in ["files: EMFILE, all", "pipes: EMFILE", "after: forks"] {
            assert!(output.contains(part), "{backend:?}: {output}");
        }
    }
}

#[test]
fn deep_recursion_huge_arguments_and_endless_paths_end_as_on_the_host() {
    for thing in ["recursion", "arguments", "paths"] {
        let command = format!("{}/greedy {thing}", workspace().join("target/guest").display());
        let native = natively(&command);
        for backend in Backend::ALL {
            assert_eq!(
                in_guest(backend, &command).output,
                native.output,
                "{backend:?}: {thing}"
            );
        }
    }
}

#[test]
fn random_system_calls_harm_only_the_caller() {
    for backend in Backend::ALL {
        // The host's tree must not be the guest's to write: it is nobody there. Its programs are copied to where nobody can read them.
        let scratch = Scratch::new();
        let program = scratch.path().join("fuzz");
        std::fs::copy(workspace().join("target/guest/fuzz"), &program).expect("cargo xtask guests");
        let linux = Linux::hostfs(backend)
            .user(65534)
            .guard(std::time::Duration::from_secs(600));
        let script = format!(
            "mkdir /dev/fuzz && mount -t tmpfs tmpfs /dev/fuzz && cd /dev/fuzz\n{NEIGHBOUR}{} 7 30; {NEIGHBOUR_LIVES}",
            program.display()
        );
        let (ran, outcome) = in_guest_with(linux, &script);
        assert!(
            ran.output.contains("survived"),
            "{backend:?}: {}{}",
            ran.output,
            outcome.console()
        );
        assert!(ran.output.contains("neighbour lived"), "{backend:?}: {}", ran.output);
    }
}
