//! `machine --run measure`: what a switch costs. Not a test.

use crate::boot;
use arch_um::cpu::{self, CpuMask, Kick};
use arch_um::sync::{Interruptible, Mutex, SpinLock, WaitQueue, order};
use arch_um::thread::{self, ThreadRef};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

struct NoKick;

impl Kick for NoKick {
    fn kick(&self) {}
}

fn per(n: u32, what: &str, f: impl FnOnce()) {
    let start = Instant::now();
    f();
    println!("{what}: {:.1} ns", start.elapsed().as_nanos() as f64 / f64::from(n));
}

/// Two threads take turns through wait queues, as readers and writers of two pipes do, with a visit to user code in between.
fn turns(n: u32, wake: fn(&WaitQueue)) {
    let table: Arc<(WaitQueue, WaitQueue, AtomicU32)> = Arc::default();
    let theirs = table.clone();
    let wait = |queue: &WaitQueue, turn: &AtomicU32, want: u32| {
        let mine = queue.wait_until(Interruptible::Yes, None, || {
            (turn.load(Ordering::SeqCst) == want).then_some(())
        });
        assert!(mine.is_ok());
        let kick: Arc<dyn Kick> = Arc::new(NoKick);
        while cpu::enter_user(&kick, || ()).is_none() {
            cpu::cond_resched();
        }
    };
    let pong = move || {
        for round in 0..n {
            wait(&theirs.1, &theirs.2, 2 * round + 1);
            theirs.2.store(2 * round + 2, Ordering::SeqCst);
            wake(&theirs.0);
        }
    };
    let other = thread::spawn("pong", Box::new(pong)).expect("memory");
    for round in 0..n {
        table.2.store(2 * round + 1, Ordering::SeqCst);
        wake(&table.1);
        wait(&table.0, &table.2, 2 * round + 2);
    }
    other.join();
}

fn ping_pong(n: u32, a: CpuMask, b: CpuMask) {
    let ball = Arc::new(AtomicU32::new(0));
    let main = thread::current();
    main.set_affinity(a).expect("exists");
    let (theirs, back) = (ball.clone(), main.clone());
    let other: ThreadRef = thread::spawn(
        "pong",
        Box::new(move || {
            thread::current().set_affinity(b).expect("exists");
            for round in 0..n {
                while theirs.load(Ordering::Acquire) != 2 * round + 1 {
                    thread::park();
                }
                theirs.store(2 * round + 2, Ordering::Release);
                back.unpark();
            }
        }),
    )
    .expect("memory");
    for round in 0..n {
        ball.store(2 * round + 1, Ordering::Release);
        other.unpark();
        while ball.load(Ordering::Acquire) != 2 * round + 2 {
            thread::park();
        }
    }
    other.join();
    main.set_affinity(CpuMask::ALL).expect("exists");
}

pub fn run() -> ! {
    let ncpus = std::env::var("NCPUS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    boot(ncpus, move || {
        const N: u32 = 300_000;
        per(2 * N, "park/unpark switch, one CPU", || {
            ping_pong(N, CpuMask(1), CpuMask(1))
        });
        if ncpus > 1 {
            per(40_000, "park/unpark wake, two CPUs", || {
                ping_pong(20_000, CpuMask(1), CpuMask(2))
            });
        }
        per(40_000, "wait queue turn, wake", || turns(20_000, |q| q.wake_one()));
        per(40_000, "wait queue turn, wake_sync", || {
            turns(20_000, |q| assert!(q.wake_sync(1, 0) < 2))
        });
        per(N, "yield_now alone", || (0..N).for_each(|_| thread::yield_now()));
        per(N, "thread::current", || (0..N).for_each(|_| drop(thread::current())));
        per(N, "thread::with_current", || {
            (0..N).for_each(|_| {
                std::hint::black_box(thread::with_current(|t| t.map_or(0, |t| t.id())));
            });
        });
        let kick: Arc<dyn Kick> = Arc::new(NoKick);
        per(N, "enter_user", || {
            (0..N).for_each(|_| assert!(cpu::enter_user(&kick, || ()).is_some()))
        });
        let spin = SpinLock::new(&order::LEAF, 0u32);
        per(N, "SpinLock", || (0..N).for_each(|_| *spin.lock() += 1));
        let mutex = Mutex::new(&order::LEAF, 0u32);
        per(N, "Mutex", || (0..N).for_each(|_| *mutex.lock() += 1));
        let queue = WaitQueue::new();
        per(N, "wake_all without waiters", || (0..N).for_each(|_| queue.wake_all()));
        let now = arch_um::time::Instant::now();
        let _first = queue.wait_until(Interruptible::No, Some(now), || None::<()>);
        per(N, "wake_all, queue used before", || {
            (0..N).for_each(|_| queue.wake_all())
        });
        per(20_000, "spawn and join", || {
            for _ in 0..20_000 {
                thread::spawn("t", Box::new(|| ())).expect("memory").join();
            }
        });
        per(2000, "pool::run", || (0..2000).for_each(|_| arch_um::pool::run(|| ())));
        per(200, "sleep 50 us, late by (incl. 50000)", || {
            for _ in 0..200 {
                thread::sleep_until(arch_um::time::Instant::now() + core::time::Duration::from_micros(50));
            }
        });
    })
}
