//! Locks, wait queues, and the lock checker.

use crate::{PASS, Status, Want, boot, tests};
use arch_um::sync::{Interruptible, LockClass, Mutex, RwLock, SpinLock, WaitError, WaitQueue, Wake, order};
use arch_um::thread;
use arch_um::time::{Duration, Instant};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

const PANIC: Status = Status::Signal(6);

tests! {
    a_mutex_excludes_and_loses_nobody => PASS;
    a_mutex_waiter_gets_its_turn_from_a_greedy_holder => PASS;
    an_interrupted_mutex_waiter_gives_up => PASS;
    readers_share_and_writers_exclude => PASS;
    a_writer_does_not_starve => PASS;
    spin_locks_exclude_across_cpus_and_host_threads => PASS;
    wait_queues_lose_no_wake_up => PASS;
    exclusive_waiters_are_woken_one_by_one_in_order => PASS;
    a_wake_up_that_meets_a_quitter_goes_on => PASS;
    waits_time_out => PASS;
    keys_reach_only_matching_registrations => PASS;
    a_registration_may_outlive_its_queue => PASS;
    host_threads_may_use_sleeping_locks => PASS;
    wrong_lock_order_is_detected =>
        Want { status: PANIC, output: &["lockdep: MM (rank 300) taken under FD_TABLE (rank 480): wrong order"] };
    sleeping_under_a_spin_lock_is_detected =>
        Want { status: PANIC, output: &["lockdep: sleeping with spin lock LEAF held"] };
    a_sleeping_lock_under_a_spin_lock_is_detected =>
        Want { status: PANIC, output: &["lockdep: sleeping lock INODE taken under spin lock PIPE"] };
    taking_a_lock_twice_is_detected =>
        Want { status: PANIC, output: &["lockdep: LEAF is taken again by its holder"] };
    nesting_one_class_needs_a_word => PASS;
}

fn spawn(f: impl FnOnce() + Send + 'static) -> thread::ThreadRef {
    thread::spawn("t", Box::new(f)).expect("memory for a stack")
}

fn pause_us(us: u64) {
    thread::sleep_until(Instant::now() + Duration::from_micros(us));
}

fn a_mutex_excludes_and_loses_nobody() {
    static SUM: Mutex<u64> = Mutex::new(&order::INODE, 0);
    boot(4, || {
        let threads: Vec<_> = (0..12)
            .map(|i| {
                spawn(move || {
                    for round in 0..2000 {
                        let mut sum = SUM.lock();
                        let old = *sum;
                        if (round + i) % 64 == 0 {
                            thread::yield_now();
                        }
                        *sum = old + 1;
                    }
                })
            })
            .collect();
        threads.iter().for_each(|t| t.join());
        assert_eq!(*SUM.lock(), 24_000);
    })
}

fn a_mutex_waiter_gets_its_turn_from_a_greedy_holder() {
    static LOCK: Mutex<()> = Mutex::new(&order::INODE, ());
    boot(2, || {
        let turns = Arc::new(AtomicUsize::new(0));
        let theirs = turns.clone();
        let waiter = spawn(move || {
            for _ in 0..50 {
                let _held = LOCK.lock();
                theirs.fetch_add(1, Ordering::SeqCst);
            }
        });
        let mut rounds = 0u64;
        while turns.load(Ordering::SeqCst) < 50 {
            let held = LOCK.lock();
            thread::yield_now();
            drop(held);
            rounds += 1;
            assert!(
                rounds < 2_000_000,
                "the waiter starves: {} turns",
                turns.load(Ordering::SeqCst)
            );
        }
        waiter.join();
    })
}

fn an_interrupted_mutex_waiter_gives_up() {
    static LOCK: Mutex<()> = Mutex::new(&order::INODE, ());
    boot(2, || {
        let held = LOCK.lock();
        let t = spawn(|| {
            assert!(matches!(LOCK.lock_interruptible(), Err(WaitError::Interrupted)));
        });
        while t.state_letter() != 'S' {
            pause_us(100);
        }
        t.interrupt();
        t.join();
        drop(held);
        let _free = LOCK.lock();
    })
}

fn readers_share_and_writers_exclude() {
    static LOCK: RwLock<(u64, u64)> = RwLock::new(&order::MM, (0, 0));
    static READERS: AtomicUsize = AtomicUsize::new(0);
    static INSIDE: AtomicUsize = AtomicUsize::new(0);
    boot(4, || {
        // Each waits inside for the others: without sharing this hangs.
        let meeting: Vec<_> = (0..3)
            .map(|_| {
                spawn(|| {
                    let _pair = LOCK.read();
                    INSIDE.fetch_add(1, Ordering::SeqCst);
                    while INSIDE.load(Ordering::SeqCst) < 3 {
                        thread::yield_now();
                    }
                })
            })
            .collect();
        meeting.iter().for_each(|t| t.join());
        let readers = (0..6).map(|_| {
            spawn(|| {
                for _ in 0..1000 {
                    let pair = LOCK.read();
                    READERS.fetch_add(1, Ordering::SeqCst);
                    thread::yield_now();
                    assert_eq!(pair.0, pair.1);
                    READERS.fetch_sub(1, Ordering::SeqCst);
                }
            })
        });
        let writers = (0..3).map(|_| {
            spawn(|| {
                for _ in 0..500 {
                    let mut pair = LOCK.write();
                    assert_eq!(READERS.load(Ordering::SeqCst), 0);
                    pair.0 += 1;
                    thread::yield_now();
                    pair.1 += 1;
                }
            })
        });
        let threads: Vec<_> = readers.chain(writers).collect();
        threads.iter().for_each(|t| t.join());
        assert_eq!(*LOCK.read(), (1500, 1500));
        let pair = LOCK.write().downgrade();
        assert!(LOCK.try_read().is_some() && LOCK.try_write().is_none());
        drop(pair);
        assert!(LOCK.try_write().is_some());
    })
}

fn a_writer_does_not_starve() {
    static LOCK: RwLock<()> = RwLock::new(&order::MM, ());
    static STOP: AtomicU32 = AtomicU32::new(0);
    boot(2, || {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                spawn(|| {
                    while STOP.load(Ordering::SeqCst) == 0 {
                        let _read = LOCK.read();
                        thread::yield_now();
                    }
                })
            })
            .collect();
        for _ in 0..100 {
            drop(LOCK.write());
            thread::yield_now();
        }
        STOP.store(1, Ordering::SeqCst);
        readers.iter().for_each(|t| t.join());
    })
}

fn spin_locks_exclude_across_cpus_and_host_threads() {
    static SUM: SpinLock<u64> = SpinLock::new(&order::LEAF, 0);
    fn work() {
        for _ in 0..20_000 {
            *SUM.lock() += 1;
        }
    }
    boot(2, || {
        let host = std::thread::spawn(work);
        let threads: Vec<_> = (0..4).map(|_| spawn(work)).collect();
        threads.iter().for_each(|t| t.join());
        arch_um::pool::run(|| host.join().expect("host thread"));
        assert_eq!(*SUM.lock(), 100_000);
    })
}

/// Producers and consumers over a counter; a lost wake-up hangs.
fn wait_queues_lose_no_wake_up() {
    boot(3, || {
        let queue = Arc::new(WaitQueue::new());
        let items = Arc::new(AtomicUsize::new(0));
        let take = |items: &AtomicUsize| {
            items
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .ok()
        };
        let consumers: Vec<_> = (0..6)
            .map(|i| {
                let (queue, items) = (queue.clone(), items.clone());
                spawn(move || {
                    for _ in 0..2000 {
                        let got = match i % 2 {
                            0 => queue.wait_until_exclusive(Interruptible::No, None, || take(&items)),
                            _ => queue.wait_until_exclusive(
                                Interruptible::Yes,
                                Some(Instant::now() + Duration::from_secs(50)),
                                || take(&items),
                            ),
                        };
                        assert!(got.is_ok());
                    }
                })
            })
            .collect();
        let producers: Vec<_> = (0..3)
            .map(|_| {
                let (queue, items) = (queue.clone(), items.clone());
                spawn(move || {
                    for round in 0..4000 {
                        items.fetch_add(1, Ordering::SeqCst);
                        queue.wake_one();
                        if round % 7 == 0 {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        producers.iter().chain(&consumers).for_each(|t| t.join());
        assert_eq!(items.load(Ordering::SeqCst), 0);
        assert!(!queue.has_waiters());
    })
}

fn exclusive_waiters_are_woken_one_by_one_in_order() {
    static ORDER: SpinLock<Vec<u32>> = SpinLock::new(&order::LEAF, Vec::new());
    static TURN: AtomicU32 = AtomicU32::new(0);
    boot(1, || {
        let queue = Arc::new(WaitQueue::new());
        let threads: Vec<_> = (0..5)
            .map(|i| {
                let queue = queue.clone();
                let mut looks = 0;
                spawn(move || {
                    let woken = queue.wait_until_exclusive(Interruptible::No, None, || {
                        looks += 1;
                        (looks > 2).then_some(())
                    });
                    assert!(woken.is_ok());
                    ORDER.lock().push(i);
                    TURN.fetch_add(1, Ordering::SeqCst);
                })
            })
            .collect();
        thread::yield_now();
        for turn in 1..=5 {
            assert_eq!(queue.wake(1, 0), 1);
            pause_us(200);
            assert_eq!(TURN.load(Ordering::SeqCst), turn);
        }
        threads.iter().for_each(|t| t.join());
        assert_eq!(*ORDER.lock(), [0, 1, 2, 3, 4]);
        assert_eq!(queue.wake(1, 0), 0);
    })
}

fn a_wake_up_that_meets_a_quitter_goes_on() {
    boot(2, || {
        for _ in 0..500 {
            let queue = Arc::new(WaitQueue::new());
            let token = Arc::new(AtomicUsize::new(0));
            let waiter = |how| {
                let (queue, token) = (queue.clone(), token.clone());
                spawn(move || {
                    let _maybe = queue.wait_until_exclusive(how, None, || {
                        token.compare_exchange(1, 0, Ordering::SeqCst, Ordering::SeqCst).ok()
                    });
                })
            };
            let quitter = waiter(Interruptible::Yes);
            let stayer = waiter(Interruptible::No);
            let interrupter = quitter.clone();
            let i = spawn(move || interrupter.interrupt());
            token.store(1, Ordering::SeqCst);
            queue.wake_one();
            i.join();
            quitter.join();
            // If the quitter took the token, the other needs one of its own.
            if token.load(Ordering::SeqCst) == 0 && !stayer.is_dead() {
                token.store(1, Ordering::SeqCst);
                queue.wake_one();
            }
            stayer.join();
        }
    })
}

fn waits_time_out() {
    boot(1, || {
        let queue = WaitQueue::new();
        let start = Instant::now();
        let deadline = start + Duration::from_millis(20);
        let result = queue.wait_until(Interruptible::No, Some(deadline), || None::<()>);
        assert_eq!(result, Err(WaitError::TimedOut));
        assert!(Instant::now() >= deadline);
        assert_eq!(queue.wait_until(Interruptible::Yes, Some(start), || Some(7)), Ok(7));
        let e: arch_um::Errno = WaitError::TimedOut.into();
        assert_eq!(e, arch_um::Errno::ETIMEDOUT);
    })
}

#[derive(Default)]
struct Count(AtomicU32);

impl Wake for Count {
    fn wake(&self, _key: u32) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn keys_reach_only_matching_registrations() {
    let queue = WaitQueue::new();
    let (r, w, all) = (
        Arc::new(Count::default()),
        Arc::new(Count::default()),
        Arc::new(Count::default()),
    );
    let _r = queue.register(1, r.clone());
    let w_registration = queue.register(4, w.clone());
    let _all = queue.register(0, all.clone());
    queue.wake_key(1);
    queue.wake_key(4 | 8);
    queue.wake_all();
    drop(w_registration);
    queue.wake_key(4);
    let get = |c: &Count| c.0.load(Ordering::SeqCst);
    assert_eq!((get(&r), get(&w), get(&all)), (2, 2, 4));
}

fn a_registration_may_outlive_its_queue() {
    let queue = WaitQueue::new();
    let registration = queue.register(0, Arc::new(Count::default()));
    drop(queue);
    drop(registration);
}

fn host_threads_may_use_sleeping_locks() {
    static LOCK: Mutex<u32> = Mutex::new(&order::INODE, 0);
    boot(2, || {
        let hosts: Vec<_> = (0..3)
            .map(|_| {
                std::thread::spawn(|| {
                    for _ in 0..1000 {
                        *LOCK.lock() += 1;
                    }
                })
            })
            .collect();
        for _ in 0..1000 {
            *LOCK.lock() += 1;
            thread::yield_now();
        }
        arch_um::pool::run(|| hosts.into_iter().for_each(|h| h.join().expect("host thread")));
        assert_eq!(*LOCK.lock(), 4000);
    })
}

fn wrong_lock_order_is_detected() {
    boot(1, || {
        let files = Mutex::new(&order::FD_TABLE, ());
        let mm = Mutex::new(&order::MM, ());
        let _inner = files.lock();
        let _outer = mm.lock();
    })
}

fn sleeping_under_a_spin_lock_is_detected() {
    boot(1, || {
        let lock = SpinLock::new(&order::LEAF, ());
        let _held = lock.lock();
        thread::park();
    })
}

fn a_sleeping_lock_under_a_spin_lock_is_detected() {
    boot(1, || {
        let pipe = SpinLock::new(&order::PIPE, ());
        let inode = Mutex::new(&order::INODE, ());
        let _held = pipe.lock();
        let _slept = inode.lock();
    })
}

fn taking_a_lock_twice_is_detected() {
    boot(1, || {
        let lock = SpinLock::new(&order::LEAF, ());
        let _one = lock.lock();
        let _two = lock.lock();
    })
}

fn nesting_one_class_needs_a_word() {
    static OWN: LockClass = LockClass::new("OWN", 800);
    boot(1, || {
        let (a, b) = (SpinLock::new(&OWN, ()), SpinLock::new(&OWN, ()));
        let one = a.lock();
        let two = b.lock_nested();
        drop(one);
        drop(two);
        let two = b.lock();
        assert!(a.try_lock().is_some(), "a try is bound to no order");
        drop(two);
    })
}
