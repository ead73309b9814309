//! [`Image`]: a host file or host block device that backs a disk of the guest.
//!
//! Every call moves all bytes or reports why not: short transfers are continued where they stopped. A file that somebody cuts while we
//! have it open gives `EIO` where its bytes are missing, never zeros in their place. Neighbours: `ubd` builds disks of it, [`super::lock`] keeps
//! other instances away, [`super::ring`] does the same without a thread for each call.

use std::ffi::CString;
use std::fs::{File, Metadata};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::fd::{self, Blocking};
use super::file_io::{self, IoFlags};
use super::lock::{self, LockKind};
use crate::errno::Errno;

/// How an image is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageOptions {
    /// Never written.
    pub read_only: bool,
    /// Every write reaches the host's disk before it is complete (`O_SYNC`).
    pub sync: bool,
    /// Not locked: several instances share it on purpose.
    pub shared: bool,
}

/// Why an image could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// The host's errno of `open` or `stat`.
    Open(Errno),
    /// A directory, FIFO, socket or character device.
    NotADisk,
    /// Another process has it locked; its number, if the host tells.
    Locked(Option<i32>),
}

/// What a host file is known by: two images with equal identities are the same file, whatever their paths are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    dev: u64,
    ino: u64,
}

/// When a write is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When the host has the data; a later flush makes it stable.
    Cached,
    /// When the host's disk has it.
    Stable,
}

impl Durability {
    /// What the host's calls take.
    pub(super) fn flags(self) -> IoFlags {
        match self {
            Self::Cached => IoFlags::empty(),
            Self::Stable => IoFlags::DSYNC,
        }
    }
}

/// Whether a read was answered from the host's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cached {
    /// All of it.
    Yes,
    /// Not all; what has been stored does not count.
    No,
}

/// An open image.
#[derive(Debug)]
pub struct Image {
    file: File,
    read_only: bool,
    block_device: bool,
    /// Opened with `O_SYNC`.
    sync: bool,
    identity: Identity,
    /// Seconds of the modification time when it was opened.
    modified: i64,
    /// So many bytes must be there; where the file ends before, it was cut.
    least_len: AtomicU64,
    /// The cut has been reported.
    cut: AtomicBool,
}

/// What `fallocate(2)` does to a discarded range.
pub(super) const PUNCH_HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
/// And to a zeroed one.
pub(super) const ZERO_RANGE: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;

fn host(error: std::io::Error) -> Errno {
    Errno::from_host(error.raw_os_error().unwrap_or(libc::EIO))
}

fn open(path: &Path, flags: i32) -> Result<File, Errno> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::ENOENT)?;
    // O_NONBLOCK: a FIFO must not hang the boot; disks and files ignore it.
    let flags = flags | libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK;
    // SAFETY: the name is a C string that lives over the call.
    let fd = unsafe { libc::open(name.as_ptr(), flags, 0o644) };
    if fd < 0 {
        return Err(host(std::io::Error::last_os_error()));
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { File::from_raw_fd(fd) })
}

impl Image {
    /// Opens `path`. A file that may not be written (`EROFS`, `EACCES`) is opened read-only instead, as UML does: ask [`is_read_only`](Self::is_read_only).
    ///
    /// The whole file is locked (see [`super::lock`]), unless it is shared.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn open(path: &Path, options: ImageOptions) -> Result<Image, ImageError> {
        let sync = if options.sync { libc::O_SYNC } else { 0 };
        let mut read_only = options.read_only;
        let file = match read_only {
            true => open(path, libc::O_RDONLY),
            false => match open(path, libc::O_RDWR | sync) {
                Err(Errno::EROFS | Errno::EACCES) => {
                    read_only = true;
                    open(path, libc::O_RDONLY)
                }
                // `open(2)` for writing says so itself for a directory.
                Err(Errno::EISDIR) => return Err(ImageError::NotADisk),
                other => other,
            },
        };
        Self::of_file(file.map_err(ImageError::Open)?, read_only, options)
    }

    /// Makes `path`, an empty file of mode 0644, which must not exist. Locked as [`open`](Self::open) does.
    ///
    /// # Errors
    /// [`ImageError::Open`] with `EEXIST` and what else `open(2)` says.
    pub fn create(path: &Path, options: ImageOptions) -> Result<Image, ImageError> {
        let sync = if options.sync { libc::O_SYNC } else { 0 };
        let file = open(path, libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | sync).map_err(ImageError::Open)?;
        Self::of_file(file, false, options)
    }

    /// An empty file without a name in `directory`: it is gone when this process is, however that ends.
    ///
    /// # Errors
    /// What `open(2)` says.
    pub fn temporary(directory: &Path) -> Result<Image, ImageError> {
        let options = ImageOptions {
            shared: true,
            ..Default::default()
        };
        match open(directory, libc::O_RDWR | libc::O_TMPFILE) {
            Ok(file) => Self::of_file(file, false, options),
            // A file system without files without names.
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::ENOENT) => {
                let path = directory.join(format!("linux-{}-{:x}", std::process::id(), crate::time::realtime_ns()));
                let image = Self::create(&path, options)?;
                std::fs::remove_file(&path).map_err(|error| ImageError::Open(host(error)))?;
                Ok(image)
            }
            Err(errno) => Err(ImageError::Open(errno)),
        }
    }

    fn of_file(file: File, read_only: bool, options: ImageOptions) -> Result<Image, ImageError> {
        let metadata = file.metadata().map_err(|error| ImageError::Open(host(error)))?;
        let kind = metadata.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(ImageError::NotADisk);
        }
        let image = Image {
            file,
            read_only,
            block_device: kind.is_block_device(),
            sync: options.sync,
            identity: Identity::of(&metadata),
            modified: metadata.mtime(),
            least_len: AtomicU64::new(0),
            cut: AtomicBool::new(false),
        };
        if !options.shared {
            let kind = if read_only {
                LockKind::Shared
            } else {
                LockKind::Exclusive
            };
            lock::take(&image.file, kind).map_err(ImageError::Locked)?;
        }
        let len = image.len().map_err(ImageError::Open)?;
        image.least_len.store(len, Ordering::Relaxed);
        Ok(image)
    }

    /// Whether writes are impossible.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Whether it is a block device of the host, which has its length and no holes.
    pub fn is_block_device(&self) -> bool {
        self.block_device
    }

    /// What it is known by.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Seconds of its modification time when it was opened.
    pub fn modified(&self) -> i64 {
        self.modified
    }

    /// Length in bytes now: of the file, or of the block device behind it.
    ///
    /// # Errors
    /// The host's.
    pub fn len(&self) -> Result<u64, Errno> {
        if !self.block_device {
            return self.file.metadata().map(|metadata| metadata.len()).map_err(host);
        }
        let mut bytes = 0_u64;
        const BLKGETSIZE64: libc::Ioctl = 0x8008_1272;
        // SAFETY: the request stores one u64, which lives over the call.
        match unsafe { libc::ioctl(self.file.as_raw_fd(), BLKGETSIZE64, &mut bytes) } {
            0 => Ok(bytes),
            _ => Err(host(std::io::Error::last_os_error())),
        }
    }

    /// Another descriptor of the same open file, for a library that knows a format. The lock holds until both are closed.
    ///
    /// # Errors
    /// The host's: `EMFILE`.
    pub fn host_file(&self) -> Result<File, Errno> {
        self.file.try_clone().map_err(host)
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == Ok(0)
    }

    /// Makes the file `len` bytes long; new bytes are a hole. A block device keeps its length.
    ///
    /// # Errors
    /// The host's: `EFBIG`, `ENOSPC`, `EINVAL` for a file opened read-only.
    pub fn set_len(&self, len: u64) -> Result<(), Errno> {
        if self.block_device {
            return Ok(());
        }
        file_io::truncate(self.file.as_fd(), len)?;
        self.least_len.store(len, Ordering::Relaxed);
        Ok(())
    }

    /// Fills `data` from `offset` on. What lies behind the end that the file had when it was opened reads as zeros.
    ///
    /// # Errors
    /// The host's; `EIO` where the file was cut.
    pub fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            match file_io::read_at(self.file.as_fd(), &mut data[done..], at, IoFlags::empty())? {
                0 => {
                    self.ends_at(at)?;
                    data[done..].fill(0);
                    break;
                }
                count => done += count,
            }
        }
        Ok(())
    }

    /// Fills `data` from `offset` on if the host has it all in memory. Does not sleep.
    pub fn read_cached(&self, offset: u64, data: &mut [u8]) -> Cached {
        match file_io::read_at(self.file.as_fd(), data, offset, IoFlags::NOWAIT) {
            Ok(count) if count == data.len() => Cached::Yes,
            // Part of it, the end of the file, a file system that cannot tell: the long way finds out.
            _ => Cached::No,
        }
    }

    /// Whether a write that need not be stable is a copy into the host's memory, as long as there is room.
    pub fn is_buffered(&self) -> bool {
        !self.sync
    }

    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// The host's: `ENOSPC`, `EIO`, `EFBIG`; part of the data may have been written. `EIO` too for a file that was cut: a write behind the
    /// cut would turn all that is missing before it into zeros.
    pub fn write(&self, offset: u64, data: &[u8], durability: Durability) -> Result<(), Errno> {
        self.takes_writes()?;
        let flags = durability.flags();
        let mut done = 0;
        while done < data.len() {
            match file_io::write_at(self.file.as_fd(), &data[done..], offset + done as u64, flags)? {
                0 => return Err(Errno::EIO),
                count => done += count,
            }
        }
        self.wrote_up_to(offset + done as u64);
        Ok(())
    }

    /// Puts everything written on stable storage.
    ///
    /// # Errors
    /// The host's.
    pub fn flush(&self) -> Result<(), Errno> {
        file_io::sync_data(self.file.as_fd())
    }

    /// Gives the space of a range back to the host; it reads as zeros.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the host's file system cannot.
    pub fn punch_hole(&self, offset: u64, len: u64) -> Result<(), Errno> {
        file_io::fallocate(self.file.as_fd(), PUNCH_HOLE as u32, offset, len)
    }

    /// Makes a range read as zeros.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the host's file system cannot.
    pub fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), Errno> {
        file_io::fallocate(self.file.as_fd(), ZERO_RANGE as u32, offset, len)
    }

    /// The file opened once more, without the lock.
    ///
    /// # Errors
    /// The host's: `ENOENT` without /proc.
    pub(super) fn open_again(&self) -> Result<OwnedFd, Errno> {
        fd::reopen(self.file.as_fd(), Blocking::Yes)
    }

    /// A read found the end of the file at `at`: what follows is zeros.
    ///
    /// # Errors
    /// `EIO` where the file was cut.
    pub(super) fn ends_at(&self, at: u64) -> Result<(), Errno> {
        if at < self.least_len.load(Ordering::Relaxed) {
            return Err(self.was_cut());
        }
        Ok(())
    }

    /// Asked before each write.
    ///
    /// # Errors
    /// `EIO` for a file that was cut; the host's.
    pub(super) fn takes_writes(&self) -> Result<(), Errno> {
        if !self.block_device && self.len()? < self.least_len.load(Ordering::Relaxed) {
            return Err(self.was_cut());
        }
        Ok(())
    }

    /// Told after each write: bytes up to `end` are there.
    pub(super) fn wrote_up_to(&self, end: u64) {
        self.least_len.fetch_max(end, Ordering::Relaxed);
    }

    /// Says once that the file is shorter than it was.
    fn was_cut(&self) -> Errno {
        if !self.cut.swap(true, Ordering::Relaxed) {
            log::error!(
                "a disk's file on the host was cut to {} bytes while it is in use; {} bytes are expected, what is missing gives I/O errors",
                self.len().unwrap_or(0),
                self.least_len.load(Ordering::Relaxed)
            );
        }
        Errno::EIO
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
        }
    }

    /// The identity of the file that `path` names.
    ///
    /// # Errors
    /// What `stat(2)` says.
    pub fn at(path: &Path) -> Result<Self, Errno> {
        std::fs::metadata(path)
            .map(|metadata| Self::of(&metadata))
            .map_err(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("image-{}-{name}", std::process::id()));
        std::fs::write(&path, vec![7; 1000]).expect("a temporary file");
        path
    }

    #[test]
    fn a_locked_image_is_refused_and_the_shared_flag_shares_it() {
        let path = scratch("lock");
        let first = Image::open(&path, ImageOptions::default()).expect("it opens");
        assert!(matches!(
            Image::open(&path, ImageOptions::default()),
            Err(ImageError::Locked(_))
        ));
        assert!(
            Image::open(
                &path,
                ImageOptions {
                    shared: true,
                    ..Default::default()
                }
            )
            .is_ok()
        );
        drop(first);
        assert!(Image::open(&path, ImageOptions::default()).is_ok());
        let _ = std::fs::remove_file(path);
    }

    #[test]
    fn a_file_cut_while_open_gives_eio_where_it_is_missing_and_takes_no_writes() {
        let path = scratch("cut");
        let image = Image::open(&path, ImageOptions::default()).expect("it opens");
        File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_len(512))
            .expect("it is cut");
        let mut data = [1; 512];
        assert_eq!(image.read(0, &mut data), Ok(()));
        assert_eq!(data, [7; 512]);
        assert_eq!(image.read(512, &mut data), Err(Errno::EIO));
        assert_eq!(image.read(256, &mut data), Err(Errno::EIO));
        assert_eq!(image.write(900, b"x", Durability::Cached), Err(Errno::EIO));
        assert_eq!(std::fs::metadata(&path).expect("the file").len(), 512);
        let _ = std::fs::remove_file(path);
    }

    #[test]
    fn what_the_host_has_in_memory_is_read_without_waiting() {
        let path = scratch("cached");
        let image = Image::open(&path, ImageOptions::default()).expect("it opens");
        image.write(0, &[9; 1000], Durability::Stable).expect("it writes");
        let mut data = [0; 1000];
        if image.read_cached(0, &mut data) == Cached::Yes {
            assert_eq!(data, [9; 1000]);
        }
        assert_eq!(
            image.read_cached(500, &mut data),
            Cached::No,
            "the end of the file is the long way's"
        );
        let _ = std::fs::remove_file(path);
    }

    #[test]
    fn a_temporary_image_has_no_name() {
        let directory = std::env::temp_dir().join(format!("image-{}-unnamed", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let image = Image::temporary(&directory).expect("it is made");
        image.write(5000, b"data", Durability::Cached).expect("it writes");
        assert_eq!(std::fs::read_dir(&directory).expect("the directory").count(), 0);
        let _ = std::fs::remove_dir(directory);
    }

    #[test]
    fn reads_behind_the_end_are_zeros() {
        let path = scratch("end");
        let image = Image::open(&path, ImageOptions::default()).expect("it opens");
        let mut data = [1; 100];
        image.read(950, &mut data).expect("it reads");
        assert_eq!((&data[..50], &data[50..]), ([7; 50].as_slice(), [0; 50].as_slice()));
        let _ = std::fs::remove_file(path);
    }

    #[test]
    fn a_directory_is_no_disk() {
        assert!(matches!(
            Image::open(&std::env::temp_dir(), ImageOptions::default()),
            Err(ImageError::NotADisk)
        ));
        let absent = Image::open(Path::new("/nonexistent/image"), ImageOptions::default());
        assert!(matches!(absent, Err(ImageError::Open(Errno::ENOENT))));
    }
}
