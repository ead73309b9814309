//! `mounts`, `mountinfo`, `mountstats`: what is mounted, and word of changes.

use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};

use arch_um::sync::{SpinLock, order};

use super::subject::Subject;
use crate::fs::pseudo::text::push_from;
use crate::fs::pseudo::{Content, Seq};
use crate::io::Sink;
use crate::vfs::mount::{self, MountInfo};
use crate::vfs::{File, FileOps, OpenFlags, PollEvents, PollTable};
use crate::{Errno, Result, seq};

type Line = fn(&MountInfo, &mut Seq);

/// A file with a line for each mount that the process can reach.
struct Mounts {
    subject: Subject,
    line: Line,
}

/// A file of `subject` whose lines `line` writes.
pub(super) fn content(subject: &Subject, line: Line) -> Arc<dyn Content> {
    Arc::new(Mounts {
        subject: subject.clone(),
        line,
    })
}

impl Content for Mounts {
    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(MountsFile {
            mounts: self,
            text: SpinLock::new(&order::LEAF, None),
            seen: AtomicU64::new(mount::events().0),
        }))
    }
}

struct MountsFile {
    mounts: Arc<Mounts>,
    text: SpinLock<Option<Arc<[u8]>>>,
    /// The change that the last poll told of.
    seen: AtomicU64,
}

impl MountsFile {
    fn make(&self) -> Result<Arc<[u8]>> {
        let found = self.mounts.subject.find()?;
        let root = found.task.try_fs().ok_or(Errno::EINVAL)?.root();
        let mut out = Seq::new();
        for info in mount::mounts(&root) {
            (self.mounts.line)(&info, &mut out);
        }
        Ok(out.into_bytes().into())
    }
}

impl FileOps for MountsFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, _file: &File, pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        let kept = self.text.lock().clone();
        let text = match kept {
            Some(text) if pos > 0 => text,
            _ => {
                let text = self.make()?;
                let old = self.text.lock().replace(text.clone());
                drop(old);
                text
            }
        };
        push_from(&text, pos, dst)
    }

    fn announces(&self) -> bool {
        true
    }

    /// A change of the mounts since the last poll is `POLLERR | POLLPRI`.
    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        let (changes, queue) = mount::events();
        if let Some(table) = table {
            table.listen(queue);
        }
        let ready = PollEvents::IN | PollEvents::RDNORM;
        if self.seen.swap(changes, Ordering::Relaxed) == changes {
            ready
        } else {
            ready | PollEvents::ERR | PollEvents::PRI
        }
    }
}

fn source(info: &MountInfo, out: &mut Seq) {
    if info.source.is_empty() {
        out.bytes(b"none")
    } else {
        out.mangled(&info.source)
    }
}

pub(super) fn show_mounts(info: &MountInfo, out: &mut Seq) {
    source(info, out);
    out.bytes(b" ");
    out.mangled(&info.point);
    seq!(out, " {} {} 0 0\n", info.fs_type, info.all_options());
}

pub(super) fn show_mountinfo(info: &MountInfo, out: &mut Seq) {
    seq!(
        out,
        "{} {} {}:{} ",
        info.id,
        info.parent,
        info.dev.major,
        info.dev.minor
    );
    out.mangled(&info.root);
    out.bytes(b" ");
    out.mangled(&info.point);
    seq!(out, " {} - {} ", info.mount_options(), info.fs_type);
    source(info, out);
    seq!(out, " {}\n", info.block_options());
}

pub(super) fn show_mountstats(info: &MountInfo, out: &mut Seq) {
    out.bytes(b"device ");
    source(info, out);
    out.bytes(b" mounted on ");
    out.mangled(&info.point);
    seq!(out, " with fstype {}\n", info.fs_type);
}
