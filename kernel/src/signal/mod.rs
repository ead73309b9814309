//! Signals: numbers, sets, sending, delivery, stops (`signal(7)`).
//!
//! * [`info`], [`siginfo`]: what travels with a signal, and its bytes.  * [`queue`], [`state`]: pending sets and masks.  * [`action`]: dispositions.
//! * [`send`], [`kill`]: targets and permission.  * [`mask`], [`timedwait`], [`signalfd`], [`altstack`]: the calls of the receiver.
//! * [`deliver`], [`frame`], [`sigreturn`], [`stop`]: on the way back to user code.

pub mod action;
pub mod altstack;
pub mod deliver;
pub mod frame;
pub mod info;
pub mod kill;
pub mod mask;
pub mod queue;
pub mod send;
pub mod siginfo;
pub mod signalfd;
pub mod sigreturn;
pub mod state;
pub mod stop;
pub mod timedwait;

pub use info::{SigDetail, SigInfo, SigSet, Signal};
