//! The `log` crate's logger: `error!` to `trace!` become kernel records.

use super::{Level, vprintk};

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        // The ring keeps everything that `log::max_level` lets through; consoles choose by their own level.
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let level = match record.level() {
            log::Level::Error => Level::Err,
            log::Level::Warn => Level::Warning,
            log::Level::Info => Level::Info,
            log::Level::Debug | log::Level::Trace => Level::Debug,
        };
        vprintk(level, 0, *record.args());
    }

    fn flush(&self) {
        super::flush();
    }
}

/// Makes the kernel log the target of the `log` crate, up to `debug!`. A logger that is installed already stays.
pub fn install_logger() {
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(log::LevelFilter::Debug);
    }
}
