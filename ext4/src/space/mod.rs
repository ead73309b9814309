//! Space: groups, blocks, inodes.
//!
//! * [`groups`]: descriptors and bitmaps of groups in memory.  * [`blocks`]: taking and freeing blocks.  * [`inodes`]: the same for inodes.
//! * [`counters`]: what is free and promised, readable without a lock.  * [`bits`]: bitmaps.  * `trim`: discarding what is free.
//!
//! A block is *busy* in memory from the moment it is taken until the transaction that frees it has committed. On the disk it is marked by the
//! transaction that makes something point to it: data is written between the two, so that no crash shows what was on the disk before.

pub(crate) mod bits;
pub(crate) mod blocks;
pub(crate) mod counters;
pub(crate) mod groups;
pub(crate) mod inodes;
pub(crate) mod system;
mod trim;
