//! The UML block device: disks of the guest on files and block devices of the host.
//!
//! * [`spec`]: the words `ubd<n><flags>=<file>[,<backing>][,<serial>]`.  * [`driver`]: requests become host I/O on the thread pool.
//!
//! Major 98; disk `n` has the minors from `16 n` on: /dev/ubda, /dev/ubda1 …
#![forbid(unsafe_code)]

mod driver;
mod spec;

use std::path::{Path, PathBuf};

use arch_um::host::image::{Image, ImageError, ImageOptions};
use kernel::block::{self, DiskInfo};
use kernel::vfs::DevT;

pub use spec::{Flags, MOST_DISKS, ParseError, Spec};

/// The block major number of ubd.
pub const UBD_MAJOR: u32 = 98;
/// The image UML looks for when no `ubda` is given.
const DEFAULT_IMAGE: &str = "root_fs";

/// Configures every disk the command line names (`words`: what stood behind `ubd`), in order. What fails is logged and left out, and the boot
/// goes on, as in UML.
pub fn configure(words: &[String]) {
    let mut all = Flags::empty();
    let mut specs: Vec<Spec> = Vec::new();
    for word in words {
        match spec::parse(word) {
            Ok(spec::Word::Sync) => all |= Flags::SYNC,
            Ok(spec::Word::Major(value)) => {
                log::warn!("ubd={value}: the major number cannot be chosen any more; ignored")
            }
            Ok(spec::Word::Disk(spec)) if specs.iter().any(|other| other.number == spec.number) => {
                log::error!("Failed to initialize device with \"ubd{word}\" : Device is already configured");
            }
            Ok(spec::Word::Disk(spec)) => specs.push(spec),
            Err(error) => log::error!("Failed to initialize device with \"ubd{word}\" : {error}"),
        }
    }
    if !specs.iter().any(|spec| spec.number == 0) && Path::new(DEFAULT_IMAGE).is_file() {
        specs.push(Spec::of_file(0, DEFAULT_IMAGE));
    }
    specs.sort_by_key(|spec| spec.number);
    for mut spec in specs {
        spec.flags |= all;
        if let Err(error) = add(&spec) {
            log::error!(
                "Failed to initialize ubd device {} :Couldn't determine size of device's file",
                spec.number
            );
            log::error!("{}: {error}", spec.name());
        }
    }
}

/// Adds one disk.
///
/// # Errors
/// One sentence: the file, the cause, the way out.
pub fn add(spec: &Spec) -> Result<(), String> {
    let shown = spec.file.display();
    if let Some(backing) = &spec.backing {
        return Err(format!(
            "\"{shown}\" over \"{}\": copy-on-write files are not built in yet; give the disk one file",
            backing.display()
        ));
    }
    let options = ImageOptions {
        read_only: spec.flags.contains(Flags::READ_ONLY),
        sync: spec.flags.contains(Flags::SYNC),
        shared: spec.flags.contains(Flags::SHARED),
    };
    let path: PathBuf = expand_home(&spec.file);
    let image = Image::open(&path, options).map_err(|error| match error {
        ImageError::Open(errno) => format!("\"{shown}\" cannot be opened: {errno}; check the path and its permissions"),
        ImageError::NotADisk => format!("\"{shown}\" is neither a file nor a block device; give a disk image"),
        ImageError::Locked(Some(pid)) => {
            format!("F_SETLK failed, file already locked by pid {pid}: \"{shown}\" is in use (flag \"c\" shares a disk on purpose)")
        }
        ImageError::Locked(None) => format!("\"{shown}\" is locked by another process (flag \"c\" shares a disk on purpose)"),
    })?;
    if !spec.flags.contains(Flags::DATA) && driver::is_cow(&image) {
        return Err(format!(
            "\"{shown}\" is a copy-on-write file, which is not built in yet; flag \"d\" takes it as plain data"
        ));
    }
    let len = image
        .len()
        .map_err(|errno| format!("the size of \"{shown}\" cannot be found: {errno}"))?;
    if len == 0 {
        return Err(format!(
            "\"{shown}\" is empty; make it as large as the disk should be (truncate -s 1G {shown})"
        ));
    }
    let read_only = image.is_read_only();
    let len = len.next_multiple_of(block::SECTOR);
    let driver = driver::UbdDriver::start(image, spec);
    let dev = DevT::new(UBD_MAJOR, spec.number * block::disk::MINORS);
    let info = DiskInfo {
        name: spec.name(),
        dev,
        len,
        read_only,
        driver,
    };
    block::register(info)
        .map(drop)
        .map_err(|errno| format!("cannot be registered: {errno}"))
}

/// `~/disk` as the shell would have written it, for the second file of a word, which the shell leaves alone.
fn expand_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => path.to_owned(),
    }
}
