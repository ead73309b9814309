//! A hostile guest harms itself alone.

use harness::script::in_guest;
use harness::{Backend, workspace};

#[test]
fn wild_arguments_to_every_system_call_harm_only_the_caller() {
    for backend in Backend::ALL {
        let program = workspace().join("target/guest/hostile").display().to_string();
        let script = format!(
            "(while :; do echo alive; sleep 0.1; done) >/dev/null & \n{program}\nkill $! && echo neighbour lived"
        );
        let ran = in_guest(backend, &script);
        assert!(ran.output.contains("survived"), "{backend:?}: {}", ran.output);
        assert!(ran.output.contains("neighbour lived"), "{backend:?}: {}", ran.output);
    }
}
