//! ext2, ext3 and ext4 on any block device.
//!
//! * [`device`]: what a file system lies on.  * [`buffer`]: cached metadata blocks.  * [`journal`]: transactions over them (JBD2), or the
//!   same interface without a journal.  * [`fault`]: a disk for tests.
//!
//! Lock order: beginning a handle or waiting for a commit may sleep, so both come before `order::FS` and `order::FS_INNER`; changing a block
//! inside a handle takes `order::JOURNAL_STATE` only and never sleeps. A buffer's bytes are a leaf.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod buffer;
pub mod device;
pub mod fault;
pub mod journal;
mod runs;

pub use kernel::{Errno, Result};
