//! The host's own ext4 as a judge, where this runs as root with loop devices.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use kernel::vfs::inode::Link;
use kernel::vfs::{FileType, Inode};
use std::sync::Arc;

use crate::image::{Image, Mounted, list, read_all};

/// An image that Linux has mounted.
pub struct Host(PathBuf);

impl Host {
    /// Mounts the image; `None`, with a word, where that is not possible.
    pub fn mount(image: &Image, options: &str) -> Option<Self> {
        let at = image.path().with_extension("mnt");
        std::fs::create_dir_all(&at).unwrap();
        let words = [
            "-t",
            image.kind,
            "-o",
            &format!("loop,{options}"),
            image.path().to_str().unwrap(),
            at.to_str().unwrap(),
        ];
        let out = Command::new("mount").args(words).output().ok()?;
        if !out.status.success() {
            let _ = std::fs::remove_dir(&at);
            eprintln!(
                "skipped: Linux does not mount here: {}",
                String::from_utf8_lossy(&out.stderr)
            );
            return None;
        }
        Some(Self(at))
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    pub fn root(&self) -> &Path {
        &self.0
    }

    /// The tree as Linux shows it; files, directories and symlinks.
    pub fn tree(&self) -> BTreeMap<String, Seen> {
        let mut out = BTreeMap::new();
        let mut open = vec![String::new()];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(self.at(dir.trim_start_matches('/'))).unwrap() {
                let entry = entry.unwrap();
                let path = format!("{dir}/{}", entry.file_name().to_str().unwrap());
                if path == "/lost+found" {
                    continue;
                }
                let meta = entry.metadata().unwrap();
                let contents = if meta.is_symlink() {
                    std::fs::read_link(entry.path())
                        .unwrap()
                        .into_os_string()
                        .into_encoded_bytes()
                } else if meta.is_dir() {
                    open.push(path.clone());
                    Vec::new()
                } else {
                    std::fs::read(entry.path()).unwrap()
                };
                let seen = Seen {
                    mode: meta.mode(),
                    links: if meta.is_dir() { 0 } else { meta.nlink() as u32 },
                    size: if meta.is_dir() { 0 } else { meta.size() },
                    contents: digest(&contents),
                };
                out.insert(path, seen);
            }
        }
        out
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // A program that another test is just starting may hold a descriptor for a moment.
        let unmounted = |words: &[&str]| {
            let done = Command::new("umount").args(words).arg(&self.0).output();
            done.is_ok_and(|out| out.status.success())
        };
        let mut tries = 0;
        while !unmounted(&[]) {
            tries += 1;
            if tries == 200 {
                unmounted(&["-l"]);
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// What a tree says of one name.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub mode: u32,
    pub links: u32,
    pub size: u64,
    /// Its beginning, and a hash over all of it.
    pub contents: String,
}

fn digest(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{} {hash:x}", String::from_utf8_lossy(&bytes[..bytes.len().min(12)]))
}

/// Fails with the first difference of two trees.
pub fn same(ours: &BTreeMap<String, Seen>, theirs: &BTreeMap<String, Seen>, whose: &str) {
    for path in ours.keys().chain(theirs.keys()) {
        assert_eq!(ours.get(path), theirs.get(path), "{path}, against {whose}");
    }
}

/// A whole tree but for `lost+found`, by path.
pub fn tree(fs: &Mounted) -> BTreeMap<String, Seen> {
    let mut out = BTreeMap::new();
    collect(&fs.root(), "", &mut out);
    out
}

fn collect(dir: &Arc<dyn Inode>, path: &str, out: &mut BTreeMap<String, Seen>) {
    for name in list(dir) {
        let inode = dir.lookup(name.as_bytes()).unwrap();
        let meta = inode.metadata().unwrap();
        let path = format!("{path}/{name}");
        if path == "/lost+found" {
            continue;
        }
        let contents = match meta.kind {
            FileType::Regular => read_all(&inode),
            FileType::Symlink => match inode.read_link().unwrap() {
                Link::Text(text) => text,
                _ => Vec::new(),
            },
            FileType::Directory => Vec::new(),
            _ => format!("{:?}", meta.rdev).into_bytes(),
        };
        let is_dir = meta.kind == FileType::Directory;
        let seen = Seen {
            mode: meta.mode.bits() | meta.kind.mode_bits(),
            // Linux's replay of fast commits counts those of new directories wrong; e2fsck looks at ours.
            links: if is_dir { 0 } else { meta.nlink },
            size: if is_dir { 0 } else { meta.size },
            contents: digest(&contents),
        };
        out.insert(path.clone(), seen);
        if is_dir {
            collect(&inode, &path, out);
        }
    }
}
