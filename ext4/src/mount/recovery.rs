//! Where the journal comes in: replay before anything else is read, then transactions.

use alloc::sync::Arc;

use super::options::Options;
use crate::buffer::BufferCache;
use crate::journal::Journal;
use crate::layout::features::{Compat, Incompat};
use crate::layout::geometry::Geometry;
use crate::{Errno, Result};

/// The journal of this file system, replayed; or the place where there is none. `EROFS` when it must be replayed and cannot be.
pub(super) fn open_journal(
    buffers: &Arc<BufferCache>,
    geometry: &Geometry,
    options: &Options,
    read_only: bool,
    device: &str,
) -> Result<(Arc<Journal>, bool)> {
    let has_journal = geometry.compat.contains(Compat::HAS_JOURNAL);
    if geometry.incompat.contains(Incompat::RECOVER) && !(options.noload && read_only) {
        log::error!(
            "EXT4-fs ({device}): recovery required, and there is no journal to do it (try mounting with ro,noload)"
        );
        return Err(Errno::EROFS);
    }
    if options.noload && !read_only && has_journal {
        log::error!("EXT4-fs ({device}): can't mount read-write with noload");
        return Err(Errno::EINVAL);
    }
    Ok((Journal::none(buffers.clone()), false))
}
