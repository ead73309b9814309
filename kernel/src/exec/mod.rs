//! Starting programs: `execve(2)`, `execveat(2)`.
//!
//! * [`elf`]: what a program file asks for.  * [`script`]: `#!` lines.  * [`args`]: strings from the old memory.
//! * [`load`]: mapping it into a new address space.  * [`stack`]: what it finds on its stack.  * [`run`]: the calls, and the point of no return.
//!
//! Everything that can be wrong with the files is found before the point of no return; behind it only the host can fail.

pub mod args;
pub mod elf;
pub mod load;
pub mod run;
pub mod script;
pub mod stack;

pub use run::exec_from_kernel;
