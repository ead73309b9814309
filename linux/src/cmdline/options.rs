//! UML's own options: one table, each name with its help and its handler.

use skas::SeccompMode;

use super::params::size;

/// Least memory that boots, in bytes.
const LEAST_MEMORY: u64 = 16 << 20;
/// Most virtual CPUs.
const MOST_CPUS: usize = 64;

/// What UML's options set.
pub struct Setup {
    /// `mem=`: the memory budget in bytes.
    pub memory: u64,
    /// `ncpus=`; none for the default.
    pub ncpus: Option<usize>,
    /// `seccomp=`.
    pub seccomp: SeccompMode,
    /// `host_2g_2g`.
    pub low_2g: bool,
    /// `hostfs=`, as given.
    pub hostfs: Option<String>,
    /// `con…=` and `ssl…=`, in order, whole words.
    pub lines: Vec<String>,
    /// `ubd…`, in order, without the `ubd`.
    pub ubd: Vec<String>,
    /// `umid=`.
    pub umid: Option<String>,
    /// `uml_dir=`.
    pub uml_dir: Option<String>,
    /// `noreboot`.
    pub no_reboot: bool,
    /// `quiet`: no "Checking…" lines either.
    pub quiet: bool,
    /// Sentences to print as kernel warnings once there is a log.
    pub warnings: Vec<String>,
    /// The kernel command line, as /proc/cmdline shows it.
    pub command_line: String,
    /// Its part in front of `--`.
    pub parameters: String,
    /// The words behind `--`.
    pub init_args: Vec<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            memory: default_memory(),
            ncpus: None,
            seccomp: SeccompMode::Auto,
            low_2g: cfg!(feature = "host-2g-2g"),
            hostfs: None,
            lines: Vec::new(),
            ubd: Vec::new(),
            umid: None,
            uml_dir: None,
            no_reboot: false,
            quiet: false,
            warnings: Vec::new(),
            command_line: String::new(),
            parameters: String::new(),
            init_args: Vec::new(),
        }
    }
}

/// Without `mem=`: all of the host's memory, for memory that nobody touches costs nothing here. (UML's 64 MiB starve today's programs.)
fn default_memory() -> u64 {
    arch_um::host::process::total_memory().max(LEAST_MEMORY)
}

/// What a handler made of its word.
pub enum Verdict {
    /// Another option may want it.
    NotMine,
    /// Consumed: the kernel command line does not show it.
    Kept,
    /// Seen, and still part of the kernel command line.
    PassedOn,
    /// Nothing boots: this text is all that was wanted.
    Print(String),
}

/// One option.
pub struct SetupOption {
    /// What the word begins with.
    pub name: &'static str,
    /// The entry in `--help`, empty for words that are only understood.
    pub help: &'static str,
    /// Takes what stands behind the name.
    pub handler: fn(&mut Setup, &str) -> Result<Verdict, String>,
}

/// Accepts a word that asks for something this kernel does not have, with one line in the log.
macro_rules! not_built_in {
    ($name:literal, $what:literal) => {
        SetupOption {
            name: $name,
            help: "",
            handler: |setup, rest| {
                setup.warnings.push(format!(concat!("{}{}: ", $what), $name, rest));
                Ok(Verdict::Kept)
            },
        }
    };
}

/// All options, tried in order.
pub const OPTIONS: &[SetupOption] = &[
    SetupOption {
        name: "--help",
        help: "--help\n    Prints this message.\n",
        handler: |_, rest| {
            if rest.is_empty() {
                Ok(Verdict::Print(help()))
            } else {
                Ok(Verdict::NotMine)
            }
        },
    },
    SetupOption {
        name: "--version",
        help: "--version\n    Prints the version number of the kernel.\n",
        handler: |_, rest| {
            if rest.is_empty() {
                Ok(Verdict::Print(format!("{}\n", kernel::version::RELEASE)))
            } else {
                Ok(Verdict::NotMine)
            }
        },
    },
    SetupOption {
        name: "--showconfig",
        help: "--showconfig\n    Prints what is built in, in the form of a kernel configuration.\n",
        handler: |_, rest| {
            if rest.is_empty() {
                Ok(Verdict::Print(super::config::text()))
            } else {
                Ok(Verdict::NotMine)
            }
        },
    },
    SetupOption {
        name: "mem=",
        help: "mem=<Amount of desired ram>\n    The memory that guest processes, page cache and kernel may use together: a number with the\n    \
               suffix 'k', 'M' or 'G'. Default: as much as the host has. Memory nobody touches costs nothing.\n    When it is used up the \
               largest process is killed, as on any Linux.\n\tExample: mem=512M\n",
        handler: |setup, rest| {
            let memory = size(rest)
                .ok_or_else(|| format!("mem={rest} is not an amount of memory: give a number such as mem=512M"))?;
            if memory < LEAST_MEMORY {
                return Err(format!(
                    "Too few physical memory! Needed={LEAST_MEMORY}, given={memory}: give at least mem={}M",
                    LEAST_MEMORY >> 20
                ));
            }
            setup.memory = memory;
            Ok(Verdict::Kept)
        },
    },
    SetupOption {
        name: "ncpus=",
        help: "ncpus=<number of CPUs>\n    The number of virtual CPUs, 1 to 64. Default: the host's, at most 8; one with ptrace.\n    \
               ncpus=1 makes scheduling deterministic.\n",
        handler: |setup, rest| match rest.parse() {
            Ok(count @ 1..=MOST_CPUS) => {
                setup.ncpus = Some(count);
                Ok(Verdict::Kept)
            }
            _ => Err(format!("ncpus={rest} is not a number of CPUs: give 1 to {MOST_CPUS}")),
        },
    },
    SetupOption {
        name: "seccomp=",
        help: "seccomp=<on/auto/off>\n    How guest programs are caught at system calls. on: by seccomp, an error if the host forbids it;\n    \
               off: by ptrace (slower, one CPU); auto, the default: seccomp if it works, else ptrace.\n",
        handler: |setup, rest| {
            setup.seccomp = match rest {
                "on" => SeccompMode::On,
                "off" => SeccompMode::Off,
                "auto" => SeccompMode::Auto,
                other => return Err(format!("Invalid seccomp option '{other}', expected on/auto/off")),
            };
            Ok(Verdict::Kept)
        },
    },
    SetupOption {
        name: "host_2g_2g",
        help: "host_2g_2g\n    Keeps every guest address below 2 GiB, as hosts with a 2G/2G split of the address space needed.\n",
        handler: |setup, rest| match rest {
            "" | "=1" | "=y" | "=on" => {
                setup.low_2g = true;
                Ok(Verdict::Kept)
            }
            "=0" | "=n" | "=off" => {
                setup.low_2g = false;
                Ok(Verdict::Kept)
            }
            _ => Err(format!(
                "host_2g_2g{rest}: give host_2g_2g, host_2g_2g=on or host_2g_2g=off"
            )),
        },
    },
    SetupOption {
        name: "root=",
        help: "root=<root file system>\n    The device (or, for hostfs, any word) that becomes the root: root=/dev/ubda, root=98:0. Default: /dev/ubda.\n    \
               With rootfstype=hostfs a directory of the host becomes the root: the whole host, or rootflags=<directory>.\n",
        handler: |_, _| Ok(Verdict::PassedOn),
    },
    SetupOption {
        name: "console=",
        help: "console=<preferred console>\n    Where kernel messages go and what /dev/console is: tty0 (default), ttyS0 …; the last one counts for\n    \
               /dev/console.\n",
        handler: |_, _| Ok(Verdict::PassedOn),
    },
    SetupOption {
        name: "con",
        help: "con[0-9]*=<channel description>\n    Attaches a console (con0 is /dev/tty0) to a host channel: fd:<n>, null, none, pts, pty, tty:<path>; two\n    \
               channels with a comma are input and output. con= is the default for all. Default: con0=fd:0,fd:1 con=pts\n",
        handler: |setup, rest| line(setup, "con", rest),
    },
    SetupOption {
        name: "ssl-non-raw",
        help: "ssl-non-raw\n    Leaves host terminals of serial lines in their own mode.\n",
        handler: |setup, rest| {
            if !rest.is_empty() {
                return Ok(Verdict::NotMine);
            }
            setup.lines.push("ssl-non-raw".into());
            Ok(Verdict::Kept)
        },
    },
    SetupOption {
        name: "ssl",
        help: "ssl[0-9]*=<channel description>\n    Attaches a serial line (ssl0 is /dev/ttyS0) to a host channel, as con does. Default: ssl=pts\n",
        handler: |setup, rest| line(setup, "ssl", rest),
    },
    SetupOption {
        name: "ubd",
        help: "ubd<n><flags>=<filename>[(:|,)<filename2>][(:|,)<serial>]\n    Makes the file (or host block device) the block device /dev/ubd<n>; n is a letter a-p or a number 0-15.\n    \
               With filename2 the disk is a COW file, made if it does not exist, over the backing file filename2; a COW\n    \
               file alone finds its backing file itself.\n    \
               Flags: r read-only, s written to the host's disk at once, c shared with other instances (not locked),\n    \
               d data (never taken for a COW file), t no trim.\n\n\
               ubd=sync\n    Every disk is written to the host's disk at once, as with flag s.\n\n\
               ubd=throwaway[,<n>...]\n    What is written to the disks (or to those named) is gone when the program ends; their files are only read.\n\n\
               ubd=io_uring\n    Requests of plain disks go to the host's io_uring instead of a pool of threads; where the host has none, or\n    \
               forbids it, the pool serves them.\n",
        handler: |setup, rest| {
            setup.ubd.push(rest.to_owned());
            Ok(Verdict::PassedOn)
        },
    },
    SetupOption {
        name: "udb",
        help: "udb\n    Catches the typo: udb for ubd.\n",
        handler: |setup, rest| {
            setup.warnings.push(format!(
                "udb{rest} specified on command line is almost certainly a ubd -> udb TYPO"
            ));
            Ok(Verdict::Kept)
        },
    },
    SetupOption {
        name: "hostfs=",
        help: "hostfs=<root dir>[,append]\n    Confines every hostfs mount to this directory of the host. append: files can only grow, nothing is\n    \
               removed or cut.\n",
        handler: |setup, rest| {
            setup.hostfs = Some(rest.to_owned());
            Ok(Verdict::Kept)
        },
    },
    SetupOption {
        name: "umid=",
        help: "umid=<name>\n    Names this instance; the name of its directory below uml_dir, with the file pid.\n",
        handler: |setup, rest| {
            if rest.is_empty() || rest.len() > 63 || rest.contains('/') {
                return Err(format!(
                    "umid={rest} is not a name: give 1 to 63 characters without '/'"
                ));
            }
            if setup.umid.is_some() {
                setup.warnings.push("umid already set".into());
            } else {
                setup.umid = Some(rest.to_owned());
            }
            Ok(Verdict::Kept)
        },
    },
    SetupOption {
        name: "uml_dir=",
        help: "uml_dir=<directory>\n    Where the directories of named instances are. Default: ~/.uml/\n",
        handler: |setup, rest| {
            setup.uml_dir = Some(rest.to_owned());
            Ok(Verdict::Kept)
        },
    },
    SetupOption {
        name: "noreboot",
        help: "noreboot\n    A reboot of the guest ends the program instead of starting it again.\n",
        handler: |setup, rest| {
            if !rest.is_empty() {
                return Ok(Verdict::NotMine);
            }
            setup.no_reboot = true;
            Ok(Verdict::Kept)
        },
    },
    SetupOption {
        name: "quiet",
        help: "quiet\n    Turns off information messages during boot.\n",
        handler: |setup, rest| {
            setup.quiet |= rest.is_empty();
            Ok(Verdict::PassedOn)
        },
    },
    SetupOption {
        name: "initrd=",
        help: "",
        handler: |_, rest| {
            Err(format!(
                "initrd={rest}: initial ram disks are not built in; use a disk image (ubda=) or rootfstype=hostfs"
            ))
        },
    },
    not_built_in!("eth", "no network is built in yet; the option is ignored"),
    not_built_in!("vec", "no network is built in yet; the option is ignored"),
    not_built_in!(
        "mconsole=",
        "no management console is built in yet; the option is ignored"
    ),
    not_built_in!("xterm=", "the xterm channel is not built in yet; the option is ignored"),
    not_built_in!("virtio_uml.device=", "virtio is not built in; the option is ignored"),
    not_built_in!("vfio_uml.device=", "vfio is not built in; the option is ignored"),
    not_built_in!("time-travel", "time travel is not built in yet; the option is ignored"),
    not_built_in!("dtb=", "device trees are not built in; the option is ignored"),
    not_built_in!(
        "iomem=",
        "memory regions from files are not built in; the option is ignored"
    ),
    not_built_in!("dsp=", "host audio is not built in; the option is ignored"),
    not_built_in!("mixer=", "host audio is not built in; the option is ignored"),
    not_built_in!("fake_ide", "obsolete; the option is ignored"),
    not_built_in!("fakehd", "obsolete; the option is ignored"),
    not_built_in!("nosysemu", "SYSEMU is always used under ptrace; the option is ignored"),
    not_built_in!("skas0", "obsolete; the option is ignored"),
    not_built_in!("mode=", "obsolete; the option is ignored"),
    not_built_in!("noprocmm", "obsolete; the option is ignored"),
    not_built_in!("noptracefaultinfo", "obsolete; the option is ignored"),
    not_built_in!("noptraceldt", "obsolete; the option is ignored"),
    not_built_in!("jail", "obsolete; the option is ignored"),
    not_built_in!("honeypot", "obsolete; the option is ignored"),
    not_built_in!("debugtrace", "obsolete; the option is ignored"),
    not_built_in!("gdb-pid=", "obsolete; the option is ignored"),
    not_built_in!("gdb=", "obsolete; the option is ignored"),
    not_built_in!("aio=", "obsolete; the option is ignored"),
    not_built_in!("umn=", "obsolete; the option is ignored"),
    not_built_in!("tty_log_dir=", "obsolete; the option is ignored"),
    not_built_in!("tty_log_fd=", "obsolete; the option is ignored"),
    not_built_in!("devfs=", "obsolete; the option is ignored"),
];

/// `con3=…`, `ssl=…`: a word of another shape (`console=`, `config`) is not for us.
fn line(setup: &mut Setup, kind: &str, rest: &str) -> Result<Verdict, String> {
    let Some((number, _)) = rest.split_once('=') else {
        return Ok(Verdict::NotMine);
    };
    if !number.chars().all(|digit| digit.is_ascii_digit()) {
        return Ok(Verdict::NotMine);
    }
    setup.lines.push(format!("{kind}{rest}"));
    Ok(Verdict::PassedOn)
}

/// The text of `--help`.
fn help() -> String {
    let mut text = format!(
        "User Mode Linux v{}\n\tavailable at http://user-mode-linux.sourceforge.net/\n\n",
        kernel::version::RELEASE
    );
    for option in OPTIONS.iter().filter(|option| !option.help.is_empty()) {
        text.push_str(option.help);
        text.push('\n');
    }
    text.push_str(
        "Generic kernel parameters: root= rootfstype= rootflags= rootwait ro rw init= console= quiet debug loglevel=\n    \
         ignore_loglevel log_buf_len= printk.time= norandmaps maxcpus= nosmp devtmpfs.mount=\n    \
         Unknown name=value words become init's environment, unknown words its arguments; words behind -- are all init's.\n\n\
         Without any word: the host's / as root, read-only, and /bin/sh.\n",
    );
    text
}
