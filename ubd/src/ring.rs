//! Requests of a disk through an [`ImageRing`], and back to the pool with those that the ring does not do.

use std::mem;
use std::sync::Arc;

use arch_um::Errno;
use arch_um::host::image::Durability;
use arch_um::host::ring::{Failure, ImageRing, Place, Request};
use kernel::block::{Bio, BioFlags, Op};

use crate::driver::Served;
use crate::engine::{SHORT, submit_to_pool};

/// Takes a request; it completes before this returns, on the I/O thread or on a pool thread.
pub fn submit(ring: Arc<ImageRing>, disk: Arc<Served>, mut bio: Bio) {
    let request = match bio.op {
        // Refused, or done by hand.
        Op::Discard if !disk.discards() => return submit_to_pool(disk, bio),
        Op::WriteZeroes if !disk.zeroes() => return submit_to_pool(disk, bio),
        Op::Read => Request::Read(mem::take(&mut bio.data)),
        Op::Write if bio.flags.contains(BioFlags::FUA) => Request::Write(mem::take(&mut bio.data), Durability::Stable),
        Op::Write => Request::Write(mem::take(&mut bio.data), Durability::Cached),
        Op::Flush => Request::Flush,
        Op::Discard => Request::PunchHole(bio.len),
        Op::WriteZeroes => Request::WriteZeroes(bio.len),
    };
    let place = if bio.len > SHORT { Place::Elsewhere } else { Place::Here };
    let offset = bio.offset;
    let done = move |data, outcome| {
        bio.data = data;
        finish(disk, bio, outcome);
    };
    ring.submit(request, offset, place, Box::new(done));
}

fn finish(disk: Arc<Served>, bio: Bio, outcome: Result<(), Failure>) {
    let outcome = match outcome {
        Ok(()) => Ok(()),
        Err(Failure::Refused) => return submit_to_pool(disk, bio),
        // The host's file system cannot: the pool finds out too, and writes zeros from then on.
        Err(Failure::Host(Errno::EOPNOTSUPP)) if bio.op == Op::WriteZeroes => return submit_to_pool(disk, bio),
        Err(Failure::Host(errno)) => Err(errno),
    };
    disk.look_at(&bio, outcome);
    bio.complete(outcome);
}
