//! All tests, with all that they need.

use std::process::Command;

/// Programs the tests use as judges, and the Debian packages that bring them.
const JUDGES: &[(&str, &str)] = &[
    ("cc", "gcc libc6-dev"),
    ("make", "make"),
    ("git", "git"),
    ("perl", "perl"),
    ("python3", "python3"),
    ("busybox", "busybox-static"),
    ("fdisk", "fdisk"),
    ("parted", "parted"),
    ("losetup", "mount"),
    ("lsblk", "util-linux"),
    ("insmod", "kmod"),
    ("as", "binutils"),
    ("mkfs.ext4", "e2fsprogs"),
    ("openssl", "openssl"),
    ("linux.uml", "user-mode-linux"),
    ("uml_moo", "uml-utilities"),
    ("losetup", "mount"),
    ("script", "bsdutils"),
    ("strace", "strace"),
    ("gdb", "gdb"),
    ("tmux", "tmux"),
    ("vi", "vim-tiny"),
    ("less", "less"),
    ("setfacl", "acl"),
    ("getfattr", "attr"),
    ("top", "procps"),
];

/// Builds the release executable and the guest programs, then runs every test of the workspace.
pub fn run(args: &[String]) -> Result<(), String> {
    install_judges()?;
    cargo(&["build", "--release", "--package", "linux"])?;
    // With the lock checker, for tests/tests/lock_order.rs.
    cargo(&["build", "--package", "linux"])?;
    super::guests::build()?;
    let mut words = vec!["test", "--workspace", "--no-fail-fast"];
    words.extend(args.iter().map(String::as_str));
    cargo(&words)
}

/// Runs cargo in the workspace.
///
/// # Errors
/// How it ended.
pub fn cargo(words: &[&str]) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(words)
        .current_dir(harness::workspace())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cargo {} ended with {status}", words.join(" "))),
        Err(error) => Err(format!("cargo: {error}")),
    }
}

/// Installs missing judges with apt when we are root on a Debian; otherwise says what is missing.
fn install_judges() -> Result<(), String> {
    let missing: Vec<&str> = JUDGES
        .iter()
        .filter(|(program, _)| !is_installed(program))
        .map(|(_, packages)| *packages)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|packages| packages.split(' ')).collect();
    let apt = |words: &[&str]| {
        Command::new("apt-get")
            .args(words)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .status()
            .is_ok_and(|status| status.success())
    };
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(&packages);
    if apt(&install) || (apt(&["update"]) && apt(&install)) {
        return Ok(());
    }
    Err(format!(
        "the tests need these Debian packages: apt-get install {}",
        packages.join(" ")
    ))
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}
