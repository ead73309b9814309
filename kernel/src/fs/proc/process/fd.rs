//! `fd`: descriptors as links to what they stand for.

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::entries::number_name;
use super::subject::Subject;
use crate::fs::pseudo::{Body, Dir, Node, Target};
use crate::vfs::fd_table::Fd;
use crate::vfs::file::Access;
use crate::vfs::inode::Link;
use crate::vfs::{File, FileType};
use crate::{Errno, Result};

/// First of the numbers of descriptors' entries.
const FIRST_INDEX: u32 = 0x1000;

/// The descriptor that `name` spells.
pub(super) fn parse_fd(name: &[u8]) -> Option<Fd> {
    if name == b"0" {
        return Some(Fd(0));
    }
    super::parse_pid(name).map(|number| Fd(number.0))
}

/// What `fd` of the subject stands for. `ENOENT` when it is closed.
pub(super) fn open_file(subject: &Subject, fd: Fd) -> Result<Arc<File>> {
    let found = subject.find().map_err(|_| Errno::ENOENT)?;
    let files = found.task.try_files().ok_or(Errno::ENOENT)?;
    files.get_any(fd).map_err(|_| Errno::ENOENT)
}

/// Shows every open descriptor.
pub(super) fn list(
    subject: &Subject,
    kind: FileType,
    first: u32,
    show: &mut dyn FnMut(&[u8], u64, FileType),
) -> Result<()> {
    let found = subject.find_for_access()?;
    let Some(files) = found.task.try_files() else {
        return Ok(());
    };
    for (fd, _, _) in files.list() {
        let ino = super::subject::dir_ino(subject.id) | u64::from(first.saturating_add(fd.0 as u32));
        show(&number_name(fd.0), ino, kind);
    }
    Ok(())
}

/// The directory `fd`.
pub(super) struct Descriptors(pub Subject);

impl Dir for Descriptors {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        let fd = parse_fd(name).ok_or(Errno::ENOENT)?;
        open_file(&self.0, fd)?;
        let link = Arc::new(Descriptor {
            subject: self.0.clone(),
            fd,
        });
        Ok(self
            .0
            .node(FIRST_INDEX.saturating_add(fd.0 as u32), 0o777, Body::Link(link)))
    }

    fn list(&self, show: &mut dyn FnMut(&[u8], u64, FileType)) -> Result<()> {
        list(&self.0, FileType::Symlink, FIRST_INDEX, show)
    }
}

/// One descriptor.
struct Descriptor {
    subject: Subject,
    fd: Fd,
}

impl Target for Descriptor {
    fn follow(&self) -> Result<Link> {
        self.subject.find_for_access()?;
        Ok(Link::Object(Box::new(open_file(&self.subject, self.fd)?)))
    }

    /// What the descriptor was opened for.
    fn mode(&self) -> u32 {
        let Ok(file) = open_file(&self.subject, self.fd) else {
            return 0;
        };
        let access = file.access();
        let read = if access.contains(Access::READ) { 0o500 } else { 0 };
        let write = if access.contains(Access::WRITE) { 0o300 } else { 0 };
        read | write
    }
}
