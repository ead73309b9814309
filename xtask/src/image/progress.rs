//! [`Progress`]: what is going on, on standard error. A moving line on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// One line that shows the stage and its bytes.
pub struct Progress {
    /// Only on a terminal.
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Nothing is going on yet.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar }
    }

    /// A new stage, whose bytes are not known beforehand.
    pub fn stage(&self, text: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_style(style("{spinner} {msg}"));
                bar.set_position(0);
                bar.set_message(text.to_owned());
            }
            None => eprintln!("image: {text}"),
        }
    }

    /// A new stage of `total` bytes; 0 if nobody knows.
    pub fn transfer(&self, text: &str, total: u64) {
        self.stage(text);
        let Some(bar) = &self.bar else {
            return;
        };
        if total == 0 {
            bar.set_style(style("{spinner} {msg}: {bytes} ({bytes_per_sec})"));
        } else {
            bar.set_length(total);
            bar.set_style(style("{spinner} {msg} [{bar:30}] {bytes}/{total_bytes}"));
        }
    }

    /// `bytes` more of the stage's are done.
    pub fn advance(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }

    /// The last words.
    pub fn done(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("image: {text}");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
