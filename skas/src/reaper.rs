//! The dead: host processes that were killed and not yet reaped, and the regions they leave for reuse.

use std::sync::{Arc, Mutex};

use crate::core::Core;
use crate::machine::machine;
use crate::region::Region;
use crate::{Backend, host, keeper, trace};

static DEAD: Mutex<Vec<(i32, Vec<Arc<Core>>)>> = Mutex::new(Vec::new());
static REGIONS: Mutex<Vec<Region>> = Mutex::new(Vec::new());

/// How many regions are kept for reuse.
const KEEP: usize = 32;

/// Takes over a killed process: it is reaped later, by the keeper if there is one.
pub(crate) fn bury(pid: i32, cores: Vec<Arc<Core>>) {
    let mut dead = DEAD.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    dead.push((pid, cores));
    drop(dead);
    if !keeper::call() {
        reap();
    }
}

/// Reaps whoever has ended meanwhile. True if there was somebody.
pub(crate) fn reap() -> bool {
    sweep(&mut DEAD.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

/// Reaps everybody, waiting for those who take long to die.
pub(crate) fn reap_all() {
    loop {
        reap();
        let first = DEAD
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .first()
            .map(|&(pid, _)| pid);
        match first {
            Some(pid) => host::wait_for_end(pid),
            None => return,
        }
    }
}

fn sweep(dead: &mut Vec<(i32, Vec<Arc<Core>>)>) -> bool {
    let before = dead.len();
    dead.retain_mut(|(pid, cores)| {
        if machine().backend == Backend::Ptrace {
            trace::reap_threads(cores.iter().map(|core| &**core));
        }
        if !host::reap(*pid) {
            return true;
        }
        // Nobody can write to these regions any more.
        let mut regions = REGIONS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for core in cores.drain(..) {
            if regions.len() < KEEP
                && let Some(core) = Arc::into_inner(core)
            {
                regions.push(core.region);
            }
        }
        false
    });
    dead.len() != before
}

/// A region that no process maps any more, if there is one.
pub(crate) fn spare_region() -> Option<Region> {
    REGIONS.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop()
}
