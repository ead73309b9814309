//! Where requests run, so that neither a vCPU nor the I/O thread ever waits for the host's disk: on the host thread pool, or, for disks that are one
//! host file byte by byte, through a [`ring`]. What the host has in memory is read at once, by the caller, and short writes into its memory are
//! made at once while it takes them so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arch_um::host::image::{Cached, Image};
use arch_um::host::ring::{ImageRing, why_not};
use kernel::block::{Bio, BioFlags, Op};

use crate::driver::Served;
use crate::ring;
use crate::spec::Flags;

/// A read ahead up to so many bytes is quicker done than handed over; with more the copy is for another processor.
pub const SHORT: u64 = 64 << 10;
/// A write up to so many bytes is quicker done than handed over.
const SHORT_WRITE: u64 = 32 << 10;

/// What carries out a disk's requests.
#[derive(Clone, Default)]
pub enum Engine {
    /// The host thread pool, by calls of the disk's store.
    #[default]
    Pool,
    /// An `io_uring`.
    Ring(Arc<ImageRing>),
}

impl Engine {
    /// A ring for `image`, if the flags ask for one and the host gives one.
    pub fn choose(image: Option<Arc<Image>>, flags: Flags) -> Self {
        let Some(image) = image.filter(|_| flags.contains(Flags::IO_URING)) else {
            return Self::Pool;
        };
        match ImageRing::new(image) {
            Ok(ring) => Self::Ring(ring),
            Err(errno) => {
                static TOLD: AtomicBool = AtomicBool::new(false);
                if !TOLD.swap(true, Ordering::Relaxed) {
                    log::warn!(
                        "ubd: no io_uring, {}: disks are served by the thread pool",
                        why_not(errno)
                    );
                }
                Self::Pool
            }
        }
    }
}

/// Takes a request; it completes before this returns or on another host thread.
pub fn submit(disk: Arc<Served>, mut bio: Bio) {
    let inline = !bio.flags.contains(BioFlags::AHEAD) || bio.len <= SHORT;
    if bio.op == Op::Read && inline && disk.read_cached(&mut bio) == Cached::Yes {
        bio.complete(Ok(()));
        return;
    }
    if bio.op == Op::Write && bio.len <= SHORT_WRITE && disk.writes_at_once(bio.flags) {
        let outcome = disk.promptness().watch(|| disk.carry_out(&mut bio));
        bio.complete(outcome);
        return;
    }
    match disk.engine() {
        Engine::Ring(ring) => ring::submit(ring, disk, bio),
        Engine::Pool => submit_to_pool(disk, bio),
    }
}

/// Has a request carried out by calls on a pool thread.
pub fn submit_to_pool(disk: Arc<Served>, mut bio: Bio) {
    submit_job(Box::new(move || {
        let outcome = disk.carry_out(&mut bio);
        bio.complete(outcome);
    }));
}

/// Takes work that blocks and that nobody waits for.
pub fn submit_job(job: Box<dyn FnOnce() + Send>) {
    arch_um::pool::submit(job);
}
