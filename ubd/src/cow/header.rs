//! The header of a COW file: versions 1 to 3, and the version 3 that 64-bit tools wrote before December 2005.
//!
//! | field | V1 | V2 | V3 | broken V3 |
//! | --- | --- | --- | --- | --- |
//! | magic, version | 0, 4 | 0, 4 | 0, 4 | 0, 4 |
//! | backing file | 8, 256 bytes | 8, 4096 bytes | 32, 4096 bytes | 36, 4096 bytes |
//! | modification time of it | 264 | 4104 | 8 | 8 (64 bits, of which the first 32 count) |
//! | size of it (64 bits) | 268 | 4108 | 12 | 16 |
//! | sector size | 276 | 4116 | 20 | 24 |
//! | alignment, format | | | 24, 28 | 28, 32 |
//! | bytes | 280 | 4120 | 4128 | 4136 |
//!
//! Numbers are big-endian; in V1 all but magic and version are in the order of the machine that wrote them. Magic and version come in either order.
//! Behind the header lie a bitmap, one bit a sector, and the data, one place for each sector: see [`Layout`].

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// `MOOO` as a number.
const MAGIC: u32 = 0x4f4f_4f4d;
/// The only sector size there is: UML counts in it whatever a header says.
pub const SECTOR: u64 = 512;
/// What new files are aligned to.
pub const ALIGNMENT: u32 = 4096;
/// More bytes than any header has.
pub const MOST_BYTES: usize = 4136;
/// An alignment beyond this is damage.
const MOST_ALIGNMENT: u32 = 1 << 30;

/// A version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 1.
    V1,
    /// 2.
    V2,
    /// 3, the one written today.
    V3,
    /// 3 as 64-bit tools wrote it before December 2005: not packed.
    BrokenV3,
}

/// The order of bytes in magic and version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As all tools write them now.
    Big,
    /// As x86 tools of the first days wrote them.
    Little,
}

/// Where a version keeps its fields.
struct Fields {
    backing: usize,
    /// Bytes for the name and the NUL behind it.
    backing_len: usize,
    mtime: usize,
    size: usize,
    sector_size: usize,
    alignment: Option<usize>,
    format: Option<usize>,
    bytes: usize,
}

impl Version {
    fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
            Self::V3 | Self::BrokenV3 => 3,
        }
    }

    fn fields(self) -> Fields {
        match self {
            Self::V1 | Self::V2 => {
                let backing_len = if self == Self::V1 { 256 } else { 4096 };
                let end = 8 + backing_len;
                Fields {
                    backing: 8,
                    backing_len,
                    mtime: end,
                    size: end + 4,
                    sector_size: end + 12,
                    alignment: None,
                    format: None,
                    bytes: end + 16,
                }
            }
            Self::V3 => Fields {
                backing: 32,
                backing_len: 4096,
                mtime: 8,
                size: 12,
                sector_size: 20,
                alignment: Some(24),
                format: Some(28),
                bytes: 4128,
            },
            Self::BrokenV3 => Fields {
                backing: 36,
                backing_len: 4096,
                mtime: 8,
                size: 16,
                sector_size: 24,
                alignment: Some(28),
                format: Some(32),
                bytes: 4136,
            },
        }
    }
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The version.
    pub version: Version,
    /// The order of its first two words.
    pub order: Order,
    /// The backing file, as written.
    pub backing: PathBuf,
    /// Its modification time, seconds modulo 2³².
    pub mtime: u32,
    /// Its size in bytes.
    pub size: u64,
    /// What bitmap (V3) and data are aligned to.
    pub alignment: u32,
}

/// What is wrong with a header. Where UML has words, they are UML's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// The file ends inside the header.
    Short(Version),
    /// A version nobody wrote.
    UnknownVersion(u32),
    /// Alignment 0.
    NoAlignment,
    /// An alignment that is no power of two or absurdly large.
    Alignment(u32),
    /// Sectors of another size.
    SectorSize(u32),
    /// Something else than a bitmap.
    Format(u32),
    /// No backing file is named.
    NoBacking,
    /// A disk that no file can hold.
    Size(u64),
    /// A backing file whose name does not fit; the most bytes a name may have.
    LongName(PathBuf, usize),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short(version) => write!(
                f,
                "failed to read V{} header: the file ends inside it",
                version.number()
            ),
            Self::UnknownVersion(number) => write!(f, "invalid COW version {number}, versions 1 to 3 are known"),
            Self::NoAlignment => f.write_str("invalid COW header, align == 0"),
            Self::Alignment(bytes) => write!(
                f,
                "invalid COW header, align == {bytes}, which is no power of two up to 1 GiB"
            ),
            Self::SectorSize(bytes) => write!(f, "invalid COW header, sectors of {bytes} bytes, only 512 are known"),
            Self::Format(number) => write!(f, "unknown COW format {number}, only 0 (bitmap) is known"),
            Self::NoBacking => f.write_str("invalid COW header, no backing file is named"),
            Self::Size(bytes) => write!(f, "invalid COW header, a backing file of {bytes} bytes cannot be"),
            Self::LongName(name, most) => write!(
                f,
                "Backing file name \"{}\" is too long - names are limited to {most} characters",
                name.display()
            ),
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<[u8; 4]> {
    bytes.get(at..at + 4)?.try_into().ok()
}

impl Header {
    /// A header as new files get it.
    pub fn new(backing: PathBuf, mtime: i64, size: u64) -> Self {
        Self {
            version: Version::V3,
            order: Order::Big,
            backing,
            mtime: mtime as u32,
            size,
            alignment: ALIGNMENT,
        }
    }

    /// Reads the header that `bytes`, the begin of a file, may hold. `None` when it is no COW file at all.
    ///
    /// # Errors
    /// See [`HeaderError`].
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, HeaderError> {
        let (Some(magic), Some(version)) = (word(bytes, 0), word(bytes, 4)) else {
            return Ok(None);
        };
        let (order, number) = if u32::from_be_bytes(magic) == MAGIC {
            (Order::Big, u32::from_be_bytes(version))
        } else if u32::from_le_bytes(magic) == MAGIC {
            (Order::Little, u32::from_le_bytes(version))
        } else {
            return Ok(None);
        };
        let version = match number {
            1 => Version::V1,
            2 => Version::V2,
            // In the broken layout the format, which is 0, lies where the name begins in the good one.
            3 if word(bytes, 32) == Some([0; 4]) => Version::BrokenV3,
            3 => Version::V3,
            other => return Err(HeaderError::UnknownVersion(other)),
        };
        Self::parse_fields(version, order, bytes).map(Some)
    }

    fn parse_fields(version: Version, order: Order, bytes: &[u8]) -> Result<Self, HeaderError> {
        let fields = version.fields();
        let bytes = bytes.get(..fields.bytes).ok_or(HeaderError::Short(version))?;
        let long = |at: usize| {
            let mut long = [0; 8];
            long.copy_from_slice(&bytes[at..at + 8]);
            match version {
                Version::V1 => u64::from_ne_bytes(long),
                _ => u64::from_be_bytes(long),
            }
        };
        let int = |at: usize| {
            let mut int = [0; 4];
            int.copy_from_slice(&bytes[at..at + 4]);
            match version {
                Version::V1 => u32::from_ne_bytes(int),
                _ => u32::from_be_bytes(int),
            }
        };
        let sector_size = int(fields.sector_size);
        if u64::from(sector_size) != SECTOR {
            return Err(HeaderError::SectorSize(sector_size));
        }
        let alignment = fields.alignment.map_or(sector_size, int);
        if alignment == 0 {
            return Err(HeaderError::NoAlignment);
        }
        if !alignment.is_power_of_two() || alignment > MOST_ALIGNMENT {
            return Err(HeaderError::Alignment(alignment));
        }
        if let Some(format) = fields.format.map(int).filter(|&format| format != 0) {
            return Err(HeaderError::Format(format));
        }
        let size = long(fields.size);
        if size > i64::MAX as u64 / 2 {
            return Err(HeaderError::Size(size));
        }
        let name = &bytes[fields.backing..][..fields.backing_len];
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        if name.is_empty() {
            return Err(HeaderError::NoBacking);
        }
        Ok(Self {
            version,
            order,
            backing: PathBuf::from(OsString::from_vec(name.to_vec())),
            mtime: int(fields.mtime),
            size,
            alignment,
        })
    }

    /// The bytes of the header.
    ///
    /// # Errors
    /// [`HeaderError::LongName`].
    pub fn encode(&self) -> Result<Vec<u8>, HeaderError> {
        let fields = self.version.fields();
        let name = self.backing.as_os_str().as_bytes();
        if name.len() >= fields.backing_len {
            return Err(HeaderError::LongName(self.backing.clone(), fields.backing_len - 1));
        }
        let mut bytes = vec![0; fields.bytes];
        let mut put = |at: usize, data: &[u8]| bytes[at..at + data.len()].copy_from_slice(data);
        for (at, value) in [(0, MAGIC), (4, self.version.number())] {
            put(
                at,
                &match self.order {
                    Order::Big => value.to_be_bytes(),
                    Order::Little => value.to_le_bytes(),
                },
            );
        }
        let native = self.version == Version::V1;
        let int = |value: u32| {
            if native {
                value.to_ne_bytes()
            } else {
                value.to_be_bytes()
            }
        };
        put(fields.backing, name);
        put(fields.mtime, &int(self.mtime));
        put(fields.sector_size, &int(SECTOR as u32));
        put(
            fields.size,
            &if native {
                self.size.to_ne_bytes()
            } else {
                self.size.to_be_bytes()
            },
        );
        if let Some(at) = fields.alignment {
            put(at, &int(self.alignment));
        }
        Ok(bytes)
    }

    /// Where bitmap and data are.
    pub fn layout(&self) -> Layout {
        let header = self.version.fields().bytes as u64;
        let align = u64::from(self.alignment);
        let (bitmap_offset, bitmap_len) = match self.version {
            // Rounded down to whole bytes of the bitmap, as UML does: the last sectors of an odd size have no bit.
            Version::V1 | Version::V2 => (header, (self.size + SECTOR - 1) / (8 * SECTOR)),
            Version::V3 | Version::BrokenV3 => (header.next_multiple_of(align), self.size.div_ceil(SECTOR).div_ceil(8)),
        };
        Layout {
            bitmap_offset,
            bitmap_len,
            data_offset: (bitmap_offset + bitmap_len).next_multiple_of(align),
            size: self.size,
        }
    }
}

/// Where things are in a COW file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bit `i % 8` of byte `i / 8` is set when sector `i` is in this file.
    pub bitmap_offset: u64,
    /// Bytes of the bitmap.
    pub bitmap_len: u64,
    /// Sector 0 of the data.
    pub data_offset: u64,
    /// Bytes of the disk, as long as the backing file.
    pub size: u64,
}

impl Layout {
    /// The length of the whole file.
    pub fn file_len(&self) -> u64 {
        self.data_offset + self.size
    }
}

/// `path` as UML writes it into a header: the directory with all links resolved, the name as it is.
///
/// # Errors
/// The host's, for the directory.
pub fn absolute(path: &Path) -> std::io::Result<PathBuf> {
    let name = path.file_name().ok_or(std::io::ErrorKind::InvalidInput)?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Ok(directory.canonicalize()?.join(name))
}
