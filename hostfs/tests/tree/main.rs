//! hostfs against its traits, on a temporary directory of the host: no guest, no virtual CPU.

mod access;
mod data;
mod entries;
mod escape;
mod jail;
mod names;
mod together;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hostfs::{HostFsType, HostfsArgs};
use kernel::io::{SliceSink, SliceSource};
use kernel::task::Cred;
use kernel::vfs::file::{WriteAt, Written};
use kernel::vfs::inode::{MountOption, MountSource, NewAttr};
use kernel::vfs::{File, FileSystem, FileSystemType, Inode, Mode, NewNode, OpenFlags};
use kernel::{Errno, Result};

/// A directory of the host that goes with the test.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "hostfs-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.join(name), text).unwrap();
    }

    pub(crate) fn mkdir(&self, name: &str) {
        std::fs::create_dir(self.join(name)).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.join(name)).unwrap()
    }

    /// Mounted as the root of `hostfs=`.
    pub(crate) fn mount(&self) -> Mounted {
        self.mount_with(false, &[]).unwrap()
    }

    pub(crate) fn mount_with(&self, append: bool, options: &[(&str, Option<&str>)]) -> Result<Mounted> {
        let root = self.0.to_str().unwrap().as_bytes().to_vec();
        mount(HostfsArgs { root, append }, options)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn mount(args: HostfsArgs, options: &[(&str, Option<&str>)]) -> Result<Mounted> {
    let option = |(key, value): &(&str, Option<&str>)| MountOption {
        key: key.as_bytes().to_vec(),
        value: value.map(|value| value.as_bytes().to_vec()),
    };
    let source = MountSource {
        options: options.iter().map(option).collect(),
        ..MountSource::default()
    };
    HostFsType::new(args).mount(&source).map(|fs| Mounted { fs })
}

/// A mounted instance, unmounted at the end.
pub(crate) struct Mounted {
    pub(crate) fs: Arc<dyn FileSystem>,
}

impl Mounted {
    pub(crate) fn root(&self) -> Arc<dyn Inode> {
        self.fs.root()
    }

    /// Walks without symlinks.
    pub(crate) fn at(&self, path: &str) -> Result<Arc<dyn Inode>> {
        path.split('/')
            .filter(|part| !part.is_empty())
            .try_fold(self.root(), |dir, name| dir.lookup(name.as_bytes()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.fs.unmount();
    }
}

/// Owner and mode of a new file that this process may make as they are.
pub(crate) fn attr(mode: u32) -> NewAttr {
    let (uid, gid) = arch_um::host::statx::effective_ids();
    NewAttr {
        mode: Mode::from_bits_retain(mode),
        uid,
        gid,
    }
}

pub(crate) fn make(dir: &Arc<dyn Inode>, name: &str) -> Arc<dyn Inode> {
    dir.create(name.as_bytes(), NewNode::Regular, attr(0o644)).unwrap()
}

pub(crate) fn open(inode: &Arc<dyn Inode>, flags: OpenFlags) -> Result<Arc<File>> {
    Ok(File::new(inode.clone().open(flags)?, None, flags, Cred::root()))
}

pub(crate) fn read_only() -> OpenFlags {
    OpenFlags::empty()
}

pub(crate) fn read_at(file: &File, pos: u64, len: usize) -> Result<Vec<u8>> {
    let mut data = vec![0; len];
    let mut sink = SliceSink::new(&mut data);
    let count = file.ops().read_at(file, pos, &mut sink)?;
    assert_eq!(count, sink.filled());
    data.truncate(count);
    Ok(data)
}

pub(crate) fn write_at(file: &File, pos: u64, data: &[u8]) -> Result<Written> {
    file.ops()
        .write_at(file, WriteAt::Offset(pos), &mut SliceSource::new(data))
}

pub(crate) fn append(file: &File, data: &[u8]) -> Result<Written> {
    file.ops().write_at(file, WriteAt::End, &mut SliceSource::new(data))
}

/// The error of a call that must fail.
pub(crate) fn refused<T>(result: Result<T>) -> Errno {
    match result {
        Ok(_) => panic!("the call must fail"),
        Err(error) => error,
    }
}

/// Whether this test runs as the host's root, for which some refusals do not hold.
pub(crate) fn is_root() -> bool {
    arch_um::host::statx::effective_ids().0 == 0
}
