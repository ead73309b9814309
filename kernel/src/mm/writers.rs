//! How many mappings can write a file: what sealing a memfd against writing has to know (`fcntl(F_ADD_SEALS)`).

use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::vfs::Inode;

/// The count, a slot of [`crate::vfs::InodeState`].
#[derive(Default)]
struct Count(AtomicUsize);

/// One shared mapping that may write its file; dropping it takes it off the count.
pub struct WritableMapping(Arc<Count>);

impl WritableMapping {
    /// Counts one more for `inode`.
    pub fn new(inode: &dyn Inode) -> Self {
        let count = inode.state().get_or_init(Count::default);
        count.0.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for WritableMapping {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Shared mappings of `inode` that write it or may be made to.
pub fn writable_mappings(inode: &dyn Inode) -> usize {
    inode
        .state()
        .get::<Count>()
        .map_or(0, |count| count.0.load(Ordering::SeqCst))
}
