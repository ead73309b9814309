//! Other people's readers of ext file systems: what they find in an image must be what ours says.

mod debugfs;
mod rust_fs;
mod view;

use crate::image::Image;
use crate::tree::Tree;

/// Whether a reader knows that holes and unwritten extents are zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holes {
    Zeros,
    /// Not always.
    Wrong,
}

/// A reader.
pub struct Reader {
    pub name: &'static str,
    pub holes: Holes,
    /// What it finds. `None`: it does not know a feature of this image.
    pub read: fn(&Image) -> Result<Option<Tree>, String>,
}

/// All of them.
pub const READERS: [Reader; 3] = [
    Reader {
        name: "debugfs",
        holes: Holes::Zeros,
        read: debugfs::read,
    },
    Reader {
        name: "ext4-view",
        holes: Holes::Wrong,
        read: view::read,
    },
    Reader {
        name: "rust-fs-ext4",
        holes: Holes::Zeros,
        read: rust_fs::read,
    },
];
