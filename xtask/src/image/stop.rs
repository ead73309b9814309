//! ^C and SIGTERM: the programs at work are ended, and what is half done is removed on the way out by its `Drop`.

use std::io::Read;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on these signals are requests, not ends.
///
/// # Errors
/// The host does not let us handle signals.
pub fn listen() -> Result<(), String> {
    let flag = ASKED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag)).map_err(|error| format!("signal {signal}: {error}"))?;
    }
    Ok(())
}

/// Whether somebody asked us to stop.
pub fn is_asked() -> bool {
    ASKED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// `error`, or what the user knows better than any program that lost its peer.
pub fn or_interrupted(error: String) -> String {
    if is_asked() { "interrupted".into() } else { error }
}

/// A program at work. It gets SIGTERM when we are asked to stop, and when this is dropped before [`Running::wait`].
pub struct Running {
    child: Child,
    /// Whether its number may already be another's. Held while a signal is sent.
    is_over: Arc<Mutex<bool>>,
}

impl Running {
    /// Starts `command`.
    ///
    /// # Errors
    /// The program is missing or cannot be executed.
    pub fn start(command: &mut Command) -> Result<Self, String> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
        let is_over = Arc::new(Mutex::new(false));
        let (over, pid) = (Arc::clone(&is_over), process(&child));
        std::thread::spawn(move || {
            while !*over.lock().expect("nobody panics with it") {
                if is_asked() {
                    end(pid, &over);
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Ok(Self { child, is_over })
    }

    /// The program, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for the end; whether it was a good one.
    pub fn wait(mut self) -> bool {
        self.reap()
    }

    fn reap(&mut self) -> bool {
        let _ = waitid(
            Id::Pid(process(&self.child)),
            WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT,
        );
        *self.is_over.lock().expect("nobody panics with it") = true;
        self.child.wait().is_ok_and(|status| status.success())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(process(&self.child), &self.is_over);
        self.reap();
    }
}

fn end(pid: Pid, is_over: &Mutex<bool>) {
    let over = is_over.lock().expect("nobody panics with it");
    if !*over {
        let _ = kill(pid, Signal::SIGTERM);
    }
}

fn process(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// Reads all of a pipe on a thread of its own, so that its writer never waits for us.
pub fn collect(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).replace('\r', "")
    })
}
