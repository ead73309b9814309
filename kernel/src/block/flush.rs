//! [`Flushes`]: which flushes a driver has to do. One after which nothing was written is done already; several at a time are one.
//!
//! A flush promises that what was complete before it is stable. So a write counts from its completion on, whatever came of it: one that is still under
//! way when a flush begins is the next one's.

use alloc::vec::Vec;

use arch_um::sync::{SpinLock, order};

use super::bio::Bio;
use crate::Result;

/// The flushes of one disk.
pub(super) struct Flushes(SpinLock<State>);

struct State {
    /// Something was written since the newest flush was sent.
    unflushed: bool,
    next: u64,
    /// Those with the driver, oldest first, and who joined them.
    sent: Vec<(u64, Vec<Bio>)>,
}

/// What becomes of a flush.
pub(super) enum Verdict {
    /// There is nothing to be made stable.
    Done(Bio),
    /// Another one, under way, does it.
    Joined,
    /// The driver has to do it; [`Flushes::ended`] is told this number.
    Send(Bio, u64),
}

impl Default for Flushes {
    /// What was written before us, nobody knows.
    fn default() -> Self {
        Self(SpinLock::new(
            &order::LEAF,
            State {
                unflushed: true,
                next: 0,
                sent: Vec::new(),
            },
        ))
    }
}

impl Flushes {
    /// A write has ended that is not stable by itself.
    pub fn written(&self) {
        self.0.lock().unflushed = true;
    }

    /// A flush is asked for.
    pub fn ask(&self, bio: Bio) -> Verdict {
        let mut state = self.0.lock();
        if !state.unflushed {
            return match state.sent.last_mut() {
                Some((_, joined)) => {
                    joined.push(bio);
                    Verdict::Joined
                }
                None => Verdict::Done(bio),
            };
        }
        state.unflushed = false;
        let number = state.next;
        state.next += 1;
        state.sent.push((number, Vec::new()));
        Verdict::Send(bio, number)
    }

    /// The driver has done flush `number`: who joined it is to be told the same.
    pub fn ended(&self, number: u64, outcome: Result<()>) -> Vec<Bio> {
        let mut state = self.0.lock();
        if outcome.is_err() {
            state.unflushed = true;
        }
        match state.sent.iter().position(|(held, _)| *held == number) {
            Some(at) => state.sent.remove(at).1,
            None => Vec::new(),
        }
    }
}
