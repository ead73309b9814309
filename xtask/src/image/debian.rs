//! The Debian image: mmdebstrap writes the archive, the guest unpacks it while it comes.

use std::path::Path;
use std::process::{Command, Stdio};

use super::options::Debian;
use super::progress::Progress;
use super::stop::{self, Running};
use super::{fill, tools};

/// Packages that are an init; with one of them asked for, sysvinit is not added.
const INITS: &[&str] = &["sysvinit-core", "systemd-sysv", "runit-init", "busybox-init"];

/// What makes a tree of packages a machine with our consoles and disks. mmdebstrap runs it at the end, as root of the tree `$1`.
const SETUP: &str = r#"set -e
echo debian >"$1/etc/hostname"
printf '127.0.0.1 localhost debian\n' >"$1/etc/hosts"
printf '/dev/ubda / ext4 defaults,errors=remount-ro 0 1\n' >"$1/etc/fstab"
chroot "$1" passwd --quiet --delete root
if [ -f "$1/etc/inittab" ]; then
    sed -i -e '/^[1-6]:.*getty/d' "$1/etc/inittab"
    printf '\n# One line for each console: con0=fd:0,fd:1 is /dev/tty0, con1=pts gives /dev/tty1.\n0:2345:respawn:/sbin/getty --noclear 38400 tty0 linux\n' >>"$1/etc/inittab"
fi
"#;

/// What mmdebstrap and apt say when something is wrong with the world outside, and what can be done.
const WAYS_OUT: &[(&str, &str)] = &[
    (
        "Temporary failure resolving",
        "no network, or no such mirror: --mirror URL names another",
    ),
    (
        "Could not resolve",
        "no network, or no such mirror: --mirror URL names another",
    ),
    (
        "Could not connect",
        "the mirror does not answer: --mirror URL names another",
    ),
    (
        "Connection timed out",
        "the mirror does not answer: --mirror URL names another",
    ),
    (
        "does not have a Release file",
        "the mirror has no such release: --suite and --mirror",
    ),
    ("404", "the mirror has no such release: --suite and --mirror"),
    (
        "NO_PUBKEY",
        "the release's key is missing: apt-get install debian-archive-keyring",
    ),
    (
        "Unable to locate package",
        "a package of --include does not exist in this release",
    ),
    (
        "No space left on device",
        "no space left for the packages: TMPDIR=DIR names a larger place",
    ),
    (
        "newuidmap",
        "mmdebstrap needs newuidmap as an ordinary user: apt-get install uidmap",
    ),
    (
        "/etc/subuid",
        "this user has no range in /etc/subuid and /etc/subgid: usermod --add-subuids and --add-subgids give one",
    ),
    (
        "unprivileged_userns_clone",
        "the host forbids user namespaces: run this as root, or sysctl kernel.unprivileged_userns_clone=1",
    ),
];

/// Fills the image.
///
/// # Errors
/// What mmdebstrap says and what can be done about it, or what [`fill::unpack`] says.
pub fn fill(linux: &Path, image: &Path, debian: &Debian, progress: &Progress) -> Result<(), String> {
    let mmdebstrap = tools::program("mmdebstrap", "mmdebstrap")?;
    let mut include = debian.include.clone();
    if !include.iter().any(|name| INITS.contains(&name.as_str())) {
        include.push("sysvinit-core".into());
    }
    let mut command = Command::new(mmdebstrap);
    command
        .args(["--variant=minbase", "--format=tar"])
        .arg(format!("--include={}", include.join(",")))
        .arg(format!("--customize-hook={SETUP}"))
        .args([&debian.suite, "-", &debian.mirror])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    progress.stage(&format!(
        "fetching and unpacking packages of {} (some minutes)",
        debian.suite
    ));
    let mut maker = Running::start(&mut command)?;
    let errors = stop::collect(maker.child().stderr.take().expect("it is piped"));
    let mut archive = maker.child().stdout.take().expect("it is piped");
    let filled = fill::unpack(linux, image, &mut archive, 0, progress);
    drop(archive);
    let is_made = maker.wait();
    let errors = errors.join().unwrap_or_default();
    if is_made {
        return filled;
    }
    // Where the archive broke off, the guest's complaints are a consequence; where the guest ended first, mmdebstrap's are.
    if errors.contains("Broken pipe") && filled.is_err() {
        return filled;
    }
    Err(refused(&errors))
}

fn refused(errors: &str) -> String {
    let way_out = WAYS_OUT.iter().find(|(said, _)| errors.contains(said));
    let reason: Vec<&str> = errors
        .lines()
        .filter(|line| line.starts_with("E: ") || line.starts_with("W: "))
        .collect();
    let said = if reason.is_empty() {
        tools::last_words(errors)
    } else {
        tools::last_words(&reason.join("\n"))
    };
    match way_out {
        Some((_, way)) => format!("mmdebstrap: {way}\n  {said}"),
        None => format!("mmdebstrap failed: {said}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_from_outside_comes_with_a_way_out() {
        let text =
            refused("I: running apt-get update...\nErr:1 http://x Could not resolve 'x'\nE: apt-get update failed\n");
        assert!(text.contains("--mirror"), "{text}");
        assert!(
            text.contains("E: apt-get update failed") && !text.contains("I: running"),
            "{text}"
        );
    }
}
