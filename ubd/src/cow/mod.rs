//! COW files: disks that share a backing file and keep what is written to themselves.
//!
//! * [`header`]: the formats, byte for byte.  * [`bitmap`]: which sectors a file has.  * [`store`]: reading and writing.
//! * [`open`]: finding the backing file, checking it, making new files.  * [`merge`]: COW and backing file become one file.
//!
//! UML, `uml_mkcow` and `uml_moo` read what this folder writes, and it reads theirs.

pub mod bitmap;
pub mod header;
pub mod merge;
pub mod open;
pub mod store;

pub use bitmap::Bitmap;
pub use header::{Header, HeaderError, Layout};
pub use store::{CowStore, Saving};
