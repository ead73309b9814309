//! A hostile guest harms itself alone.

use harness::script::{in_guest, in_guest_with};
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
