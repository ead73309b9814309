//! `fdinfo`: position, flags and more of each descriptor.

use super::fd::{list, open_file, parse_fd};
use super::subject::Subject;
use crate::fs::pseudo::{Body, Dir, Node, Seq, Text};
use crate::time::timerfd::TimerFd;
use crate::vfs::fd_table::{CloseOnExec, Fd};
use crate::vfs::{FileType, OpenFlags};
use crate::{Errno, Result, seq};

/// First of the numbers of these entries.
const FIRST_INDEX: u32 = 0x800_0000;

/// The directory `fdinfo`.
pub(super) struct Infos(pub Subject);

impl Dir for Infos {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        let fd = parse_fd(name).ok_or(Errno::ENOENT)?;
        open_file(&self.0, fd)?;
        let subject = self.0.clone();
        let text = Text::new(move |out| show(&subject, fd, out));
        Ok(self
            .0
            .node(FIRST_INDEX.saturating_add(fd.0 as u32), 0o444, Body::File(text)))
    }

    fn list(&self, show: &mut dyn FnMut(&[u8], u64, FileType)) -> Result<()> {
        list(&self.0, FileType::Regular, FIRST_INDEX, show)
    }
}

fn show(subject: &Subject, fd: Fd, out: &mut Seq) -> Result<()> {
    subject.find_for_access()?;
    let file = open_file(subject, fd)?;
    let files = subject.find()?.task.try_files().ok_or(Errno::ENOENT)?;
    let mut flags = file.flags() | OpenFlags::LARGEFILE;
    if files.close_on_exec_of(fd) == Ok(CloseOnExec::Yes) {
        flags |= OpenFlags::CLOEXEC;
    }
    // A reader that holds its own position (`cat /proc/self/fdinfo/3`) must not wait for it here.
    let position = file.position_now();
    let (mount, ino) = match file.path() {
        Some(path) => (path.mount.id(), path.inode().ino()),
        None => (0, 0),
    };
    seq!(
        out,
        "pos:\t{position}\nflags:\t0{:o}\nmnt_id:\t{mount}\nino:\t{ino}\n",
        flags.bits()
    );
    if let Some(timer) = file.ops_as::<TimerFd>() {
        seq!(out, "{}", timer.fdinfo());
    }
    if let Some(more) = file.ops().fdinfo() {
        seq!(out, "{more}");
    }
    Ok(())
}
