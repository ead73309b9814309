//! The kernel's generic parameters (`kernel-parameters` of Linux): what `root=`, `init=`, `console=` … ask for, and what is left for init.
//!
//! Unknown `key=value` words become init's environment, unknown bare words its arguments in front of those behind `--`; words with a
//! dot in the key are module parameters and are dropped silently unless a built-in part takes them.

/// Everything the boot code needs from the kernel command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Params {
    /// `root=`.
    pub root: Option<String>,
    /// `rootfstype=`, comma-separated.
    pub root_fs_types: Vec<String>,
    /// `rootflags=`.
    pub root_flags: String,
    /// `rw` was said last (`ro` is the default).
    pub root_writable: bool,
    /// `rootwait`.
    pub root_wait: bool,
    /// `init=`.
    pub init: Option<String>,
    /// `console=` words in order.
    pub consoles: Vec<String>,
    /// `loglevel=`, `quiet`, `debug`.
    pub loglevel: Option<u8>,
    /// `ignore_loglevel`.
    pub ignore_loglevel: bool,
    /// `printk.time=`.
    pub printk_time: Option<bool>,
    /// `log_buf_len=`.
    pub log_buf_len: Option<u64>,
    /// `norandmaps`.
    pub no_random_maps: bool,
    /// `maxcpus=`/`nosmp`: an upper limit.
    pub max_cpus: Option<usize>,
    /// `devtmpfs.mount=`: whether /dev is mounted over the root's.
    pub mount_devtmpfs: bool,
    /// Arguments for init.
    pub init_args: Vec<String>,
    /// Environment for init, in order, a later value of a name replaces the earlier.
    pub environment: Vec<String>,
    /// Words handed to init because nobody knew them, for the boot message.
    pub unknown: Vec<String>,
}

/// Parameters Linux knows that mean nothing here: taken silently, never handed to init.
const ACCEPTED: &[&str] = &[
    "panic",
    "oops",
    "panic_on_warn",
    "panic_print",
    "sysrq_always_enabled",
    "earlyprintk",
    "earlycon",
    "mitigations",
    "nokaslr",
    "kaslr",
    "audit",
    "selinux",
    "apparmor",
    "security",
    "lsm",
    "lpj",
    "clocksource",
    "hpet",
    "tsc",
    "acpi",
    "pci",
    "iommu",
    "nosmt",
    "swapaccount",
    "transparent_hugepage",
    "cgroup_disable",
    "cgroup_no_v1",
    "rootdelay",
    "reboot",
    "raid",
    "resume",
    "noresume",
    "stderr",
    "elevator",
    "initcall_debug",
    "nowatchdog",
    "nmi_watchdog",
    "softlockup_panic",
    "hung_task_panic",
    "no_console_suspend",
    "possible_cpus",
    "isolcpus",
    "fips",
    "slub_debug",
    "init_on_alloc",
    "init_on_free",
    "crashkernel",
    "kunit_shutdown",
    "random",
    "rdinit",
    "dhash_entries",
    "ihash_entries",
    // Read by `kernel::block`.
    "max_loop",
    "ramdisk_size",
];

impl Params {
    /// Reads a kernel command line.
    pub fn parse(line: &str) -> Params {
        let mut params = Params {
            mount_devtmpfs: true,
            ..Params::default()
        };
        // Linux's defaults; words of the command line replace them.
        params.set_environment("HOME=/");
        params.set_environment("TERM=linux");
        params.set_environment("PATH=/sbin:/usr/sbin:/bin:/usr/bin");
        let mut words = split(line).into_iter();
        let mut init_args = Vec::new();
        for word in words.by_ref() {
            if word == "--" {
                break;
            }
            params.take(&word, &mut init_args);
        }
        init_args.extend(words);
        params.init_args = init_args;
        params
    }

    fn take(&mut self, word: &str, init_args: &mut Vec<String>) {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        };
        // The kernel does not tell `-` from `_` in names.
        match (key.replace('-', "_").as_str(), value) {
            ("root", Some(value)) => self.root = Some(value.to_owned()),
            ("rootfstype", Some(value)) => self.root_fs_types = value.split(',').map(str::to_owned).collect(),
            ("rootflags", Some(value)) => self.root_flags = value.to_owned(),
            ("rw", None) => self.root_writable = true,
            ("ro", None) => self.root_writable = false,
            ("rootwait", _) => self.root_wait = true,
            ("init", Some(value)) => {
                self.init = Some(value.to_owned());
                // As in Linux: words for init that came before the choice of init are not for it.
                init_args.clear();
            }
            ("console", Some(value)) => self.consoles.push(value.to_owned()),
            ("quiet", None) => self.loglevel = Some(4),
            ("debug", None) => self.loglevel = Some(10),
            ("loglevel", Some(value)) => self.loglevel = value.parse().ok().or(self.loglevel),
            ("ignore_loglevel", _) => self.ignore_loglevel = true,
            ("printk.time", value) => self.printk_time = Some(truth(value)),
            ("log_buf_len", Some(value)) => self.log_buf_len = size(value),
            ("norandmaps", _) => self.no_random_maps = true,
            ("nosmp", None) => self.max_cpus = Some(1),
            ("maxcpus" | "nr_cpus", Some(value)) => self.max_cpus = value.parse().ok().map(|cpus: usize| cpus.max(1)),
            ("devtmpfs.mount", value) => self.mount_devtmpfs = truth(value),
            (name, _) if ACCEPTED.contains(&name) || is_device(name) => {}
            (name, _) if name.contains('.') => {}
            (_, Some(_)) => {
                self.set_environment(word);
                self.unknown.push(word.to_owned());
            }
            (_, None) => {
                init_args.push(word.to_owned());
                self.unknown.push(word.to_owned());
            }
        }
    }

    fn set_environment(&mut self, word: &str) {
        let name = word.split('=').next().unwrap_or(word);
        let same = |old: &&mut String| old.split('=').next() == Some(name);
        match self.environment.iter_mut().find(same) {
            Some(old) => *old = word.to_owned(),
            None => self.environment.push(word.to_owned()),
        }
    }
}

/// `con3`, `ssl`, `ubda`: options of drivers, which have read them already.
fn is_device(name: &str) -> bool {
    let line = |kind: &str| {
        name.strip_prefix(kind)
            .is_some_and(|number| number.chars().all(|digit| digit.is_ascii_digit()))
    };
    line("con") || line("ssl") || name.starts_with("ubd")
}

/// `0`, `n`, `no`, `off` are false; everything else, and no value at all, is true.
fn truth(value: Option<&str>) -> bool {
    !matches!(value, Some("0" | "n" | "N" | "no" | "off"))
}

/// A number with Linux's suffixes `k`, `m`, `g`, `t` (powers of 1024, either case); decimal, `0x` or octal with a leading 0.
pub fn size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.chars().last()?.to_ascii_lowercase() {
        'k' => (&text[..text.len() - 1], 10),
        'm' => (&text[..text.len() - 1], 20),
        'g' => (&text[..text.len() - 1], 30),
        't' => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None if digits.len() > 1 && digits.starts_with('0') => u64::from_str_radix(&digits[1..], 8).ok()?,
        None => digits.parse().ok()?,
    };
    value.checked_mul(1 << shift)
}

/// Splits at blanks outside double quotes; a pair of quotes around a word or around a value is taken off.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quoted, mut any) = (false, false);
    for character in line.chars() {
        match character {
            '"' => {
                quoted = !quoted;
                any = true;
            }
            blank if blank.is_whitespace() && !quoted => {
                if any {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            other => {
                word.push(other);
                any = true;
            }
        }
    }
    if any {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_words_become_inits_arguments_and_environment() {
        let params = Params::parse("foo=bar baz x.y=1 TERM=vt100 init=/i one -- two three=3");
        assert_eq!(params.init_args, ["one", "two", "three=3"]);
        assert_eq!(
            params.environment,
            ["HOME=/", "TERM=vt100", "PATH=/sbin:/usr/sbin:/bin:/usr/bin", "foo=bar"]
        );
        assert_eq!(params.unknown, ["foo=bar", "baz", "TERM=vt100", "one"]);
    }

    #[test]
    fn options_of_drivers_are_not_inits() {
        let params = Params::parse("con0=fd:0,fd:1 con=null ssl2=pts ubda=image ubd1r=x config=y");
        assert_eq!(params.unknown, ["config=y"]);
    }

    #[test]
    fn quotes_keep_blanks() {
        let params = Params::parse("init=\"/my init\" \"A=b c\" -- \"d  e\" \"\"");
        assert_eq!(params.init.as_deref(), Some("/my init"));
        assert_eq!(params.environment.last().map(String::as_str), Some("A=b c"));
        assert_eq!(params.init_args, ["d  e", ""]);
    }

    #[test]
    fn the_last_of_ro_and_rw_holds() {
        assert!(Params::parse("ro rw").root_writable);
        assert!(!Params::parse("rw ro").root_writable);
        assert!(!Params::parse("").root_writable);
    }

    #[test]
    fn sizes_have_linuxs_suffixes() {
        assert_eq!(size("64M"), Some(64 << 20));
        assert_eq!(size("0x10k"), Some(16 << 10));
        assert_eq!(size("010"), Some(8));
        assert_eq!(size("M"), None);
        assert_eq!(size("99999999999t"), None);
    }
}
