//! Character devices by number (`makedev(3)`, /proc/devices).

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use arch_um::sync::{SpinLock, order};

use crate::syscall::Context;
use crate::vfs::{DevT, FileOps, OpenFlags};
use crate::{Errno, Result};

/// A driver for character devices.
pub trait CharDriver: Send + Sync {
    /// Opens the device with this number. `ENODEV`/`ENXIO` when there is none behind it.
    fn open(&self, cx: &Context, dev: DevT, flags: OpenFlags) -> Result<Arc<dyn FileOps>>;
}

/// A range of numbers and who drives it.
struct Region {
    major: u32,
    minors: Range<u32>,
    name: String,
    driver: Arc<dyn CharDriver>,
}

static REGIONS: SpinLock<Vec<Region>> = SpinLock::new(&order::DEVICE, Vec::new());

/// Gives `minors` of `major` to `driver`. `name` is what /proc/devices shows.
///
/// # Errors
/// `EBUSY` when some of the numbers are taken.
pub fn register_char(major: u32, minors: Range<u32>, name: &str, driver: Arc<dyn CharDriver>) -> Result<()> {
    let mut regions = REGIONS.lock();
    let overlaps =
        |other: &Region| other.major == major && other.minors.start < minors.end && minors.start < other.minors.end;
    if regions.iter().any(overlaps) {
        return Err(Errno::EBUSY);
    }
    regions.push(Region {
        major,
        minors,
        name: name.to_string(),
        driver,
    });
    Ok(())
}

/// Takes the numbers that start at `first` away from their driver. Open files live on.
pub fn unregister_char(first: DevT) {
    let mut regions = REGIONS.lock();
    let found = regions
        .iter()
        .position(|region| region.major == first.major && region.minors.start == first.minor);
    let gone = found.map(|index| regions.swap_remove(index));
    drop(regions);
    drop(gone);
}

/// Opens the character device `dev`: what the VFS does for a device file.
///
/// # Errors
/// `ENXIO` when nobody drives it, and what the driver says.
pub fn open_char(cx: &Context, dev: DevT, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
    let driver = {
        let regions = REGIONS.lock();
        let found = regions
            .iter()
            .find(|region| region.major == dev.major && region.minors.contains(&dev.minor));
        found.ok_or(Errno::ENXIO)?.driver.clone()
    };
    driver.open(cx, dev, flags)
}

/// Majors and names for /proc/devices: by major, one line for each name.
pub fn char_majors() -> Vec<(u32, String)> {
    let mut majors: Vec<(u32, String)> = REGIONS
        .lock()
        .iter()
        .map(|region| (region.major, region.name.clone()))
        .collect();
    majors.sort();
    majors.dedup();
    majors
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;
    impl CharDriver for Nothing {
        fn open(&self, _: &Context, _: DevT, _: OpenFlags) -> Result<Arc<dyn FileOps>> {
            Err(Errno::ENODEV)
        }
    }

    #[test]
    fn two_drivers_cannot_have_the_same_number() {
        register_char(240, 0..8, "one", Arc::new(Nothing)).unwrap();
        assert_eq!(register_char(240, 7..9, "two", Arc::new(Nothing)), Err(Errno::EBUSY));
        register_char(240, 8..9, "two", Arc::new(Nothing)).unwrap();
        let names: Vec<String> = char_majors()
            .into_iter()
            .filter(|(major, _)| *major == 240)
            .map(|(_, name)| name)
            .collect();
        assert_eq!(names, ["one", "two"]);
        unregister_char(DevT::new(240, 0));
        register_char(240, 0..1, "three", Arc::new(Nothing)).unwrap();
    }
}
