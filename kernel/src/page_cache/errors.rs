//! Errors of write-back, each told once to each open file (`fsync(2)`), as Linux's `errseq_t` does.

use core::sync::atomic::{AtomicU64, Ordering};

use arch_um::sync::{SpinLock, order};

use super::PageCache;
use crate::{Errno, Result};

/// The errors of a cache.
pub(super) struct Errors(SpinLock<Last>);

struct Last {
    /// How many there were.
    count: u64,
    /// The last one.
    error: Option<Errno>,
    /// Somebody has been told of it.
    told: bool,
}

impl Default for Errors {
    fn default() -> Self {
        Self(SpinLock::new(
            &order::LEAF,
            Last {
                count: 0,
                error: None,
                told: true,
            },
        ))
    }
}

impl Errors {
    pub fn record(&self, error: Errno) {
        let mut last = self.0.lock();
        last.count += 1;
        last.error = Some(error);
        last.told = false;
    }
}

/// Which errors an open file has been told of.
#[derive(Debug, Default)]
pub struct ErrorCursor(AtomicU64);

impl ErrorCursor {
    /// For a file opened now. An error nobody has been told of is this one's too.
    pub fn new(cache: Option<&PageCache>) -> Self {
        let seen = cache.map_or(0, |cache| {
            let last = cache.errors.0.lock();
            last.count - u64::from(!last.told)
        });
        Self(AtomicU64::new(seen))
    }
}

impl PageCache {
    /// The last error of a write-back, unless `cursor` was told of it; now it is.
    ///
    /// # Errors
    /// That one.
    pub fn take_error(&self, cursor: &ErrorCursor) -> Result<()> {
        let mut last = self.errors.0.lock();
        let seen = cursor.0.swap(last.count, Ordering::Relaxed);
        if seen >= last.count {
            return Ok(());
        }
        last.told = true;
        last.error.map_or(Ok(()), Err)
    }

    /// Whether there was an error nobody has been told of.
    pub fn has_untold_error(&self) -> bool {
        !self.errors.0.lock().told
    }
}
