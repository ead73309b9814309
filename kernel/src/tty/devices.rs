//! Device numbers of terminals: lines (major 4), /dev/tty, /dev/console, /dev/ptmx (major 5), slaves of pseudo-terminals (major 136).
//!
//! A driver that brings lines up adds them with [`add_line`]; `devtmpfs` shows what is announced here.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;

use arch_um::sync::{SpinLock, order};

use super::io::{OpenedAs, TtyFile};
use super::{Tty, console, jobctl, pty};
use crate::device::{CharDriver, DeviceNode, announce, register_char, retract};
use crate::fs::devpts;
use crate::syscall::Context;
use crate::vfs::open::open_place;
use crate::vfs::walk::{WalkContext, WalkFlags, lookup};
use crate::vfs::{Access, DevT, FileOps, OpenFlags};
use crate::{Errno, Result};

/// Lines: consoles at minor 0, serial lines at minor 64.
pub const LINE_MAJOR: u32 = 4;
/// Minor of ttyS0.
pub const SERIAL_MINOR: u32 = 64;
/// /dev/tty, /dev/console, /dev/ptmx.
const AUX_MAJOR: u32 = 5;
const TTY: u32 = 0;
const CONSOLE: u32 = 1;
const PTMX: u32 = 2;

static LINES: SpinLock<BTreeMap<u32, Arc<Tty>>> = SpinLock::new(&order::LEAF, BTreeMap::new());

/// Makes a line known: it can be opened and has a node in /dev. `EBUSY` when its number is taken.
pub fn add_line(tty: Arc<Tty>) -> Result<()> {
    let node = DeviceNode {
        name: tty.name().to_string(),
        dev: tty.dev(),
        mode: 0o600,
        class: "tty",
    };
    {
        let mut lines = LINES.lock();
        if lines.contains_key(&tty.dev().minor) {
            return Err(Errno::EBUSY);
        }
        lines.insert(tty.dev().minor, tty);
    }
    announce(node);
    Ok(())
}

/// Takes a line away; open descriptions are hung up.
pub fn remove_line(tty: &Tty) {
    let gone = LINES.lock().remove(&tty.dev().minor);
    retract(tty.name());
    if let Some(tty) = gone {
        jobctl::hang_up(&tty);
    }
}

/// The line called `name` (`tty0`, `ttyS1`).
pub fn line(name: &str) -> Option<Arc<Tty>> {
    LINES.lock().values().find(|tty| tty.name() == name).cloned()
}

/// Opens terminals by number.
struct Terminals;

impl CharDriver for Terminals {
    fn open(&self, cx: &Context, dev: DevT, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        let file = match (dev.major, dev.minor) {
            (AUX_MAJOR, TTY) => return Ok(TtyFile::open(jobctl::own_terminal()?, OpenedAs::Itself)?),
            (AUX_MAJOR, CONSOLE) => return Ok(console::open()?),
            (AUX_MAJOR, PTMX) => return devpts::open_ptmx(cx.task()),
            (LINE_MAJOR, minor) => {
                let line = LINES.lock().get(&minor).cloned();
                TtyFile::open(line.ok_or(Errno::ENODEV)?, OpenedAs::Itself)?
            }
            (pty::SLAVE_MAJOR, index) => pty::open_slave(index)?,
            _ => return Err(Errno::ENXIO),
        };
        adopt(&file, flags);
        Ok(file)
    }
}

/// `TIOCGPTPEER`: a new descriptor of the slave; `flags` as of `open(2)`. It needs a name for /proc/self/fd and `ttyname(3)`, so it is opened as
/// /dev/pts/N. `ENOTTY` where the caller's /dev/pts does not show this slave: `openpty(3)` then goes by name itself.
pub(super) fn open_peer(cx: &Context, index: u32, flags: u64) -> Result<usize> {
    let flags = OpenFlags::from_bits_retain(flags as u32);
    let walk = WalkContext::of(cx.task());
    let name = format!("/dev/pts/{index}");
    let path = lookup(&walk, &walk.root, name.as_bytes(), WalkFlags::FOLLOW).map_err(|_| Errno::ENOTTY)?;
    if path.inode().metadata()?.rdev != DevT::new(pty::SLAVE_MAJOR, index) {
        return Err(Errno::ENOTTY);
    }
    let file = open_place(Some(cx), &walk, path, flags)?;
    Ok(cx.files().install(file, flags)?.0 as usize)
}

/// A free terminal becomes the caller's unless he says `O_NOCTTY` or could not read from it.
fn adopt(file: &TtyFile, flags: OpenFlags) {
    if !flags.contains(OpenFlags::NOCTTY) && flags.access().contains(Access::READ) {
        jobctl::adopt_on_open(file.tty());
    }
}

/// Registers the numbers and the nodes that are always there. Once, at boot.
pub fn init() -> Result<()> {
    let driver: Arc<dyn CharDriver> = Arc::new(Terminals);
    register_char(LINE_MAJOR, 0..SERIAL_MINOR, "tty", driver.clone())?;
    register_char(LINE_MAJOR, SERIAL_MINOR..SERIAL_MINOR + 64, "ttyS", driver.clone())?;
    register_char(AUX_MAJOR, TTY..TTY + 1, "/dev/tty", driver.clone())?;
    register_char(AUX_MAJOR, CONSOLE..CONSOLE + 1, "/dev/console", driver.clone())?;
    register_char(AUX_MAJOR, PTMX..PTMX + 1, "/dev/ptmx", driver.clone())?;
    register_char(pty::SLAVE_MAJOR, 0..1 << 20, "pts", driver)?;
    for (name, minor, mode) in [("tty", TTY, 0o666), ("console", CONSOLE, 0o600), ("ptmx", PTMX, 0o666)] {
        announce(DeviceNode {
            name: name.to_string(),
            dev: DevT::new(AUX_MAJOR, minor),
            mode,
            class: "tty",
        });
    }
    Ok(())
}
