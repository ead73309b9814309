//! ext2, ext3 and ext4 on any block device.
//!
//! * [`device`]: what a file system lies on.  * [`buffer`]: cached metadata blocks.  * [`journal`]: transactions over them (JBD2), or the
//!   same interface without a journal.  * [`fault`]: a disk for tests.
//! * `layout`: bytes on the disk.  * [`mount`]: from a device to an [`Ext4`] and back.  * `instance`, `transaction`: what all parts share.
//! * `damage`: errors on the disk.
//! * `space`: groups, blocks, inode numbers.  * `map`: from a file's blocks to the disk's.  * `inode`: files in memory.  * `file`: contents.
//! * `dir`: names.  * `xattr`: extended attributes.  * `resize`: growing while mounted.
//!
//! Life of written data: `write(2)` promises blocks and fills the page cache; write-back takes blocks, writes the data to them, and only then a
//! transaction makes the file point there. So no crash shows old contents of the disk, whatever `data=` says.
//!
//! Lock order: an inode's contents (`order::INODE`); a handle of the journal, which is no lock, but others wait for it to end; `EXT4_META` (all
//! metadata in memory); `order::JOURNAL_STATE`, which changing a block takes and which never sleeps; the leaves. No handle is begun and no
//! commit waited for under `EXT4_META`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod buffer;
mod damage;
pub mod device;
mod dir;
pub mod fault;
mod file;
mod inode;
mod instance;
pub mod journal;
mod layout;
mod map;
pub mod mount;
mod resize;
mod runs;
mod space;
mod transaction;
mod xattr;

pub use instance::Ext4;
pub use kernel::{Errno, Result};
pub use mount::register;
