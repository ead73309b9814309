//! Every way out of the process: exit, restart, kernel panic, fatal host signals, termination from outside.

/// Runs `f` on every way out, once, last registered first (restore terminals, remove the umid directory). It may not sleep in the
/// kernel's sense and must cope with locks held by threads that stopped.
pub fn at_exit(f: Box<dyn FnOnce() + Send>) {
    let _ = f;
}

/// Ends the process with `status` (low 8 bits).
pub fn exit(status: i32) -> ! {
    std::process::exit(status & 0xff)
}

/// Runs the hooks and executes the program anew with `argv` (guest reboot). `argv[0]` is looked up in `PATH` if it has no slash.
pub fn restart(argv: &[std::ffi::CString]) -> ! {
    let _ = argv;
    exit(1)
}

/// `Kernel panic - not syncing: <msg>`: prints, runs the hooks, and dies as UML does (status 134).
pub fn kernel_panic(msg: &str) -> ! {
    eprintln!("Kernel panic - not syncing: {msg}");
    std::process::abort()
}

/// Is the process on its way out?
pub fn in_progress() -> bool {
    false
}
