//! The hang guard: the only clock in the tests.

use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// How long a guest may take before it counts as hung. No speed is judged by it; `$HANG_GUARD` (seconds) replaces the two minutes.
pub fn hang_guard() -> Duration {
    let seconds = std::env::var("HANG_GUARD").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(120))
}

/// Waits for `child`; kills it when the guard runs out.
///
/// # Errors
/// `TimedOut` after the kill, or what `waitpid` says.
pub fn wait(child: &mut Child, guard: Duration) -> std::io::Result<ExitStatus> {
    let end = Instant::now() + guard;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > end {
            let _ = child.kill();
            child.wait()?;
            return Err(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                "the guest hung and was killed",
            ));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
