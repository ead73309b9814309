//! [`Image`]: a host file or host block device that backs a disk of the guest.
//!
//! Every call moves all bytes or reports why not: short transfers are continued where they stopped.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

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

/// An open image.
#[derive(Debug)]
pub struct Image {
    file: File,
    read_only: bool,
}

fn host(error: std::io::Error) -> Errno {
    Errno::from_host(error.raw_os_error().unwrap_or(libc::EIO))
}

impl Image {
    /// Opens `path`. A file that may not be written (`EROFS`, `EACCES`) is opened read-only instead, as UML does: ask [`is_read_only`](Self::is_read_only).
    ///
    /// The whole file is locked (an open-file-description lock, which other instances, real UML's too, run into), unless it is shared.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn open(path: &Path, options: ImageOptions) -> Result<Image, ImageError> {
        let open = |writable: bool| {
            let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::ENOENT)?;
            let access = if writable { libc::O_RDWR } else { libc::O_RDONLY };
            let sync = if options.sync && writable { libc::O_SYNC } else { 0 };
            // O_NONBLOCK: a FIFO must not hang the boot; disks and files ignore it.
            // SAFETY: the name is a C string that lives over the call.
            let fd = unsafe {
                libc::open(
                    name.as_ptr(),
                    access | sync | libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK,
                )
            };
            if fd < 0 {
                return Err(host(std::io::Error::last_os_error()));
            }
            // SAFETY: a fresh descriptor that nobody else owns.
            Ok(unsafe { File::from_raw_fd(fd) })
        };
        let mut read_only = options.read_only;
        let file = match open(!read_only) {
            Err(Errno::EROFS | Errno::EACCES) if !read_only => {
                read_only = true;
                open(false)
            }
            // `open(2)` for writing says so itself for a directory.
            Err(Errno::EISDIR) => return Err(ImageError::NotADisk),
            other => other,
        };
        let file = file.map_err(ImageError::Open)?;
        let kind = file
            .metadata()
            .map_err(|error| ImageError::Open(host(error)))?
            .file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(ImageError::NotADisk);
        }
        let image = Image { file, read_only };
        if !options.shared {
            image.lock()?;
        }
        Ok(image)
    }

    fn lock(&self) -> Result<(), ImageError> {
        let kind = if self.read_only { libc::F_RDLCK } else { libc::F_WRLCK };
        let mut lock = libc::flock {
            l_type: kind as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        // SAFETY: the kernel reads (and for GETLK writes) one `flock` that lives over the call.
        let locked = unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_OFD_SETLK, &lock) };
        if locked == 0 {
            return Ok(());
        }
        match host(std::io::Error::last_os_error()) {
            Errno::EAGAIN | Errno::EACCES => {
                // SAFETY: as above.
                unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) };
                let holder = if lock.l_pid > 0 {
                    Some(lock.l_pid)
                } else {
                    self.lock_holder()
                };
                Err(ImageError::Locked(holder))
            }
            // A file system without locks: nothing to hold.
            _ => Ok(()),
        }
    }

    /// Who holds an open-file-description lock on this file: the host tells only in /proc/PID/fdinfo.
    fn lock_holder(&self) -> Option<i32> {
        let inode = format!(":{} ", self.file.metadata().ok()?.ino());
        let own = std::process::id();
        let processes = std::fs::read_dir("/proc").ok()?.flatten();
        processes
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|&pid| pid != own)
            .find_map(|pid| {
                let mut files = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).ok()?.flatten();
                files
                    .any(|file| {
                        let text = std::fs::read_to_string(file.path()).unwrap_or_default();
                        text.lines()
                            .any(|line| line.starts_with("lock:") && line.contains(&inode))
                    })
                    .then_some(pid as i32)
            })
    }

    /// Whether writes are impossible.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Length in bytes: of the file, or of the block device behind it.
    ///
    /// # Errors
    /// The host's.
    pub fn len(&self) -> Result<u64, Errno> {
        let metadata = self.file.metadata().map_err(host)?;
        if !metadata.file_type().is_block_device() {
            return Ok(metadata.len());
        }
        let mut bytes = 0_u64;
        const BLKGETSIZE64: libc::Ioctl = 0x8008_1272;
        // SAFETY: the request stores one u64, which lives over the call.
        match unsafe { libc::ioctl(self.file.as_raw_fd(), BLKGETSIZE64, &mut bytes) } {
            0 => Ok(bytes),
            _ => Err(host(std::io::Error::last_os_error())),
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == Ok(0)
    }

    /// Fills `data` from `offset` on. What lies behind the end of the file reads as zeros.
    ///
    /// # Errors
    /// The host's.
    pub fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        let mut done = 0;
        while done < data.len() {
            match self.file.read_at(&mut data[done..], offset + done as u64) {
                Ok(0) => {
                    data[done..].fill(0);
                    break;
                }
                Ok(count) => done += count,
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) => return Err(host(error)),
            }
        }
        Ok(())
    }

    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// The host's: `ENOSPC`, `EIO`, `EFBIG`; part of the data may have been written.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let mut done = 0;
        while done < data.len() {
            match self.file.write_at(&data[done..], offset + done as u64) {
                Ok(0) => return Err(Errno::EIO),
                Ok(count) => done += count,
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) => return Err(host(error)),
            }
        }
        Ok(())
    }

    /// Puts everything written on stable storage.
    ///
    /// # Errors
    /// The host's.
    pub fn flush(&self) -> Result<(), Errno> {
        (&self.file).flush().and_then(|()| self.file.sync_data()).map_err(host)
    }

    /// Gives the space of a range back to the host; it reads as zeros.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the host's file system cannot.
    pub fn punch_hole(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.fallocate(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, offset, len)
    }

    /// Makes a range read as zeros.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the host's file system cannot.
    pub fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.fallocate(libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE, offset, len)
    }

    fn fallocate(&self, mode: i32, offset: u64, len: u64) -> Result<(), Errno> {
        let offset = i64::try_from(offset).map_err(|_| Errno::EFBIG)?;
        let len = i64::try_from(len).map_err(|_| Errno::EFBIG)?;
        loop {
            // SAFETY: plain numbers.
            if unsafe { libc::fallocate(self.file.as_raw_fd(), mode, offset, len) } == 0 {
                return Ok(());
            }
            match host(std::io::Error::last_os_error()) {
                Errno::EINTR => {}
                error => return Err(error),
            }
        }
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
