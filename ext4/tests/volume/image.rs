//! Images, mounting, and small words for tests.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ext4::device::BlockDevice;
use ext4::fault;
use ext4::mount::Mounting;
use ext4::{Errno, Result};
use kernel::io::SliceSource;
use kernel::task::Cred;
use kernel::vfs::file::{WriteAt, Written};
use kernel::vfs::inode::{MountOption, MountSource, NewAttr};
use kernel::vfs::{DevT, File, FileSystem, Inode, Mode, NewNode, OpenFlags, SetAttr};

/// A file as a device.
pub struct Disk(std::fs::File, u64);

impl BlockDevice for Disk {
    fn len(&self) -> u64 {
        self.1
    }

    fn read(&self, at: u64, data: &mut [u8]) -> Result<()> {
        assert!((at | data.len() as u64).is_multiple_of(512) && at + data.len() as u64 <= self.1);
        self.0.read_exact_at(data, at).map_err(|_| Errno::EIO)
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<()> {
        assert!((at | data.len() as u64).is_multiple_of(512) && at + data.len() as u64 <= self.1);
        self.0.write_all_at(data, at).map_err(|_| Errno::EIO)
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn write_zeroes(&self, at: u64, len: u64) -> Result<()> {
        self.write(at, &vec![0; len as usize])
    }
}

/// Stores an image for the one who must find out; where.
pub fn keep(image: &fault::Image, name: &str) -> String {
    let path = std::env::temp_dir().join(format!("ext4-test-failed-{name}.img"));
    store(image, &path);
    path.display().to_string()
}

fn store(image: &fault::Image, path: &Path) {
    let file = std::fs::File::create(path).unwrap();
    file.set_len(image.len()).unwrap();
    for (at, bytes) in image.changed_since(&fault::Image::new(image.len())) {
        file.write_all_at(bytes, at).unwrap();
    }
}

/// An image file that goes with the test.
pub struct Image {
    path: PathBuf,
    pub kind: &'static str,
}

/// What the unused blocks of a used disk hold.
pub const STALE: u8 = 0xA5;

/// What `mke2fs -t` makes, in the block sizes and kinds that differ.
pub const ALL: [(&str, &str); 6] = [
    ("ext4", "-b 4096"),
    ("ext4", "-b 1024"),
    ("ext4", "-b 2048 -O ^metadata_csum,uninit_bg,^64bit"),
    ("ext3", "-b 1024"),
    ("ext2", "-b 4096"),
    ("ext2", "-b 1024"),
];

fn run(program: &str, args: &[&str]) -> (bool, String) {
    let out = Command::new(program)
        .args(args)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = [out.stdout, out.stderr].concat();
    (out.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// `mount -o`.
pub fn source(options: &str) -> MountSource {
    let option = |word: &str| match word.split_once('=') {
        Some((key, value)) => MountOption {
            key: key.into(),
            value: Some(value.into()),
        },
        None => MountOption {
            key: word.into(),
            value: None,
        },
    };
    MountSource {
        options: options.split(',').filter(|word| !word.is_empty()).map(option).collect(),
        ..MountSource::default()
    }
}

fn fresh_path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "ext4-test-{}-{}.img",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    std::env::temp_dir().join(name)
}

impl Image {
    /// `mke2fs -t KIND OPTIONS`, of `megabytes`.
    pub fn new(kind: &'static str, options: &str, megabytes: u64) -> Self {
        Self::made_on(&[], kind, options, megabytes)
    }

    /// The same on a disk that was in use: what `mke2fs` does not write holds [`STALE`].
    pub fn new_on_used(kind: &'static str, options: &str, megabytes: u64) -> Self {
        let options = format!("{options} -E nodiscard,lazy_itable_init=0,lazy_journal_init=0");
        Self::made_on(&vec![STALE; (megabytes << 20) as usize], kind, &options, megabytes)
    }

    /// A file with these contents.
    pub fn of(kind: &'static str, contents: &fault::Image) -> Self {
        let path = fresh_path();
        store(contents, &path);
        Self { path, kind }
    }

    fn made_on(before: &[u8], kind: &'static str, options: &str, megabytes: u64) -> Self {
        let path = fresh_path();
        let file = std::fs::File::create(&path).unwrap();
        file.write_all_at(before, 0).unwrap();
        file.set_len(megabytes << 20).unwrap();
        let image = Self { path, kind };
        let mut args = vec!["-q", "-F", "-t", kind];
        args.extend(options.split_whitespace());
        args.push(image.text());
        let (done, text) = run("mke2fs", &args);
        assert!(done, "{text}");
        image
    }

    /// `dumpe2fs -h`.
    pub fn dump(&self) -> String {
        run("dumpe2fs", &["-h", self.text()]).1
    }

    /// `dumpe2fs`, with all groups.
    pub fn dump_all(&self) -> String {
        run("dumpe2fs", &[self.text()]).1
    }

    /// The image as it is now, once more.
    pub fn copy(&self) -> Self {
        let copy = Self {
            path: fresh_path(),
            kind: self.kind,
        };
        std::fs::copy(&self.path, &copy.path).unwrap();
        copy
    }

    /// `e2fsck -fy` makes everything right.
    pub fn repair(&self) {
        let (_, text) = run("e2fsck", &["-fy", "-E", "no_optimize_extents", self.text()]);
        assert!(!text.contains("aborted"), "{text}");
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn text(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Bytes of the file.
    pub fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        std::fs::File::open(&self.path)
            .unwrap()
            .read_exact_at(&mut bytes, at)
            .unwrap();
        bytes
    }

    /// Changes them.
    pub fn patch(&self, at: u64, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).open(&self.path).unwrap();
        file.write_all_at(bytes, at).unwrap();
    }

    /// `e2fsck` with these words: whether all is well, and what it says.
    pub fn e2fsck(&self, words: &[&str]) -> (bool, String) {
        run("e2fsck", &[words, &["-E", "no_optimize_extents", self.text()]].concat())
    }

    /// `debugfs -R`.
    pub fn debugfs(&self, request: &str) -> String {
        run("debugfs", &["-R", request, self.text()]).1
    }

    /// `debugfs -f`: one request a line.
    pub fn debugfs_script(&self, script: &Path) -> String {
        let script = script.to_str().unwrap();
        run("debugfs", &["-f", script, self.text()]).1
    }

    /// `debugfs -w -R`.
    pub fn debugfs_write(&self, request: &str) -> String {
        run("debugfs", &["-w", "-R", request, self.text()]).1
    }

    /// `e2fsck -fn` finds nothing.
    pub fn check(&self) {
        if let Err(text) = self.judged() {
            let keep = std::env::temp_dir().join("ext4-test-failed.img");
            let _ = std::fs::copy(&self.path, &keep);
            panic!("e2fsck on {} ({}):\n{text}", keep.display(), self.kind);
        }
    }

    /// What `e2fsck -fn` finds, if anything. It would rebuild every extent tree that has a block's worth of free entries, as trees written in
    /// random order do, Linux's too: that it does not look at.
    pub fn judged(&self) -> std::result::Result<(), String> {
        let (clean, text) = run("e2fsck", &["-fn", "-E", "no_optimize_extents", self.text()]);
        let odd = ["WARNING", "Fix?", "no\n", "error"];
        if clean && !odd.iter().any(|word| text.contains(word)) {
            Ok(())
        } else {
            Err(text)
        }
    }

    /// `e2fsck -fy` replays the journal and ends what a crash interrupted; what else it mends, if anything.
    ///
    /// The super block's two totals do not count: they are brought up to date by `sync` and `umount` alone, as in Linux, and `e2fsck -p` does not
    /// even tell.
    pub fn replayed_by_e2fsck(&self) -> std::result::Result<(), String> {
        let (_, said) = run("e2fsck", &["-fy", "-E", "no_optimize_extents", self.text()]);
        let mut text = String::new();
        let mut lines = said.lines();
        while let Some(line) = lines.next() {
            let is_total =
                line.starts_with("Free blocks count wrong (") || line.starts_with("Free inodes count wrong (");
            if is_total {
                // "Fix? yes"
                lines.next();
            } else {
                text.push_str(line);
                text.push('\n');
            }
        }
        let odd = ["WARNING", "? yes", "IGNORED", "FIXED", "corrupt", "checksum", "error"];
        if odd.iter().any(|word| text.contains(word)) {
            return Err(text);
        }
        self.judged()
    }

    /// The file becomes longer; what is behind the file system reads as zeros.
    pub fn lengthen(&self, len: u64) {
        OpenOptions::new()
            .write(true)
            .open(&self.path)
            .unwrap()
            .set_len(len)
            .unwrap();
    }

    /// The same with [`STALE`] behind the file system.
    pub fn lengthen_in_use(&self, len: u64) {
        let file = OpenOptions::new().write(true).open(&self.path).unwrap();
        let from = file.metadata().unwrap().len();
        file.write_all_at(&vec![STALE; (len - from) as usize], from).unwrap();
    }

    /// Each copy of the super block and the descriptors behind it says what the first does about size and places.
    pub fn check_backups(&self) {
        let places = |told: &str| {
            let lines = told
                .lines()
                .map(|line| line.split(", csum").next().unwrap_or(line).trim());
            let kept =
                |line: &&str| line.contains(" at ") || line.starts_with("Group ") || line.starts_with("Block count:");
            let lines = lines.map(|line| {
                line.split(" csum")
                    .next()
                    .unwrap_or(line)
                    .split(" [")
                    .next()
                    .unwrap_or(line)
            });
            lines.filter(kept).map(str::to_owned).collect::<Vec<_>>()
        };
        let first = self.dump_all();
        let size = first
            .lines()
            .find_map(|line| line.strip_prefix("Block size:"))
            .unwrap()
            .trim();
        let backups = first.split("Backup superblock at ").skip(1);
        let backups: Vec<&str> = backups.map(|rest| rest.split([',', '\n']).next().unwrap()).collect();
        assert!(backups.len() > 1, "{first}");
        for backup in backups {
            let from = format!("superblock={backup}");
            let (_, copy) = run(
                "dumpe2fs",
                &["-o", &from, "-o", &format!("blocksize={size}"), self.text()],
            );
            assert_eq!(places(&copy), places(&first), "{backup}");
        }
    }

    /// The contents, in memory.
    pub fn load(&self) -> fault::Image {
        let bytes = std::fs::read(&self.path).unwrap();
        let mut image = fault::Image::new(bytes.len() as u64);
        assert!(image.write(0, &bytes));
        image
    }

    /// Stores `image`, of which `shown` is here already.
    pub fn show(&self, image: &fault::Image, shown: &fault::Image) {
        let file = OpenOptions::new().write(true).open(&self.path).unwrap();
        for (at, bytes) in image.changed_since(shown) {
            file.write_all_at(bytes, at).unwrap();
        }
    }

    pub fn mount(&self) -> Mounted {
        self.mount_with("", false).unwrap()
    }

    pub fn mount_read_only(&self) -> Mounted {
        self.mount_with("", true).unwrap()
    }

    pub fn mount_with(&self, options: &str, read_only: bool) -> Result<Mounted> {
        self.mount_as(self.kind, options, read_only)
    }

    /// The file as a device.
    pub fn device(&self) -> Arc<dyn BlockDevice> {
        let file = OpenOptions::new().read(true).write(true).open(&self.path).unwrap();
        let len = file.metadata().unwrap().len();
        Arc::new(Disk(file, len))
    }

    pub fn mount_as(&self, kind: &'static str, options: &str, read_only: bool) -> Result<Mounted> {
        mount(kind, self.device(), options, read_only)
    }
}

/// Mounts a device as a file system of `kind`, with options as `mount -o` has them.
pub fn mount(kind: &'static str, device: Arc<dyn BlockDevice>, options: &str, read_only: bool) -> Result<Mounted> {
    let source = MountSource {
        read_only,
        ..source(options)
    };
    let what = Mounting {
        kind,
        name: "test".into(),
        dev: DevT::new(98, 0),
        device,
        journals: &|_| Err(Errno::ENXIO),
    };
    ext4::mount::mount(what, &source).map(Mounted::of)
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A mounted image, unmounted at the end.
pub struct Mounted {
    pub fs: Arc<ext4::Ext4>,
    ended: bool,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !std::thread::panicking() && !self.ended {
            self.fs.unmount().expect("unmounted");
        }
    }
}

impl Mounted {
    /// What has been mounted.
    pub fn of(fs: Arc<ext4::Ext4>) -> Self {
        Self { fs, ended: false }
    }

    pub fn root(&self) -> Arc<dyn Inode> {
        FileSystem::root(&*self.fs)
    }

    /// Unmounts, whatever comes of it.
    pub fn end(mut self) -> Result<()> {
        self.ended = true;
        self.fs.unmount()
    }

    /// Walks without symlinks.
    pub fn at(&self, path: &str) -> Result<Arc<dyn Inode>> {
        path.split('/')
            .filter(|part| !part.is_empty())
            .try_fold(self.root(), |dir, name| dir.lookup(name.as_bytes()))
    }

    pub fn read(&self, path: &str) -> Vec<u8> {
        read_all(&self.at(path).unwrap())
    }

    pub fn list(&self, path: &str) -> Vec<String> {
        list(&self.at(path).unwrap())
    }
}

pub fn attr(mode: u32) -> NewAttr {
    NewAttr {
        mode: Mode::from_bits_retain(mode),
        uid: 0,
        gid: 0,
    }
}

pub fn make(dir: &Arc<dyn Inode>, name: &str) -> Arc<dyn Inode> {
    dir.create(name.as_bytes(), NewNode::Regular, attr(0o644)).unwrap()
}

pub fn mkdir(dir: &Arc<dyn Inode>, name: &str) -> Arc<dyn Inode> {
    dir.create(name.as_bytes(), NewNode::Directory, attr(0o755)).unwrap()
}

pub fn open(inode: &Arc<dyn Inode>, flags: OpenFlags) -> Arc<File> {
    try_open(inode, flags).unwrap()
}

pub fn try_open(inode: &Arc<dyn Inode>, flags: OpenFlags) -> Result<Arc<File>> {
    Ok(File::new(inode.clone().open(flags)?, None, flags, Cred::root()))
}

pub fn write_at(inode: &Arc<dyn Inode>, pos: u64, data: &[u8]) -> Result<Written> {
    let file = try_open(inode, OpenFlags::RDWR)?;
    file.ops()
        .write_at(&file, WriteAt::Offset(pos), &mut SliceSource::new(data))
}

pub fn read_at(inode: &Arc<dyn Inode>, pos: u64, len: usize) -> Result<Vec<u8>> {
    let file = try_open(inode, OpenFlags::empty())?;
    let mut data = vec![0; len];
    let count = file.read_exact_at(pos, &mut data)?;
    data.truncate(count);
    Ok(data)
}

pub fn read_all(inode: &Arc<dyn Inode>) -> Vec<u8> {
    read_at(inode, 0, inode.metadata().unwrap().size as usize).unwrap()
}

pub fn truncate(inode: &Arc<dyn Inode>, size: u64) -> Result<()> {
    inode.set_attr(&SetAttr {
        size: Some(size),
        ..SetAttr::default()
    })
}

pub fn fallocate(inode: &Arc<dyn Inode>, mode: u32, offset: u64, len: u64) -> Result<()> {
    let file = open(inode, OpenFlags::RDWR);
    file.ops().fallocate(&file, mode, offset, len)
}

/// All names but the dots, sorted; read in pieces of a few entries, as a small buffer does.
pub fn list(dir: &Arc<dyn Inode>) -> Vec<String> {
    let file = open(dir, OpenFlags::empty());
    let mut names = Vec::new();
    let mut pos = 0;
    loop {
        let mut count = 0;
        file.ops()
            .read_dir(&file, pos, &mut |entry| {
                if count == 7 {
                    return false;
                }
                count += 1;
                pos = entry.next;
                names.push(String::from_utf8_lossy(entry.name).into_owned());
                true
            })
            .unwrap();
        if count == 0 {
            break;
        }
    }
    let total = names.len();
    names.sort();
    names.dedup();
    assert_eq!(total, names.len(), "a name was listed twice");
    names.retain(|name| name != "." && name != "..");
    names
}

/// The error, where the value has no `Debug`.
pub fn refused<T>(result: Result<T>) -> Errno {
    match result {
        Ok(_) => panic!("it was allowed"),
        Err(error) => error,
    }
}
