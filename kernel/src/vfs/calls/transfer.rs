//! Moving data between descriptors: `sendfile(2)`, `splice(2)`, `tee(2)`, `vmsplice(2)`, `copy_file_range(2)`.
//!
//! Bytes go through a kernel buffer; what the receiver does not take goes back to where it came from.

use alloc::sync::Arc;
use alloc::vec;

use super::io::{self, IoVec};
use crate::io::{SliceSink, SliceSource, Source};
use crate::syscall::Context;
use crate::user::{UserIo, UserPtr};
use crate::vfs::FileType;
use crate::vfs::fd_table::Fd;
use crate::vfs::file::{Access, File, OpenFlags, SeekKind};
use crate::vfs::pipe::PipeEnd;
use crate::vfs::rw::{self, Append, At, MAX_RW_COUNT};
use crate::{Errno, Result};

/// Bytes in the kernel's hand at a time.
const CHUNK: usize = 64 * 1024;

/// One side: a file, and where in it.
struct Side {
    file: Arc<File>,
    /// The caller's offset; none for the description's own position.
    offset: Option<u64>,
}

impl Side {
    fn at(&self) -> At {
        self.offset.map_or(At::Position, At::Offset)
    }

    fn pipe(&self) -> Option<&PipeEnd> {
        self.file.ops_as::<PipeEnd>()
    }

    fn advance(&mut self, count: usize) {
        if let Some(offset) = &mut self.offset {
            *offset += count as u64;
        }
    }

    fn read(&mut self, nonblocking: bool, buf: &mut [u8]) -> Result<usize> {
        let mut sink = SliceSink::new(buf);
        let count = match self.pipe() {
            Some(pipe) => {
                self.file.require(Access::READ)?;
                pipe.read(nonblocking || self.file.is_nonblocking(), &mut sink)?
            }
            None => rw::read(&self.file, self.at(), &mut sink)?,
        };
        self.advance(count);
        Ok(count)
    }

    /// What was read last but not passed on is there again.
    fn put_back(&mut self, data: &[u8]) {
        if let Some(pipe) = self.pipe() {
            pipe.unread(data);
        } else if let Some(offset) = &mut self.offset {
            *offset -= data.len() as u64;
        } else if self.file.ops().seek_kind() == SeekKind::Offset {
            let mut position = self.file.position();
            *position = position.saturating_sub(data.len() as u64);
        }
    }

    fn write(&mut self, nonblocking: bool, data: &[u8]) -> Result<usize> {
        let mut source = SliceSource::new(data);
        let count = match self.pipe() {
            Some(pipe) => {
                self.file.require(Access::WRITE)?;
                pipe.write(nonblocking || self.file.is_nonblocking(), &mut source)?
            }
            None => rw::write(&self.file, self.at(), Append::AsOpened, &mut source)?,
        };
        self.advance(count);
        Ok(count)
    }
}

/// Moves up to `len` bytes.
fn pump(from: &mut Side, to: &mut Side, len: usize, nonblocking: bool, rounds: Rounds) -> Result<usize> {
    let mut done = 0;
    let mut buffer = vec![0; len.min(CHUNK)];
    while done < len {
        let step = step(from, to, &mut buffer, len - done, nonblocking);
        match step {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
        if rounds == Rounds::One {
            break;
        }
    }
    Ok(done)
}

/// How often to move.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rounds {
    /// What is there now.
    One,
    /// Until all is moved or the source ends.
    Many,
}

fn step(from: &mut Side, to: &mut Side, buffer: &mut [u8], left: usize, nonblocking: bool) -> Result<usize> {
    let mut want = buffer.len().min(left);
    if let Some(pipe) = to.pipe() {
        // Not more than fits: a stream could not take it back.
        want = want.min(pipe.wait_room(nonblocking || to.file.is_nonblocking())?);
    }
    let got = from.read(nonblocking, &mut buffer[..want])?;
    match to.write(nonblocking, &buffer[..got]) {
        Ok(count) => {
            if count < got {
                from.put_back(&buffer[count..got]);
            }
            Ok(count)
        }
        Err(error) => {
            from.put_back(&buffer[..got]);
            Err(error)
        }
    }
}

fn read_offset(at: UserPtr<i64>) -> Result<Option<u64>> {
    match at.non_null() {
        Some(at) => Ok(Some(u64::try_from(at.read()?).map_err(|_| Errno::EINVAL)?)),
        None => Ok(None),
    }
}

fn write_offset(at: UserPtr<i64>, offset: Option<u64>) -> Result<()> {
    match (at.non_null(), offset) {
        (Some(at), Some(offset)) => at.write(&(offset as i64)),
        _ => Ok(()),
    }
}

/// `sendfile(2)`.
pub fn sys_sendfile(cx: &Context, out: Fd, input: Fd, offset: UserPtr<i64>, count: usize) -> Result<usize> {
    let files = cx.files();
    let mut from = Side {
        file: files.get(input)?,
        offset: read_offset(offset)?,
    };
    let mut to = Side {
        file: files.get(out)?,
        offset: None,
    };
    from.file.require(Access::READ)?;
    to.file.require(Access::WRITE)?;
    if from.file.ops().seek_kind() == SeekKind::Stream && from.pipe().is_none() {
        return Err(if from.offset.is_some() {
            Errno::ESPIPE
        } else {
            Errno::EINVAL
        });
    }
    if from.offset.is_some() && from.pipe().is_some() {
        return Err(Errno::ESPIPE);
    }
    if to.file.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EINVAL);
    }
    let moved = pump(&mut from, &mut to, count.min(MAX_RW_COUNT), false, Rounds::Many)?;
    write_offset(offset, from.offset)?;
    Ok(moved)
}

const SPLICE_F_NONBLOCK: u32 = 2;
const SPLICE_F_ALL: u32 = 15;

/// `splice(2)`: at least one side is a pipe.
pub fn sys_splice(
    cx: &Context,
    input: Fd,
    off_in: UserPtr<i64>,
    out: Fd,
    off_out: UserPtr<i64>,
    len: usize,
    flags: u32,
) -> Result<usize> {
    if flags & !SPLICE_F_ALL != 0 {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let files = cx.files();
    let mut from = Side {
        file: files.get(input)?,
        offset: None,
    };
    let mut to = Side {
        file: files.get(out)?,
        offset: None,
    };
    from.file.require(Access::READ)?;
    to.file.require(Access::WRITE)?;
    for (side, offset) in [(&from, off_in), (&to, off_out)] {
        let stream = side.file.ops().seek_kind() == SeekKind::Stream;
        if !offset.is_null() && stream {
            return Err(if side.pipe().is_some() {
                Errno::ESPIPE
            } else {
                Errno::EINVAL
            });
        }
    }
    match (from.pipe(), to.pipe()) {
        (None, None) => return Err(Errno::EINVAL),
        (Some(one), Some(two)) if Arc::ptr_eq(one.pipe(), two.pipe()) => return Err(Errno::EINVAL),
        _ => {}
    }
    if to.file.flags().contains(OpenFlags::APPEND) && to.pipe().is_none() {
        return Err(Errno::EINVAL);
    }
    from.offset = read_offset(off_in)?;
    to.offset = read_offset(off_out)?;
    let nonblocking = flags & SPLICE_F_NONBLOCK != 0;
    let moved = pump(&mut from, &mut to, len.min(MAX_RW_COUNT), nonblocking, Rounds::One)?;
    write_offset(off_in, from.offset)?;
    write_offset(off_out, to.offset)?;
    Ok(moved)
}

/// `tee(2)`: copies between pipes, the bytes stay.
pub fn sys_tee(cx: &Context, input: Fd, out: Fd, len: usize, flags: u32) -> Result<usize> {
    if flags & !SPLICE_F_ALL != 0 {
        return Err(Errno::EINVAL);
    }
    let files = cx.files();
    let (from, to) = (files.get(input)?, files.get(out)?);
    from.require(Access::READ)?;
    to.require(Access::WRITE)?;
    let (source, target) = (
        from.ops_as::<PipeEnd>().ok_or(Errno::EINVAL)?,
        to.ops_as::<PipeEnd>().ok_or(Errno::EINVAL)?,
    );
    if Arc::ptr_eq(source.pipe(), target.pipe()) {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let nonblocking = flags & SPLICE_F_NONBLOCK != 0;
    let room = target.wait_room(nonblocking || to.is_nonblocking())?;
    let mut buffer = vec![0; len.min(room).min(CHUNK)];
    let got = source.peek(nonblocking || from.is_nonblocking(), &mut SliceSink::new(&mut buffer))?;
    target.write(
        nonblocking || to.is_nonblocking(),
        &mut SliceSource::new(&buffer[..got]),
    )
}

/// `vmsplice(2)`: copies, in both directions. Waits once: what does not fit then is the next call's.
pub fn sys_vmsplice(cx: &Context, fd: Fd, vec: UserPtr<IoVec>, count: usize, flags: u32) -> Result<usize> {
    if flags & !SPLICE_F_ALL != 0 {
        return Err(Errno::EINVAL);
    }
    let file = cx.files().get(fd)?;
    let pipe = file.ops_as::<PipeEnd>().ok_or(Errno::EBADF)?;
    let mut user = UserIo::new(io::read_iovec(vec, count)?);
    let nonblocking = flags & SPLICE_F_NONBLOCK != 0 || file.is_nonblocking();
    if Source::remaining(&user) == 0 {
        return Ok(0);
    }
    if file.access().contains(Access::WRITE) {
        pipe.write_what_fits(nonblocking, &mut user)
    } else {
        pipe.read(nonblocking, &mut user)
    }
}

/// `copy_file_range(2)`: between regular files, of any file systems.
pub fn sys_copy_file_range(
    cx: &Context,
    input: Fd,
    off_in: UserPtr<i64>,
    out: Fd,
    off_out: UserPtr<i64>,
    len: usize,
    flags: u32,
) -> Result<usize> {
    let files = cx.files();
    let mut from = Side {
        file: files.get(input)?,
        offset: read_offset(off_in)?,
    };
    let mut to = Side {
        file: files.get(out)?,
        offset: read_offset(off_out)?,
    };
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    for side in [&from, &to] {
        match side.file.path().map(|path| path.dentry.kind()) {
            Some(FileType::Regular) => {}
            Some(FileType::Directory) => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
    }
    from.file.require(Access::READ)?;
    to.file.require(Access::WRITE)?;
    if to.file.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EBADF);
    }
    let len = len.min(MAX_RW_COUNT);
    check_overlap(&from, &to, len)?;
    let moved = pump(&mut from, &mut to, len, false, Rounds::Many)?;
    write_offset(off_in, from.offset)?;
    write_offset(off_out, to.offset)?;
    Ok(moved)
}

fn check_overlap(from: &Side, to: &Side, len: usize) -> Result<()> {
    let (Some(one), Some(two)) = (from.file.inode(), to.file.inode()) else {
        return Ok(());
    };
    let start = |side: &Side| side.offset.unwrap_or_else(|| *side.file.position());
    let (a, b) = (start(from), start(to));
    rw::check_range(a, len)?;
    rw::check_range(b, len)?;
    let apart = a.saturating_add(len as u64) <= b || b.saturating_add(len as u64) <= a;
    if Arc::ptr_eq(&one, &two) && !apart {
        Err(Errno::EINVAL)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::tmpfs::shared::{self, Sealing};
    use crate::task::Cred;
    use crate::vfs::{Mode, pipe};

    fn side(file: &Arc<File>) -> Side {
        Side {
            file: file.clone(),
            offset: None,
        }
    }

    fn memfd() -> Arc<File> {
        shared::file(
            b"memfd:t",
            Mode::from_bits_truncate(0o600),
            Sealing::Allowed,
            Cred::root(),
        )
        .unwrap()
    }

    #[test]
    fn what_a_full_pipe_does_not_take_stays_in_the_file() {
        let file = memfd();
        let data: alloc::vec::Vec<u8> = (0..200_000u32).map(|at| (at % 251) as u8).collect();
        assert_eq!(side(&file).write(false, &data), Ok(data.len()));
        *file.position() = 0;
        let [reader, writer] = pipe::pipe(OpenFlags::NONBLOCK, &Cred::root());
        let mut seen = alloc::vec::Vec::new();
        loop {
            match pump(&mut side(&file), &mut side(&writer), 50_000, true, Rounds::One) {
                Ok(0) => break,
                Ok(count) => assert!(count <= 50_000),
                Err(error) => {
                    assert_eq!(error, Errno::EAGAIN);
                    let mut buffer = [0; 30_001];
                    let got = side(&reader).read(true, &mut buffer).unwrap();
                    seen.extend_from_slice(&buffer[..got]);
                }
            }
        }
        let mut buffer = vec![0; 100_000];
        while let Ok(got) = side(&reader).read(true, &mut buffer) {
            seen.extend_from_slice(&buffer[..got]);
        }
        assert!(seen == data);
    }

    #[test]
    fn bytes_put_back_into_a_pipe_come_first() {
        let [reader, writer] = pipe::pipe(OpenFlags::NONBLOCK, &Cred::root());
        assert_eq!(side(&writer).write(true, b"hello world"), Ok(11));
        let mut from = side(&reader);
        let mut buffer = [0; 8];
        assert_eq!(from.read(true, &mut buffer), Ok(8));
        from.put_back(&buffer[3..]);
        assert_eq!(from.read(true, &mut buffer), Ok(8));
        assert_eq!(&buffer, b"lo world");
    }
}
