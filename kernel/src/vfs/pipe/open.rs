//! New pipes, and how the openers of a FIFO meet.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use arch_um::sync::Interruptible;

use super::Pipe;
use crate::task::Cred;
use crate::vfs::anon;
use crate::vfs::file::{Access, File, FileOps, OpenFlags};
use crate::vfs::inode::Inode;
use crate::{Errno, Result};

/// Whether an opener waits for the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meeting {
    /// A FIFO: its openers wait for each other.
    Awaited,
    /// A pipe without a name, opened once more through /proc/self/fd: nobody waits, even when the other side is gone.
    Past,
}

/// Both ends of a new pipe: reader, writer. `flags`: `O_NONBLOCK`, `O_DIRECT`.
pub fn pipe(flags: OpenFlags, cred: &Arc<Cred>) -> [Arc<File>; 2] {
    let path = anon::pipe_path(cred);
    let inode = path.inode();
    let pipe = inode.state().get_or_init(|| Pipe::with(Meeting::Past));
    let status = flags & (OpenFlags::NONBLOCK | OpenFlags::DIRECT);
    let end = |access, mode: OpenFlags| {
        let ops = pipe.open_end(access);
        File::new(ops, Some(path.clone()), status | mode, cred.clone())
    };
    [
        end(Access::READ, OpenFlags::empty()),
        end(Access::WRITE, OpenFlags::WRONLY),
    ]
}

/// Opens a FIFO, or one more end of a pipe without a name (at once): a reader waits for a writer and a writer for a reader, unless `O_NONBLOCK` (then `ENXIO` for a lone writer) or `O_RDWR`.
pub fn open_fifo(inode: &Arc<dyn Inode>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
    let access = flags.access();
    if access.is_empty() {
        return Err(Errno::EINVAL);
    }
    let pipe = inode.state().get_or_init(Pipe::new);
    if pipe.meeting == Meeting::Past {
        return Ok(pipe.open_end(access));
    }
    let nonblocking = flags.contains(OpenFlags::NONBLOCK);
    if access == Access::WRITE && nonblocking && !pipe.has_readers() {
        return Err(Errno::ENXIO);
    }
    let seen = (
        pipe.reader_opens.load(Ordering::Acquire),
        pipe.writer_opens.load(Ordering::Acquire),
    );
    let end = pipe.open_end(access);
    let met = || match access {
        Access::READ => pipe.has_writers() || pipe.writer_opens.load(Ordering::Acquire) != seen.1,
        Access::WRITE => pipe.has_readers() || pipe.reader_opens.load(Ordering::Acquire) != seen.0,
        _ => true,
    };
    if !nonblocking {
        pipe.open_queue
            .wait_until(Interruptible::Yes, None, || met().then_some(()))?;
    }
    Ok(end)
}
