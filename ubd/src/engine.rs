//! Where requests run: on the host thread pool, so that neither a vCPU nor the I/O thread ever waits for the host's disk. What the host has in
//! memory is read at once, by the caller.
//!
//! This is the seam for other engines: whatever takes a request and the disk it is for, and completes it later, can stand here.

use std::sync::Arc;

use arch_um::host::image::Cached;
use kernel::block::{Bio, Op};

use crate::driver::Served;

/// Takes a request; it completes before this returns or on another host thread.
pub fn submit(disk: Arc<Served>, mut bio: Bio) {
    if bio.op == Op::Read && disk.read_cached(&mut bio) == Cached::Yes {
        bio.complete(Ok(()));
        return;
    }
    submit_job(Box::new(move || {
        let outcome = disk.carry_out(&mut bio);
        bio.complete(outcome);
    }));
}

/// Takes work that blocks and that nobody waits for.
pub fn submit_job(job: Box<dyn FnOnce() + Send>) {
    arch_um::pool::submit(job);
}
