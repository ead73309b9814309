//! Integration tests: `tests/tests/*.rs` drive guests through `harness`; `tests/guest/*.c` are programs that run in them.

pub mod disk_files;
