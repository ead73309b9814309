//! What is counted per real user: tasks (`RLIMIT_NPROC`) and queued signals (`RLIMIT_SIGPENDING`).
//!
//! Lock order: the table of users is a leaf.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicUsize, Ordering};

use arch_um::sync::{SpinLock, order};

static USERS: SpinLock<BTreeMap<u32, Weak<User>>> = SpinLock::new(&order::LEAF, BTreeMap::new());

/// The counters of one real user id.
#[derive(Debug)]
pub struct User {
    uid: u32,
    tasks: AtomicUsize,
    signals: AtomicUsize,
}

impl User {
    /// The counters of `uid`: one object as long as anybody holds it.
    pub fn get(uid: u32) -> Arc<User> {
        let mut users = USERS.lock();
        if let Some(user) = users.get(&uid).and_then(Weak::upgrade) {
            return user;
        }
        let user = Arc::new(User {
            uid,
            tasks: AtomicUsize::new(0),
            signals: AtomicUsize::new(0),
        });
        users.insert(uid, Arc::downgrade(&user));
        user
    }

    /// Whose counters these are.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Tasks that run as this real user.
    pub fn tasks(&self) -> usize {
        self.tasks.load(Ordering::Relaxed)
    }

    /// Signals queued by this user.
    pub fn signals(&self) -> usize {
        self.signals.load(Ordering::Relaxed)
    }
}

/// One task that counts for its user; dropping it gives the place back.
#[derive(Debug)]
pub struct TaskCharge(Arc<User>);

impl TaskCharge {
    /// Counts one task for `uid`. The limit is the caller's to check, before.
    pub fn new(uid: u32) -> Self {
        let user = User::get(uid);
        user.tasks.fetch_add(1, Ordering::Relaxed);
        Self(user)
    }

    /// The user it counts for.
    pub fn user(&self) -> &Arc<User> {
        &self.0
    }
}

impl Drop for TaskCharge {
    fn drop(&mut self) {
        self.0.tasks.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One queued signal that counts for its sender; dropping it gives the place back.
#[derive(Debug)]
pub struct SignalCharge(Arc<User>);

impl SignalCharge {
    /// Counts one signal for `user` if that keeps within `limit`.
    pub fn new(user: &Arc<User>, limit: u64) -> Option<Self> {
        let count = user.signals.fetch_add(1, Ordering::Relaxed) + 1;
        let charge = Self(user.clone());
        (count as u64 <= limit).then_some(charge)
    }
}

impl Drop for SignalCharge {
    fn drop(&mut self) {
        self.0.signals.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_signal_charge_leaves_no_trace() {
        let user = User::get(4711);
        let first = SignalCharge::new(&user, 1);
        assert!(first.is_some());
        assert!(SignalCharge::new(&user, 1).is_none());
        assert_eq!(user.signals(), 1);
        drop(first);
        assert_eq!(user.signals(), 0);
    }
}
