//! The watch: a host thread that wakes whoever has slept long for a stub, so that he looks whether it still lives.
//!
//! A time limit on each sleep would do the same, but arming and disarming a timer costs a twentieth of a parked system call. So a sleeper only
//! notes where he sleeps ([`Seat`]), and the watch, which ticks while anybody sleeps, makes every sleep of more than a tick end once a tick.

use std::cell::OnceCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::handoff;

/// How often.
const TICK: Duration = Duration::from_millis(100);

/// Where one host thread sleeps.
#[derive(Default)]
struct Seat {
    /// Address of the word, 0 when awake. Only ever handed to the host, which checks it.
    word: AtomicU64,
    /// Counts the sleeps.
    sleeps: AtomicU64,
}

/// The seats of all host threads that ever slept for a stub: as many as there are virtual CPUs, and a few.
static SEATS: Mutex<Vec<Arc<Seat>>> = Mutex::new(Vec::new());

/// The watch has gone to bed: nobody slept.
static RESTS: AtomicBool = AtomicBool::new(false);
static BED: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
/// Whether the thread could be started.
static STARTED: OnceLock<bool> = OnceLock::new();

thread_local! {
    static SEAT: OnceCell<Arc<Seat>> = const { OnceCell::new() };
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
        seat.sleeps
            .store(seat.sleeps.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        // SeqCst pairs with `rest`: either the watch sees us before it rests, or we see that it does.
        seat.word.store(word as u64, Ordering::SeqCst);
        if RESTS.load(Ordering::SeqCst) {
            rouse();
        }
        sleep();
        seat.word.store(0, Ordering::Relaxed);
    });
    true
}

fn take_seat() -> Arc<Seat> {
    let seat = Arc::new(Seat::default());
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
    let mut seen: Vec<(u64, u64)> = Vec::new();
    loop {
        std::thread::sleep(TICK);
        let now = sleepers();
        // A seat keeps its place in the list.
        for (index, &(word, sleeps)) in now.iter().enumerate() {
            if word != 0 && seen.get(index) == Some(&(word, sleeps)) {
                handoff::wake(word as *const u32);
            }
        }
        if now.iter().all(|&(word, _)| word == 0) {
            rest();
        }
        seen = now;
    }
}

fn sleepers() -> Vec<(u64, u64)> {
    let mut seats = SEATS.lock().unwrap_or_else(PoisonError::into_inner);
    // Of a host thread that has ended only our copy is left.
    seats.retain(|seat| Arc::strong_count(seat) > 1);
    let look = |seat: &Arc<Seat>| (seat.word.load(Ordering::SeqCst), seat.sleeps.load(Ordering::Relaxed));
    seats.iter().map(look).collect()
}

/// Until somebody sleeps.
fn rest() {
    let (bed, bell) = &BED;
    let mut guard = bed.lock().unwrap_or_else(PoisonError::into_inner);
    RESTS.store(true, Ordering::SeqCst);
    if sleepers().iter().any(|&(word, _)| word != 0) {
        RESTS.store(false, Ordering::SeqCst);
        return;
    }
    while RESTS.load(Ordering::SeqCst) {
        guard = bell.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
}
