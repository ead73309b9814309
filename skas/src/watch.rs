//! The watch: a host thread that wakes whoever has slept long for a stub, so that he looks whether it still lives.
//!
//! A time limit on each sleep would do the same, but arming and disarming a timer costs a twentieth of a parked system call. So a sleeper only
//! notes where he sleeps, and the watch, which looks ten times a second while anybody sleeps, ends every sleep that it finds.

use std::cell::OnceCell;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::handoff;

/// How often it looks.
const TICK: Duration = Duration::from_millis(100);
/// How often while stubs die unasked: who has lost one may soon lose the next.
const ALARMED_TICK: Duration = Duration::from_millis(4);
/// How many ticks an alarm lasts.
const ALARM: u32 = 10;

/// Ticks left of the alarm.
static ALARMED: AtomicU32 = AtomicU32::new(0);
/// Ticks since the start.
static TICKS: AtomicU64 = AtomicU64::new(0);

/// Where one host thread sleeps: the address of the word, 0 when awake. Only ever handed to the host, which checks it.
type Seat = Arc<AtomicU64>;

/// The seats of all host threads that ever slept for a stub: as many as there are virtual CPUs, and a few.
static SEATS: Mutex<Vec<Seat>> = Mutex::new(Vec::new());

/// The watch has gone to bed: nobody slept.
static RESTS: AtomicBool = AtomicBool::new(false);
static BED: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
/// Whether the thread could be started.
static STARTED: OnceLock<bool> = OnceLock::new();

thread_local! {
    static SEAT: OnceCell<Seat> = const { OnceCell::new() };
}

/// Runs `sleep` as a sleep for `word`, under the watch. False, and no sleep, when there is no watch: the host gave no thread.
///
/// `sleep` must end when somebody wakes the word.
pub(crate) fn under_watch(word: *const u32, sleep: impl FnOnce()) -> bool {
    if !*STARTED.get_or_init(start) {
        return false;
    }
    SEAT.with(|seat| {
        let seat = seat.get_or_init(take_seat);
        // SeqCst pairs with `rest`: either the watch sees us before it rests, or we see that it does.
        seat.store(word as u64, Ordering::SeqCst);
        if RESTS.load(Ordering::SeqCst) {
            rouse();
        }
        sleep();
        seat.store(0, Ordering::Relaxed);
    });
    true
}

/// A stub has died unasked.
pub(crate) fn alarm() {
    ALARMED.store(ALARM, Ordering::Relaxed);
}

/// How many ticks of 100 ms have passed while the watch was up, as the clock for patience: it stands still while the machine does.
pub(crate) fn ticks() -> u64 {
    TICKS.load(Ordering::Relaxed)
}

/// A tick, told by somebody who slept so long without a watch.
pub(crate) fn ticked() {
    TICKS.fetch_add(1, Ordering::Relaxed);
}

fn take_seat() -> Seat {
    let seat = Seat::default();
    SEATS.lock().unwrap_or_else(PoisonError::into_inner).push(seat.clone());
    seat
}

fn rouse() {
    let (bed, bell) = &BED;
    let _guard = bed.lock().unwrap_or_else(PoisonError::into_inner);
    RESTS.store(false, Ordering::SeqCst);
    bell.notify_one();
}

fn start() -> bool {
    std::thread::Builder::new()
        .name("skas-watch".into())
        .stack_size(128 << 10)
        .spawn(keep_watch)
        .is_ok()
}

fn keep_watch() {
    // The thread that started us may be bound to one CPU.
    crate::host::set_affinity(0, &crate::machine::machine().host_cpus);
    let mut slept = Duration::ZERO;
    loop {
        let alarmed = ALARMED.load(Ordering::Relaxed);
        let pause = if alarmed > 0 { ALARMED_TICK } else { TICK };
        std::thread::sleep(pause);
        slept += pause;
        if slept >= TICK {
            slept = Duration::ZERO;
            ticked();
            ALARMED.store(alarmed.saturating_sub(1), Ordering::Relaxed);
        }
        let words = words_slept_on();
        for &word in &words {
            handoff::wake(word as *const u32);
        }
        if words.is_empty() {
            rest();
        }
    }
}

fn words_slept_on() -> Vec<u64> {
    let mut seats = SEATS.lock().unwrap_or_else(PoisonError::into_inner);
    // Of a host thread that has ended only our copy is left.
    seats.retain(|seat| Arc::strong_count(seat) > 1);
    let words = seats.iter().map(|seat| seat.load(Ordering::SeqCst));
    words.filter(|&word| word != 0).collect()
}

/// Until somebody sleeps.
fn rest() {
    let (bed, bell) = &BED;
    let mut guard = bed.lock().unwrap_or_else(PoisonError::into_inner);
    RESTS.store(true, Ordering::SeqCst);
    if !words_slept_on().is_empty() {
        RESTS.store(false, Ordering::SeqCst);
        return;
    }
    while RESTS.load(Ordering::SeqCst) {
        guard = bell.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
}
