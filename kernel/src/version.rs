//! Who we are: what `uname(2)`, /proc/version, the boot message and `linux --version` say.

/// The release: the Linux whose interface we follow, and whose port we are.
pub const RELEASE: &str = "6.12.0-um";
/// The version line of `uname -v`: fixed, so that builds are reproducible.
pub const VERSION: &str = "#1 SMP PREEMPT User Mode Linux in Rust";
/// The machine of `uname -m`.
pub const MACHINE: &str = "x86_64";
