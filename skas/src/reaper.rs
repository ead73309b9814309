//! The dead: host processes that were killed and not yet reaped, and the regions they leave for reuse.

use std::sync::{Arc, Mutex};

use crate::core::Core;
use crate::machine::machine;
use crate::region::Region;
use crate::{Backend, host, trace};

static DEAD: Mutex<Vec<(i32, Vec<Arc<Core>>)>> = Mutex::new(Vec::new());
static REGIONS: Mutex<Vec<Region>> = Mutex::new(Vec::new());

/// How many regions are kept for reuse.
const KEEP: usize = 32;

/// Takes over a killed process: reaps it now or later, without waiting.
pub(crate) fn bury(pid: i32, cores: Vec<Arc<Core>>) {
    let mut dead = DEAD.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    dead.push((pid, cores));
    sweep(&mut dead);
}

/// Reaps whoever has ended meanwhile.
pub(crate) fn reap() {
    sweep(&mut DEAD.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
}

fn sweep(dead: &mut Vec<(i32, Vec<Arc<Core>>)>) {
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
}

/// A region that no process maps any more, if there is one.
pub(crate) fn spare_region() -> Option<Region> {
    REGIONS.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop()
}
