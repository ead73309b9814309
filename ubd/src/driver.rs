//! [`UbdDriver`]: what the block layer sees of a disk. Requests go to its [`Engine`].

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arch_um::Errno;
use arch_um::host::image::{Cached, Durability};
use arch_um::sync::{SpinLock, order};
use arch_um::time::{Instant, Timer};
use kernel::block::{Bio, BioFlags, BlockDevice, BlockDriver, Op};
use kernel::syscall::Context;
use kernel::user::UserPtr;
use kernel::vfs::File;

use crate::engine::{self, Engine};
use crate::promptness::Promptness;
use crate::spec::{Flags, Spec};
use crate::store::Store;

/// Asks for an ATA disk's identification (`linux/hdreg.h`).
const HDIO_GET_IDENTITY: u32 = 0x030d;
/// Zeros written at a time where the host cannot make a hole.
const ZEROS: usize = 64 * 1024;
/// How long something may be in memory only when the guest does not flush.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many failures of a disk are told one by one.
const MOST_REPORTS: u32 = 10;

/// One disk's driver.
pub struct UbdDriver {
    served: Arc<Served>,
    serial: Option<String>,
}

/// A disk while requests are under way.
pub struct Served {
    name: String,
    /// Gone when the disk has been removed.
    store: SpinLock<Option<Arc<dyn Store>>>,
    engine: SpinLock<Engine>,
    /// Cleared when the host turns out not to know holes.
    discards: AtomicBool,
    /// The same for zeroed ranges.
    zeroes: AtomicBool,
    reports: AtomicU32,
    promptness: Promptness,
    /// Flushes a store that has something in memory only.
    saver: Timer,
    saver_set: AtomicBool,
}

impl UbdDriver {
    /// A driver over `store`, which may be written unless `read_only`.
    pub fn start(store: Arc<dyn Store>, engine: Engine, read_only: ReadOnly, spec: &Spec) -> Arc<Self> {
        let trims = read_only == ReadOnly::No && !spec.flags.contains(Flags::NO_TRIM);
        let served = Arc::new_cyclic(|disk: &Weak<Served>| {
            let disk = disk.clone();
            Served {
                name: spec.name(),
                store: SpinLock::new(&order::DRIVER, Some(store)),
                engine: SpinLock::new(&order::DRIVER, engine),
                discards: AtomicBool::new(trims),
                zeroes: AtomicBool::new(trims),
                reports: AtomicU32::new(0),
                promptness: Promptness::default(),
                saver: Timer::new(Arc::new(move || {
                    if let Some(disk) = disk.upgrade() {
                        disk.saver_set.store(false, Ordering::Relaxed);
                        engine::submit_job(Box::new(move || disk.save()));
                    }
                })),
                saver_set: AtomicBool::new(false),
            }
        });
        Arc::new(Self {
            served,
            serial: spec.serial.clone(),
        })
    }

    /// Hands what is only in memory to the host on the way out of the process.
    pub fn save_at_exit(&self) {
        let store = self.served.store.try_lock().and_then(|store| store.clone());
        if let Some(store) = store {
            store.save_at_exit();
        }
    }

    /// Flushes and closes the files. Requests that come later get `EIO`.
    pub fn close(&self) {
        self.served.save();
        let engine = std::mem::take(&mut *self.served.engine.lock());
        let store = self.served.store.lock().take();
        drop((engine, store));
    }
}

/// Whether a disk is never written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOnly {
    /// Never.
    Yes,
    /// It may be.
    No,
}

impl BlockDriver for UbdDriver {
    fn submit(&self, bio: Bio) {
        engine::submit(self.served.clone(), bio);
    }

    fn can_discard(&self) -> bool {
        self.served.discards()
    }

    fn can_fua(&self) -> bool {
        true
    }

    fn serial(&self) -> Option<String> {
        self.serial.clone()
    }

    fn ioctl(
        &self,
        device: &Arc<BlockDevice>,
        _cx: &Context,
        _file: &File,
        cmd: u32,
        arg: u64,
    ) -> Result<usize, Errno> {
        if cmd != HDIO_GET_IDENTITY {
            return Err(Errno::ENOTTY);
        }
        let geometry = self.geometry(device.disk().len()).ok_or(Errno::ENOTTY)?;
        // Words of an ATA identification: what UML fills in, the rest is zero.
        let mut identity = [0; 512];
        for (word, value) in [
            (1, geometry.cylinders),
            (3, geometry.heads.into()),
            (6, geometry.sectors.into()),
        ] {
            identity[word * 2..][..2].copy_from_slice(&u16::to_le_bytes(value));
        }
        UserPtr::<[u8; 512]>::new(arg).write(&identity)?;
        Ok(0)
    }
}

impl Served {
    /// What serves it.
    pub fn engine(&self) -> Engine {
        self.engine.lock().clone()
    }

    /// Answers a read from the host's memory.
    pub fn read_cached(&self, bio: &mut Bio) -> Cached {
        let store = self.store.lock().clone();
        store.map_or(Cached::No, |store| store.read_cached(bio.offset, &mut bio.data))
    }

    /// Whether the calling thread may make a short write with `flags` himself: it is a copy into the host's memory, and the host has not let a writer wait lately.
    /// Threads that are not kernel threads bring what others wait for: they leave it to the pool.
    pub fn writes_at_once(&self, flags: BioFlags) -> bool {
        !flags.contains(BioFlags::FUA)
            && arch_um::thread::try_current().is_some()
            && self.promptness.holds()
            && self.store.lock().as_ref().is_some_and(|store| store.is_buffered())
    }

    /// What is known of how the host takes writes.
    pub fn promptness(&self) -> &Promptness {
        &self.promptness
    }

    /// Carries out a request on the calling host thread, which may block.
    ///
    /// # Errors
    /// The host's.
    pub fn carry_out(&self, bio: &mut Bio) -> Result<(), Errno> {
        let store = self.store.lock().clone().ok_or(Errno::EIO)?;
        let outcome = match bio.op {
            Op::Read => store.read(bio.offset, &mut bio.data),
            Op::Write if bio.flags.contains(BioFlags::FUA) => store.write(bio.offset, &bio.data, Durability::Stable),
            Op::Write => store.write(bio.offset, &bio.data, Durability::Cached),
            Op::Flush => store.flush(),
            Op::Discard => self.discard(&*store, bio.offset, bio.len),
            Op::WriteZeroes => self.write_zeroes(&*store, bio.offset, bio.len),
        };
        self.look_at(bio, outcome);
        if store.is_unsaved() && !self.saver_set.swap(true, Ordering::Relaxed) {
            self.saver.set(Instant::now().saturating_add(PATIENCE));
        }
        outcome
    }

    /// Learns from an outcome, and tells the user of a failure.
    pub fn look_at(&self, bio: &Bio, outcome: Result<(), Errno>) {
        match (outcome, bio.op) {
            (Ok(()), _) => {}
            (Err(Errno::EOPNOTSUPP), Op::Discard) => self.discards.store(false, Ordering::Relaxed),
            (Err(Errno::EOPNOTSUPP), _) => {}
            (Err(errno), _) => self.report(bio, errno),
        }
    }

    /// Whether the host may be asked for holes.
    pub fn discards(&self) -> bool {
        self.discards.load(Ordering::Relaxed)
    }

    /// Whether the host may be asked for zeroed ranges.
    pub fn zeroes(&self) -> bool {
        self.zeroes.load(Ordering::Relaxed)
    }

    fn report(&self, bio: &Bio, errno: Errno) {
        let before = self.reports.fetch_add(1, Ordering::Relaxed);
        if before < MOST_REPORTS {
            let (name, op, len, at) = (&self.name, bio.op, bio.len, bio.offset);
            log::error!("{name}: {op:?} of {len} bytes at {at} failed: {errno}");
        }
        if before + 1 == MOST_REPORTS {
            log::error!("{}: further failures are not shown", self.name);
        }
    }

    fn save(&self) {
        let store = self.store.lock().clone();
        if let Some(store) = store.filter(|store| store.is_unsaved())
            && let Err(errno) = store.flush()
        {
            log::error!("{}: the bitmap of the COW file cannot be written: {errno}", self.name);
        }
    }

    /// Gives the range back to the host. A discard is a hint: where the host cannot, it is `EOPNOTSUPP` once and never offered again.
    fn discard(&self, store: &dyn Store, offset: u64, len: u64) -> Result<(), Errno> {
        if !self.discards() {
            return Err(Errno::EOPNOTSUPP);
        }
        store.discard(offset, len)
    }

    /// Zeros a range, by hand where the host has no call for it.
    fn write_zeroes(&self, store: &dyn Store, offset: u64, len: u64) -> Result<(), Errno> {
        if self.zeroes() {
            match store.write_zeroes(offset, len) {
                Err(Errno::EOPNOTSUPP) => self.zeroes.store(false, Ordering::Relaxed),
                outcome => return outcome,
            }
        }
        let zeros = vec![0; ZEROS.min(len as usize)];
        let mut done = 0;
        while done < len {
            let count = (len - done).min(ZEROS as u64);
            store.write(offset + done, &zeros[..count as usize], Durability::Cached)?;
            done += count;
        }
        Ok(())
    }
}
