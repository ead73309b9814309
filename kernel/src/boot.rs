//! The order in which the rooms come up, the root file system, and the way into init.
//!
//! `linux::boot` calls [`start`] on the first kernel thread, then starts its drivers, then [`start_init`]: the rest of the
//! boot runs as process 1.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::syscall::Context;
use crate::task::init::First;
use crate::task::rlimit::{Limits, Resource};
use crate::vfs::fd_table::{CloseOnExec, FdTable};
use crate::vfs::fs_context::FsContext;
use crate::vfs::inode::{FsFlags, MountOption, MountSource};
use crate::vfs::mount::{self, MountFlags};
use crate::vfs::open::{OpenHow, open};
use crate::vfs::walk::{WalkContext, WalkFlags};
use crate::vfs::{DevT, File, Mode, OpenFlags, registry};
use crate::{Errno, Result, block, device, exec, fs, mm, sys, task, tty};

/// What the command line decides.
pub struct Config {
    /// /proc/cmdline.
    pub command_line: String,
    /// `mem=` in bytes.
    pub memory: u64,
    /// The most tasks that the host carries.
    pub tasks: u64,
    /// `norandmaps` was not given.
    pub randomize: mm::layout::Randomize,
    /// What a reboot does.
    pub reboot: Reboot,
}

/// What `reboot(2)` with `LINUX_REBOOT_CMD_RESTART` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reboot {
    /// The program starts itself again.
    Restart,
    /// It ends (`noreboot`).
    Exit,
}

static CONFIG: spin::Once<Config> = spin::Once::new();

/// The configuration.
///
/// # Panics
/// Before [`start`].
pub fn config() -> &'static Config {
    CONFIG.get().expect("the rooms are started first of all")
}

/// Brings up the rooms, those first that others stand on.
pub fn start(config: Config) {
    let config = CONFIG.call_once(|| config);
    task::threads_max::set(most_tasks(config));
    mm::layout::set_randomize(config.randomize);
    fs::tmpfs::set_total_memory(config.memory);
    sys::memory::set_total(config.memory);
    fs::proc::system::set_command_line(&config.command_line);
    device::init();
    fs::init();
    sys::init();
    mm::oom::start();
    if let Err(error) = tty::init() {
        log::error!("terminals cannot be registered: {error}");
    }
    block::init(&config.command_line);
}

/// As Linux: task structures and stacks may take an eighth of the memory. What the host carries comes on top.
fn most_tasks(config: &Config) -> usize {
    const TASK_COST: u64 = 16 << 10;
    usize::try_from((config.memory / (8 * TASK_COST)).min(config.tasks)).unwrap_or(usize::MAX)
}

/// Starts process 1 with an empty memory. `boot` runs in it: it mounts, opens the console and ends with [`run_program`].
pub fn start_init(boot: impl FnOnce(&Context) -> Result<()> + Send + 'static) -> Result<()> {
    let (space, user) = task::init::empty_memory()?;
    let stack = Limits::initial().soft(Resource::STACK);
    let mm = mm::Mm::new(space, mm::layout::Layout::new(stack, 0));
    task::init::start(
        First {
            files: FdTable::new(),
            fs: FsContext::initial(),
            memory: (mm, user),
        },
        boot,
    )
}

/// The mounted root, for the boot message.
pub struct Mounted {
    /// The type that took it.
    pub fs_type: String,
    /// Its device number.
    pub dev: DevT,
    /// Nothing on it may change, by wish or because it cannot.
    pub read_only: bool,
}

/// Mounts the root file system: one of `types` (all that take block devices, if none is named) on `root`.
///
/// # Errors
/// `ENXIO` without such a device, `ENODEV` without such a type, else what the last type said.
pub fn mount_root(cx: &Context, root: &str, types: &[String], options: &str, flags: MountFlags) -> Result<Mounted> {
    let on_disk = || {
        registry::list()
            .into_iter()
            .filter(|kind| kind.flags().contains(FsFlags::NEEDS_DEVICE))
    };
    let named: Vec<String> = if types.is_empty() {
        on_disk().map(|kind| kind.name().to_string()).collect()
    } else {
        types.to_vec()
    };
    let device = root_device(root);
    let mut result = mount_one_of(cx, &named, device, options, flags);
    // As Linux: what cannot be written is still a root to be read.
    if result.is_err() && !flags.contains(MountFlags::READ_ONLY) && device.is_some() {
        let readable = mount_one_of(cx, &named, device, options, flags | MountFlags::READ_ONLY);
        result = readable.or(result);
    }
    result
}

fn mount_one_of(
    cx: &Context,
    types: &[String],
    device: Option<DevT>,
    options: &str,
    flags: MountFlags,
) -> Result<Mounted> {
    let mut last = if device.is_none() { Errno::ENXIO } else { Errno::ENODEV };
    for name in types {
        let Ok(kind) = registry::find(name.as_bytes()) else {
            last = Errno::ENODEV;
            continue;
        };
        if kind.flags().contains(FsFlags::NEEDS_DEVICE) && device.is_none() {
            last = Errno::ENXIO;
            continue;
        }
        let source = MountSource {
            source: b"/dev/root".to_vec(),
            options: split_options(options),
            device,
            read_only: flags.contains(MountFlags::READ_ONLY),
        };
        match mount::mount_root(kind.name(), &source, flags) {
            Ok(mounted) => {
                enter_root(cx);
                return Ok(Mounted {
                    fs_type: kind.name().to_string(),
                    dev: mounted.fs().dev(),
                    read_only: source.read_only,
                });
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The calling task's root and working directory become the root of the mount tree.
fn enter_root(cx: &Context) {
    let root = mount::namespace_root();
    let context = cx.task().fs();
    context.set_root(root.clone());
    context.set_cwd(root);
}

fn split_options(text: &str) -> Vec<MountOption> {
    let option = |word: &str| match word.split_once('=') {
        Some((key, value)) => MountOption {
            key: key.into(),
            value: Some(value.into()),
        },
        None => MountOption {
            key: word.into(),
            value: None,
        },
    };
    text.split(',').filter(|word| !word.is_empty()).map(option).collect()
}

/// The device that `root=` names: `/dev/ubda1`, `98:1`, `6201` or `0x6201` (major and minor in hexadecimal), `LABEL=`, `UUID=`, `PARTLABEL=`,
/// `PARTUUID=`.
fn root_device(root: &str) -> Option<DevT> {
    if let Some(name) = root.strip_prefix("/dev/") {
        return block::disk::find(name);
    }
    if root.contains('=') {
        return block::identity::find(root);
    }
    let dev = match root.split_once(':') {
        Some((major, minor)) => DevT::new(major.parse().ok()?, minor.parse().ok()?),
        None => DevT::decode(u64::from_str_radix(root.strip_prefix("0x").unwrap_or(root), 16).ok()?),
    };
    block::disk::lookup(dev).ok().map(|_| dev)
}

/// `rootwait`: sleeps until the device that `root=` names is there. At once when one of `types` needs none.
pub fn wait_for_root(root: &str, types: &[String]) {
    let needs_none = |name: &String| {
        let kind = registry::find(name.as_bytes());
        kind.is_ok_and(|kind| !kind.flags().contains(FsFlags::NEEDS_DEVICE))
    };
    if types.iter().any(needs_none) || root_device(root).is_some() {
        return;
    }
    log::info!("Waiting for root device {root}...");
    while root_device(root).is_none() {
        arch_um::thread::sleep_until(arch_um::time::Instant::now() + ROOT_LOOK);
    }
}

/// How often a root device that is waited for is looked for.
const ROOT_LOOK: core::time::Duration = core::time::Duration::from_millis(50);

/// How Linux writes the device of `root=` when it cannot be opened.
pub fn root_device_text(root: &str) -> String {
    let dev = root_device(root).unwrap_or_default();
    alloc::format!("unknown-block({},{})", dev.major, dev.minor)
}

/// Mounts devtmpfs on /dev, whatever /dev is: a directory of a read-only root, or a symlink; and devpts on its /dev/pts, so that `script`, `tmux` and
/// `ssh` work under an init that mounts nothing. An init that mounts its own hides it: /dev/ptmx goes by what is on /dev/pts.
pub fn mount_dev() -> Result<()> {
    let flags = MountFlags::NOEXEC | MountFlags::NOSUID;
    let source = |kind: &str, options| MountSource {
        source: kind.as_bytes().to_vec(),
        options: split_options(options),
        ..MountSource::default()
    };
    mount::mount_at("devtmpfs", &source("devtmpfs", ""), flags, b"/dev")?;
    let terminals = source("devpts", "gid=5,mode=620,ptmxmode=666");
    mount::mount_at("devpts", &terminals, flags, b"/dev/pts").map(drop)
}

/// Shells that people name as init to work in.
const SHELLS: [&str; 8] = ["sh", "bash", "dash", "ash", "ksh", "zsh", "busybox", "fish"];

/// Opens the console as init's descriptors 0, 1 and 2.
///
/// A shell as init becomes the leader of a session on the console's terminal, so that ^C, ^Z and job control work in it. Linux gives init /dev/console,
/// which is no controlling terminal: real inits make sessions themselves, and for them nothing changes here. A shell never does.
pub fn open_console(cx: &Context, init: &str) -> Result<()> {
    let name = init.rsplit('/').next().unwrap_or(init);
    let own = if SHELLS.contains(&name) {
        shells_terminal(cx)
    } else {
        Err(Errno::ENODEV)
    };
    let console = own.or_else(|_| open_device(cx, "console"))?;
    for _ in 0..3 {
        cx.files().install(Arc::clone(&console), CloseOnExec::No)?;
    }
    Ok(())
}

/// The console's terminal under its own name; opening it makes it the controlling terminal of a session leader.
fn shells_terminal(cx: &Context) -> Result<Arc<File>> {
    let terminal = tty::console::current().ok_or(Errno::ENODEV)?;
    task::jobctl::sys_setsid(cx)?;
    let file = open_device(cx, terminal.name())?;
    task::jobctl::init_has_jobs();
    Ok(file)
}

fn open_device(cx: &Context, name: &str) -> Result<Arc<File>> {
    let walk = WalkContext::of(cx.task());
    let how = OpenHow {
        flags: OpenFlags::RDWR,
        mode: Mode::empty().into(),
        resolve: WalkFlags::empty(),
    };
    open(
        Some(cx),
        &walk,
        &walk.root.clone(),
        alloc::format!("/dev/{name}").as_bytes(),
        &how,
    )
}

/// Replaces the calling task's program, as `execve(2)` does.
pub fn run_program(cx: &Context, path: &str, args: &[String], environment: &[String]) -> Result<()> {
    let argv: Vec<&[u8]> = core::iter::once(path.as_bytes())
        .chain(args.iter().map(String::as_bytes))
        .collect();
    let envp: Vec<&[u8]> = environment.iter().map(String::as_bytes).collect();
    exec::exec_from_kernel(cx, path.as_bytes(), &argv, &envp)
}
