//! File systems of the kernel itself.
//!
//! * [`pseudo`]: what proc and sysfs stand on.  * [`proc`]: processes and the system as files.  * [`sysfs`]: devices as files.

pub mod pseudo;
