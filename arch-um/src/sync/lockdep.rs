//! The lock checker: what each kernel thread or host thread holds, and whether it may take one more.
//!
//! Compiled in with debug assertions or the feature `lockdep`; otherwise every function is empty. A violation is a Rust panic that
//! names both classes.

use super::order::LockClass;

/// What kind of lock: only spin locks forbid sleeping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Spin,
    Sleeping,
}

/// How a lock is being taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Nesting {
    /// Only below every lock held.
    Ordered,
    /// A second lock of the same class is fine: the caller has an order of its own.
    SameClass,
    /// A try-lock never waits, so its order does not matter.
    Try,
}

/// Is the lock checker compiled in?
pub const ENABLED: bool = cfg!(any(debug_assertions, feature = "lockdep"));

const DEPTH: usize = 24;

/// The locks one thread holds, in the order it took them.
#[derive(Clone, Copy)]
pub(crate) struct HeldLocks {
    len: usize,
    held: [Option<(&'static LockClass, Kind, usize)>; DEPTH],
}

impl HeldLocks {
    pub(crate) const fn new() -> HeldLocks {
        HeldLocks {
            len: 0,
            held: [None; DEPTH],
        }
    }

    fn entries(&self) -> impl Iterator<Item = (&'static LockClass, Kind, usize)> + '_ {
        self.held[..self.len].iter().flatten().copied()
    }

    /// What forbids taking `class` now, if anything.
    fn conflict(&self, class: &'static LockClass, kind: Kind, nesting: Nesting, addr: usize) -> Option<String> {
        for (held, held_kind, held_addr) in self.entries() {
            if held_addr == addr && nesting != Nesting::Try {
                return Some(format!("lockdep: {} is taken again by its holder", class.name));
            }
            if nesting == Nesting::Try {
                continue;
            }
            if kind == Kind::Sleeping && held_kind == Kind::Spin {
                return Some(format!(
                    "lockdep: sleeping lock {} taken under spin lock {}",
                    class.name, held.name
                ));
            }
            let same_allowed = nesting == Nesting::SameClass && std::ptr::eq(held, class);
            if held.rank >= class.rank && !same_allowed {
                return Some(format!(
                    "lockdep: {} (rank {}) taken under {} (rank {}): wrong order",
                    class.name, class.rank, held.name, held.rank
                ));
            }
        }
        None
    }

    fn push(&mut self, class: &'static LockClass, kind: Kind, addr: usize) {
        if self.len < DEPTH {
            self.held[self.len] = Some((class, kind, addr));
            self.len += 1;
        }
    }

    fn remove(&mut self, addr: usize) {
        let at = self.entries().position(|(_, _, a)| a == addr);
        if let Some(at) = at {
            self.held.copy_within(at + 1..self.len, at);
            self.len -= 1;
        }
    }

    fn spin(&self) -> Option<&'static LockClass> {
        self.entries().find(|e| e.1 == Kind::Spin).map(|e| e.0)
    }
}

/// Before waiting for a lock.
#[inline]
pub(crate) fn acquire(class: &'static LockClass, kind: Kind, nesting: Nesting, addr: usize) {
    if ENABLED {
        check(class, kind, nesting, addr);
    }
}

#[inline(never)]
fn check(class: &'static LockClass, kind: Kind, nesting: Nesting, addr: usize) {
    let conflict = crate::thread::with_held(|held| held.conflict(class, kind, nesting, addr));
    if let Some(text) = conflict {
        violation(&text);
    }
}

/// After getting it.
#[inline]
pub(crate) fn acquired(class: &'static LockClass, kind: Kind, addr: usize) {
    if ENABLED {
        crate::thread::with_held(|held| held.push(class, kind, addr));
    }
}

/// At release.
#[inline]
pub(crate) fn released(addr: usize) {
    if ENABLED {
        crate::thread::with_held(|held| held.remove(addr));
    }
}

/// Before giving the CPU away.
#[inline]
pub(crate) fn may_sleep() {
    if ENABLED && let Some(class) = crate::thread::with_held(|held| held.spin()) {
        violation(&format!("lockdep: sleeping with spin lock {} held", class.name));
    }
}

#[cold]
fn violation(text: &str) {
    // A second violation on the way out of the first would hide it.
    if !std::thread::panicking() && !crate::exit::in_progress() {
        panic!("{text}");
    }
}
