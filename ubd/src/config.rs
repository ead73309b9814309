//! The disks there are: made at boot and, by the management console, at any time (`config ubdb=…`, `config ubdb`, `remove ubdb`).
//!
//! Lock order: [`DISKS`] ([`order::DISK_CONFIG`], sleeps) is held while files are opened and disks registered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arch_um::Errno;
use arch_um::sync::{Mutex, order};
use kernel::block::{self, Disk, DiskInfo};
use kernel::vfs::DevT;

use crate::driver::{ReadOnly, UbdDriver};
use crate::engine::Engine;
use crate::open;
use crate::refusal::Refusal;
use crate::spec::{self, Flags, MOST_DISKS, ParseError, Spec, Word};

/// The block major number of ubd.
pub const UBD_MAJOR: u32 = 98;
/// The image UML looks for when no `ubda` is given.
const DEFAULT_IMAGE: &str = "root_fs";

/// A disk that is there.
struct Configured {
    spec: Spec,
    backing: Option<PathBuf>,
    driver: Arc<UbdDriver>,
    disk: Arc<Disk>,
}

struct Table {
    disks: BTreeMap<u32, Configured>,
    /// What `ubd=…` says of every disk.
    all: Flags,
}

static DISKS: Mutex<Table> = Mutex::new(
    &order::DISK_CONFIG,
    Table {
        disks: BTreeMap::new(),
        all: Flags::empty(),
    },
);

/// Configures every disk the command line names (`words`: what stood behind `ubd`), in order. What fails is logged and left out, and the boot
/// goes on, as in UML.
pub fn configure(words: &[String]) {
    let mut thrown_away = Vec::new();
    let mut specs: Vec<Spec> = Vec::new();
    let mut table = DISKS.lock();
    for word in words {
        match spec::parse(word) {
            Ok(Word::Disk(spec)) if specs.iter().any(|other| other.number == spec.number) => {
                let error = "Device is already configured";
                log::error!("Failed to initialize device with \"{word}\" : {error}");
            }
            Ok(Word::Disk(spec)) => specs.push(spec),
            Ok(Word::ThrowAway(numbers)) => thrown_away.extend(numbers),
            Ok(word) => table.set_all(&word),
            Err(error) => log::error!("Failed to initialize device with \"{word}\" : {error}"),
        }
    }
    if !specs.iter().any(|spec| spec.number == 0) && Path::new(DEFAULT_IMAGE).is_file() {
        specs.push(Spec::of_file(0, DEFAULT_IMAGE));
    }
    specs.sort_by_key(|spec| spec.number);
    for mut spec in specs {
        if thrown_away.contains(&spec.number) {
            spec.flags |= Flags::THROW_AWAY;
        }
        let (number, name, file) = (spec.number, spec.name(), spec.file.clone());
        if let Err(refusal) = table.add(spec) {
            match refusal.errno() {
                Errno::ENOENT => {
                    log::error!("Failed to initialize ubd device {number} :Couldn't determine size of device's file");
                    log::error!("{name}: {refusal}");
                }
                errno => {
                    let code = errno.code();
                    log::error!("{name}: Can't open \"{}\": errno = {code}: {refusal}", file.display());
                }
            }
        }
    }
}

/// Adds the disk that `text` describes: what stands behind `ubd` on a command line. A general word (`=sync`) holds for disks added later.
///
/// # Errors
/// `EBUSY` for a disk that is there ("Device is already configured"), `EINVAL` for a text that cannot be read, else what the host says of the file.
pub fn config(text: &str) -> Result<(), Refusal> {
    let invalid = |error: ParseError| Refusal::new(Errno::EINVAL, error.to_string());
    let word = spec::parse(text).map_err(invalid)?;
    let mut table = DISKS.lock();
    match word {
        Word::Disk(spec) => table.add(spec),
        Word::ThrowAway(numbers) => match numbers.iter().find(|number| table.disks.contains_key(number)) {
            Some(_) => Err(Refusal::new(Errno::EBUSY, "Device is already configured")),
            None => Err(Refusal::new(
                Errno::EINVAL,
                "Disks are named as throw-away ones on the command line only",
            )),
        },
        word => {
            table.set_all(&word);
            Ok(())
        }
    }
}

/// What disk `number` is made of, `<file>[,<backing file>]`; nothing if it is not there.
///
/// # Errors
/// `EINVAL` for a number that no disk has.
pub fn get_config(number: u32) -> Result<String, Refusal> {
    if number >= MOST_DISKS {
        return Err(Refusal::new(
            Errno::EINVAL,
            "ubd_get_config : device number out of range",
        ));
    }
    let table = DISKS.lock();
    Ok(table.disks.get(&number).map_or_else(String::new, |disk| {
        let file = disk.spec.file.display();
        match &disk.backing {
            Some(backing) => format!("{file},{}", backing.display()),
            None => file.to_string(),
        }
    }))
}

/// Takes disk `number` away; its files are complete and closed then.
///
/// # Errors
/// `ENODEV` when it is not there, `EBUSY` while somebody has it open or mounted.
pub fn remove(number: u32) -> Result<(), Refusal> {
    let mut table = DISKS.lock();
    let Some(disk) = table.disks.get(&number) else {
        return Err(Refusal::new(Errno::ENODEV, "Device doesn't exist"));
    };
    block::disk::unregister(&disk.disk).map_err(|errno| match errno {
        Errno::EBUSY => Refusal::new(errno, "Device is currently open"),
        _ => {
            let text = format!("what was written to {} cannot be saved: {errno}", disk.spec.name());
            Refusal::new(errno, text)
        }
    })?;
    disk.driver.close();
    table.disks.remove(&number);
    Ok(())
}

impl Table {
    /// `ubd=…`.
    fn set_all(&mut self, word: &Word) {
        match word {
            Word::Sync => self.all |= Flags::SYNC,
            Word::ThrowAllAway => self.all |= Flags::THROW_AWAY,
            Word::IoUring => self.all |= Flags::IO_URING,
            Word::Major(value) => log::warn!("fake major not supported any more: ubd={value} is ignored"),
            Word::Disk(_) | Word::ThrowAway(_) => {}
        }
    }

    fn add(&mut self, mut spec: Spec) -> Result<(), Refusal> {
        if self.disks.contains_key(&spec.number) {
            return Err(Refusal::new(Errno::EBUSY, "Device is already configured"));
        }
        spec.flags |= self.all;
        let opened = open::open(&spec)?;
        let read_only = if opened.read_only { ReadOnly::Yes } else { ReadOnly::No };
        let engine = Engine::choose(opened.image, spec.flags);
        let driver = UbdDriver::start(opened.store, engine, read_only, &spec);
        let info = DiskInfo {
            name: spec.name(),
            dev: DevT::new(UBD_MAJOR, spec.number * block::disk::MINORS),
            len: opened.len.next_multiple_of(block::SECTOR),
            read_only: opened.read_only,
            driver: driver.clone(),
        };
        let disk = block::register(info)
            .map_err(|errno| Refusal::new(errno, format!("{} cannot be registered: {errno}", spec.name())))?;
        let disk = Configured {
            backing: opened.backing,
            driver,
            disk,
            spec,
        };
        self.disks.insert(disk.spec.number, disk);
        save_at_exit();
        Ok(())
    }
}

/// Has what is only in memory handed to the host on every way out.
fn save_at_exit() {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if INSTALLED.swap(true, Ordering::Relaxed) {
        return;
    }
    arch_um::exit::at_exit(Box::new(|| {
        if let Some(table) = DISKS.try_lock() {
            table.disks.values().for_each(|disk| disk.driver.save_at_exit());
        }
    }));
}
