//! What the host's kernel told this process about the processor (`getauxval(3)`): guests run on the same one.

/// `AT_HWCAP`: the first word of the processor's features (CPUID 1, edx).
pub fn hwcap() -> u64 {
    value(libc::AT_HWCAP)
}

/// `AT_HWCAP2`: what the kernel lets user code use, such as the `fsgsbase` instructions.
pub fn hwcap2() -> u64 {
    value(libc::AT_HWCAP2)
}

/// `AT_MINSIGSTKSZ`: bytes that a signal frame takes with all vector state; 2048 where the host does not say.
pub fn min_signal_stack() -> u64 {
    match value(libc::AT_MINSIGSTKSZ) {
        0 => 2048,
        bytes => bytes,
    }
}

fn value(key: libc::c_ulong) -> u64 {
    // SAFETY: reads a table that the host's kernel put on our stack; no key is invalid.
    unsafe { libc::getauxval(key) }
}
