//! Real UML as a peer: Debian's `linux.uml` with the host's `/` as its root.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::guard::{hang_guard, wait};
use crate::script::Scratch;

/// A real UML that runs `script` and then powers off; words such as `ubda=…` come from `words`.
pub struct Uml {
    child: Child,
    scratch: Scratch,
}

impl Uml {
    /// Starts it.
    ///
    /// # Panics
    /// When `linux.uml` is not installed: `cargo xtask test` does it.
    pub fn start(words: &[String], script: &str) -> Self {
        let scratch = Scratch::new();
        let directory = scratch.path().display().to_string();
        fs::write(
            scratch.path().join("init"),
            format!(
                "#!/bin/sh\nmount -t proc proc /proc\n(\n{script}\n) >{directory}/output 2>&1 </dev/null\nsync\nexec busybox poweroff -f\n"
            ),
        )
        .expect("init's file");
        let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        fs::set_permissions(scratch.path().join("init"), mode).expect("permissions of a file of our own");
        let console = fs::File::create(scratch.path().join("console")).expect("the console's file");
        let child = Command::new("linux.uml")
            .args(["mem=128M", "rootfstype=hostfs", "rw", "con=null", "con0=null,fd:1"])
            .arg(format!("uml_dir={directory}"))
            .arg(format!("init={directory}/init"))
            .args(words)
            .env("TMPDIR", scratch.path())
            .stdin(Stdio::null())
            .stdout(console.try_clone().expect("a descriptor"))
            .stderr(console)
            .spawn()
            .expect("linux.uml starts (Debian's package user-mode-linux)");
        Self { child, scratch }
    }

    /// The host's number of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `path` exists.
    ///
    /// # Panics
    /// When UML ends before.
    pub fn wait_for(&mut self, path: &Path) {
        while !path.exists() {
            let ended = self.child.try_wait().expect("a child");
            assert_eq!(ended, None, "UML ended: {}", self.console());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the end: what the script printed, and what the console showed.
    ///
    /// # Panics
    /// When it hangs.
    pub fn finish(mut self) -> (String, String) {
        let ended = wait(&mut self.child, hang_guard());
        let console = self.console();
        ended.unwrap_or_else(|error| panic!("UML: {error}; console:\n{console}"));
        let output = fs::read(self.scratch.path().join("output")).unwrap_or_default();
        (String::from_utf8_lossy(&output).into_owned(), console)
    }

    fn console(&self) -> String {
        let console = fs::read(self.scratch.path().join("console")).unwrap_or_default();
        String::from_utf8_lossy(&console).replace("\r\n", "\n")
    }
}

impl Drop for Uml {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // SIGTERM: its helper processes would outlive a SIGKILL.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = wait(&mut self.child, Duration::from_secs(5));
    }
}

/// Runs `script` in a real UML.
///
/// # Panics
/// As [`Uml::start`] and [`Uml::finish`].
pub fn in_uml(words: &[String], script: &str) -> (String, String) {
    Uml::start(words, script).finish()
}
