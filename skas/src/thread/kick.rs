//! [`Kicker`]: how others interrupt a guest thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::{handoff, host};

pub(super) struct KickState {
    /// Host process and thread; `None` once the guest thread is gone.
    pub(super) target: Mutex<Option<(i32, i32)>>,
    pub(super) running: AtomicBool,
    pub(super) pending: AtomicBool,
}

/// Interrupts a [`UserThread`]. Harmless after the thread is gone.
#[derive(Clone)]
pub struct Kicker {
    pub(super) state: Arc<KickState>,
}

impl Kicker {
    /// A `run()` in progress, or the next one, ends with `Exit::Interrupted` soon (or with another exit that came first).
    pub fn kick(&self) {
        self.state.pending.store(true, Ordering::SeqCst);
        if self.state.running.load(Ordering::SeqCst) {
            let target = self
                .state
                .target
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            if let Some((pid, tid)) = *target {
                let _ = host::tgkill(pid, tid, handoff::KICK);
            }
        }
    }
}
