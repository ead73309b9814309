//! File systems of the kernel itself.
//!
//! * [`pseudo`]: what proc and sysfs stand on.  * [`proc`]: processes and the system as files.  * [`sysfs`]: devices as files.
//! * [`devpts`]: slaves of pseudo-terminals as files.

pub mod devpts;
pub mod pseudo;
