//! Feature bits of the super block, and which of them this driver reads and writes.

use bitflags::bitflags;

bitflags! {
    /// Features that an older driver may ignore.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Compat: u32 {
        const HAS_JOURNAL = 0x4;
        const EXT_ATTR = 0x8;
        const RESIZE_INODE = 0x10;
        const DIR_INDEX = 0x20;
        const SPARSE_SUPER2 = 0x200;
        const FAST_COMMIT = 0x400;
        const ORPHAN_FILE = 0x1000;
        const _ = !0;
    }

    /// Features without which nothing can be read.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Incompat: u32 {
        const COMPRESSION = 0x1;
        const FILETYPE = 0x2;
        const RECOVER = 0x4;
        const JOURNAL_DEV = 0x8;
        const META_BG = 0x10;
        const EXTENTS = 0x40;
        const SIXTY_FOUR_BIT = 0x80;
        const MMP = 0x100;
        const FLEX_BG = 0x200;
        const EA_INODE = 0x400;
        const CSUM_SEED = 0x2000;
        const LARGEDIR = 0x4000;
        const INLINE_DATA = 0x8000;
        const ENCRYPT = 0x10000;
        const CASEFOLD = 0x20000;
        const _ = !0;
    }

    /// Features without which nothing can be written.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct RoCompat: u32 {
        const SPARSE_SUPER = 0x1;
        const LARGE_FILE = 0x2;
        const HUGE_FILE = 0x8;
        const GDT_CSUM = 0x10;
        const DIR_NLINK = 0x20;
        const EXTRA_ISIZE = 0x40;
        const QUOTA = 0x100;
        const BIGALLOC = 0x200;
        const METADATA_CSUM = 0x400;
        const READONLY = 0x1000;
        const PROJECT = 0x2000;
        const SHARED_BLOCKS = 0x4000;
        const VERITY = 0x8000;
        const ORPHAN_PRESENT = 0x10000;
        const _ = !0;
    }
}

/// What can be read.
pub(crate) const READABLE: Incompat = Incompat::FILETYPE
    .union(Incompat::RECOVER)
    .union(Incompat::META_BG)
    .union(Incompat::EXTENTS)
    .union(Incompat::SIXTY_FOUR_BIT)
    .union(Incompat::MMP)
    .union(Incompat::FLEX_BG)
    .union(Incompat::EA_INODE)
    .union(Incompat::CSUM_SEED)
    .union(Incompat::LARGEDIR)
    .union(Incompat::INLINE_DATA)
    .union(Incompat::ENCRYPT)
    .union(Incompat::CASEFOLD);

/// What must be absent for writing although it can be read: another machine may watch the block (`mmp`), and files whose contents or names are
/// transformed cannot be kept right.
pub(crate) const NEVER_WRITTEN: Incompat = Incompat::MMP.union(Incompat::ENCRYPT).union(Incompat::CASEFOLD);

/// What can be kept right while writing.
pub(crate) const WRITABLE: RoCompat = RoCompat::SPARSE_SUPER
    .union(RoCompat::LARGE_FILE)
    .union(RoCompat::HUGE_FILE)
    .union(RoCompat::GDT_CSUM)
    .union(RoCompat::DIR_NLINK)
    .union(RoCompat::EXTRA_ISIZE)
    .union(RoCompat::METADATA_CSUM)
    .union(RoCompat::PROJECT)
    .union(RoCompat::ORPHAN_PRESENT);

/// What ext2 of Linux knows: `-t ext2` refuses the rest.
pub(crate) const EXT2_INCOMPAT: Incompat = Incompat::FILETYPE.union(Incompat::META_BG);
/// What ext3 of Linux knows.
pub(crate) const EXT3_INCOMPAT: Incompat = Incompat::FILETYPE.union(Incompat::RECOVER).union(Incompat::META_BG);
/// What ext2 and ext3 can keep right.
pub(crate) const EXT2_RO_COMPAT: RoCompat = RoCompat::SPARSE_SUPER
    .union(RoCompat::LARGE_FILE)
    .union(RoCompat::from_bits_retain(0x4));
