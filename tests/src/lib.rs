//! Integration tests: `tests/tests/*.rs` drive guests through `harness`; `tests/guest/*.c` are programs that run in them.

pub mod disk_files;

/// The words before a command that runs it under a filter which answers these calls of the host with `errno`, as containers and sandboxes do.
pub fn denied(errno: i32, calls: &[i64]) -> [String; 3] {
    let numbers: Vec<String> = calls.iter().map(i64::to_string).collect();
    let deny = harness::workspace().join("target/guest/deny").display().to_string();
    [deny, errno.to_string(), numbers.join(",")]
}
