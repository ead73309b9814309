//! File systems without storage: directories whose entries and files whose contents are made when somebody looks.
//!
//! proc and sysfs stand on this. A [`Node`] says what an entry is; a [`Dir`] finds and lists nodes; a [`Content`] opens a file. [`tree`] is the
//! directory that code adds entries to, [`text`] the file whose contents a closure writes, [`instance`] turns nodes into inodes.
//!
//! Lock order: no lock of this folder is held while a closure of a node runs.

pub mod dir_file;
pub mod inode;
pub mod instance;
pub mod seq;
pub mod text;
pub mod tree;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

pub use instance::PseudoFs;
pub use seq::Seq;
pub use text::Text;
pub use tree::Tree;

use crate::Result;
use crate::vfs::inode::Link;
use crate::vfs::{FileOps, FileType, OpenFlags};

/// Permission bits and owner of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Attributes {
    /// Of root.
    pub const fn root(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0 }
    }
}

/// What an entry is.
#[derive(Clone)]
pub struct Node {
    /// Inode number: the same for the same thing as long as anybody holds it.
    pub ino: u64,
    /// Tells things apart that reuse a number (a process and the one that got its pid): any value that differs while both are held.
    pub tag: usize,
    /// Permission bits and owner.
    pub attributes: Attributes,
    /// The thing itself.
    pub body: Body,
}

/// What stands behind a node.
#[derive(Clone)]
pub enum Body {
    /// A directory.
    Dir(Arc<dyn Dir>),
    /// A regular file.
    File(Arc<dyn Content>),
    /// A symbolic link.
    Link(Arc<dyn Target>),
}

impl Body {
    /// Its file type.
    pub fn kind(&self) -> FileType {
        match self {
            Body::Dir(_) => FileType::Directory,
            Body::File(_) => FileType::Regular,
            Body::Link(_) => FileType::Symlink,
        }
    }
}

/// A directory.
pub trait Dir: Send + Sync {
    /// Finds `name`. `ENOENT`.
    fn lookup(&self, name: &[u8]) -> Result<Node>;
    /// Shows all entries: name, inode number, type. Without `.` and `..`.
    fn list(&self, show: &mut dyn FnMut(&[u8], u64, FileType)) -> Result<()>;
    /// Directories in it, for the link count.
    fn subdirectories(&self) -> u32 {
        0
    }
    /// Mode, owner and group now, where they change (a process changes its user).
    fn attributes(&self) -> Option<Attributes> {
        None
    }
}

/// A regular file.
pub trait Content: Send + Sync {
    /// Opens it. The mode bits have been checked.
    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>>;
    /// `st_size`: most generated files say 0.
    fn size(&self) -> u64 {
        0
    }
}

/// A symbolic link.
pub trait Target: Send + Sync {
    /// Where it leads.
    fn follow(&self) -> Result<Link>;
    /// Permission bits, where they are not 0777 (`/proc/PID/fd`).
    fn mode(&self) -> u32 {
        0o777
    }
}

/// A symbolic link to a fixed text.
pub struct FixedLink(pub alloc::vec::Vec<u8>);

impl Target for FixedLink {
    fn follow(&self) -> Result<Link> {
        Ok(Link::Text(self.0.clone()))
    }
}

/// A symbolic link whose text a closure makes.
pub struct MadeLink<F>(pub F);

impl<F: Fn() -> Result<alloc::vec::Vec<u8>> + Send + Sync> Target for MadeLink<F> {
    fn follow(&self) -> Result<Link> {
        Ok(Link::Text((self.0)()?))
    }
}

/// An inode number for something fixed, never given out twice. They stay below 2³²; computed numbers start there.
pub fn fixed_ino() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0xf000_0000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Node {
    /// A directory, 0555 root.
    pub fn dir(dir: Arc<dyn Dir>) -> Self {
        Self {
            ino: fixed_ino(),
            tag: 0,
            attributes: Attributes::root(0o555),
            body: Body::Dir(dir),
        }
    }

    /// A file of root.
    pub fn file(mode: u32, content: Arc<dyn Content>) -> Self {
        Self {
            ino: fixed_ino(),
            tag: 0,
            attributes: Attributes::root(mode),
            body: Body::File(content),
        }
    }

    /// A symbolic link.
    pub fn link(target: Arc<dyn Target>) -> Self {
        Self {
            ino: fixed_ino(),
            tag: 0,
            attributes: Attributes::root(target.mode()),
            body: Body::Link(target),
        }
    }

    /// A file whose contents `show` writes.
    pub fn text(mode: u32, show: impl Fn(&mut Seq) -> Result<()> + Send + Sync + 'static) -> Self {
        Self::file(mode, Text::new(show))
    }

    /// A file whose contents `show` writes and `store` takes.
    pub fn setting(
        mode: u32,
        show: impl Fn(&mut Seq) -> Result<()> + Send + Sync + 'static,
        store: impl Fn(&[u8]) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::file(mode, Text::with_store(show, store))
    }
}
