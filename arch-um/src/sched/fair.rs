//! The default policy: weighted fair queueing.
//!
//! Each CPU has a queue ordered by virtual runtime: time on a CPU divided by the weight of the nice value. The thread that had least runs
//! next. A sleeper comes back a little ahead of the queue ([`CREDIT`]) and preempts who is more than [`GRANULARITY`] ahead of it. An
//! idle CPU takes the first thread it may run from the next CPU that has one. With one CPU the order depends on the order of events only.

use super::{Enqueue, Preempt, SchedPolicy};
use crate::cpu::{CpuId, CpuMask, MAX_CPUS};
use crate::sync::raw::RawLock;
use crate::thread::{Thread, ThreadRef};
use std::cmp::Ordering as Order;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// How far before the queue a thread that slept may come back, in virtual ns.
const CREDIT: u64 = 3_000_000;
/// How far behind a moved thread may fall.
const DEBT: u64 = 20_000_000;
/// A woken thread preempts only who has had this much more.
const GRANULARITY: u64 = 1_000_000;
/// Virtual time starts here, so that subtracting a credit stays positive.
const START: u64 = 1 << 32;
const NICE_0: u32 = 1024;

pub(super) static FAIR: Fair = Fair {
    queues: [const { Queue::new() }; MAX_CPUS],
};

pub(super) struct Fair {
    queues: [Queue; MAX_CPUS],
}

struct Queue {
    ready: RawLock<Ready>,
    len: AtomicUsize,
    /// Virtual time of the queue: never goes back.
    min: AtomicU64,
    /// The running thread when it was picked.
    running: AtomicU64,
    running_weight: AtomicU32,
}

struct Ready {
    heap: BinaryHeap<Item>,
    seq: u64,
}

struct Item {
    vruntime: u64,
    /// Equal runtimes: first come, first served.
    seq: u64,
    thread: ThreadRef,
}

impl Ord for Item {
    /// The heap's greatest is the next to run.
    fn cmp(&self, other: &Self) -> Order {
        (other.vruntime, other.seq).cmp(&(self.vruntime, self.seq))
    }
}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Order::Equal
    }
}

impl Eq for Item {}

/// Weight of a nice value: each step is a quarter more or less, nice 0 is 1024.
fn weight(nice: i32) -> u32 {
    let mut weight = u64::from(NICE_0) << 16;
    for _ in 0..nice.unsigned_abs() {
        weight = if nice > 0 { weight * 4 / 5 } else { weight * 5 / 4 };
    }
    (weight >> 16).max(1) as u32
}

fn virtual_ns(ns: u64, weight: u32) -> u64 {
    if weight == NICE_0 {
        ns
    } else {
        ns.saturating_mul(u64::from(NICE_0)) / u64::from(weight)
    }
}

fn weight_of(thread: &Thread) -> u32 {
    match thread.nice() {
        0 => NICE_0,
        nice => weight(nice),
    }
}

impl Queue {
    const fn new() -> Queue {
        Queue {
            ready: RawLock::new(Ready {
                heap: BinaryHeap::new(),
                seq: 0,
            }),
            len: AtomicUsize::new(0),
            min: AtomicU64::new(START),
            running: AtomicU64::new(START),
            running_weight: AtomicU32::new(NICE_0),
        }
    }

    fn picked(&self, item: Item) -> ThreadRef {
        self.min.fetch_max(item.vruntime, Ordering::Relaxed);
        self.running.store(item.vruntime, Ordering::Relaxed);
        self.running_weight.store(weight_of(&item.thread), Ordering::Relaxed);
        item.thread
    }

    /// Virtual runtime of the running thread now.
    fn running_now(&self, ran_ns: u64) -> u64 {
        self.running.load(Ordering::Relaxed) + virtual_ns(ran_ns, self.running_weight.load(Ordering::Relaxed))
    }

    /// The first thread that may move to `to`.
    fn steal(&self, to: CpuId) -> Option<ThreadRef> {
        let mut ready = self.ready.lock();
        let best = ready
            .heap
            .iter()
            .filter(|item| !item.thread.is_running() && item.thread.affinity().contains(to))
            .max()
            .map(|item| item.seq)?;
        let mut items = std::mem::take(&mut ready.heap).into_vec();
        let at = items.iter().position(|item| item.seq == best);
        let item = at.map(|at| items.swap_remove(at));
        ready.heap = items.into();
        self.len.store(ready.heap.len(), Ordering::Relaxed);
        item.map(|item| item.thread)
    }
}

impl Fair {
    fn queue(&self, cpu: CpuId) -> &Queue {
        &self.queues[cpu.0 as usize]
    }

    /// The thread's virtual runtime on `cpu`'s scale, and not too far from its present.
    fn place(&self, cpu: CpuId, thread: &Thread) -> u64 {
        let min = self.queue(cpu).min.load(Ordering::Relaxed);
        let old = thread.vqueue.swap(cpu.0, Ordering::Relaxed);
        let mut vruntime = thread.vruntime.load(Ordering::Relaxed);
        if old != cpu.0 {
            let old_min = self.queues[old as usize].min.load(Ordering::Relaxed);
            vruntime = min.wrapping_add(vruntime.wrapping_sub(old_min));
            // A difference below zero wraps to the far end: both ends are clamped.
            if vruntime.wrapping_sub(min) as i64 > DEBT as i64 {
                vruntime = min + DEBT;
            }
        }
        if (vruntime.wrapping_sub(min) as i64) < -(CREDIT as i64) {
            min - CREDIT
        } else {
            vruntime
        }
    }
}

impl SchedPolicy for Fair {
    fn select_cpu(&self, thread: &Thread, idle: CpuMask) -> CpuId {
        let allowed = CpuMask(thread.affinity().0 & CpuMask::first(crate::cpu::count()).0);
        let last = thread.last_cpu();
        let idle = idle.0 & allowed.0;
        if idle >> last.0 & 1 == 1 {
            last
        } else if idle != 0 {
            CpuId(idle.trailing_zeros())
        } else if allowed.contains(last) || allowed.0 == 0 {
            last
        } else {
            CpuId(allowed.0.trailing_zeros())
        }
    }

    fn enqueue(&self, cpu: CpuId, thread: ThreadRef, why: Enqueue, ran_ns: Option<u64>) -> Preempt {
        let queue = self.queue(cpu);
        let mut vruntime = self.place(cpu, &thread);
        let mut ready = queue.ready.lock();
        if why == Enqueue::Yield {
            // Behind the next one, whatever it had: that is what yielding means.
            vruntime = vruntime.max(ready.heap.peek().map_or(0, |head| head.vruntime));
        } else if matches!(why, Enqueue::Spawn | Enqueue::SpawnSync) {
            vruntime = vruntime.max(queue.min.load(Ordering::Relaxed));
        }
        thread.vruntime.store(vruntime, Ordering::Relaxed);
        let seq = ready.seq;
        ready.seq += 1;
        ready.heap.push(Item { vruntime, seq, thread });
        queue.len.store(ready.heap.len(), Ordering::Relaxed);
        drop(ready);
        match ran_ns {
            Some(ran) if why == Enqueue::Wake && vruntime + GRANULARITY < queue.running_now(ran) => Preempt::Yes,
            _ => Preempt::No,
        }
    }

    fn pick_next(&self, cpu: CpuId) -> Option<ThreadRef> {
        let queue = self.queue(cpu);
        if queue.len.load(Ordering::Relaxed) != 0 || crate::cpu::count() == 1 {
            let mut ready = queue.ready.lock();
            if let Some(item) = ready.heap.pop() {
                queue.len.store(ready.heap.len(), Ordering::Relaxed);
                drop(ready);
                return Some(queue.picked(item));
            }
        }
        let count = crate::cpu::count() as u32;
        (1..count).map(|i| CpuId((cpu.0 + i) % count)).find_map(|other| {
            let from = self.queue(other);
            if from.len.load(Ordering::Relaxed) == 0 {
                return None;
            }
            let thread = from.steal(cpu)?;
            let vruntime = self.place(cpu, &thread);
            thread.vruntime.store(vruntime, Ordering::Relaxed);
            Some(queue.picked(Item {
                vruntime,
                seq: 0,
                thread,
            }))
        })
    }

    fn account(&self, _cpu: CpuId, thread: &Thread, ns: u64) {
        thread
            .vruntime
            .fetch_add(virtual_ns(ns, weight_of(thread)), Ordering::Relaxed);
    }

    fn tick(&self, cpu: CpuId, ran_ns: u64) -> Preempt {
        let queue = self.queue(cpu);
        let now = queue.running_now(ran_ns);
        match queue.ready.lock().heap.peek() {
            Some(head) if head.vruntime < now => Preempt::Yes,
            _ => Preempt::No,
        }
    }

    fn queued(&self, cpu: CpuId) -> usize {
        self.queue(cpu).len.load(Ordering::Relaxed)
    }

    fn set_nice(&self, _thread: &Thread, _nice: i32) {
        // The weight is looked up at each use.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nice_step_is_a_quarter_and_the_ends_differ_by_nearly_six_thousand() {
        assert_eq!(weight(0), 1024);
        assert_eq!(weight(1), 819);
        assert_eq!(weight(-1), 1280);
        assert!(weight(-20) / weight(19) > 5000);
    }
}
