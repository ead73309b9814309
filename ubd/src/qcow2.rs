//! [`Qcow2Store`]: a disk in QEMU's format. The crate `imago` knows the format; files, locks and the order of flushes are ours.
//!
//! imago keeps tables in memory and writes them on a flush, refcounts before what counts on them: a process that is killed leaves clusters
//! that nobody uses, never a table that points to a wrong one. Files an image names (backing files, a data file) are opened here, read-only
//! where that is all that is needed, locked as disks are.
//!
//! Lock order: `access` ([`order::DEVICE`], sleeps, held over I/O). Readers and writers share it; a discard has it alone, because it takes away clusters
//! others may be about to use. imago's own locks are taken under it.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use arch_um::Errno;
use arch_um::host::image::{Cached, Durability, Image, ImageOptions};
use arch_um::sync::{RwLock, order};
use imago::FormatAccess;
use imago::file::File;
use imago::qcow2::Qcow2;
use imago::raw::Raw;

use crate::open::{Opened, is_qcow2};
use crate::refusal::Refusal;
use crate::store::Store;

/// So many images may stand on each other; a chain that leads to itself ends here.
const LONGEST_CHAIN: u32 = 64;

/// A qcow2 image with all it stands on.
pub struct Qcow2Store {
    access: RwLock<FormatAccess<File>>,
    /// When a write is complete at the earliest (`ubd…s`).
    least: Durability,
    /// Tables have changed since the last flush.
    is_unsaved: AtomicBool,
    /// Keep the locks of the files.
    _images: Vec<Image>,
}

/// A disk of `image`, which lies at `path`.
///
/// # Errors
/// One sentence: what the image needs and is not there, or what is wrong with it.
pub fn open(image: Image, path: &Path, options: ImageOptions) -> Result<Opened, Refusal> {
    let read_only = image.is_read_only();
    let mut images = Vec::new();
    let (access, backing) = open_layer(image, path, options, &mut images)?;
    Ok(Opened {
        len: access.size(),
        read_only,
        backing,
        image: None,
        store: std::sync::Arc::new(Qcow2Store {
            access: RwLock::new(&order::DEVICE, access),
            least: if options.sync {
                Durability::Stable
            } else {
                Durability::Cached
            },
            is_unsaved: AtomicBool::new(false),
            _images: images,
        }),
    })
}

/// One image of a chain, and the path of its backing file.
fn open_layer(
    image: Image,
    path: &Path,
    options: ImageOptions,
    images: &mut Vec<Image>,
) -> Result<(FormatAccess<File>, Option<PathBuf>), Refusal> {
    let refused = |error: io::Error| of_format(path, &error);
    let writable = !image.is_read_only();
    let mut qcow2: Qcow2<File> = Qcow2::open_image(storage(&image, path)?, writable).map_err(refused)?;
    images.push(image);
    let mut data_file = None;
    if qcow2.requires_external_data_file() {
        let name = qcow2.implicit_external_data_file().ok_or_else(|| {
            let text = format!(
                "\"{}\" keeps its data in another file and does not name it",
                path.display()
            );
            Refusal::new(Errno::EINVAL, text)
        })?;
        let name = beside(path, name);
        let image = Image::open(&name, options).map_err(|error| Refusal::of_image(&name, error))?;
        data_file = Some(storage(&image, &name)?);
        images.push(image);
    }
    qcow2.set_data_file(data_file);
    let mut backing_path = None;
    let mut backing = None;
    if let Some(name) = qcow2.implicit_backing_file() {
        let name = beside(path, name);
        let format = qcow2.implicit_backing_format().cloned();
        let options = ImageOptions {
            read_only: true,
            ..options
        };
        backing = Some(
            open_backing(&name, format.as_deref(), options, images).map_err(|refusal| {
                let text = format!("\"{}\" stands on another file: {refusal}", path.display());
                Refusal::new(refusal.errno(), text)
            })?,
        );
        backing_path = Some(name);
    }
    qcow2.set_backing(backing);
    Ok((FormatAccess::new(qcow2), backing_path))
}

fn open_backing(
    path: &Path,
    format: Option<&str>,
    options: ImageOptions,
    images: &mut Vec<Image>,
) -> Result<FormatAccess<File>, Refusal> {
    if images.len() as u32 >= LONGEST_CHAIN {
        let text = format!(
            "more than {LONGEST_CHAIN} images stand on each other; does \"{}\" lead to itself?",
            path.display()
        );
        return Err(Refusal::new(Errno::ELOOP, text));
    }
    let image = Image::open(path, options).map_err(|error| Refusal::of_image(path, error))?;
    match format {
        Some("qcow2") => {}
        None if is_qcow2(&image) => {}
        // A raw disk whose guest wrote a qcow2 header into it stays a raw disk.
        Some("raw" | "file") | None => {
            let raw = Raw::open_image(storage(&image, path)?, false).map_err(|error| of_format(path, &error))?;
            images.push(image);
            return Ok(FormatAccess::new(raw));
        }
        Some(other) => {
            let text = format!(
                "\"{}\" has the format {other}; raw and qcow2 can be read",
                path.display()
            );
            return Err(Refusal::new(Errno::EOPNOTSUPP, text));
        }
    }
    open_layer(image, path, options, images).map(|(access, _)| access)
}

/// The file `name` as the image at `path` means it.
fn beside(path: &Path, name: &str) -> PathBuf {
    let name = name.strip_prefix("file:").unwrap_or(name);
    path.parent().unwrap_or(Path::new("")).join(name)
}

/// The same open file for imago; the lock is the file's and stays.
fn storage(image: &Image, path: &Path) -> Result<File, Refusal> {
    let file = image.host_file().map_err(|errno| Refusal::unreadable(path, errno))?;
    File::try_from(file).map_err(|error| Refusal::unreadable(path, errno(&error)))
}

fn of_format(path: &Path, error: &io::Error) -> Refusal {
    let text = format!(
        "\"{}\" cannot be used as a qcow2 image: {error}; qemu-img check tells more",
        path.display()
    );
    Refusal::new(errno(error), text)
}

/// imago adds words to the host's errors, and the number is lost; the kind is not.
fn errno(error: &io::Error) -> Errno {
    if let Some(code) = error.raw_os_error() {
        return Errno::from_host(code);
    }
    match error.kind() {
        ErrorKind::StorageFull => Errno::ENOSPC,
        ErrorKind::QuotaExceeded => Errno::EDQUOT,
        ErrorKind::FileTooLarge => Errno::EFBIG,
        ErrorKind::Unsupported => Errno::EOPNOTSUPP,
        ErrorKind::OutOfMemory => Errno::ENOMEM,
        ErrorKind::PermissionDenied => Errno::EACCES,
        _ => Errno::EIO,
    }
}

impl Qcow2Store {
    /// The guest gets a number; the log gets the words, for they name what is wrong in the image.
    fn outcome(&self, result: io::Result<()>) -> Result<(), Errno> {
        result.map_err(|error| {
            let code = errno(&error);
            if code == Errno::EIO {
                log::error!("qcow2: {error}");
            }
            code
        })
    }

    /// After a change: done, or stable.
    fn changed(&self, access: &FormatAccess<File>, durability: Durability) -> Result<(), Errno> {
        self.is_unsaved.store(true, Ordering::Release);
        if durability == Durability::Stable || self.least == Durability::Stable {
            return self.save(access);
        }
        Ok(())
    }

    fn save(&self, access: &FormatAccess<File>) -> Result<(), Errno> {
        // Before the work: what changes in the meantime counts for the next time.
        let was_unsaved = self.is_unsaved.swap(false, Ordering::AcqRel);
        let saved = self.outcome(access.flush().and_then(|()| access.sync()));
        if saved.is_err() && was_unsaved {
            self.is_unsaved.store(true, Ordering::Release);
        }
        saved
    }
}

impl Store for Qcow2Store {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        let access = self.access.read();
        self.outcome(access.read(data, offset))
    }

    /// Where a byte lies may have to be read from the disk first.
    fn read_cached(&self, _offset: u64, _data: &mut [u8]) -> Cached {
        Cached::No
    }

    fn write(&self, offset: u64, data: &[u8], durability: Durability) -> Result<(), Errno> {
        let access = self.access.read();
        self.outcome(access.write(data, offset))?;
        self.changed(&access, durability)
    }

    fn flush(&self) -> Result<(), Errno> {
        self.save(&self.access.read())
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let mut access = self.access.write();
        self.outcome(access.discard_to_zero(offset, len))?;
        self.changed(&access, Durability::Cached)
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let access = self.access.read();
        self.outcome(access.write_zeroes(offset, len))?;
        self.changed(&access, Durability::Cached)
    }

    fn is_unsaved(&self) -> bool {
        self.is_unsaved.load(Ordering::Acquire)
    }

    fn save_at_exit(&self) {
        // Nobody is inside, so no lock of imago's is held by a thread that has stopped.
        if let Some(access) = self.access.try_write()
            && self.is_unsaved()
        {
            let _ = access.flush();
        }
    }
}
