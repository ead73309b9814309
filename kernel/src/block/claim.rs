//! Who uses a disk: open files, and exclusive claims (`O_EXCL` on a device file, mounts, loop devices over it).
//!
//! As on Linux a claim keeps other claims away, never plain opens: a whole disk cannot be claimed while one of its partitions is, nor the other way
//! round; two partitions do not disturb each other.
//!
//! Lock order: `Users::table` ([`order::BLOCK_DEVICE`]), taken alone.

use alloc::collections::BTreeMap;

use arch_um::sync::{SpinLock, order};

use super::device::BlockDevice;
use crate::{Errno, Result};

/// How a device is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Next to everybody.
    Shared,
    /// The only one of this kind: file systems, `O_EXCL`.
    Exclusive,
}

/// The users of one disk and its partitions (number 0 is the disk).
pub struct Users {
    table: SpinLock<Table>,
}

#[derive(Default)]
struct Table {
    uses: BTreeMap<u32, Use>,
    /// The disk is leaving: nobody comes in any more.
    gone: bool,
}

#[derive(Clone, Copy, Default)]
struct Use {
    opens: u32,
    claimed: bool,
}

impl Default for Users {
    fn default() -> Self {
        Self {
            table: SpinLock::new(&order::BLOCK_DEVICE, Table::default()),
        }
    }
}

impl Users {
    /// Counts an opening of `number`. `EBUSY` when its claim cannot be had, `ENXIO` when the disk is leaving.
    pub(super) fn enter(&self, number: u32, claim: Claim) -> Result<()> {
        let mut table = self.table.lock();
        if table.gone {
            return Err(Errno::ENXIO);
        }
        let table = &mut table.uses;
        if claim == Claim::Exclusive {
            let disturbs =
                |(&other, held): (&u32, &Use)| held.claimed && (other == number || other == 0 || number == 0);
            if table.iter().any(disturbs) {
                return Err(Errno::EBUSY);
            }
        }
        let entry = table.entry(number).or_default();
        entry.opens += 1;
        entry.claimed |= claim == Claim::Exclusive;
        Ok(())
    }

    /// Takes back what [`enter`](Self::enter) gave.
    pub(super) fn leave(&self, number: u32, claim: Claim) -> Left {
        let table = &mut self.table.lock().uses;
        if let Some(entry) = table.get_mut(&number) {
            entry.opens -= 1;
            entry.claimed &= claim == Claim::Shared;
            if entry.opens == 0 {
                table.remove(&number);
            }
        }
        if table.is_empty() { Left::Nobody } else { Left::Others }
    }

    /// Lets nobody in any more. `EBUSY` while somebody is in.
    pub(super) fn retire(&self) -> Result<()> {
        let mut table = self.table.lock();
        if !table.uses.is_empty() {
            return Err(Errno::EBUSY);
        }
        table.gone = true;
        Ok(())
    }

    /// Takes [`retire`](Self::retire) back.
    pub(super) fn readmit(&self) {
        self.table.lock().gone = false;
    }

    /// How many openings there are of the disk and all partitions.
    pub fn count(&self) -> u32 {
        self.table.lock().uses.values().map(|held| held.opens).sum()
    }

    /// Whether `number` or what shares its bytes is claimed.
    pub fn is_claimed(&self, number: u32) -> bool {
        let table = self.table.lock();
        table
            .uses
            .iter()
            .any(|(&other, held)| held.claimed && (other == number || other == 0 || number == 0))
    }

    /// Whether anybody but `device` itself has claimed the disk or a partition.
    pub(super) fn is_claimed_beside(&self, device: &BlockDevice) -> bool {
        let own = device.claim() == Claim::Exclusive;
        let table = self.table.lock();
        table
            .uses
            .iter()
            .any(|(&number, held)| held.claimed && !(own && number == device.number()))
    }

    /// Whether partition `number` is open.
    pub(super) fn is_open(&self, number: u32) -> bool {
        self.table.lock().uses.contains_key(&number)
    }

    /// Whether any partition is open.
    pub(super) fn partitions_are_open(&self) -> bool {
        self.table.lock().uses.keys().any(|&number| number > 0)
    }
}

/// Who is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// That was the last one.
    Nobody,
    /// Others have it open.
    Others,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_and_its_partitions_exclude_each_other_but_partitions_do_not() {
        let users = Users::default();
        assert_eq!(users.enter(1, Claim::Exclusive), Ok(()));
        assert_eq!(users.enter(1, Claim::Exclusive), Err(Errno::EBUSY));
        assert_eq!(users.enter(0, Claim::Exclusive), Err(Errno::EBUSY));
        assert_eq!(users.enter(0, Claim::Shared), Ok(()));
        assert_eq!(users.enter(2, Claim::Exclusive), Ok(()));
        assert_eq!(users.leave(1, Claim::Exclusive), Left::Others);
        assert_eq!(users.leave(2, Claim::Exclusive), Left::Others);
        assert_eq!(users.enter(0, Claim::Exclusive), Ok(()));
        assert_eq!(users.enter(1, Claim::Exclusive), Err(Errno::EBUSY));
        assert_eq!(users.leave(0, Claim::Shared), Left::Others);
        assert_eq!(users.retire(), Err(Errno::EBUSY));
        assert_eq!(users.leave(0, Claim::Exclusive), Left::Nobody);
        assert_eq!(users.enter(1, Claim::Exclusive), Ok(()));
        assert_eq!(users.leave(1, Claim::Exclusive), Left::Nobody);
        assert_eq!(users.retire(), Ok(()));
        assert_eq!(users.enter(1, Claim::Shared), Err(Errno::ENXIO));
    }
}
