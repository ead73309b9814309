//! [`HostFile`]: an open regular file. Data moves between the host file and the guest through one bounded buffer; mappings are of the host file.
//!
//! A virtual CPU never waits for a disk or a network: reads ask the host's page cache first (`RWF_NOWAIT`) and go to the pool when it does not
//! hold the data; what waits by nature (synchronous and direct I/O, `fsync`, `fallocate`, network file systems) goes there at once.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use arch_um::host::at::{HostAccess, HostOpen};
use arch_um::host::file_io::{self, IoFlags};
use arch_um::host::{AsFd, OwnedFd};
use arch_um::sync::{SpinLock, order};
use arch_um::{cpu, pool};
use kernel::io::{Sink, Source};
use kernel::vfs::file::{MapBacking, SeekTarget, WriteAt, Written};
use kernel::vfs::{Access, File, FileOps, OpenFlags};
use kernel::{Errno, Result};

use crate::fs::Speed;
use crate::inode::HostInode;

/// Most that passes through a buffer at a time: within a CPU's cache, because the data is copied twice.
const PIECE: usize = 256 * 1024;
/// The same where each piece is a wait of its own.
const SLOW_PIECE: usize = 1024 * 1024;

/// An open regular file.
pub struct HostFile {
    inode: Arc<HostInode>,
    access: Access,
    handle: SpinLock<Handle>,
    speed: Speed,
    /// How reads go, a [`ReadWay`] as number.
    way: AtomicU8,
}

/// The host descriptor in use.
#[derive(Clone)]
struct Handle {
    fd: Arc<OwnedFd>,
    how: HostOpen,
}

/// How reads reach the host.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadWay {
    /// From the page cache if it has the data, else by the pool.
    CacheFirst = 0,
    /// Here: the file system cannot tell, but does not wait for others either (tmpfs, proc).
    Here = 1,
    /// By the pool.
    Pool = 2,
}

impl HostFile {
    /// Opens `inode` as the guest's `flags` say.
    pub(crate) fn open(inode: Arc<HostInode>, flags: OpenFlags) -> Result<Self> {
        let access = flags.access();
        let fd = open_handle(&inode, access, host_flags(flags))?;
        let speed = inode.host().speed(inode.key().dev(), &fd);
        let way = match speed {
            Speed::Local => ReadWay::CacheFirst,
            Speed::Remote => ReadWay::Pool,
        };
        let handle = Handle {
            fd,
            how: host_flags(flags),
        };
        let handle = SpinLock::new(&order::LEAF, handle);
        Ok(Self {
            inode,
            access,
            handle,
            speed,
            way: AtomicU8::new(way as u8),
        })
    }

    fn handle(&self) -> Handle {
        self.handle.lock().clone()
    }

    fn way(&self) -> ReadWay {
        match self.way.load(Ordering::Relaxed) {
            0 => ReadWay::CacheFirst,
            1 => ReadWay::Here,
            _ => ReadWay::Pool,
        }
    }

    /// Reads until `buffer` is full or the file ends.
    fn read_piece(&self, handle: &Handle, buffer: &mut [u8], pos: u64) -> Result<usize> {
        let fd = handle.fd.as_fd();
        if handle.how.contains(HostOpen::DIRECT) || self.way() == ReadWay::Pool {
            return pool::run(|| file_io::read_at(fd, buffer, pos, IoFlags::empty()));
        }
        let mut filled = 0;
        while self.way() == ReadWay::CacheFirst && filled < buffer.len() {
            match file_io::read_at(fd, &mut buffer[filled..], pos + filled as u64, IoFlags::NOWAIT) {
                // Short also when the cache holds only the start: the end of file is where nothing comes.
                Ok(0) => return Ok(filled),
                Ok(count) => filled += count,
                Err(Errno::EAGAIN) => {
                    let rest = &mut buffer[filled..];
                    match pool::run(|| file_io::read_at(fd, rest, pos + filled as u64, IoFlags::empty())) {
                        Ok(0) => return Ok(filled),
                        Ok(count) => filled += count,
                        Err(_) if filled > 0 => return Ok(filled),
                        Err(error) => return Err(error),
                    }
                }
                Err(Errno::EOPNOTSUPP) => self.way.store(ReadWay::Here as u8, Ordering::Relaxed),
                Err(_) if filled > 0 => return Ok(filled),
                Err(error) => return Err(error),
            }
        }
        if filled == buffer.len() {
            return Ok(filled);
        }
        match file_io::read_at(fd, &mut buffer[filled..], pos + filled as u64, IoFlags::empty()) {
            Err(_) if filled > 0 => Ok(filled),
            result => result.map(|count| filled + count),
        }
    }

    /// Writes one piece, in the way the description's flags ask for.
    fn write_piece(&self, handle: &Handle, data: &[u8], to: WriteAt, flags: OpenFlags) -> Result<Written> {
        let fd = handle.fd.as_fd();
        let io = if flags.contains(OpenFlags::SYNC_BIT | OpenFlags::DSYNC) {
            IoFlags::SYNC
        } else if flags.contains(OpenFlags::DSYNC) {
            IoFlags::DSYNC
        } else {
            IoFlags::empty()
        };
        let call = || match to {
            WriteAt::Offset(pos) => file_io::write_at(fd, data, pos, io).map(|count| (count, pos + count as u64)),
            WriteAt::End => file_io::append(fd, data, io),
        };
        let waits = !io.is_empty() || handle.how.contains(HostOpen::DIRECT) || self.speed == Speed::Remote;
        let (count, end) = if waits { pool::run(call) } else { call() }?;
        Ok(Written { count, end })
    }

    fn piece(&self, handle: &Handle) -> usize {
        if handle.how.contains(HostOpen::DIRECT) || self.speed == Speed::Remote {
            SLOW_PIECE
        } else {
            PIECE
        }
    }
}

/// What the guest's flags mean for the host descriptor; the rest is said with each call.
fn host_flags(flags: OpenFlags) -> HostOpen {
    let mut how = HostOpen::empty();
    how.set(HostOpen::DIRECT, flags.contains(OpenFlags::DIRECT));
    how.set(HostOpen::NOATIME, flags.contains(OpenFlags::NOATIME));
    how
}

/// A descriptor with the rights asked for: a shared one, or one of its own where flags are the descriptor's.
fn open_handle(inode: &Arc<HostInode>, access: Access, how: HostOpen) -> Result<Arc<OwnedFd>> {
    let host = match (access.contains(Access::READ), access.contains(Access::WRITE)) {
        (true, true) => HostAccess::ReadWrite,
        (false, true) => HostAccess::Write,
        // Access 3 is for ioctl only: Linux asks for both rights to give it.
        (false, false) => HostAccess::ReadWrite,
        (true, false) => HostAccess::Read,
    };
    if !how.is_empty() {
        inode.drop_fresh();
        return inode.open_host(host, how).map(Arc::new);
    }
    if host == HostAccess::Read {
        inode.drop_fresh();
        return inode.read_fd();
    }
    inode.write_fd(host)
}

impl FileOps for HostFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, _file: &File, pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        let handle = self.handle();
        let mut total = 0;
        loop {
            let want = dst.remaining().min(self.piece(&handle));
            if want == 0 {
                return Ok(total);
            }
            let mut buffer = self.inode.host().buffers.take(want);
            let bytes = buffer.bytes();
            let at = pos.checked_add(total as u64).ok_or(Errno::EINVAL)?;
            let step = self.read_piece(&handle, bytes, at).and_then(|got| {
                let stored = if got == 0 { 0 } else { dst.write(&bytes[..got])? };
                Ok((got, stored))
            });
            match step {
                Ok((got, stored)) => {
                    total += stored;
                    if got < want || stored < got {
                        return Ok(total);
                    }
                }
                Err(_) if total > 0 => return Ok(total),
                Err(error) => return Err(error),
            }
            drop(buffer);
            cpu::cond_resched();
        }
    }

    fn write_at(&self, file: &File, pos: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let handle = self.handle();
        let flags = file.flags();
        let mut to = if self.inode.host().append { WriteAt::End } else { pos };
        // Appends of one guest do not interleave, and nobody else moves the shared descriptor's position.
        let _appending = (to == WriteAt::End).then(|| self.inode.append.lock());
        let mut done = Written {
            count: 0,
            end: if let WriteAt::Offset(pos) = to { pos } else { 0 },
        };
        loop {
            let want = src.remaining().min(self.piece(&handle));
            if want == 0 {
                return Ok(done);
            }
            let mut buffer = self.inode.host().buffers.take(want);
            let bytes = buffer.bytes();
            let step = src.read(bytes).and_then(|got| {
                if got == 0 {
                    return Ok((0, None));
                }
                self.write_piece(&handle, &bytes[..got], to, flags)
                    .map(|written| (got, Some(written)))
            });
            match step {
                Ok((got, Some(written))) => {
                    done = Written {
                        count: done.count + written.count,
                        end: written.end,
                    };
                    if written.count < got || got < want {
                        return Ok(done);
                    }
                    if let WriteAt::Offset(_) = to {
                        to = WriteAt::Offset(done.end);
                    }
                }
                Ok((_, None)) => return Ok(done),
                Err(_) if done.count > 0 => return Ok(done),
                Err(error) => return Err(error),
            }
            drop(buffer);
            cpu::cond_resched();
        }
    }

    fn seek(&self, pos: u64, target: SeekTarget) -> Result<u64> {
        let handle = self.handle();
        let _still = self.inode.append.lock();
        match target {
            SeekTarget::Data => file_io::seek_data(handle.fd.as_fd(), pos),
            SeekTarget::Hole => file_io::seek_hole(handle.fd.as_fd(), pos),
        }
    }

    /// The host file itself. A mapping that may not write gets a descriptor that cannot.
    fn map(&self, _file: &File, writable: Access) -> Result<MapBacking> {
        let handle = self.handle();
        if writable.contains(Access::WRITE) {
            if !self.access.contains(Access::WRITE) || self.inode.host().append {
                return Err(Errno::EACCES);
            }
            return Ok(MapBacking::Host { fd: handle.fd, base: 0 });
        }
        if !self.access.contains(Access::WRITE) {
            return Ok(MapBacking::Host { fd: handle.fd, base: 0 });
        }
        let fd = match self.inode.read_fd() {
            // The mode allows no second open (made with mode 0444 or 0, opened for both): the first one may read.
            Err(Errno::EACCES) if self.access.contains(Access::READ) => handle.fd,
            result => result?,
        };
        Ok(MapBacking::Host { fd, base: 0 })
    }

    fn sync(&self, _file: &File) -> Result<()> {
        let handle = self.handle();
        pool::run(|| file_io::sync(handle.fd.as_fd()))
    }

    fn sync_data(&self, _file: &File) -> Result<()> {
        let handle = self.handle();
        pool::run(|| file_io::sync_data(handle.fd.as_fd()))
    }

    fn fallocate(&self, _file: &File, mode: u32, offset: u64, len: u64) -> Result<()> {
        const KEEP_SIZE: u32 = 1;
        if self.inode.host().append && mode & !KEEP_SIZE != 0 {
            return Err(Errno::EPERM);
        }
        let handle = self.handle();
        pool::run(|| file_io::fallocate(handle.fd.as_fd(), mode, offset, len))
    }

    fn copy_range(&self, _file: &File, pos: u64, target: &File, target_pos: u64, len: usize) -> Result<usize> {
        let target = target.ops_as::<HostFile>().ok_or(Errno::EXDEV)?;
        if !Arc::ptr_eq(self.inode.host(), target.inode.host()) || target.inode.host().append {
            return Err(Errno::EXDEV);
        }
        let (from, to) = (self.handle(), target.handle());
        pool::run(|| file_io::copy_range(from.fd.as_fd(), pos, to.fd.as_fd(), target_pos, len))
    }

    /// A network file system tells at close what became of the data.
    fn flush(&self, _file: &File) -> Result<()> {
        if self.speed == Speed::Local || !self.access.contains(Access::WRITE) {
            return Ok(());
        }
        let handle = self.handle();
        pool::run(|| file_io::flush(handle.fd.as_fd()))
    }

    /// `O_DIRECT` and `O_NOATIME` are the host descriptor's: it is opened anew. Append and synchronous writes are said with each call.
    fn flags_changed(&self, _file: &File, flags: OpenFlags) -> Result<()> {
        let how = host_flags(flags);
        if self.handle().how == how {
            return Ok(());
        }
        let fd = open_handle(&self.inode, self.access, how)?;
        *self.handle.lock() = Handle { fd, how };
        Ok(())
    }
}
