//! The I/O thread: descriptors, timers, signals; the pool; the log.

use crate::{PASS, boot, tests};
use arch_um::event::{self, EventHandler, HostSignal, Interest, Ready, Source};
use arch_um::printk;
use arch_um::sync::{Interruptible, SpinLock, WaitQueue, order};
use arch_um::thread;
use arch_um::time::{Duration, Instant, Timer};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

tests! {
    a_pipe_is_reported_while_readable_and_at_hang_up => PASS;
    interest_off_means_silence => PASS;
    regular_files_and_dev_null_are_always_ready => PASS;
    a_handler_is_never_called_after_its_source_is_dropped => PASS;
    one_descriptor_can_have_two_sources => PASS;
    timers_fire_in_order_and_not_early => PASS;
    a_cancelled_timer_does_not_fire => PASS;
    a_timer_can_set_itself_again => PASS;
    sleepers_wake_at_their_deadlines => PASS;
    host_signals_become_events => PASS;
    the_pool_runs_blocking_calls_while_other_threads_go_on => PASS;
    pool_jobs_borrow_from_their_caller => PASS;
    the_log_is_numbered_and_replayed_to_new_consoles => PASS;
    log_readers_are_woken => PASS;
    the_ring_keeps_the_newest_records => PASS;
    log_formats_are_those_of_linux => PASS;
    a_stub_is_logged_once_and_counted => PASS;
}

/// Counts calls, collects what was ready, and wakes the test.
#[derive(Default)]
struct Probe {
    calls: AtomicUsize,
    seen: AtomicU32,
    queue: WaitQueue,
    /// Switched off after this many calls; 0: never.
    limit: usize,
    source: OnceLock<Source>,
}

impl EventHandler for Probe {
    fn ready(&self, ready: Ready) {
        let calls = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        self.seen.fetch_or(ready.bits(), Ordering::SeqCst);
        if self.limit != 0 && calls >= self.limit {
            self.off();
        }
        self.queue.wake_all();
    }
}

impl Probe {
    fn new(limit: usize) -> Arc<Probe> {
        Arc::new(Probe {
            limit,
            ..Probe::default()
        })
    }

    fn watch(self: &Arc<Self>, fd: impl AsFd, interest: Interest) {
        let source = event::register(fd.as_fd(), Interest::empty(), self.clone()).expect("epoll");
        assert!(self.source.set(source).is_ok());
        self.on(interest);
    }

    fn on(&self, interest: Interest) {
        self.source.get().expect("registered").set_interest(interest);
    }

    fn off(&self) {
        self.on(Interest::empty());
    }

    fn wait_for(&self, bits: Ready) {
        let seen = || (self.seen.load(Ordering::SeqCst) & bits.bits() == bits.bits()).then_some(());
        assert!(self.queue.wait_until(Interruptible::No, None, seen).is_ok());
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

fn pause_ms(ms: u64) {
    thread::sleep_until(Instant::now() + Duration::from_millis(ms));
}

fn a_pipe_is_reported_while_readable_and_at_hang_up() {
    boot(1, || {
        let (mut reader, mut writer) = std::io::pipe().expect("pipe");
        let probe = Probe::new(5);
        probe.watch(&reader, Interest::READ);
        pause_ms(5);
        assert_eq!(probe.calls(), 0);
        writer.write_all(b"x").expect("write");
        probe.wait_for(Ready::READ);
        pause_ms(5);
        assert_eq!(probe.calls(), 5, "level-triggered until switched off");
        let mut byte = [0];
        reader.read_exact(&mut byte).expect("read");
        drop(writer);
        probe.on(Interest::READ);
        probe.wait_for(Ready::HANGUP);
    })
}

fn interest_off_means_silence() {
    boot(1, || {
        let (reader, writer) = std::io::pipe().expect("pipe");
        let probe = Probe::new(1);
        probe.watch(&reader, Interest::empty());
        drop(writer);
        pause_ms(10);
        assert_eq!(probe.calls(), 0, "not even hang-up");
        probe.on(Interest::READ);
        probe.wait_for(Ready::HANGUP);
    })
}

fn regular_files_and_dev_null_are_always_ready() {
    boot(1, || {
        for path in ["/dev/null", "/proc/self/exe"] {
            let probe = Probe::new(3);
            probe.watch(File::open(path).expect("open"), Interest::READ);
            probe.wait_for(Ready::READ);
            pause_ms(5);
            assert_eq!(probe.calls(), 3, "{path}");
        }
    })
}

fn a_handler_is_never_called_after_its_source_is_dropped() {
    struct Flagged {
        gone: Arc<AtomicBool>,
    }
    impl EventHandler for Flagged {
        fn ready(&self, _ready: Ready) {
            assert!(!self.gone.load(Ordering::SeqCst), "called after the drop");
        }
    }
    boot(2, || {
        let (reader, mut writer) = std::io::pipe().expect("pipe");
        writer.write_all(b"x").expect("write");
        for round in 0..500 {
            let gone = Arc::new(AtomicBool::new(false));
            let source = event::register(reader.as_fd(), Interest::READ, Arc::new(Flagged { gone: gone.clone() }));
            let source = source.expect("epoll");
            if round % 5 == 0 {
                thread::sleep_until(Instant::now() + Duration::from_micros(100));
            }
            drop(source);
            gone.store(true, Ordering::SeqCst);
        }
    })
}

fn one_descriptor_can_have_two_sources() {
    boot(1, || {
        let (a, _b) = std::os::unix::net::UnixStream::pair().expect("socketpair");
        let (one, two) = (Probe::new(1), Probe::new(1));
        one.watch(&a, Interest::WRITE);
        two.watch(&a, Interest::WRITE);
        one.wait_for(Ready::WRITE);
        two.wait_for(Ready::WRITE);
    })
}

fn timers_fire_in_order_and_not_early() {
    static FIRED: SpinLock<Vec<u64>> = SpinLock::new(&order::LEAF, Vec::new());
    boot(1, || {
        let start = Instant::now();
        let timers: Vec<_> = [7u64, 1, 5, 3, 5, 2]
            .iter()
            .map(|&ms| {
                let at = start + Duration::from_millis(ms);
                let timer = Timer::new(Arc::new(move || {
                    assert!(Instant::now() >= at, "early");
                    FIRED.lock().push(ms);
                }));
                timer.set(at);
                assert_eq!(timer.deadline(), Some(at));
                timer
            })
            .collect();
        pause_ms(20);
        assert_eq!(*FIRED.lock(), [1, 2, 3, 5, 5, 7]);
        assert!(timers.iter().all(|t| t.deadline().is_none() && !t.cancel()));
    })
}

fn a_cancelled_timer_does_not_fire() {
    boot(1, || {
        let fired = Arc::new(AtomicBool::new(false));
        let flag = fired.clone();
        let timer = Timer::new(Arc::new(move || flag.store(true, Ordering::SeqCst)));
        timer.set(Instant::now() + Duration::from_millis(5));
        assert!(timer.cancel());
        assert!(!timer.cancel());
        timer.set(Instant::FAR_FUTURE);
        pause_ms(15);
        assert!(!fired.load(Ordering::SeqCst));
        timer.set(Instant::now());
        pause_ms(10);
        assert!(fired.load(Ordering::SeqCst));
    })
}

fn a_timer_can_set_itself_again() {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    static TIMER: OnceLock<Timer> = OnceLock::new();
    boot(1, || {
        let timer = TIMER.get_or_init(|| {
            Timer::new(Arc::new(|| {
                if COUNT.fetch_add(1, Ordering::SeqCst) < 9 {
                    TIMER
                        .get()
                        .expect("set")
                        .set(Instant::now() + Duration::from_micros(200));
                }
            }))
        });
        timer.set(Instant::now());
        pause_ms(30);
        assert_eq!(COUNT.load(Ordering::SeqCst), 10);
    })
}

fn sleepers_wake_at_their_deadlines() {
    boot(2, || {
        let threads: Vec<_> = (0..50u64)
            .map(|i| {
                let sleep = move || {
                    let deadline = Instant::now() + Duration::from_micros(300 * (i % 7 + 1));
                    thread::sleep_until(deadline);
                    assert!(Instant::now() >= deadline);
                };
                thread::spawn("sleeper", Box::new(sleep)).expect("memory")
            })
            .collect();
        threads.iter().for_each(|t| t.join());
    })
}

fn host_signals_become_events() {
    boot(1, || {
        let queue = Arc::new(WaitQueue::new());
        let count = Arc::new(AtomicU32::new(0));
        let (wake, add) = (queue.clone(), count.clone());
        let handler = move || {
            add.fetch_add(1, Ordering::SeqCst);
            wake.wake_all();
        };
        event::register_signal(HostSignal::Winch, Arc::new(handler)).expect("sigaction");
        // SAFETY: a signal to ourselves that is handled.
        unsafe { libc::kill(libc::getpid(), libc::SIGWINCH) };
        let seen = || (count.load(Ordering::SeqCst) > 0).then_some(());
        assert!(queue.wait_until(Interruptible::No, None, seen).is_ok());
    })
}

fn the_pool_runs_blocking_calls_while_other_threads_go_on() {
    boot(1, || {
        let (mut reader, mut writer) = std::io::pipe().expect("pipe");
        let t = thread::spawn(
            "reader",
            Box::new(move || {
                let byte = arch_um::pool::run(move || {
                    let mut byte = [0];
                    reader.read_exact(&mut byte).map(|()| byte[0])
                });
                assert_eq!(byte.expect("read"), b'x');
            }),
        )
        .expect("memory");
        thread::yield_now();
        pause_ms(5);
        assert_eq!(t.state_letter(), 'D');
        // With the only CPU blocked in read this would hang.
        writer.write_all(b"x").expect("write");
        t.join();
    })
}

fn pool_jobs_borrow_from_their_caller() {
    boot(2, || {
        let threads: Vec<_> = (0..40u64)
            .map(|i| {
                let work = move || {
                    for round in 0..20 {
                        let local = [i, round];
                        let sum = arch_um::pool::run(|| local.iter().sum::<u64>());
                        assert_eq!(sum, i + round);
                    }
                };
                thread::spawn("caller", Box::new(work)).expect("memory")
            })
            .collect();
        threads.iter().for_each(|t| t.join());
        let done = Arc::new(AtomicUsize::new(0));
        for _ in 0..100 {
            let done = done.clone();
            arch_um::pool::submit(Box::new(move || {
                done.fetch_add(1, Ordering::SeqCst);
            }));
        }
        while done.load(Ordering::SeqCst) < 100 {
            pause_ms(1);
        }
        let tasks = std::fs::read_dir("/proc/self/task").expect("proc").count();
        assert!(tasks <= 2 + 1 + 16, "{tasks} host threads");
    })
}

#[derive(Default)]
struct Sink(std::sync::Mutex<String>);

impl printk::Console for Sink {
    fn write(&self, text: &str) {
        self.0.lock().expect("sink").push_str(text);
    }
}

impl Sink {
    fn text(&self) -> String {
        self.0.lock().expect("sink").clone()
    }
}

fn the_log_is_numbered_and_replayed_to_new_consoles() {
    printk::set_timestamps(printk::Timestamps::Off);
    arch_um::pr_info!("one {}", 1);
    arch_um::pr_debug!("not for consoles");
    arch_um::pr_emerg!("two\nlines\n");
    let sink = Arc::new(Sink::default());
    let id = printk::register_console(sink.clone());
    assert_eq!(sink.text(), "one 1\ntwo\nlines\n");
    arch_um::pr_warn!("three");
    printk::set_console_loglevel(4);
    arch_um::pr_warn!("quiet");
    printk::unregister_console(id);
    arch_um::pr_emerg!("nobody");
    assert_eq!(sink.text(), "one 1\ntwo\nlines\nthree\n");
    let seqs: Vec<u64> = (0..printk::next_seq())
        .filter_map(printk::read_from)
        .map(|r| r.seq)
        .collect();
    assert_eq!(seqs, (0..6).collect::<Vec<_>>());
    assert!(printk::read_from(6).is_none());
}

fn log_readers_are_woken() {
    boot(2, || {
        let from = printk::next_seq();
        let reader = thread::spawn(
            "reader",
            Box::new(move || {
                for i in 0..100 {
                    let record = printk::new_records()
                        .wait_until(Interruptible::No, None, || printk::read_from(from + i))
                        .expect("uninterruptible");
                    assert_eq!(*record.text, *format!("line {i}"));
                }
            }),
        )
        .expect("memory");
        for i in 0..100 {
            arch_um::pr_debug!("line {i}");
            thread::yield_now();
        }
        reader.join();
    })
}

fn the_ring_keeps_the_newest_records() {
    printk::set_buffer_size(5000);
    assert_eq!(printk::buffer_size(), 8192);
    for i in 0..1000 {
        arch_um::pr_debug!("record number {i}");
    }
    assert_eq!(printk::next_seq(), 1000);
    let first = printk::first_seq();
    assert!((700..900).contains(&first), "{first}");
    assert_eq!(printk::read_from(0).map(|r| r.seq), Some(first));
    arch_um::pr_debug!("{}", "ä".repeat(3000));
    assert_eq!(printk::read_from(1000).map(|r| r.text.len()), Some(1024));
}

fn log_formats_are_those_of_linux() {
    let record = printk::Record {
        seq: 7,
        level: printk::Level::Warning,
        facility: 1,
        timestamp_ns: 12_345_678_901,
        text: "a\\b\nc".into(),
    };
    assert_eq!(record.to_console(), "[   12.345678] a\\b\n[   12.345678] c\n");
    assert_eq!(record.to_syslog(), "<12>[   12.345678] a\\b\n<12>[   12.345678] c\n");
    assert_eq!(record.to_kmsg(), "12,7,12345678,-;a\\x5cb\\x0ac\n");
}

fn a_stub_is_logged_once_and_counted() {
    for _ in 0..3 {
        arch_um::stub!("io_uring");
    }
    assert_eq!(printk::stubs(), [("io_uring", 3)]);
    assert_eq!(printk::next_seq(), 1);
    assert!(std::io::stdin().as_raw_fd() == 0);
}
