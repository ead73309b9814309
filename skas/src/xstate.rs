//! FP and vector state in a signal frame: the XSAVE image with the software bytes the host puts into it.
//!
//! Legacy area 512 bytes (fcw at 0, mxcsr at 24, software bytes at 464), header 64 bytes (xstate_bv, xcomp_bv), components, then magic 2.

use std::borrow::Cow;

use arch_um::Errno;

use crate::frame::Frame;
use crate::region::Region;

const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
const SOFTWARE: usize = 464;
const HEADER: usize = 512;
const MXCSR: usize = 24;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// Bytes of the image at `at`, magic 2 included.
fn size(region: &Region, at: usize) -> usize {
    let extended = region.get32(at + SOFTWARE + 4) as usize;
    if region.get32(at + SOFTWARE) == MAGIC1 && (HEADER + 64..=region.size() - at).contains(&extended) {
        extended
    } else {
        HEADER
    }
}

/// The image of a stopped thread. Empty when the frame is nonsense.
pub(crate) fn read(region: &Region, frame: Frame) -> Vec<u8> {
    let Some(at) = frame.fpstate(region) else {
        return Vec::new();
    };
    let mut image = vec![0; size(region, at)];
    if region.copy_out(at, &mut image).is_none() {
        return Vec::new();
    }
    image
}

/// Replaces the image. Accepts what [`read`] gave, of this or of another thread, edited. `EINVAL` for a size, a magic number, a header bit
/// or an mxcsr the processor would refuse.
pub(crate) fn write(region: &Region, frame: Frame, image: &[u8]) -> Result<(), Errno> {
    let at = frame.fpstate(region).ok_or(Errno::ESRCH)?;
    let size = size(region, at);
    let mut now = vec![0; size];
    region.copy_out(at, &mut now).ok_or(Errno::ESRCH)?;
    let mut image = completed(image, &now).into_owned();
    check(&image, &now)?;
    if size > HEADER {
        // The description of the image stays the host's.
        image[SOFTWARE..HEADER].copy_from_slice(&now[SOFTWARE..HEADER]);
    }
    region.copy_in(at, &image).ok_or(Errno::ESRCH)
}

/// `image` itself, or, where it has only the legacy part or one of another size, `now` with its legacy part: the other components are
/// initial then (what Linux restores from a frame that another program wrote or copied).
pub(crate) fn completed<'a>(image: &'a [u8], now: &[u8]) -> Cow<'a, [u8]> {
    if now.len() < HEADER + 64 || image.len() < HEADER {
        return Cow::Borrowed(image);
    }
    if image.len() == now.len() {
        // What the processor need not look at must not decide about the host's own way back.
        let mut image = image.to_vec();
        image[HEADER + 16..HEADER + 64].fill(0);
        return Cow::Owned(image);
    }
    const FP_AND_SSE: u64 = 3;
    let mut whole = now.to_vec();
    whole[..SOFTWARE].copy_from_slice(&image[..SOFTWARE]);
    whole[HEADER..HEADER + 64].fill(0);
    whole[HEADER..HEADER + 8].copy_from_slice(&FP_AND_SSE.to_le_bytes());
    Cow::Owned(whole)
}

/// Whether `image` could replace `now`. `EINVAL` if not.
pub(crate) fn check(image: &[u8], now: &[u8]) -> Result<(), Errno> {
    let size = now.len();
    if image.len() != size || u32_at(image, MXCSR) & !mxcsr_mask(now) != 0 {
        return Err(Errno::EINVAL);
    }
    if size > HEADER {
        let features = u64_at(now, SOFTWARE + 8);
        let header_bad =
            u64_at(image, HEADER) & !features != 0 || image[HEADER + 8..HEADER + 64].iter().any(|b| *b != 0);
        if u32_at(image, SOFTWARE) != MAGIC1 || u32_at(image, size - 4) != MAGIC2 || header_bad {
            return Err(Errno::EINVAL);
        }
    }
    Ok(())
}

fn mxcsr_mask(image: &[u8]) -> u32 {
    match u32_at(image, 28) {
        0 => 0xffbf,
        mask => mask,
    }
}

/// The state of a new program: fcw 0x37f, mxcsr 0x1f80, every component initial.
pub(crate) fn reset(region: &Region, frame: Frame) {
    let Some(at) = frame.fpstate(region) else { return };
    let size = size(region, at);
    let mut image = vec![0; size];
    if region.copy_out(at, &mut image).is_none() {
        return;
    }
    let end = if size > HEADER { size - 4 } else { size };
    make_initial(&mut image[..end]);
    let _ = region.copy_in(at, &image);
}

/// Turns an image (without magic 2) into the initial state; mxcsr's mask and the software bytes stay.
pub(crate) fn make_initial(image: &mut [u8]) {
    let mask = u32_at(image, 28);
    image[..SOFTWARE].fill(0);
    image[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
    image[MXCSR..MXCSR + 4].copy_from_slice(&0x1f80u32.to_le_bytes());
    image[28..32].copy_from_slice(&mask.to_le_bytes());
    if image.len() > HEADER {
        image[HEADER..].fill(0);
    }
}
