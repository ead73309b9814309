//! Signals: numbers, sets, sending, delivery, stops (`signal(7)`).
//!
//! * [`info`]: what travels with a signal.  * `queue`: pending sets.  * `action`: dispositions.  * `deliver`, `frame`: on the way back to user code.
//! * `stop`: job control.  * `send`: permission and targets.

pub mod info;

pub use info::{SigInfo, SigSet, Signal};
