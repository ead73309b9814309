//! A command line of `linux`, booted to its end.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::guard::{hang_guard, wait};

/// How guest programs are caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// `seccomp=on`.
    Seccomp,
    /// `seccomp=off`.
    Ptrace,
}

impl Backend {
    /// Both.
    pub const ALL: [Backend; 2] = [Backend::Seccomp, Backend::Ptrace];

    /// The option that asks for it.
    pub fn option(self) -> &'static str {
        match self {
            Backend::Seccomp => "seccomp=on",
            Backend::Ptrace => "seccomp=off",
        }
    }
}

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the workspace")
        .to_owned()
}

/// The executable under test: `$LINUX`, else the release build, else the development build.
///
/// # Panics
/// When there is none: `cargo build --release` makes it.
pub fn executable() -> PathBuf {
    if let Some(path) = std::env::var_os("LINUX") {
        return path.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    let found = ["release/linux", "debug/linux"]
        .iter()
        .map(|name| target.join(name))
        .find(|path| path.exists());
    found.unwrap_or_else(|| panic!("no linux in {}: run cargo build --release first", target.display()))
}

/// What a guest left behind.
#[derive(Debug)]
pub struct Outcome {
    /// Standard output: the console.
    pub stdout: Vec<u8>,
    /// Standard error: messages before the kernel's log.
    pub stderr: Vec<u8>,
    /// How the process ended.
    pub status: ExitStatus,
}

impl Outcome {
    /// The console's text, lines ended by `\n` alone.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&self.stdout).replace("\r\n", "\n")
    }

    /// Standard error as text.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The status as a shell shows it: 128 + signal for a death by signal.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }
}

/// A command line in the making.
pub struct Linux {
    executable: Option<PathBuf>,
    wrapper: Vec<OsString>,
    args: Vec<OsString>,
    stdin: Vec<u8>,
    stdin_from: Option<Stdio>,
    user: Option<u32>,
    guard: Duration,
    directory: Option<PathBuf>,
}

impl Default for Linux {
    fn default() -> Self {
        Self::new()
    }
}

impl Linux {
    /// No arguments, empty standard input.
    pub fn new() -> Self {
        Self {
            executable: None,
            wrapper: Vec::new(),
            args: Vec::new(),
            stdin: Vec::new(),
            stdin_from: None,
            user: None,
            guard: hang_guard(),
            directory: None,
        }
    }

    /// The host's `/` as root by hostfs, quiet, under `backend`.
    pub fn hostfs(backend: Backend) -> Self {
        Self::new().args(["rootfstype=hostfs", "quiet", backend.option()])
    }

    /// Another executable than [`executable`] finds.
    pub fn executable(mut self, executable: impl Into<PathBuf>) -> Self {
        self.executable = Some(executable.into());
        self
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    pub fn args<T: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Started by this program, which gets executable and arguments behind its own words: `env`, `setpriv`, a shell that sets limits.
    pub fn under<T: AsRef<OsStr>>(mut self, wrapper: impl IntoIterator<Item = T>) -> Self {
        self.wrapper
            .extend(wrapper.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Started by a shell that runs `first` before it: `ulimit -n 20`, `cd /`, `exec >&-`.
    pub fn after(self, first: &str) -> Self {
        self.under(["/bin/bash", "-c", &format!("{first}\nexec \"$0\" \"$@\"")])
    }

    /// Standard input is a pipe with this text.
    pub fn stdin(mut self, text: impl AsRef<[u8]>) -> Self {
        self.stdin = text.as_ref().to_owned();
        self
    }

    /// Standard input is this file.
    pub fn stdin_from(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin_from = Some(stdin.into());
        self
    }

    /// Runs as this user and group of the host instead of the caller, if that is root; other callers have no more rights anyway.
    pub fn user(mut self, uid: u32) -> Self {
        self.user = Some(uid);
        self
    }

    /// How long it may take before it counts as hung.
    pub fn guard(mut self, guard: Duration) -> Self {
        self.guard = guard;
        self
    }

    /// The working directory.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// The host command.
    pub fn command(&self) -> Command {
        let own = self.executable.clone().unwrap_or_else(executable);
        let mut words = self.wrapper.iter().cloned().chain([own.into_os_string()]);
        let mut command = Command::new(words.next().expect("the executable at least"));
        command.args(words).args(&self.args);
        if let Some(uid) = self.user.filter(|_| is_root()) {
            command.uid(uid).gid(uid);
        }
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }

    /// Boots and waits for the end.
    ///
    /// # Panics
    /// When the host cannot start it or it hangs.
    pub fn run(mut self) -> Outcome {
        let mut command = self.command();
        let piped = self.stdin_from.is_none();
        command
            .stdin(self.stdin_from.take().unwrap_or_else(Stdio::piped))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("linux starts");
        if piped {
            let mut pipe = child.stdin.take().expect("stdin is a pipe");
            let text = std::mem::take(&mut self.stdin);
            // A guest that ends without reading breaks the pipe; that is its right.
            std::thread::spawn(move || pipe.write_all(&text));
        }
        let mut out = child.stdout.take().expect("stdout is a pipe");
        let mut err = child.stderr.take().expect("stderr is a pipe");
        let stdout = std::thread::spawn(move || read_all(&mut out));
        let stderr = std::thread::spawn(move || read_all(&mut err));
        let status = wait(&mut child, self.guard);
        let (stdout, stderr) = (stdout.join().expect("reader"), stderr.join().expect("reader"));
        match status {
            Ok(status) => Outcome { stdout, stderr, status },
            Err(error) => panic!(
                "{error}; console:\n{}\n{}",
                String::from_utf8_lossy(&stdout),
                String::from_utf8_lossy(&stderr)
            ),
        }
    }
}

/// Whether the tests run as the host's root.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

fn read_all(from: &mut dyn Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = from.read_to_end(&mut bytes);
    bytes
}
