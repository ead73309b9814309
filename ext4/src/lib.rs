//! ext2, ext3 and ext4 on any block device.
//!
//! * [`device`]: what a file system lies on.  * [`buffer`]: cached metadata blocks.  * [`journal`]: transactions over them (JBD2), or the
//!   same interface without a journal.
//!
//! Lock order: `order::JOURNAL` before `order::FS` before `order::FS_INNER`; a buffer's bytes are a leaf.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod buffer;
pub mod device;
pub mod journal;

pub use kernel::{Errno, Result};
