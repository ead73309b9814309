//! `BLKPG`: partitions told to the kernel one by one, as `partprobe(8)`, `parted(8)` and `partx(8)` do.

use super::SECTOR;
use super::device::BlockDevice;
use super::ioctl::{admin, whole};
use super::partition::Partition;
use crate::syscall::Context;
use crate::user::UserPtr;
use crate::{Errno, Result};

const ADD_PARTITION: i32 = 1;
const DEL_PARTITION: i32 = 2;
const RESIZE_PARTITION: i32 = 3;

/// `struct blkpg_ioctl_arg` is four words; the last is the address of the partition.
const DATA_AT: u64 = 16;

/// The request at `arg`, on `device`.
///
/// # Errors
/// `EFAULT`; `EACCES` for all but the administrator; `EINVAL` for an unknown operation, a partition instead of the disk, a number below 1, bytes that are no
/// whole sectors or not on the disk; `EBUSY` for a number or a place that is taken, or that is open; `ENXIO` for a partition that is not there.
pub fn request(device: &BlockDevice, cx: &Context, arg: u64) -> Result<()> {
    let operation: i32 = UserPtr::new(arg).read()?;
    let data: u64 = UserPtr::new(arg.wrapping_add(DATA_AT)).read()?;
    admin(cx)?;
    // struct blkpg_partition: start, length, number, names that nobody reads.
    let [start, len]: [i64; 2] = UserPtr::new(data).read()?;
    let number: i32 = UserPtr::new(data.wrapping_add(16)).read()?;
    whole(device)?;
    let disk = device.disk();
    let number = u32::try_from(number)
        .ok()
        .filter(|&number| number > 0)
        .ok_or(Errno::EINVAL)?;
    let wanted = || {
        let (start, len) = (
            u64::try_from(start).map_err(|_| Errno::EINVAL)?,
            u64::try_from(len).map_err(|_| Errno::EINVAL)?,
        );
        let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
        if len == 0 || !start.is_multiple_of(SECTOR) || !len.is_multiple_of(SECTOR) || end > disk.len() {
            return Err(Errno::EINVAL);
        }
        Ok(Partition::at(number, start, len))
    };
    match operation {
        ADD_PARTITION => {
            let wanted = wanted()?;
            disk.change_partitions(|list| add(list, wanted))
        }
        DEL_PARTITION if disk.users().is_open(number) => Err(Errno::EBUSY),
        DEL_PARTITION => disk.change_partitions(|list| remove(list, number)),
        RESIZE_PARTITION => {
            let wanted = wanted()?;
            disk.change_partitions(|list| resize(list, wanted))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Whether two partitions have a byte in common. An extended one is only its first sectors, and holds the logical ones behind them.
fn overlap(a: &Partition, b: &Partition) -> bool {
    a.start < b.start + b.len && b.start < a.start + a.len
}

fn add(list: &mut alloc::vec::Vec<Partition>, wanted: Partition) -> Result<()> {
    if list
        .iter()
        .any(|held| held.number == wanted.number || overlap(held, &wanted))
    {
        return Err(Errno::EBUSY);
    }
    list.push(wanted);
    list.sort_unstable_by_key(|held| held.number);
    Ok(())
}

fn remove(list: &mut alloc::vec::Vec<Partition>, number: u32) -> Result<()> {
    let at = list.iter().position(|held| held.number == number).ok_or(Errno::ENXIO)?;
    list.remove(at);
    Ok(())
}

fn resize(list: &mut [Partition], wanted: Partition) -> Result<()> {
    let at = list
        .iter()
        .position(|held| held.number == wanted.number)
        .ok_or(Errno::ENXIO)?;
    if list[at].start != wanted.start {
        return Err(Errno::EINVAL);
    }
    if list
        .iter()
        .any(|held| held.number != wanted.number && overlap(held, &wanted))
    {
        return Err(Errno::EBUSY);
    }
    list[at].len = wanted.len;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: u32, start: u64, len: u64) -> Partition {
        Partition::at(number, start, len)
    }

    #[test]
    fn partitions_never_share_a_byte_or_a_number() {
        let mut list = alloc::vec![partition(1, 0, 1024)];
        assert_eq!(add(&mut list, partition(1, 4096, 512)), Err(Errno::EBUSY));
        assert_eq!(add(&mut list, partition(2, 512, 1024)), Err(Errno::EBUSY));
        assert_eq!(add(&mut list, partition(2, 1024, 1024)), Ok(()));
        assert_eq!(resize(&mut list, partition(1, 0, 1536)), Err(Errno::EBUSY));
        assert_eq!(resize(&mut list, partition(1, 512, 512)), Err(Errno::EINVAL));
        assert_eq!(remove(&mut list, 2), Ok(()));
        assert_eq!(remove(&mut list, 2), Err(Errno::ENXIO));
        assert_eq!(resize(&mut list, partition(1, 0, 1536)), Ok(()));
        assert_eq!(list, [partition(1, 0, 1536)]);
    }
}
