//! Runs one command inside a guest whose root is the host's `/`, and brings back what it printed and its exit status.
//!
//! Output goes to a file on hostfs, not through the console, so that it arrives byte for byte. The guest's init is a shell script that ends with
//! `poweroff` through the helper program `poweroff` of `tests/guest` or, where that is not wanted, through the exit status file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::boot::{Backend, Linux, Outcome};

/// What a command inside a guest did.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    /// Standard output and standard error together.
    pub output: String,
    /// Exit status, 128 + signal for a death by signal; -1 if the guest ended before the command did.
    pub status: i32,
}

/// A directory of its own below the host's temporary directory, removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A fresh, empty directory that every user may write.
    ///
    /// # Panics
    /// When the host's temporary directory cannot be written.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "linux-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a temporary directory");
        let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o777);
        fs::set_permissions(&path, mode).expect("permissions of a directory of our own");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs `script` by the host's `/bin/sh`: what Linux itself does.
///
/// # Panics
/// When there is no `/bin/sh`.
pub fn natively(script: &str) -> Ran {
    let output = Command::new("/bin/sh")
        .args(["-c", &format!("exec 2>&1\n{script}")])
        .output()
        .expect("/bin/sh");
    let status = std::os::unix::process::ExitStatusExt::signal(&output.status);
    Ran {
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        status: output.status.code().unwrap_or_else(|| 128 + status.unwrap_or(0)),
    }
}

/// Runs `script` by `/bin/sh` inside a guest under `backend`.
///
/// # Panics
/// When the guest cannot be started or hangs.
pub fn in_guest(backend: Backend, script: &str) -> Ran {
    in_guest_with(Linux::hostfs(backend), script).0
}

/// As [`in_guest`], on a command line of the caller's; also what the console said.
///
/// # Panics
/// When the guest cannot be started or hangs.
pub fn in_guest_with(linux: Linux, script: &str) -> (Ran, Outcome) {
    let scratch = Scratch::new();
    let dir = scratch.path().display().to_string();
    let poweroff = crate::boot::workspace().join("target/guest/poweroff");
    fs::write(scratch.path().join("script"), format!("exec 2>&1\n{script}\n")).expect("the script's file");
    let init = format!(
        "#!/bin/sh\nmount -t proc proc /proc 2>/dev/null\n/bin/sh {dir}/script >{dir}/output </dev/null\necho $? >{dir}/status\nexec {}\n",
        poweroff.display()
    );
    let init_path = scratch.path().join("init");
    fs::write(&init_path, init).expect("init's file");
    let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    fs::set_permissions(&init_path, mode).expect("permissions of a file of our own");
    let outcome = linux.args(["rw", &format!("init={}", init_path.display())]).run();
    let output = fs::read(scratch.path().join("output")).unwrap_or_default();
    let status = fs::read_to_string(scratch.path().join("status"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(-1);
    (
        Ran {
            output: String::from_utf8_lossy(&output).into_owned(),
            status,
        },
        outcome,
    )
}
