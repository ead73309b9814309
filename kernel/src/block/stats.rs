//! Counters of a disk or partition: /proc/diskstats and /sys/block/DISK/stat (Documentation/admin-guide/iostats.rst).
//!
//! Lock order: [`Counters`]' lock is [`order::STATISTICS`], taken alone.

use core::time::Duration;

use arch_um::sync::{SpinLock, order};
use arch_um::time::Instant;

use super::SECTOR;
use super::bio::{Bio, Op};

/// The four groups of /proc/diskstats.
#[derive(Clone, Copy)]
enum Group {
    Read,
    Write,
    Discard,
    Flush,
}

impl Group {
    fn of(op: Op) -> Self {
        match op {
            Op::Read => Self::Read,
            Op::Write | Op::WriteZeroes => Self::Write,
            Op::Discard => Self::Discard,
            Op::Flush => Self::Flush,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Row {
    done: u64,
    merged: u64,
    sectors: u64,
    time: Duration,
}

#[derive(Clone, Copy, Default)]
struct Numbers {
    rows: [Row; 4],
    /// Reads and others under way.
    in_flight: [u64; 2],
    busy: Duration,
    busy_since: Option<Instant>,
}

/// Counters of one disk or partition.
pub struct Counters {
    numbers: SpinLock<Numbers>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            numbers: SpinLock::new(&order::STATISTICS, Numbers::default()),
        }
    }
}

impl Counters {
    /// A request enters the queue.
    pub(super) fn begin(&self, op: Op, now: Instant) {
        let mut numbers = self.numbers.lock();
        if numbers.in_flight == [0, 0] {
            numbers.busy_since = Some(now);
        }
        numbers.in_flight[usize::from(op != Op::Read)] += 1;
    }

    /// `bio` was joined to a request that waits already.
    pub(super) fn merge(&self, op: Op, len: u64) {
        let mut numbers = self.numbers.lock();
        let row = &mut numbers.rows[Group::of(op) as usize];
        row.merged += 1;
        row.sectors += len / SECTOR;
    }

    /// A request that entered at `start` is complete.
    pub(super) fn end(&self, op: Op, len: u64, start: Instant, now: Instant) {
        let mut numbers = self.numbers.lock();
        let row = &mut numbers.rows[Group::of(op) as usize];
        row.done += 1;
        row.sectors += len / SECTOR;
        row.time += now.saturating_duration_since(start);
        let side = &mut numbers.in_flight[usize::from(op != Op::Read)];
        *side = side.saturating_sub(1);
        if numbers.in_flight == [0, 0]
            && let Some(since) = numbers.busy_since.take()
        {
            numbers.busy += now.saturating_duration_since(since);
        }
    }

    /// Reads and writes under way (/sys/block/DISK/inflight).
    pub fn in_flight(&self) -> [u64; 2] {
        self.numbers.lock().in_flight
    }

    /// The seventeen numbers of /proc/diskstats and /sys/block/DISK/stat.
    pub fn fields(&self) -> [u64; 17] {
        let numbers = *self.numbers.lock();
        let busy = numbers
            .busy_since
            .map_or(Duration::ZERO, |since| Instant::now().saturating_duration_since(since))
            + numbers.busy;
        let ms = |time: Duration| time.as_millis() as u64;
        let [read, write, discard, flush] = numbers.rows;
        [
            read.done,
            read.merged,
            read.sectors,
            ms(read.time),
            write.done,
            write.merged,
            write.sectors,
            ms(write.time),
            numbers.in_flight.iter().sum(),
            ms(busy),
            ms(read.time + write.time + discard.time + flush.time),
            discard.done,
            discard.merged,
            discard.sectors,
            ms(discard.time),
            flush.done,
            ms(flush.time),
        ]
    }
}

/// Counts for the disk and for the partition a bio lies in.
pub(super) fn each(disk: &Counters, bio: &Bio, count: impl Fn(&Counters)) {
    count(disk);
    if let Some(partition) = &bio.partition {
        count(partition);
    }
}
