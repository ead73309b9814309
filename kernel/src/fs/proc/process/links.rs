//! `cwd`, `root`, `exe`, `ns/` and `net/`.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;

use super::space;
use super::subject::{Found, Subject};
use crate::fs::pseudo::{Body, Dir, FixedLink, Node, Target, Tree};
use crate::vfs::inode::Link;
use crate::vfs::{FileType, Path};
use crate::{Errno, Result};

/// Finds the place a link of a process stands for.
pub(super) type Follow = fn(&Found) -> Result<Path>;

pub(super) fn cwd(found: &Found) -> Result<Path> {
    Ok(found.task.try_fs().ok_or(Errno::ENOENT)?.cwd())
}

pub(super) fn root(found: &Found) -> Result<Path> {
    Ok(found.task.try_fs().ok_or(Errno::ENOENT)?.root())
}

pub(super) fn exe(found: &Found) -> Result<Path> {
    let mm = found.task.try_mm().ok_or(Errno::ENOENT)?;
    let exe = space::program(&mm).exe.clone().ok_or(Errno::ENOENT)?;
    exe.path().cloned().ok_or(Errno::ENOENT)
}

/// A link to a place, for those who may look into the process.
pub(super) struct ObjectLink {
    pub subject: Subject,
    pub follow: Follow,
}

impl Target for ObjectLink {
    fn follow(&self) -> Result<Link> {
        let found = self.subject.find_for_access()?;
        Ok(Link::Object(Box::new((self.follow)(&found)?)))
    }
}

/// The namespaces, all of them the first: name of the entry, name in the link, inode number (that of Linux's first namespaces).
const NAMESPACES: [(&str, &str, u32); 10] = [
    ("cgroup", "cgroup", 4026531835),
    ("ipc", "ipc", 4026531839),
    ("mnt", "mnt", 4026531841),
    ("net", "net", 4026531840),
    ("pid", "pid", 4026531836),
    ("pid_for_children", "pid", 4026531836),
    ("time", "time", 4026531834),
    ("time_for_children", "time", 4026531834),
    ("user", "user", 4026531837),
    ("uts", "uts", 4026531838),
];

/// First of the numbers of namespaces' entries.
const FIRST_INDEX: u32 = 0x400;

/// The directory `ns`. The links can be read and compared; they cannot be opened.
pub(super) struct Namespaces(pub Subject);

impl Dir for Namespaces {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        let index = NAMESPACES
            .iter()
            .position(|(entry, _, _)| entry.as_bytes() == name)
            .ok_or(Errno::ENOENT)?;
        self.0.find().map_err(|_| Errno::ENOENT)?;
        let (_, kind, number) = NAMESPACES[index];
        let link = Arc::new(FixedLink(format!("{kind}:[{number}]").into_bytes()));
        Ok(self.0.node(FIRST_INDEX + index as u32, 0o777, Body::Link(link)))
    }

    fn list(&self, show: &mut dyn FnMut(&[u8], u64, FileType)) -> Result<()> {
        self.0.find_for_access()?;
        for (index, (name, _, _)) in (FIRST_INDEX..).zip(NAMESPACES) {
            show(
                name.as_bytes(),
                super::subject::dir_ino(self.0.id) | u64::from(index),
                FileType::Symlink,
            );
        }
        Ok(())
    }
}

/// `/proc/PID/net`: one for all processes; the network adds its files with [`net_directory`].
pub fn net_directory() -> Arc<Tree> {
    static NET: spin::Once<Arc<Tree>> = spin::Once::new();
    NET.call_once(Tree::new).clone()
}
