//! Real images: made by mke2fs, judged by e2fsck, and the little that is needed to find a file's blocks in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use ext4::buffer::BufferCache;
use ext4::fault::{FaultDevice, Image};
use ext4::journal::{Checksums, Config, Features, Journal, Numbers};
use ext4::{Errno, Result};

/// The journal's inode.
pub const JOURNAL_INODE: u32 = 8;
const CHUNK: usize = 1 << 20;

/// A directory for one test's files, gone at its end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "ext4-journal-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a program of e2fsprogs; its exit code and everything it said.
pub fn run(program: &str, args: &[&str]) -> (i32, String) {
    let output = Command::new(program)
        .args(args)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("{program} (e2fsprogs) is needed: {error}"));
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// debugfs with commands, one a line.
pub fn debugfs(image: &Path, commands: &[&str]) -> String {
    let script = image.with_extension("debugfs");
    fs::write(&script, commands.join("\n") + "\n").unwrap();
    let (code, text) = run(
        "debugfs",
        &["-w", "-f", script.to_str().unwrap(), image.to_str().unwrap()],
    );
    assert_eq!(code, 0, "debugfs {commands:?}: {text}");
    text
}

/// A file system of 24 MiB with a file `/arena` of `arena` blocks: places for blocks that e2fsck does not look into.
pub fn make(scratch: &Scratch, args: &str, arena: usize) -> PathBuf {
    let (path, root) = (scratch.path("image"), scratch.path("root"));
    fs::create_dir_all(&root).unwrap();
    fs::write(root.join("arena"), vec![0x11; arena * 4096]).unwrap();
    let mut words: Vec<&str> = args.split_whitespace().collect();
    words.extend(["-q", "-F", "-d", root.to_str().unwrap(), path.to_str().unwrap(), "24M"]);
    let (code, text) = run("mke2fs", &words);
    assert_eq!(code, 0, "mke2fs {args}: {text}");
    path
}

pub fn load_file(path: &Path) -> Image {
    let bytes = fs::read(path).unwrap();
    let mut image = Image::new(bytes.len() as u64);
    for (index, chunk) in bytes.chunks(CHUNK).enumerate() {
        assert!(image.write((index * CHUNK) as u64, chunk));
    }
    image
}

pub fn store_file(image: &Image, path: &Path) {
    let mut bytes = vec![0; image.len() as usize];
    assert!(image.read(0, &mut bytes));
    fs::write(path, bytes).unwrap();
}

/// What of the file system's superblock concerns us.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    pub block_size: usize,
    pub blocks: u64,
    inode_size: u64,
    inodes_per_group: u32,
    descriptor_size: u64,
    first_data_block: u64,
    /// `metadata_csum`.
    checksums: bool,
    /// `64bit`.
    wide: bool,
}

pub fn le16(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

pub fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn bytes(image: &Image, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    assert!(image.read(at, &mut bytes), "{at}+{len} is outside of the image");
    bytes
}

impl Geometry {
    pub fn of(image: &Image) -> Geometry {
        let sb = bytes(image, 1024, 1024);
        assert_eq!(le16(&sb, 0x38), 0xEF53);
        let wide = le32(&sb, 0x60) & 0x80 != 0;
        Geometry {
            block_size: 1024 << le32(&sb, 0x18),
            blocks: u64::from(le32(&sb, 4)) | if wide { u64::from(le32(&sb, 0x150)) << 32 } else { 0 },
            inode_size: u64::from(le16(&sb, 0x58)),
            inodes_per_group: le32(&sb, 0x28),
            descriptor_size: if wide { u64::from(le16(&sb, 0xFE)) } else { 32 },
            first_data_block: u64::from(le32(&sb, 0x14)),
            checksums: le32(&sb, 0x64) & 0x400 != 0,
            wide,
        }
    }

    /// What a file system of this kind wants of its journal.
    pub fn features(&self) -> Features {
        Features {
            numbers: if self.wide { Numbers::Wide } else { Numbers::Narrow },
            checksums: if self.checksums { Checksums::V3 } else { Checksums::None },
            ..Features::default()
        }
    }

    pub fn block(&self, image: &Image, number: u64) -> Vec<u8> {
        bytes(image, number * self.block_size as u64, self.block_size)
    }

    /// The blocks of a file, in order.
    pub fn file(&self, image: &Image, inode: u32) -> Vec<u64> {
        let (group, index) = ((inode - 1) / self.inodes_per_group, (inode - 1) % self.inodes_per_group);
        let descriptors = (self.first_data_block + 1) * self.block_size as u64;
        let descriptor = bytes(
            image,
            descriptors + u64::from(group) * self.descriptor_size,
            self.descriptor_size as usize,
        );
        let table = u64::from(le32(&descriptor, 8))
            | if self.wide {
                u64::from(le32(&descriptor, 0x28)) << 32
            } else {
                0
            };
        let at = table * self.block_size as u64 + u64::from(index) * self.inode_size;
        let raw = bytes(image, at, 128);
        let count = (u64::from(le32(&raw, 4)) / self.block_size as u64) as usize;
        let mut blocks = Vec::new();
        if le32(&raw, 0x20) & 0x8_0000 != 0 {
            self.extents(image, &raw[40..100], &mut blocks);
        } else {
            for slot in 0..15 {
                let block = u64::from(le32(&raw, 40 + slot * 4));
                self.indirect(image, block, (slot as u32).saturating_sub(11), &mut blocks);
            }
        }
        blocks.truncate(count);
        blocks
    }

    fn extents(&self, image: &Image, node: &[u8], blocks: &mut Vec<u64>) {
        for entry in 0..le16(node, 2) as usize {
            let entry = &node[12 + entry * 12..];
            if le16(node, 6) == 0 {
                let first = u64::from(le32(entry, 8)) | u64::from(le16(entry, 6)) << 32;
                blocks.extend(first..first + u64::from(le16(entry, 4)));
            } else {
                let child = u64::from(le32(entry, 4)) | u64::from(le16(entry, 8)) << 32;
                self.extents(image, &self.block(image, child), blocks);
            }
        }
    }

    fn indirect(&self, image: &Image, block: u64, depth: u32, blocks: &mut Vec<u64>) {
        if block == 0 {
            return;
        }
        if depth == 0 {
            blocks.push(block);
            return;
        }
        let table = self.block(image, block);
        for slot in 0..self.block_size / 4 {
            self.indirect(image, u64::from(le32(&table, slot * 4)), depth - 1, blocks);
        }
    }

    /// Loads the journal of an image on a device.
    pub fn journal(&self, device: &std::sync::Arc<FaultDevice>, features: Features) -> Result<std::sync::Arc<Journal>> {
        let blocks = self.file(&device.image(), JOURNAL_INODE);
        let map = |block: u32| blocks.get(block as usize).copied().ok_or(Errno::EUCLEAN);
        let mut config = Config::new("image-8".into(), blocks.len() as u64, self.blocks, &map);
        config.features = features;
        Journal::load(BufferCache::new(device.clone(), self.block_size), config)
    }
}

/// The number of `/arena`.
pub fn arena_inode(path: &Path) -> u32 {
    let text = debugfs(path, &["stat /arena"]);
    let number = text
        .split("Inode: ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no inode number in {text}"))
}

/// e2fsck replays the journal and finds nothing else to do.
pub fn replay_by_e2fsck(path: &Path) {
    let (code, text) = run("e2fsck", &["-fy", path.to_str().unwrap()]);
    assert!(code <= 1, "e2fsck -fy: {code}\n{text}");
    for complaint in ["corrupt", "checksum", "FIXED", "Fix", "Clear"] {
        assert!(!text.contains(complaint), "e2fsck complains of {complaint}:\n{text}");
    }
    judge(path);
}

/// e2fsck finds nothing.
pub fn judge(path: &Path) {
    let (code, text) = run("e2fsck", &["-fn", path.to_str().unwrap()]);
    assert_eq!(code, 0, "e2fsck -fn:\n{text}");
    assert!(!text.contains("recover") && !text.contains("WARNING"), "{text}");
}
