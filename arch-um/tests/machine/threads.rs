//! Kernel threads and their scheduler.

use crate::{PASS, boot, tests};
use arch_um::cpu::{self, CpuId, CpuMask, Kick};
use arch_um::sync::{Interruptible, SpinLock, WaitError, WaitQueue, order};
use arch_um::thread;
use arch_um::time::{Duration, Instant};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

tests! {
    threads_run_and_can_be_joined => PASS;
    an_unpark_before_the_park_is_not_lost_and_does_not_add_up => PASS;
    park_and_unpark_storms_lose_nothing_on_four_cpus => PASS;
    many_threads_come_and_go_and_stacks_are_reused => PASS;
    one_cpu_runs_threads_in_the_order_they_became_ready => PASS;
    affinity_keeps_a_thread_on_its_cpu => PASS;
    a_synchronous_wake_up_runs_on_the_wakers_cpu => PASS;
    a_synchronous_waker_that_goes_on_gives_the_thread_away => PASS;
    who_is_started_by_a_sleeper_runs_on_its_cpu_and_lets_it_go_first_when_asked => PASS;
    who_stands_aside_for_one_that_goes_on_is_taken_by_an_idle_cpu => PASS;
    idle_cpus_take_work_from_busy_ones => PASS;
    user_code_is_preempted_by_the_tick_when_others_wait => PASS;
    the_tick_is_off_when_nobody_waits => PASS;
    an_interrupt_ends_user_code_and_interruptible_waits => PASS;
    no_interrupt_is_lost_between_check_and_user_code => PASS;
    nice_threads_get_less => PASS;
    accounting_knows_user_kernel_and_idle_time => PASS;
    local_data_hangs_on_the_thread => PASS;
    floating_point_control_words_belong_to_the_thread => PASS;
}

fn spawn(name: &str, f: impl FnOnce() + Send + 'static) -> thread::ThreadRef {
    thread::spawn(name, Box::new(f)).expect("memory for a stack")
}

fn threads_run_and_can_be_joined() {
    boot(2, || {
        let sum = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..100)
            .map(|i| {
                let sum = sum.clone();
                spawn(&format!("t{i}"), move || {
                    sum.fetch_add(i, Ordering::Relaxed);
                })
            })
            .collect();
        threads.iter().for_each(|t| t.join());
        assert_eq!(sum.load(Ordering::Relaxed), 4950);
        assert!(threads.iter().all(|t| t.is_dead() && t.state_letter() == 'X'));
        // The last one may be dead and still on its way out. Only the main thread stays.
        while thread::list().len() > 1 {
            thread::sleep_until(Instant::now() + Duration::from_micros(200));
        }
    })
}

fn an_unpark_before_the_park_is_not_lost_and_does_not_add_up() {
    boot(1, || {
        let me = thread::current();
        me.unpark();
        me.unpark();
        thread::park();
        let waker = me.clone();
        let unparked = Arc::new(AtomicBool::new(false));
        let flag = unparked.clone();
        spawn("waker", move || {
            flag.store(true, Ordering::SeqCst);
            waker.unpark();
        });
        thread::park();
        assert!(unparked.load(Ordering::SeqCst), "the second token was none");
    })
}

fn storm(pairs: usize, rounds: u32) {
    let threads: Vec<_> = (0..pairs)
        .map(|_| {
            let ball = Arc::new(AtomicU32::new(0));
            let theirs = ball.clone();
            let me: Arc<std::sync::OnceLock<thread::ThreadRef>> = Arc::default();
            let first = me.clone();
            let a = spawn("ping", move || {
                let other = loop {
                    match first.get() {
                        Some(other) => break other.clone(),
                        None => thread::yield_now(),
                    }
                };
                for round in 0..rounds {
                    ball.store(2 * round + 1, Ordering::Release);
                    other.unpark();
                    while ball.load(Ordering::Acquire) != 2 * round + 2 {
                        thread::park();
                    }
                }
            });
            let back = a.clone();
            let b = spawn("pong", move || {
                for round in 0..rounds {
                    while theirs.load(Ordering::Acquire) != 2 * round + 1 {
                        thread::park();
                    }
                    theirs.store(2 * round + 2, Ordering::Release);
                    back.unpark();
                }
            });
            assert!(me.set(b.clone()).is_ok());
            [a, b]
        })
        .collect();
    threads.iter().flatten().for_each(|t| t.join());
}

fn park_and_unpark_storms_lose_nothing_on_four_cpus() {
    boot(4, || storm(8, 3000))
}

fn many_threads_come_and_go_and_stacks_are_reused() {
    boot(3, || {
        let count = Arc::new(AtomicUsize::new(0));
        for _ in 0..100 {
            let batch: Vec<_> = (0..50)
                .map(|_| {
                    let count = count.clone();
                    spawn("short", move || {
                        thread::yield_now();
                        count.fetch_add(1, Ordering::Relaxed);
                    })
                })
                .collect();
            batch.iter().for_each(|t| t.join());
        }
        assert_eq!(count.load(Ordering::Relaxed), 5000);
        let maps = std::fs::read_to_string("/proc/self/maps").expect("proc");
        assert!(
            maps.lines().count() < 400,
            "stacks pile up: {} mappings",
            maps.lines().count()
        );
    })
}

fn one_cpu_runs_threads_in_the_order_they_became_ready() {
    static ORDER: SpinLock<Vec<u32>> = SpinLock::new(&order::LEAF, Vec::new());
    boot(1, || {
        let threads: Vec<_> = (0..10)
            .map(|i| {
                spawn("t", move || {
                    ORDER.lock().push(i);
                    thread::yield_now();
                    ORDER.lock().push(100 + i);
                })
            })
            .collect();
        threads.iter().for_each(|t| t.join());
        let want: Vec<u32> = (0..10).chain(100..110).collect();
        assert_eq!(*ORDER.lock(), want);
    })
}

fn affinity_keeps_a_thread_on_its_cpu() {
    boot(3, || {
        let me = thread::current();
        assert!(me.set_affinity(CpuMask(1 << 40)).is_err());
        for round in 0..60u32 {
            let cpu = CpuId(round % 3);
            me.set_affinity(CpuMask(1 << cpu.0)).expect("a CPU that exists");
            assert_eq!(cpu::current(), cpu);
            thread::yield_now();
            thread::sleep_until(Instant::now() + Duration::from_micros(50));
            assert_eq!(cpu::current(), cpu);
        }
    })
}

/// Parks a new thread; returns it when it sleeps.
fn sleeper(f: impl FnOnce() + Send + 'static) -> thread::ThreadRef {
    let t = spawn("sleeper", move || {
        thread::park();
        f();
    });
    while t.switches().0 == 0 || t.is_running() {
        thread::sleep_until(Instant::now() + Duration::from_micros(200));
    }
    t
}

fn a_synchronous_wake_up_runs_on_the_wakers_cpu() {
    boot(2, || {
        let me = thread::current();
        let mut stayed = 0;
        for _ in 0..200 {
            let at = Arc::new(AtomicU32::new(99));
            let (seen, waker) = (at.clone(), me.clone());
            let t = sleeper(move || {
                seen.store(cpu::current().0, Ordering::SeqCst);
                waker.unpark();
            });
            let here = cpu::current();
            t.unpark_sync();
            while at.load(Ordering::SeqCst) == 99 {
                thread::park();
            }
            stayed += u32::from(at.load(Ordering::SeqCst) == here.0);
            t.join();
        }
        // An idle CPU that looks around at that moment may take it.
        assert!(stayed > 100, "{stayed} of 200");
    })
}

fn a_synchronous_waker_that_goes_on_gives_the_thread_away() {
    boot(2, || {
        let kick: Arc<dyn Kick> = Arc::new(Loop::default());
        for _ in 0..20 {
            let ran = Arc::new(AtomicBool::new(false));
            let flag = ran.clone();
            let t = sleeper(move || flag.store(true, Ordering::SeqCst));
            t.unpark_sync();
            // Never sleeps, never yields: only the other CPU can run it.
            while !ran.load(Ordering::SeqCst) {
                cpu::enter_user(&kick, || ());
            }
            t.join();
        }
    })
}

fn who_is_started_by_a_sleeper_runs_on_its_cpu_and_lets_it_go_first_when_asked() {
    boot(2, || {
        let me = thread::current();
        let (mut stayed, mut first) = (0, 0);
        for _ in 0..200 {
            let woken = Arc::new(AtomicBool::new(false));
            let report = Arc::new(AtomicU32::new(99));
            let (seen, told, waker) = (woken.clone(), report.clone(), me.clone());
            let t = thread::create("child", {
                Box::new(move || {
                    let here = cpu::current().0;
                    waker.unpark_sync();
                    thread::stand_aside();
                    let went_first = u32::from(seen.load(Ordering::SeqCst));
                    told.store(here << 1 | went_first, Ordering::SeqCst);
                })
            })
            .unwrap();
            let here = cpu::current();
            t.start_sync();
            thread::park();
            woken.store(true, Ordering::SeqCst);
            t.join();
            let told = report.load(Ordering::SeqCst);
            stayed += u32::from(told >> 1 == here.0);
            first += told & 1;
        }
        // An idle CPU that looks around at that moment may take one of the two.
        assert!(stayed > 100 && first > 100, "{stayed} and {first} of 200");
    })
}

fn who_stands_aside_for_one_that_goes_on_is_taken_by_an_idle_cpu() {
    boot(2, || {
        let me = thread::current();
        let kick: Arc<dyn Kick> = Arc::new(Loop::default());
        for _ in 0..20 {
            let ran = Arc::new(AtomicBool::new(false));
            let (flag, waker) = (ran.clone(), me.clone());
            let t = spawn("child", move || {
                waker.unpark_sync();
                thread::stand_aside();
                flag.store(true, Ordering::SeqCst);
            });
            thread::park();
            // Never sleeps, never yields.
            while !ran.load(Ordering::SeqCst) {
                cpu::enter_user(&kick, || ());
            }
            t.join();
        }
    })
}

fn idle_cpus_take_work_from_busy_ones() {
    boot(2, || {
        let seen = Arc::new(AtomicUsize::new(0));
        let start = Instant::now();
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let seen = seen.clone();
                spawn("busy", move || {
                    let end = Instant::now() + Duration::from_millis(5);
                    while Instant::now() < end {
                        seen.fetch_or(1 << cpu::current().0, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        threads.iter().for_each(|t| t.join());
        assert_eq!(
            seen.load(Ordering::Relaxed),
            3,
            "both CPUs worked (took {:?})",
            start.elapsed()
        );
    })
}

/// User code: spins until kicked.
#[derive(Default)]
struct Loop {
    kicked: AtomicBool,
}

impl Kick for Loop {
    fn kick(&self) {
        self.kicked.store(true, Ordering::SeqCst);
    }
}

impl Loop {
    fn run(&self) {
        while !self.kicked.load(Ordering::SeqCst) {
            std::hint::spin_loop();
        }
        self.kicked.store(false, Ordering::SeqCst);
    }
}

fn user_code_is_preempted_by_the_tick_when_others_wait() {
    boot(1, || {
        let done = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let done = done.clone();
                spawn("user", move || {
                    let user = Arc::new(Loop::default());
                    let kick: Arc<dyn Kick> = user.clone();
                    for _ in 0..5 {
                        while cpu::enter_user(&kick, || user.run()).is_none() {
                            cpu::cond_resched();
                        }
                        cpu::cond_resched();
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                    // The last one has nobody to be preempted for: let it go.
                    thread::list()
                        .iter()
                        .filter(|t| t.name() == "user")
                        .for_each(|t| t.interrupt());
                })
            })
            .collect();
        // The last to finish spins in user code alone: interrupts end its runs.
        while done.load(Ordering::SeqCst) < 3 {
            for t in &threads {
                if done.load(Ordering::SeqCst) > 0 {
                    t.clear_interrupt();
                    t.interrupt();
                    t.clear_interrupt();
                }
            }
            thread::sleep_until(Instant::now() + Duration::from_millis(1));
        }
        assert!(arch_um::sched::ticks() > 0);
        assert!(threads.iter().any(|t| t.switches().1 > 0));
    })
}

fn the_tick_is_off_when_nobody_waits() {
    boot(1, || {
        thread::sleep_until(Instant::now() + Duration::from_millis(30));
        let before = arch_um::sched::ticks();
        thread::sleep_until(Instant::now() + Duration::from_millis(200));
        assert!(arch_um::sched::ticks() - before <= 1);
    })
}

fn an_interrupt_ends_user_code_and_interruptible_waits() {
    boot(2, || {
        let queue = Arc::new(WaitQueue::new());
        let theirs = queue.clone();
        let ended = Arc::new(AtomicBool::new(false));
        let flag = ended.clone();
        let t = spawn("sleeper", move || {
            let result = theirs.wait_until(Interruptible::Yes, None, || None::<()>);
            assert_eq!(result, Err(WaitError::Interrupted));
            let me = thread::current();
            assert!(me.interrupted());
            let user = Arc::new(Loop::default());
            let kick: Arc<dyn Kick> = user.clone();
            assert!(
                cpu::enter_user(&kick, || user.run()).is_none(),
                "an interrupt is pending"
            );
            me.clear_interrupt();
            while cpu::enter_user(&kick, || user.run()).is_none() {
                cpu::cond_resched();
                me.clear_interrupt();
            }
            flag.store(true, Ordering::SeqCst);
        });
        while t.state_letter() != 'S' {
            thread::sleep_until(Instant::now() + Duration::from_millis(1));
        }
        // Uninterruptible waits go on.
        while !ended.load(Ordering::SeqCst) {
            t.interrupt();
            thread::sleep_until(Instant::now() + Duration::from_millis(1));
        }
        t.join();
    })
}

fn no_interrupt_is_lost_between_check_and_user_code() {
    boot(2, || {
        let turn = Arc::new(AtomicU32::new(0));
        let theirs = turn.clone();
        let user_thread = spawn("user", move || {
            let me = thread::current();
            let user = Arc::new(Loop::default());
            let kick: Arc<dyn Kick> = user.clone();
            for round in 1..=5000 {
                // Each round must end by the interrupt of that round, or hang.
                loop {
                    cpu::enter_user(&kick, || user.run());
                    cpu::cond_resched();
                    if me.interrupted() {
                        break;
                    }
                }
                me.clear_interrupt();
                theirs.store(round, Ordering::SeqCst);
            }
        });
        for round in 0..5000 {
            while turn.load(Ordering::SeqCst) != round {
                std::hint::spin_loop();
                cpu::cond_resched();
                if round % 16 == 0 {
                    thread::yield_now();
                }
            }
            user_thread.interrupt();
        }
        user_thread.join();
    })
}

fn nice_threads_get_less() {
    boot(1, || {
        let stop = Arc::new(AtomicBool::new(false));
        let work = |nice: i32| {
            let stop = stop.clone();
            let t = spawn("worker", move || {
                while !stop.load(Ordering::Relaxed) {
                    cpu::cond_resched();
                }
            });
            t.set_nice(nice);
            t
        };
        let (normal, nice) = (work(0), work(10));
        thread::sleep_until(Instant::now() + Duration::from_millis(600));
        stop.store(true, Ordering::Relaxed);
        normal.join();
        nice.join();
        let ratio = normal.runtime_ns() as f64 / nice.runtime_ns() as f64;
        // By weight 9.3; ticks are coarse.
        assert!((4.0..25.0).contains(&ratio), "ratio {ratio}");
    })
}

fn accounting_knows_user_kernel_and_idle_time() {
    boot(1, || {
        let ms = Duration::from_millis(20);
        let spin = move || {
            let end = Instant::now() + ms;
            while Instant::now() < end {}
        };
        let before = cpu::stats(CpuId(0));
        let kick: Arc<dyn Kick> = Arc::new(Loop::default());
        assert!(cpu::enter_user(&kick, spin).is_some());
        spin();
        thread::sleep_until(Instant::now() + ms);
        let after = cpu::stats(CpuId(0));
        for (name, spent) in [
            ("user", after.user_ns - before.user_ns),
            ("system", after.system_ns - before.system_ns),
            ("idle", after.idle_ns - before.idle_ns),
        ] {
            assert!(spent >= 18_000_000, "{name}: {spent} ns");
        }
        let me = thread::current();
        assert!(me.user_ns() >= 18_000_000 && me.runtime_ns() >= 36_000_000);
        assert!(after.switches > before.switches);
    })
}

fn local_data_hangs_on_the_thread() {
    boot(1, || {
        let t = spawn("t", || {
            thread::with_current(|t| {
                let local = t.and_then(|t| t.local()).expect("set before the start");
                assert_eq!(local.downcast_ref::<u32>(), Some(&42));
            });
        });
        assert!(t.set_local(Arc::new(42u32)).is_ok());
        assert!(t.set_local(Arc::new(43u32)).is_err());
        t.join();
    })
}

fn floating_point_control_words_belong_to_the_thread() {
    #[allow(deprecated)]
    fn rounding() -> u32 {
        // SAFETY: reads the control word.
        unsafe { std::arch::x86_64::_mm_getcsr() & 0x6000 }
    }
    boot(1, || {
        let t = spawn("rounds up", || {
            // SAFETY: changes the rounding of this thread only; nothing here computes.
            #[allow(deprecated)]
            unsafe {
                std::arch::x86_64::_mm_setcsr(0x1f80 | 0x4000)
            };
            thread::yield_now();
            assert_eq!(rounding(), 0x4000);
        });
        thread::yield_now();
        assert_eq!(rounding(), 0);
        t.join();
    })
}
