//! Boots and drives guests from Rust tests and tasks.
//!
//! * [`Linux`]: a command line in the making; [`Linux::run`] boots it to its end and hands over what it printed.
//! * [`Terminal`]: the same on a pseudo terminal, to type and to look.
//! * [`uml`]: real UML, whose files and locks ours must get along with.
//! * [`machine`]: test programs that boot the machine inside themselves.
//! * [`script`]: runs a shell script or a program inside a guest and brings back output and exit status.
//!
//! The executable is found through [`executable`]. Every guest has a hang guard; its death takes the guest with it.

mod boot;
mod guard;
pub mod machine;
pub mod script;
mod terminal;
pub mod uml;

pub use boot::{Backend, Linux, Outcome, executable, is_root, workspace};
pub use guard::hang_guard;
pub use terminal::Terminal;
