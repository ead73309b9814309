//! Which lines are consoles: `console=`, /dev/console, `TIOCCONS`.
//!
//! Drivers announce lines by name as they come up ([`super::devices::add_line`]); `console=` names them in order. Kernel messages go to all that are
//! named, /dev/console is the last one named that exists (`console(4)`, kernel-parameters "console=").

use alloc::string::{String, ToString};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use arch_um::sync::{SpinLock, order};

use super::Tty;
use super::devices;
use super::io::{OpenedAs, TtyFile};
use crate::{Errno, Result};

/// Names given with `console=`, in order; none given means `tty0`.
static NAMED: SpinLock<Vec<String>> = SpinLock::new(&order::LEAF, Vec::new());

/// Where writes to /dev/console go instead (`TIOCCONS`).
static REDIRECTED: SpinLock<Option<Weak<Tty>>> = SpinLock::new(&order::LEAF, None);

/// The console that is there if nobody says otherwise.
const DEFAULT: &str = "tty0";

/// A value of `console=`: what follows a comma (speed, parity) does not matter here; `tty` alone is `tty0`.
fn line_name(value: &str) -> &str {
    match value.split(',').next().unwrap_or("") {
        "tty" => DEFAULT,
        "ttyS" => "ttyS0",
        name => name,
    }
}

/// One more `console=` from the command line. Before the lines come up.
pub fn add_named(value: &str) {
    let name = line_name(value).to_string();
    let mut named = NAMED.lock();
    named.retain(|old| *old != name);
    named.push(name);
}

/// The names, in order.
pub fn named() -> Vec<String> {
    let named = NAMED.lock();
    if named.is_empty() {
        alloc::vec![DEFAULT.to_string()]
    } else {
        named.clone()
    }
}

/// Whether kernel messages go to the line `name`.
pub fn takes_messages(name: &str) -> bool {
    let named = NAMED.lock();
    if named.is_empty() {
        name == DEFAULT
    } else {
        named.iter().any(|other| other == name)
    }
}

/// The terminal that /dev/console is: the last one named that exists, else the first line.
pub fn current() -> Option<Arc<Tty>> {
    let last_named = named().iter().rev().find_map(|name| devices::line(name));
    last_named.or_else(|| devices::line(DEFAULT))
}

/// Opens /dev/console. `ENODEV` without a console.
pub fn open() -> Result<Arc<TtyFile>> {
    TtyFile::open(current().ok_or(Errno::ENODEV)?, OpenedAs::Console)
}

/// `TIOCCONS`: from now on `this` gets what is written to /dev/console; asked of /dev/console itself, that ends. `EBUSY` when somebody has it.
pub(super) fn redirect(this: &TtyFile) -> Result<()> {
    let mut redirected = REDIRECTED.lock();
    if this.opened_as() == OpenedAs::Console {
        *redirected = None;
        return Ok(());
    }
    if redirected.as_ref().is_some_and(|old| old.strong_count() > 0) {
        return Err(Errno::EBUSY);
    }
    *redirected = Some(Arc::downgrade(this.tty()));
    Ok(())
}

/// Where writes to /dev/console go, if not to the console. A terminal that nobody has open any more gives it back.
pub(super) fn redirection() -> Option<Arc<Tty>> {
    let target = REDIRECTED.lock().as_ref()?.upgrade();
    let in_use = target.filter(|tty| tty.users() > 0 && !tty.driver().is_gone());
    if in_use.is_none() {
        *REDIRECTED.lock() = None;
    }
    in_use
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_ignored_and_a_bare_tty_is_the_first_one() {
        assert_eq!(
            (line_name("ttyS1,115200n8"), line_name("tty"), line_name("tty3")),
            ("ttyS1", "tty0", "tty3")
        );
    }
}
