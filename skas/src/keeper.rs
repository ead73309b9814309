//! The keeper: a host thread that buries the dead and forks spaces ahead of need, so that no guest waits for either.
//!
//! It sleeps until somebody leaves it work ([`call`]): a killed stub to reap ([`reaper`]), a taken space to replace ([`zygote`]). Neither is
//! needed for progress: who finds the pool empty forks for himself. With ptrace there is no keeper, for only the tracer's thread may do
//! these things: they are done where they come up.

use std::sync::{Condvar, Mutex, OnceLock};

use crate::machine::machine;
use crate::{Backend, host, reaper, zygote};

struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

static BELL: Bell = Bell {
    rung: Mutex::new(false),
    changed: Condvar::new(),
};

/// Whether the thread could be started.
static STARTED: OnceLock<bool> = OnceLock::new();

/// There is something to do. False when nobody but the caller will do it.
pub(crate) fn call() -> bool {
    if machine().backend == Backend::Ptrace || !*STARTED.get_or_init(start) {
        return false;
    }
    let mut rung = BELL.rung.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if !*rung {
        *rung = true;
        drop(rung);
        BELL.changed.notify_one();
    }
    true
}

fn start() -> bool {
    std::thread::Builder::new()
        .name("skas-keeper".into())
        .stack_size(128 << 10)
        .spawn(keep)
        .is_ok()
}

fn keep() {
    // The thread that called us first may be bound to one CPU.
    host::set_affinity(0, &machine().host_cpus);
    loop {
        let mut rung = BELL.rung.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        while !*rung {
            rung = BELL.changed.wait(rung).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        *rung = false;
        drop(rung);
        reaper::reap();
        while !zygote::refill_pool() {}
        reaper::reap_all();
    }
}
