//! Where requests run: on the host thread pool, so that neither a vCPU nor the I/O thread ever waits for the host's disk. What the host has in
//! memory is read at once, by the caller.
//!
//! This is the seam for other engines: whatever takes a request and the disk it is for, and completes it later, can stand here.

use std::sync::Arc;

use arch_um::host::image::Cached;
use kernel::block::{Bio, BioFlags, Op};

use crate::driver::Served;

/// A read ahead up to so many bytes is quicker done than handed over; with more the copy is for another processor.
const SHORT: u64 = 64 << 10;

/// Takes a request; it completes before this returns or on another host thread.
pub fn submit(disk: Arc<Served>, mut bio: Bio) {
    let inline = !bio.flags.contains(BioFlags::AHEAD) || bio.len <= SHORT;
    if bio.op == Op::Read && inline && disk.read_cached(&mut bio) == Cached::Yes {
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
