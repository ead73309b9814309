//! Requests become host I/O on the thread pool, so that neither a vCPU nor the I/O thread ever waits for the host's disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arch_um::Errno;
use arch_um::host::image::Image;
use kernel::block::{Bio, BlockDriver, Op};

use crate::spec::{Flags, Spec};

/// The first bytes of a copy-on-write file, in either byte order.
const COW_MAGIC: [[u8; 4]; 2] = [*b"OOOM", *b"MOOO"];
/// Zeros written at a time where the host cannot make a hole.
const ZEROS: usize = 64 * 1024;

/// Whether `image` begins like a copy-on-write file.
pub fn is_cow(image: &Image) -> bool {
    let mut magic = [0; 4];
    image.read(0, &mut magic).is_ok() && COW_MAGIC.contains(&magic)
}

/// One disk's driver.
pub struct UbdDriver {
    image: Arc<Image>,
    serial: Option<String>,
    /// Cleared when the host turns out not to know holes.
    discards: Arc<AtomicBool>,
}

impl UbdDriver {
    /// A driver over an open image.
    pub fn start(image: Image, spec: &Spec) -> Arc<Self> {
        let discards = !image.is_read_only() && !spec.flags.contains(Flags::NO_TRIM);
        Arc::new(Self {
            image: Arc::new(image),
            serial: spec.serial.clone(),
            discards: Arc::new(AtomicBool::new(discards)),
        })
    }
}

impl BlockDriver for UbdDriver {
    fn submit(&self, mut bio: Bio) {
        let image = self.image.clone();
        let discards = self.discards.clone();
        arch_um::pool::submit(Box::new(move || {
            let outcome = match bio.op {
                Op::Read => image.read(bio.offset, &mut bio.data),
                Op::Write => image.write(bio.offset, &bio.data),
                Op::Flush => image.flush(),
                Op::Discard => discard(&image, &discards, bio.offset, bio.len),
                Op::WriteZeroes => write_zeroes(&image, bio.offset, bio.len),
            };
            if let Err(errno) = outcome {
                log::error!(
                    "ubd: {:?} of {} bytes at {} failed: {errno}",
                    bio.op,
                    bio.len,
                    bio.offset
                );
            }
            bio.complete(outcome);
        }));
    }

    fn can_discard(&self) -> bool {
        self.discards.load(Ordering::Relaxed)
    }

    fn serial(&self) -> Option<String> {
        self.serial.clone()
    }
}

/// Gives the range back to the host. A discard is a hint: without `t`-less support it is `EOPNOTSUPP` once and never offered again.
fn discard(image: &Image, discards: &AtomicBool, offset: u64, len: u64) -> Result<(), Errno> {
    if !discards.load(Ordering::Relaxed) {
        return Err(Errno::EOPNOTSUPP);
    }
    let outcome = image.punch_hole(offset, len);
    if outcome == Err(Errno::EOPNOTSUPP) {
        discards.store(false, Ordering::Relaxed);
    }
    outcome
}

/// Zeros a range, by hand where the host has no call for it.
fn write_zeroes(image: &Image, offset: u64, len: u64) -> Result<(), Errno> {
    match image.write_zeroes(offset, len) {
        Err(Errno::EOPNOTSUPP) => {}
        outcome => return outcome,
    }
    let zeros = vec![0; ZEROS.min(len as usize)];
    let mut done = 0;
    while done < len {
        let count = (len - done).min(ZEROS as u64);
        image.write(offset + done, &zeros[..count as usize])?;
        done += count;
    }
    Ok(())
}
