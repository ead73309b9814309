//! The way out: `reboot(2)`, Ctrl-Alt-Del, and the exit status of the program.
//!
//! Power off and halt end the program with the status in /proc/exitcode; a restart runs it again with its own command line, unless `noreboot`
//! was given: then it ends as power off does.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use arch_um::{pr_emerg, stub};

use super::require;
use crate::signal::{SigInfo, Signal, send};
use crate::syscall::Context;
use crate::task::{Capabilities, Pid, table};
use crate::user::UserAddr;
use crate::{Errno, Result};

const MAGIC1: u32 = 0xfee1_dead;
const MAGIC2: [u32; 4] = [672_274_793, 85_072_278, 369_367_448, 537_993_216];
const CMD_RESTART: u32 = 0x0123_4567;
const CMD_HALT: u32 = 0xcdef_0123;
const CMD_CAD_ON: u32 = 0x89ab_cdef;
const CMD_CAD_OFF: u32 = 0;
const CMD_POWER_OFF: u32 = 0x4321_fedc;
const CMD_RESTART2: u32 = 0xa1b2_c3d4;
const CMD_SW_SUSPEND: u32 = 0xd000_fce2;
const CMD_KEXEC: u32 = 0x4558_4543;
/// Longest text of `CMD_RESTART2`.
const COMMAND_MAX: usize = 256;

static EXIT_CODE: AtomicI32 = AtomicI32::new(0);
static CAD_RESTARTS: AtomicBool = AtomicBool::new(true);
static RESTART: spin::Once<Box<dyn Fn() + Send + Sync>> = spin::Once::new();

/// The exit status that halt and power off end with; the low eight bits count.
pub fn exit_code() -> i32 {
    EXIT_CODE.load(Ordering::Relaxed)
}

/// Sets [`exit_code`] (`echo 42 > /proc/exitcode`).
pub fn set_exit_code(code: i32) {
    EXIT_CODE.store(code, Ordering::Relaxed);
}

/// How a restart is done: `restart` runs the program anew and does not return. Without it (`noreboot`) a restart ends the program.
pub fn on_restart(restart: Box<dyn Fn() + Send + Sync>) {
    RESTART.call_once(|| restart);
}

/// Ends the machine as `halt -f` does.
pub fn halt() -> ! {
    write_disks();
    pr_emerg!("reboot: System halted");
    arch_um::exit::exit(exit_code())
}

/// Linux leaves what nobody has synced in memory that is about to go; here it costs nothing to keep it. File systems first: what they write may go
/// through disks of ours (loop devices).
fn write_disks() {
    if let Err(error) = crate::vfs::super_block::sync_all() {
        log::error!("disks: what was written last is lost: {error}");
    }
}

/// Ends the machine as `poweroff -f` does.
pub fn power_off() -> ! {
    write_disks();
    pr_emerg!("reboot: Power down");
    arch_um::exit::exit(exit_code())
}

/// Starts the machine anew.
pub fn restart(command: Option<&str>) -> ! {
    write_disks();
    match command {
        Some(command) => pr_emerg!("reboot: Restarting system with command '{command}'"),
        None => pr_emerg!("reboot: Restarting system"),
    }
    if let Some(restart) = RESTART.get() {
        restart();
    }
    arch_um::exit::exit(exit_code())
}

/// Somebody pressed Ctrl-Alt-Del (mconsole's `cad`): restarts at once, or tells init, as `reboot(2)` has set it.
pub fn ctrl_alt_del() {
    if CAD_RESTARTS.load(Ordering::Relaxed) {
        restart(None);
    }
    if let Some(init) = table::process(Pid(1)) {
        send::to_process(&init, SigInfo::kernel(Signal::INT));
    }
}

/// `reboot(2)`.
pub fn sys_reboot(cx: &Context, magic1: u32, magic2: u32, cmd: u32, arg: UserAddr) -> Result<usize> {
    require(cx, Capabilities::SYS_BOOT)?;
    if magic1 != MAGIC1 || !MAGIC2.contains(&magic2) {
        return Err(Errno::EINVAL);
    }
    match cmd {
        CMD_RESTART => restart(None),
        CMD_HALT => halt(),
        CMD_POWER_OFF => power_off(),
        CMD_RESTART2 => {
            let command = match arg.read_cstr(COMMAND_MAX) {
                // A text that is too long is cut, as strncpy_from_user does.
                Err(Errno::ENAMETOOLONG) => {
                    let mut cut = alloc::vec![0; COMMAND_MAX - 1];
                    arg.read(&mut cut)?;
                    cut
                }
                other => other?,
            };
            restart(Some(&alloc::string::String::from_utf8_lossy(&command)))
        }
        CMD_CAD_ON => CAD_RESTARTS.store(true, Ordering::Relaxed),
        CMD_CAD_OFF => CAD_RESTARTS.store(false, Ordering::Relaxed),
        CMD_SW_SUSPEND | CMD_KEXEC => {
            stub!("reboot: suspend and kexec");
            return Err(Errno::EINVAL);
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
