//! The inode as it lies in the table: fields, times, checksum.

use bitflags::bitflags;
use kernel::vfs::{DevT, Timespec};

use super::checksum::crc32c;
use super::geometry::Geometry;
use super::{get8, get16, get32, put, put16, put32};

bitflags! {
    /// `i_flags`, the numbers of `FS_IOC_GETFLAGS`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct Flags: u32 {
        const SYNC = 0x8;
        const IMMUTABLE = 0x10;
        const APPEND = 0x20;
        const NODUMP = 0x40;
        const NOATIME = 0x80;
        const ENCRYPT = 0x800;
        const INDEX = 0x1000;
        const JOURNAL_DATA = 0x4000;
        const NOTAIL = 0x8000;
        const DIRSYNC = 0x10000;
        const TOPDIR = 0x20000;
        const HUGE_FILE = 0x40000;
        const EXTENTS = 0x80000;
        const VERITY = 0x100000;
        const EA_INODE = 0x200000;
        const DAX = 0x200_0000;
        const INLINE_DATA = 0x1000_0000;
        const PROJINHERIT = 0x2000_0000;
        const CASEFOLD = 0x4000_0000;
        const _ = !0;
    }
}

/// Flags that a program may see.
pub(crate) const USER_VISIBLE: u32 = 0x725b_dfff;
/// Flags that a program may change.
pub(crate) const USER_MODIFIABLE: u32 = 0x604b_c0ff & !0x0200_0000;
/// Flags that mean something for a directory alone.
pub(crate) const DIRECTORY_ONLY: Flags = Flags::DIRSYNC
    .union(Flags::TOPDIR)
    .union(Flags::CASEFOLD)
    .union(Flags::PROJINHERIT);
/// Flags that anything else but a file or directory may have.
pub(crate) const OF_ALL: Flags = Flags::NODUMP.union(Flags::NOATIME);
/// Flags that a new file takes from its directory.
pub(crate) const INHERITED: Flags = Flags::from_bits_retain(
    0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x40 | 0x80 | 0x400 | 0x4000 | 0x8000 | 0x10000 | 0x2000_0000,
);

/// Bytes of `i_block`.
pub(crate) const BLOCK_LEN: usize = 60;
/// Where it begins.
pub(crate) const BLOCK_AT: usize = 0x28;
/// Where the classic inode ends.
pub(crate) const OLD_SIZE: usize = 128;

/// An inode's fields in memory.
#[derive(Clone, Debug)]
pub(crate) struct Core {
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    /// The size as the disk knows it.
    pub disk_size: u64,
    /// Space used, in 512 bytes.
    pub sectors: u64,
    pub atime: Timespec,
    pub ctime: Timespec,
    pub mtime: Timespec,
    pub crtime: Option<Timespec>,
    pub dtime: u32,
    pub flags: Flags,
    pub block: [u8; BLOCK_LEN],
    pub generation: u32,
    pub xattr_block: u64,
    pub extra_isize: u16,
    pub project: u32,
    pub version: u64,
}

/// Seconds and their extra word: two bits of epoch, thirty of nanoseconds.
fn time(raw: &[u8], at: usize, extra: Option<usize>) -> Timespec {
    let low = i64::from(get32(raw, at) as i32);
    match extra.map(|at| get32(raw, at)) {
        Some(extra) => Timespec {
            sec: low + (i64::from(extra & 3) << 32),
            nsec: (extra >> 2).min(999_999_999),
        },
        None => Timespec { sec: low, nsec: 0 },
    }
}

fn put_time(raw: &mut [u8], at: usize, extra: Option<usize>, value: Timespec) {
    match extra {
        Some(extra) => {
            let sec = value.sec.clamp(i64::from(i32::MIN), i64::from(i32::MAX) + (3 << 32));
            put32(raw, at, sec as u32);
            let epoch = ((sec - i64::from(sec as i32)) >> 32) as u32 & 3;
            put32(raw, extra, value.nsec << 2 | epoch);
        }
        None => {
            let sec = value.sec.clamp(i64::from(i32::MIN), i64::from(i32::MAX));
            put32(raw, at, sec as u32);
        }
    }
}

impl Core {
    /// Reads `raw`, a whole inode.
    pub(crate) fn parse(raw: &[u8], geometry: &Geometry) -> Self {
        let extra_isize = if raw.len() > OLD_SIZE { get16(raw, 0x80) } else { 0 };
        let extra = |at: usize| (at + 4 <= OLD_SIZE + usize::from(extra_isize)).then_some(at);
        let flags = Flags::from_bits_retain(get32(raw, 0x20));
        let mode = get16(raw, 0);
        let mut block = [0; BLOCK_LEN];
        block.copy_from_slice(&raw[BLOCK_AT..BLOCK_AT + BLOCK_LEN]);
        let count = u64::from(get32(raw, 0x1c)) | u64::from(get16(raw, 0x74)) << 32;
        let huge = geometry.ro_compat.contains(super::features::RoCompat::HUGE_FILE);
        let sectors = match (huge, flags.contains(Flags::HUGE_FILE)) {
            (false, _) => u64::from(get32(raw, 0x1c)),
            (true, false) => count,
            (true, true) => count * u64::from(geometry.block_size / 512),
        };
        Self {
            mode,
            uid: u32::from(get16(raw, 2)) | u32::from(get16(raw, 0x78)) << 16,
            gid: u32::from(get16(raw, 0x18)) | u32::from(get16(raw, 0x7a)) << 16,
            nlink: u32::from(get16(raw, 0x1a)),
            disk_size: u64::from(get32(raw, 4)) | u64::from(get32(raw, 0x6c)) << 32,
            sectors,
            atime: time(raw, 0x8, extra(0x8c)),
            ctime: time(raw, 0xc, extra(0x84)),
            mtime: time(raw, 0x10, extra(0x88)),
            crtime: extra(0x94).map(|at| time(raw, 0x90, Some(at))),
            dtime: get32(raw, 0x14),
            flags,
            block,
            generation: get32(raw, 0x64),
            xattr_block: u64::from(get32(raw, 0x68)) | u64::from(get16(raw, 0x76)) << 32,
            extra_isize,
            project: extra(0x9c).map_or(0, |at| get32(raw, at)),
            version: u64::from(get32(raw, 0x24)) | extra(0x98).map_or(0, |at| u64::from(get32(raw, at)) << 32),
        }
    }

    /// Stores the fields into `raw`; what this does not know (attributes behind the fields) stays.
    pub(crate) fn store(&self, raw: &mut [u8], geometry: &Geometry) {
        let end = OLD_SIZE + usize::from(self.extra_isize);
        let extra = |at: usize| (at + 4 <= end).then_some(at);
        let has_more = raw.len() > OLD_SIZE;
        put16(raw, 0, self.mode);
        put16(raw, 2, self.uid as u16);
        put16(raw, 0x78, (self.uid >> 16) as u16);
        put16(raw, 0x18, self.gid as u16);
        put16(raw, 0x7a, (self.gid >> 16) as u16);
        put16(raw, 0x1a, self.nlink as u16);
        put32(raw, 4, self.disk_size as u32);
        put32(raw, 0x6c, (self.disk_size >> 32) as u32);
        let mut flags = self.flags - Flags::HUGE_FILE;
        let mut count = self.sectors;
        if count >= 1 << 48 && geometry.ro_compat.contains(super::features::RoCompat::HUGE_FILE) {
            flags |= Flags::HUGE_FILE;
            count /= u64::from(geometry.block_size / 512);
        }
        put32(raw, 0x1c, count as u32);
        if geometry.ro_compat.contains(super::features::RoCompat::HUGE_FILE) {
            put16(raw, 0x74, (count >> 32) as u16);
        }
        put32(raw, 0x20, flags.bits());
        put32(raw, 0x14, self.dtime);
        put(raw, BLOCK_AT, &self.block);
        put32(raw, 0x64, self.generation);
        put32(raw, 0x68, self.xattr_block as u32);
        put16(raw, 0x76, (self.xattr_block >> 32) as u16);
        put32(raw, 0x24, self.version as u32);
        if has_more {
            put16(raw, 0x80, self.extra_isize);
        }
        let extra = |at| if has_more { extra(at) } else { None };
        put_time(raw, 0x8, extra(0x8c), self.atime);
        put_time(raw, 0xc, extra(0x84), self.ctime);
        put_time(raw, 0x10, extra(0x88), self.mtime);
        if let (Some(at), Some(born)) = (extra(0x94), self.crtime) {
            put_time(raw, 0x90, Some(at), born);
        }
        if let Some(at) = extra(0x98) {
            put32(raw, at, (self.version >> 32) as u32);
        }
        if let Some(at) = extra(0x9c) {
            put32(raw, at, self.project);
        }
    }

    /// The device a special file stands for: the old 16-bit form in the first word, the new 32-bit form in the second.
    pub(crate) fn device(&self) -> DevT {
        match get32(&self.block, 0) {
            0 => {
                let dev = get32(&self.block, 4);
                DevT::new(dev >> 8 & 0xfff, (dev & 0xff) | (dev >> 12 & 0xf_ff00))
            }
            old => DevT::new(old >> 8 & 0xff, old & 0xff),
        }
    }

    pub(crate) fn set_device(&mut self, dev: DevT) {
        if dev.major < 256 && dev.minor < 256 {
            put32(&mut self.block, 0, dev.major << 8 | dev.minor);
        } else {
            put32(
                &mut self.block,
                4,
                (dev.minor & 0xff) | dev.major << 8 | (dev.minor & !0xff) << 12,
            );
        }
    }
}

fn has_high_checksum(raw: &[u8]) -> bool {
    raw.len() > OLD_SIZE && get16(raw, 0x80) >= 4
}

fn checksum(raw: &[u8], ino: u32, geometry: &Geometry) -> u32 {
    let seed = geometry.inode_seed(ino, get32(raw, 0x64));
    let crc = crc32c(crc32c(seed, &raw[..0x7c]), &[0; 2]);
    if raw.len() <= OLD_SIZE {
        return crc32c(crc, &raw[0x7e..OLD_SIZE]);
    }
    if !has_high_checksum(raw) {
        return crc32c(crc, &raw[0x7e..]);
    }
    let crc = crc32c(crc32c(crc, &raw[0x7e..0x82]), &[0; 2]);
    crc32c(crc, &raw[0x84..])
}

/// Puts the checksum of a whole inode in its place, if the file system has them.
pub(crate) fn seal(raw: &mut [u8], ino: u32, geometry: &Geometry) {
    if geometry.has_csum() {
        let crc = checksum(raw, ino, geometry);
        put16(raw, 0x7c, crc as u16);
        if has_high_checksum(raw) {
            put16(raw, 0x82, (crc >> 16) as u16);
        }
    }
}

/// Whether the checksum of a whole inode is right.
pub(crate) fn is_sealed(raw: &[u8], ino: u32, geometry: &Geometry) -> bool {
    if !geometry.has_csum() {
        return true;
    }
    // An inode that was never written is all zero.
    if raw.iter().all(|&byte| byte == 0) {
        return true;
    }
    let crc = checksum(raw, ino, geometry);
    let mut stored = u32::from(get16(raw, 0x7c));
    let mut mask = 0xffff;
    if has_high_checksum(raw) {
        stored |= u32::from(get16(raw, 0x82)) << 16;
        mask = u32::MAX;
    }
    crc & mask == stored && get8(raw, 0) == raw[0]
}
