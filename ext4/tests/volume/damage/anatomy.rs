//! Where an image's metadata lies, found without the driver: every structure that damage can be done to, with what its checksum needs.
//!
//! For images as `mke2fs` makes them, without `meta_bg`. What is read here is trusted: the image is whole.

use std::collections::BTreeSet;
use std::ops::Range;

/// What a piece of metadata is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Super,
    /// A group's descriptor.
    Descriptor(u32),
    BlockBitmap(u32),
    InodeBitmap(u32),
    Inode(u32),
    /// A block of an inode's extent tree.
    Extents(u32),
    /// A block of pointers.
    Pointers,
    /// A block of names of a directory.
    Names(u32),
    /// A block of a directory's hash tree.
    Index(u32),
    Xattrs,
    JournalSuper,
    Log,
}

impl Part {
    /// Its kind alone, for choosing and for tables.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Super => "super block",
            Self::Descriptor(_) => "group descriptors",
            Self::BlockBitmap(_) => "block bitmaps",
            Self::InodeBitmap(_) => "inode bitmaps",
            Self::Inode(_) => "inodes",
            Self::Extents(_) => "extent blocks",
            Self::Pointers => "pointer blocks",
            Self::Names(_) => "directory blocks",
            Self::Index(_) => "hash trees",
            Self::Xattrs => "attribute blocks",
            Self::JournalSuper => "journal super block",
            Self::Log => "journal blocks",
        }
    }
}

/// A piece and its bytes.
#[derive(Clone, Debug)]
pub struct Piece {
    pub part: Part,
    pub bytes: Range<usize>,
}

pub fn le16(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

pub fn le32(bytes: &[u8], at: usize) -> u32 {
    le16(bytes, at) | le16(bytes, at + 2) << 16
}

/// The measures of a file system.
#[derive(Clone, Copy, Debug)]
pub struct Anatomy {
    pub block: usize,
    pub inode_size: usize,
    pub inodes_per_group: u32,
    pub blocks_per_group: u32,
    pub desc_size: usize,
    pub groups: u32,
    first: u32,
    /// `metadata_csum`.
    pub has_csum: bool,
    /// `uninit_bg`.
    pub has_gdt_csum: bool,
    /// What all checksums begin with.
    pub seed: u32,
}

/// The journal's file.
const JOURNAL: u32 = 8;
/// A block of the journal's own.
pub const JOURNAL_MAGIC: [u8; 4] = [0xC0, 0x3B, 0x39, 0x98];

impl Anatomy {
    pub fn of(image: &[u8]) -> Self {
        let sb = &image[1024..2048];
        let (incompat, ro_compat) = (le32(sb, 0x60), le32(sb, 0x64));
        let blocks_per_group = le32(sb, 0x20);
        Self {
            block: 1024 << le32(sb, 0x18),
            inode_size: le16(sb, 0x58) as usize,
            inodes_per_group: le32(sb, 0x28),
            blocks_per_group,
            desc_size: if incompat & 0x80 != 0 {
                le16(sb, 0xFE) as usize
            } else {
                32
            },
            groups: (le32(sb, 4) - le32(sb, 0x14)).div_ceil(blocks_per_group),
            first: le32(sb, 0x14),
            has_csum: ro_compat & 0x400 != 0,
            has_gdt_csum: ro_compat & 0x10 != 0,
            seed: if incompat & 0x2000 != 0 {
                le32(sb, 0x270)
            } else {
                crate::fast_area::crc32c(!0, &sb[0x68..0x78])
            },
        }
    }

    /// The bytes of a block.
    pub fn bytes(&self, block: u32) -> Range<usize> {
        block as usize * self.block..(block as usize + 1) * self.block
    }

    /// The bytes of a group's descriptor.
    pub fn descriptor(&self, group: u32) -> Range<usize> {
        let at = (self.first as usize + 1) * self.block + group as usize * self.desc_size;
        at..at + self.desc_size
    }

    /// The bytes of an inode.
    pub fn inode(&self, image: &[u8], ino: u32) -> Range<usize> {
        let (group, index) = ((ino - 1) / self.inodes_per_group, (ino - 1) % self.inodes_per_group);
        let table = le32(image, self.descriptor(group).start + 8) as usize;
        let at = table * self.block + index as usize * self.inode_size;
        at..at + self.inode_size
    }

    /// Everything there is.
    pub fn pieces(&self, image: &[u8]) -> Vec<Piece> {
        let mut all = Vec::new();
        let mut add = |part, bytes| all.push(Piece { part, bytes });
        add(Part::Super, 1024..2048);
        for group in 0..self.groups {
            let desc = self.descriptor(group);
            add(Part::Descriptor(group), desc.clone());
            let raw = &image[desc];
            add(Part::BlockBitmap(group), self.bytes(le32(raw, 0)));
            add(Part::InodeBitmap(group), self.bytes(le32(raw, 4)));
            let bitmap = &image[self.bytes(le32(raw, 4))];
            // Nothing is to be read of a group that was never used.
            if le16(raw, 0x12) & 1 != 0 {
                continue;
            }
            for index in 0..self.inodes_per_group {
                let ino = group * self.inodes_per_group + index + 1;
                if bitmap[index as usize / 8] >> (index % 8) & 1 != 0 {
                    self.file(image, ino, &mut add);
                }
            }
        }
        all
    }

    /// An inode and what belongs to it.
    fn file(&self, image: &[u8], ino: u32, add: &mut impl FnMut(Part, Range<usize>)) {
        let place = self.inode(image, ino);
        let raw = &image[place.clone()];
        let (mode, flags) = (le16(raw, 0), le32(raw, 0x20));
        if mode == 0 {
            return;
        }
        add(Part::Inode(ino), place);
        if le32(raw, 0x68) != 0 {
            add(Part::Xattrs, self.bytes(le32(raw, 0x68)));
        }
        // Neither inline data nor a link's text.
        if flags & 0x1000_0000 != 0 || mode & 0xF000 == 0xA000 && le32(raw, 4) < 60 {
            return;
        }
        let mut data = BTreeSet::new();
        if flags & 0x8_0000 != 0 {
            self.extents(image, ino, &raw[40..100], &mut data, add);
        } else {
            for slot in 0..15 {
                let depth = (slot as u32).saturating_sub(11);
                self.pointers(image, le32(raw, 40 + slot * 4), depth, &mut data, add);
            }
        }
        let blocks = || data.iter().map(|&block| (block, &image[self.bytes(block)]));
        if ino == JOURNAL {
            for (index, (block, bytes)) in blocks().enumerate() {
                if bytes[..4] == JOURNAL_MAGIC {
                    let part = if index == 0 { Part::JournalSuper } else { Part::Log };
                    add(part, self.bytes(block));
                }
            }
        } else if mode & 0xF000 == 0x4000 {
            for (index, (block, bytes)) in blocks().enumerate() {
                let is_node = le32(bytes, 0) == 0 && le16(bytes, 4) as usize == self.block;
                let is_index = flags & 0x1000 != 0 && (index == 0 || is_node);
                let part = if is_index { Part::Index(ino) } else { Part::Names(ino) };
                add(part, self.bytes(block));
            }
        }
    }

    fn extents(
        &self,
        image: &[u8],
        ino: u32,
        node: &[u8],
        data: &mut BTreeSet<u32>,
        add: &mut impl FnMut(Part, Range<usize>),
    ) {
        for entry in node[12..].chunks_exact(12).take(le16(node, 2) as usize) {
            if le16(node, 6) == 0 {
                let first = le32(entry, 8);
                data.extend(first..first + le16(entry, 4) % 0x8000);
            } else {
                let child = self.bytes(le32(entry, 4));
                add(Part::Extents(ino), child.clone());
                self.extents(image, ino, &image[child], data, add);
            }
        }
    }

    fn pointers(
        &self,
        image: &[u8],
        block: u32,
        depth: u32,
        data: &mut BTreeSet<u32>,
        add: &mut impl FnMut(Part, Range<usize>),
    ) {
        if block == 0 {
            return;
        }
        if depth == 0 {
            data.insert(block);
            return;
        }
        add(Part::Pointers, self.bytes(block));
        for entry in image[self.bytes(block)].chunks_exact(4) {
            self.pointers(image, le32(entry, 0), depth - 1, data, add);
        }
    }
}
