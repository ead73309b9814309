//! What damage must not lead to: a disk that notices reads and writes outside of itself and requests without end, and a log that is heard.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};

use ext4::Result;
use ext4::device::BlockDevice;
use ext4::fault::FaultDevice;

/// More requests than any use of a small image needs.
const MOST: u64 = 400_000;

/// A disk that panics.
pub struct Guard {
    inner: Arc<FaultDevice>,
    requests: AtomicU64,
}

impl Guard {
    pub fn new(inner: Arc<FaultDevice>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            requests: AtomicU64::new(0),
        })
    }

    fn asked(&self, at: u64, len: u64) {
        assert!((at | len).is_multiple_of(512), "{len} bytes at {at} are no sectors");
        assert!(
            at.checked_add(len).is_some_and(|end| end <= self.inner.len()),
            "{len} bytes at {at} are outside of the disk"
        );
        let count = self.requests.fetch_add(1, Ordering::Relaxed);
        assert!(count < MOST, "requests without end");
    }
}

impl BlockDevice for Guard {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read(&self, at: u64, data: &mut [u8]) -> Result<()> {
        self.asked(at, data.len() as u64);
        self.inner.read(at, data)
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<()> {
        self.asked(at, data.len() as u64);
        self.inner.write(at, data)
    }

    fn flush(&self) -> Result<()> {
        self.asked(0, 0);
        self.inner.flush()
    }

    fn discard(&self, at: u64, len: u64) -> Result<()> {
        self.asked(at, len);
        self.inner.discard(at, len)
    }

    fn write_zeroes(&self, at: u64, len: u64) -> Result<()> {
        self.asked(at, len);
        self.inner.write_zeroes(at, len)
    }
}

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps what a thread logs.
struct Ear;

impl log::Log for Ear {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.with_borrow_mut(|lines| {
            // A thread that nobody listens to does not fill the memory.
            if lines.len() < 10_000 {
                lines.push(record.args().to_string());
            }
        });
    }

    fn flush(&self) {}
}

/// What this thread has logged since it was last asked.
pub fn heard() -> Vec<String> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Ear).expect("nobody else listens in the tests");
        log::set_max_level(log::LevelFilter::Warn);
    });
    LINES.take()
}
