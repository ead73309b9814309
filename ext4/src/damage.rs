//! The disk is damaged: what the log is told, what the super block keeps of it (ext4 disk layout, "Super Block": `s_error_count` to
//! `s_last_error_func`), and what `errors=` makes of it.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use core::fmt;
use core::panic::Location;
use core::sync::atomic::Ordering;

use kernel::vfs::Timespec;

use crate::device::BlockDevice;
use crate::inode::Inode;
use crate::instance::Ext4;
use crate::layout::geometry::{SUPER_AT, SUPER_LEN};
use crate::layout::{get16, get32, put, put16, put32};
use crate::mount::options::OnError;
use crate::transaction::Tx;
use crate::{Errno, Result};

/// `s_state`: errors were met.
pub(crate) const ERRORS: u16 = 2;
/// `s_error_count`, and the first and the last error behind it.
const COUNT: usize = 0x194;
const FIRST: Fields = Fields {
    time: 0x198,
    time_high: 0x278,
    ino: 0x19c,
    block: 0x1a0,
    func: 0x1a8,
    line: 0x1c8,
    code: 0x27a,
};
const LAST: Fields = Fields {
    time: 0x1cc,
    time_high: 0x279,
    ino: 0x1d0,
    block: 0x1d8,
    func: 0x1e0,
    line: 0x1d4,
    code: 0x27b,
};
/// All of them, in two pieces.
const KEPT: [(usize, usize); 2] = [(COUNT, 0x200), (0x278, 0x27c)];
/// Bytes of a function's name.
const FUNC_LEN: usize = 32;

/// Where one error lies in the super block.
struct Fields {
    time: usize,
    time_high: usize,
    ino: usize,
    block: usize,
    func: usize,
    line: usize,
    code: usize,
}

/// What an error is about. Zero: of none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Culprit {
    pub ino: u32,
    pub block: u64,
}

/// One error.
#[derive(Clone)]
struct Record {
    time: Timespec,
    func: String,
    line: u32,
    culprit: Culprit,
    code: u8,
}

/// Errors that the super block is still to be told.
#[derive(Default)]
pub(crate) struct ErrorLog {
    count: u32,
    first: Option<Record>,
    last: Option<Record>,
}

/// ext4's own number for an error.
fn code(error: Errno) -> u8 {
    match error {
        Errno::EIO => 2,
        Errno::ENOMEM => 3,
        Errno::EBADMSG => 4,
        Errno::EUCLEAN => 5,
        Errno::ENOSPC => 6,
        Errno::EROFS => 8,
        Errno::ESHUTDOWN => 16,
        _ => 1,
    }
}

/// What stands for a function's name: the part of this driver that complains.
fn func_of(place: &Location<'_>) -> String {
    let file = place.file();
    let inner = file.rsplit_once("src/").map_or(file, |(_, inner)| inner);
    let mut name = format!("ext4_{}", inner.trim_end_matches(".rs").replace('/', "_"));
    name.truncate(FUNC_LEN);
    name
}

impl Inode {
    /// This inode, or what hangs on it, is damaged. See [`Ext4::error`].
    #[track_caller]
    pub(crate) fn error(&self, what: fmt::Arguments<'_>) -> Errno {
        let culprit = Culprit {
            ino: self.number(),
            block: 0,
        };
        self.fs.report(culprit, Errno::EUCLEAN, what)
    }
}

impl Ext4 {
    /// The disk is damaged: tells the log, and does what `errors=` says. Returns `EUCLEAN`, Linux's `EFSCORRUPTED`.
    #[track_caller]
    pub(crate) fn error(&self, what: fmt::Arguments<'_>) -> Errno {
        self.report(Culprit::default(), Errno::EUCLEAN, what)
    }

    /// The same of an inode that is not in memory.
    #[track_caller]
    pub(crate) fn error_of(&self, ino: u32, what: fmt::Arguments<'_>) -> Errno {
        self.report(Culprit { ino, block: 0 }, Errno::EUCLEAN, what)
    }

    /// The same with everything said. Returns `error`.
    #[track_caller]
    pub(crate) fn report(&self, culprit: Culprit, error: Errno, what: fmt::Arguments<'_>) -> Errno {
        self.record(Location::caller(), culprit, error, what);
        let action = self.options.lock().errors;
        match action {
            // The worker tells the super block: this may be inside a transaction.
            OnError::Continue => self.worker.call(),
            OnError::RemountReadOnly => self.stop_writes(),
            OnError::Panic => {
                if !self.read_only.load(Ordering::Acquire) {
                    self.stop_writes();
                    arch_um::exit::kernel_panic(&format!("EXT4-fs (device {}): panic forced after error", self.name));
                }
            }
        }
        error
    }

    /// It cannot go on, whatever `errors=` says: `mount -o abort`, a journal that has stopped.
    #[track_caller]
    pub(crate) fn abort(&self, error: Errno, what: fmt::Arguments<'_>) {
        self.record(Location::caller(), Culprit::default(), error, what);
        if self.options.lock().errors == OnError::Panic {
            arch_um::exit::kernel_panic(&format!("EXT4-fs (device {}): panic forced after error", self.name));
        }
        self.stop_writes();
    }

    fn record(&self, place: &Location<'_>, culprit: Culprit, error: Errno, what: fmt::Arguments<'_>) {
        let (func, line) = (func_of(place), place.line());
        let mut about = String::new();
        if culprit.ino != 0 {
            about.push_str(&format!("inode #{}: ", culprit.ino));
        }
        if culprit.block != 0 {
            about.push_str(&format!("block {}: ", culprit.block));
        }
        if let Some(task) = kernel::task::try_current() {
            about.push_str(&format!("comm {}: ", task.comm().to_text()));
        }
        log::error!("EXT4-fs error (device {}): {func}:{line}: {about}{what}", self.name);
        let record = Record {
            time: Timespec::now(),
            func,
            line,
            culprit,
            code: code(error),
        };
        let mut errors = self.errors.lock();
        errors.count = errors.count.saturating_add(1);
        errors.first.get_or_insert_with(|| record.clone());
        let old = errors.last.replace(record);
        drop(errors);
        drop(old);
    }

    /// Nothing is written any more: the journal stops where it is, and the super block on the disk is told why.
    fn stop_writes(&self) {
        if self.read_only.load(Ordering::Acquire) || self.stopped.swap(true, Ordering::AcqRel) {
            return;
        }
        if self.has_journal {
            self.journal.abort(Errno::EIO);
        }
        log::error!("EXT4-fs ({}): Remounting filesystem read-only", self.name);
        if let Err(error) = self.save_errors() {
            log::error!("EXT4-fs ({}): the super block cannot be written: {error}", self.name);
        }
    }

    /// Puts what is to be told into the super block on the disk, around the journal.
    fn save_errors(&self) -> Result<()> {
        let errors = core::mem::take(&mut *self.errors.lock());
        self.patch_super(|raw| errors.store(raw))
    }

    /// Changes the super block on the disk, and in memory, around the journal. What transactions have changed and not brought home is not written.
    pub(crate) fn patch_super(&self, change: impl Fn(&mut [u8])) -> Result<()> {
        let mut raw = vec![0; SUPER_LEN];
        self.device.read(SUPER_AT, &mut raw)?;
        self.edit_super(&mut raw, &change);
        let (block, at) = self.geometry.super_place();
        let buffer = self.buffers.get(block)?;
        buffer.change(|bytes| self.edit_super(&mut bytes[at..at + SUPER_LEN], &change));
        self.device.write(SUPER_AT, &raw)?;
        self.device.flush()
    }

    /// Tells the super block what is to be told, in a transaction. Not inside another one.
    pub(crate) fn tell_errors(&self) -> Result<()> {
        if self.errors.lock().count == 0 || !self.is_writable() {
            return Ok(());
        }
        let news = self.news();
        Tx::begin(self, 1)?.change_super(|raw| news.store(raw))
    }

    /// A replay has brought an older super block home: the errors that `before` knew of are put back.
    pub(crate) fn keep_errors(&self, before: &[u8]) -> Result<()> {
        let (block, at) = self.geometry.super_place();
        let count = self.buffers.get(block)?.read(|bytes| get32(bytes, at + COUNT));
        if get32(before, COUNT) <= count {
            return Ok(());
        }
        self.patch_super(|raw| {
            for (from, to) in KEPT {
                put(raw, from, &before[from..to]);
            }
            let state = get16(raw, 0x3a);
            put16(raw, 0x3a, state | ERRORS);
        })
    }

    /// Whether the super block knows of errors, or will.
    pub(crate) fn has_errors(&self) -> bool {
        if self.errors.lock().count > 0 {
            return true;
        }
        let (block, at) = self.geometry.super_place();
        self.buffers
            .get(block)
            .is_ok_and(|buffer| buffer.read(|bytes| get32(bytes, at + COUNT)) > 0)
    }
}

impl ErrorLog {
    /// Adds this to a super block.
    pub(crate) fn store(&self, raw: &mut [u8]) {
        let (Some(first), Some(last)) = (&self.first, &self.last) else {
            return;
        };
        let state = get16(raw, 0x3a);
        put16(raw, 0x3a, state | ERRORS);
        let known = get32(raw, COUNT);
        if known == 0 {
            first.store(raw, &FIRST);
        }
        last.store(raw, &LAST);
        put32(raw, COUNT, known.saturating_add(self.count));
    }
}

impl Record {
    fn store(&self, raw: &mut [u8], at: &Fields) {
        put32(raw, at.time, self.time.sec as u32);
        put(raw, at.time_high, &[(self.time.sec >> 32) as u8]);
        put32(raw, at.ino, self.culprit.ino);
        put(raw, at.block, &self.culprit.block.to_le_bytes());
        let mut func = [0; FUNC_LEN];
        func[..self.func.len()].copy_from_slice(self.func.as_bytes());
        put(raw, at.func, &func);
        put32(raw, at.line, self.line);
        put(raw, at.code, &[self.code]);
    }
}
