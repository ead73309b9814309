//! Who may mount what: refusals with the feature's name, as ext4 words them.

use alloc::format;
use alloc::string::String;

use crate::layout::features::{
    Compat, EXT2_INCOMPAT, EXT2_RO_COMPAT, EXT3_INCOMPAT, Incompat, NEVER_WRITTEN, READABLE, RoCompat, WRITABLE,
};
use crate::layout::geometry::Geometry;
use crate::{Errno, Result};

/// Whether `kind` may mount this at all. `EINVAL`, with the reason in the log.
pub(super) fn check_readable(geometry: &Geometry, kind: &str, device: &str) -> Result<()> {
    let alien = match kind {
        "ext2" => !(geometry.incompat - EXT2_INCOMPAT).is_empty() || !(geometry.ro_compat - EXT2_RO_COMPAT).is_empty(),
        "ext3" => {
            !(geometry.incompat - EXT3_INCOMPAT).is_empty()
                || !(geometry.ro_compat - EXT2_RO_COMPAT).is_empty()
                || !geometry.compat.contains(Compat::HAS_JOURNAL)
        }
        _ => false,
    };
    if alien {
        log::error!("EXT4-fs ({device}): couldn't mount as {kind} due to feature incompatibilities");
        return Err(Errno::EINVAL);
    }
    let unknown = geometry.incompat - READABLE;
    if !unknown.is_empty() {
        log::error!(
            "EXT4-fs ({device}): Couldn't mount because of unsupported optional features ({:x}: {})",
            unknown.bits(),
            names(INCOMPAT_NAMES, unknown.bits())
        );
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// Whether it may be written to. `EROFS`, with the reason in the log.
pub(super) fn check_writable(geometry: &Geometry, device: &str) -> Result<()> {
    let never = geometry.incompat & NEVER_WRITTEN;
    if !never.is_empty() {
        log::error!(
            "EXT4-fs ({device}): couldn't mount RDWR because of unsupported features ({:x}: {})",
            never.bits(),
            names(INCOMPAT_NAMES, never.bits())
        );
        return Err(Errno::EROFS);
    }
    let unknown = geometry.ro_compat - WRITABLE;
    if !unknown.is_empty() {
        log::error!(
            "EXT4-fs ({device}): couldn't mount RDWR because of unsupported optional features ({:x}: {})",
            unknown.bits(),
            names(RO_COMPAT_NAMES, unknown.bits())
        );
        return Err(Errno::EROFS);
    }
    Ok(())
}

const INCOMPAT_NAMES: &[(u32, &str)] = &[
    (Incompat::COMPRESSION.bits(), "compression"),
    (Incompat::JOURNAL_DEV.bits(), "journal_dev"),
    (Incompat::MMP.bits(), "mmp"),
    (0x1000, "dirdata"),
    (Incompat::ENCRYPT.bits(), "encrypt"),
    (Incompat::CASEFOLD.bits(), "casefold"),
];

const RO_COMPAT_NAMES: &[(u32, &str)] = &[
    (RoCompat::QUOTA.bits(), "quota"),
    (RoCompat::BIGALLOC.bits(), "bigalloc"),
    (RoCompat::READONLY.bits(), "read-only"),
    (RoCompat::SHARED_BLOCKS.bits(), "shared_blocks"),
    (RoCompat::VERITY.bits(), "verity"),
    (0x80, "snapshot"),
    (0x800, "replica"),
];

fn names(table: &[(u32, &str)], bits: u32) -> String {
    let mut out = String::new();
    let mut left = bits;
    for (bit, name) in table {
        if bits & bit != 0 {
            left &= !bit;
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(name);
        }
    }
    if left != 0 {
        out.push_str(&format!("{}unknown {left:x}", if out.is_empty() { "" } else { " " }));
    }
    out
}
