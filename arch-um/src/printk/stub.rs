//! Counters of features that are left out, so that `dmesg` tells a user what he ran into.

use crate::sync::raw::RawLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A feature left out, with the number of times a guest asked for it. Made by [`stub!`](crate::stub).
#[derive(Debug)]
pub struct Stub {
    what: &'static str,
    hits: AtomicU64,
}

static HIT: RawLock<Vec<&'static Stub>> = RawLock::new(Vec::new());

impl Stub {
    #[doc(hidden)]
    pub const fn new(what: &'static str) -> Stub {
        Stub {
            what,
            hits: AtomicU64::new(0),
        }
    }
}

/// Counts a hit; the first one is logged.
pub fn stub_hit(stub: &'static Stub) {
    if stub.hits.fetch_add(1, Ordering::Relaxed) == 0 {
        HIT.lock().push(stub);
        let comm = crate::thread::with_current(|t| t.map(|t| t.name())).unwrap_or_default();
        crate::pr_info!("{} is not implemented (asked for by \"{comm}\")", stub.what);
    }
}

/// All features hit so far with their counts; a feature with several call sites appears once for each.
pub fn stubs() -> Vec<(&'static str, u64)> {
    HIT.lock()
        .iter()
        .map(|stub| (stub.what, stub.hits.load(Ordering::Relaxed)))
        .collect()
}
