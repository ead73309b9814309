//! The boot: the first kernel thread brings up the rooms, mounts the root, and starts init.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

use arch_um::exit::kernel_panic;
use arch_um::printk;
use kernel::Errno;
use kernel::mm::layout::Randomize;
use kernel::syscall::Context;
use kernel::vfs::mount::MountFlags;

use crate::cmdline::options::Setup;
use crate::cmdline::params::Params;
use crate::instance;

/// Tried in this order without `init=`.
const INITS: [&str; 4] = ["/sbin/init", "/etc/init", "/bin/init", "/bin/sh"];

/// Brings the machine up to its init. Runs on the first kernel thread.
pub fn boot(setup: Setup) {
    let mut params = Params::parse(&setup.parameters);
    params.init_args.extend(setup.init_args.iter().cloned());
    start_log(&params);
    log::info!(
        "Linux version {} (rustc) {}",
        kernel::version::RELEASE,
        kernel::version::VERSION
    );
    log::info!("Kernel command line: {}", setup.command_line);
    if !params.unknown.is_empty() {
        log::info!(
            "Unknown kernel command line parameters \"{}\", will be passed to user space.",
            params.unknown.join(" ")
        );
    }
    for warning in &setup.warnings {
        log::warn!("{warning}");
    }
    start_kernel(&setup, &params);
    start_drivers(&setup, &params);
    let first = kernel::boot::start_init(move |cx| {
        mount_root(cx, &params);
        run_init(cx, &params);
        Ok(())
    });
    if let Err(error) = first {
        kernel_panic(&format!("the first process cannot be made: {error}"));
    }
}

fn start_log(params: &Params) {
    printk::install_logger();
    if let Some(bytes) = params.log_buf_len {
        printk::set_buffer_size(bytes.clamp(4096, 1 << 30) as usize);
    }
    if let Some(level) = params.loglevel {
        printk::set_console_loglevel(level);
    }
    if params.ignore_loglevel {
        printk::set_console_loglevel(u8::MAX);
    }
    if let Some(on) = params.printk_time {
        printk::set_timestamps(if on {
            printk::Timestamps::On
        } else {
            printk::Timestamps::Off
        });
    }
}

/// The rooms of the kernel, those first that others stand on.
fn start_kernel(setup: &Setup, params: &Params) {
    kernel::boot::start(kernel::boot::Config {
        command_line: setup.command_line.clone(),
        memory: setup.memory,
        tasks: arch_um::host::process::task_capacity(),
        randomize: if params.no_random_maps {
            Randomize::Off
        } else {
            Randomize::On
        },
        reboot: if setup.no_reboot {
            kernel::boot::Reboot::Exit
        } else {
            kernel::boot::Reboot::Restart
        },
    });
    if !setup.no_reboot {
        let argv: Vec<CString> = std::env::args_os()
            .filter_map(|arg| CString::new(arg.as_bytes()).ok())
            .collect();
        kernel::sys::reboot::on_restart(Box::new(move || arch_um::exit::restart(&argv)));
    }
    log::info!("Memory: {}K available", setup.memory >> 10);
    log::info!(
        "smp: Brought up 1 node, {} CPU{}",
        arch_um::cpu::count(),
        if arch_um::cpu::count() == 1 { "" } else { "s" }
    );
    log::info!("skas: guest processes run under {}", skas::backend());
}

fn start_drivers(setup: &Setup, params: &Params) {
    match instance::register(setup.umid.as_deref(), setup.uml_dir.as_deref()) {
        Ok(directory) => log::info!("umid directory: {}", directory.display()),
        Err(error) => log::warn!("{error}"),
    }
    let hostfs_args = setup
        .hostfs
        .as_deref()
        .map(hostfs::HostfsArgs::parse)
        .unwrap_or_default();
    hostfs::register(hostfs_args);
    ext4::register();
    drivers::start(&setup.lines, &params.consoles);
    ubd::configure(&setup.ubd);
}

/// Mounts the root file system, and devtmpfs on its /dev.
fn mount_root(cx: &Context, params: &Params) {
    let flags = if params.root_writable {
        MountFlags::empty()
    } else {
        MountFlags::READ_ONLY
    };
    let root = params.root.as_deref().unwrap_or("98:0");
    if params.root_wait {
        kernel::boot::wait_for_root(root, &params.root_fs_types);
    }
    match kernel::boot::mount_root(cx, root, &params.root_fs_types, &params.root_flags, flags) {
        Ok(mounted) => {
            let access = if mounted.read_only { " readonly" } else { "" };
            log::info!(
                "VFS: Mounted root ({} filesystem){access} on device {}:{}.",
                mounted.fs_type,
                mounted.dev.major,
                mounted.dev.minor
            );
        }
        Err(error) => no_root(root, params, error),
    }
    if params.mount_devtmpfs {
        match kernel::boot::mount_dev() {
            Ok(()) => log::info!("devtmpfs: mounted"),
            Err(error) => log::warn!("devtmpfs: error mounting {}: /dev is the root's own", -error.code()),
        }
    }
}

/// Linux's last words when there is no root.
fn no_root(root: &str, params: &Params, error: Errno) -> ! {
    log::error!(
        "VFS: Cannot open root device \"{root}\" or {}: error {}",
        kernel::boot::root_device_text(root),
        -error.code()
    );
    log::error!("Please append a correct \"root=\" boot option; here are the available partitions:");
    let mut any = false;
    for disk in kernel::block::disks().iter().filter(|disk| !disk.is_empty()) {
        any = true;
        log::error!(
            "{:02x}{:02x} {:>10} {}",
            disk.dev().major,
            disk.dev().minor,
            disk.len() >> 10,
            disk.name()
        );
    }
    if !any {
        log::error!("(none: give a disk with ubda=<image>, or boot the host's tree with rootfstype=hostfs)");
    }
    log::error!("List of all bdev filesystems:\n {}\n", params.root_fs_types.join(" "));
    kernel_panic(&format!(
        "VFS: Unable to mount root fs on {}",
        kernel::boot::root_device_text(root)
    ))
}

fn run_init(cx: &Context, params: &Params) {
    let candidates: Vec<&str> = params.init.as_deref().map_or(INITS.to_vec(), |init| vec![init]);
    if let Err(error) = kernel::boot::open_console(cx, candidates[0]) {
        log::warn!("Warning: unable to open an initial console: {error}.");
    }
    for init in candidates {
        log::info!("Run {init} as init process");
        log::debug!("  with arguments:\n    {init}\n    {}", params.init_args.join("\n    "));
        log::debug!("  with environment:\n    {}", params.environment.join("\n    "));
        match kernel::boot::run_program(cx, init, &params.init_args, &params.environment) {
            Ok(()) => return,
            Err(error) if params.init.is_some() => {
                kernel_panic(&format!("Requested init {init} failed (error {}).", -error.code()));
            }
            Err(Errno::ENOENT) => {}
            Err(error) => log::error!(
                "Starting init: {init} exists but couldn't execute it (error {})",
                -error.code()
            ),
        }
    }
    kernel_panic(
        "No working init found.  Try passing init= option to kernel. See Linux Documentation/admin-guide/init.rst for guidance.",
    )
}
