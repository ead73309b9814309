//! The power goes: whatever subset of unflushed writes the disk kept, the next mount replays the journal, contents that were synced are there, and
//! `e2fsck` finds nothing.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use ext4::device::BlockDevice;
use ext4::mount::Mounting;
use ext4::{Errno, Result};
use kernel::vfs::inode::{MountSource, RenameFlags};
use kernel::vfs::{DevT, FileSystem, Inode, OpenFlags};

use crate::image::{Image, fallocate, make, mkdir, open, read_all, truncate, write_at};

/// A disk whose writes wait in a cache until a flush. It dies after so many requests.
pub struct Cached {
    file: std::fs::File,
    len: u64,
    state: Mutex<State>,
}

struct State {
    unflushed: Vec<(u64, Vec<u8>)>,
    left: u64,
}

impl Cached {
    fn count(&self) -> Result<std::sync::MutexGuard<'_, State>> {
        let mut state = self.state.lock().unwrap();
        if state.left == 0 {
            return Err(Errno::EIO);
        }
        state.left -= 1;
        Ok(state)
    }

    /// Each unflushed sector of `grain` bytes arrives or does not.
    pub fn power_off(&self, mut random: u64, grain: usize) {
        let mut state = self.state.lock().unwrap();
        state.left = 0;
        for (at, data) in state.unflushed.drain(..) {
            for (index, sector) in data.chunks(grain).enumerate() {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                if random >> 62 != 0 {
                    self.file.write_all_at(sector, at + (index * grain) as u64).unwrap();
                }
            }
        }
    }
}

impl BlockDevice for Cached {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, at: u64, data: &mut [u8]) -> Result<()> {
        let state = self.state.lock().unwrap();
        self.file.read_exact_at(data, at).map_err(|_| Errno::EIO)?;
        for (start, bytes) in &state.unflushed {
            let from = at.max(*start);
            let to = (at + data.len() as u64).min(start + bytes.len() as u64);
            if from < to {
                data[(from - at) as usize..(to - at) as usize]
                    .copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
            }
        }
        Ok(())
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<()> {
        assert!(at + data.len() as u64 <= self.len);
        self.count()?.unflushed.push((at, data.to_vec()));
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        let mut state = self.count()?;
        for (at, data) in state.unflushed.drain(..) {
            self.file.write_all_at(&data, at).map_err(|_| Errno::EIO)?;
        }
        Ok(())
    }

    fn write_zeroes(&self, at: u64, len: u64) -> Result<()> {
        self.write(at, &vec![0; len as usize])
    }
}

pub fn mount(image: &Image, requests: u64) -> (Result<Arc<ext4::Ext4>>, Arc<Cached>) {
    let file = OpenOptions::new().read(true).write(true).open(image.path()).unwrap();
    let device = Arc::new(Cached {
        len: file.metadata().unwrap().len(),
        file,
        state: Mutex::new(State {
            unflushed: Vec::new(),
            left: requests,
        }),
    });
    let what = Mounting {
        kind: image.kind,
        name: "test".into(),
        dev: DevT::new(98, 0),
        device: device.clone(),
    };
    (ext4::mount::mount(what, &MountSource::default()), device)
}

/// Works until the disk dies; what had been synced by then.
fn work(fs: &ext4::Ext4, seed: u64) -> Vec<(String, Vec<u8>)> {
    let mut synced = Vec::new();
    let root = FileSystem::root(fs);
    let mut step = || -> Result<()> {
        let dir: Arc<dyn Inode> = match root.lookup(b"d") {
            Ok(dir) => dir,
            Err(_) => mkdir_or(&root, "d")?,
        };
        for index in 0..40u64 {
            let name = format!("f{seed}-{index}");
            let f = dir.create(
                name.as_bytes(),
                kernel::vfs::NewNode::Regular,
                crate::image::attr(0o644),
            )?;
            let data: Vec<u8> = (0..(index * 997 + seed * 13) % 30_000 + 1)
                .map(|i| (i * (index + 3)) as u8 | 1)
                .collect();
            write_at(&f, 0, &data)?;
            if index % 3 == 0 {
                let file = open(&f, OpenFlags::RDWR);
                file.ops().sync(&file)?;
                synced.push((format!("d/{name}"), data));
            }
            if index % 5 == 4 {
                let victim = format!("f{seed}-{}", index - 3);
                synced.retain(|(path, _)| *path != format!("d/{victim}"));
                dir.unlink(victim.as_bytes())?;
            }
            if index % 7 == 6 {
                let old = format!("f{seed}-{index}");
                synced.retain(|(path, _)| *path != format!("d/{old}"));
                dir.rename(old.as_bytes(), &root, b"moved", RenameFlags::empty())?;
            }
            if index % 11 == 10 && fs.fs_type() == "ext4" {
                let f = make_or(&dir, &format!("holes{seed}-{index}"))?;
                fallocate(&f, 0, 0, 300_000)?;
                write_at(&f, 50_000, &[9; 20_000])?;
                fallocate(&f, 3, 40_000, 20_000)?;
                fs.sync()?;
                truncate(&f, 60_000)?;
            }
        }
        Ok(())
    };
    let _ = step();
    synced
}

fn mkdir_or(dir: &Arc<dyn Inode>, name: &str) -> Result<Arc<dyn Inode>> {
    dir.create(
        name.as_bytes(),
        kernel::vfs::NewNode::Directory,
        crate::image::attr(0o755),
    )
}

fn make_or(dir: &Arc<dyn Inode>, name: &str) -> Result<Arc<dyn Inode>> {
    dir.create(
        name.as_bytes(),
        kernel::vfs::NewNode::Regular,
        crate::image::attr(0o644),
    )
}

#[test]
fn after_a_crash_at_any_request_the_disk_is_whole_and_synced_data_is_there() {
    for (kind, options) in [("ext4", "-b 4096"), ("ext4", "-b 1024 -J size=1"), ("ext3", "-b 1024")] {
        let image = Image::new(kind, options, 24);
        {
            let fs = image.mount();
            make(&fs.root(), "before");
            mkdir(&fs.root(), "d");
        }
        for seed in 0..25u64 {
            let requests = 5 + seed * seed * 3 + seed * 7;
            let (fs, disk) = mount(&image, requests);
            let synced = match &fs {
                Ok(fs) => work(fs, seed),
                Err(_) => Vec::new(),
            };
            disk.power_off(seed + 1, 512);
            if let Ok(fs) = fs {
                // The instance never learns that its machine is gone.
                std::mem::forget(fs);
            }
            {
                let fs = image.mount();
                for (path, data) in &synced {
                    let found = fs
                        .at(path)
                        .unwrap_or_else(|error| panic!("{kind} {options} {seed}: {path}: {error}"));
                    assert!(read_all(&found) == *data, "{kind} {options} {seed}: {path}");
                }
                let root = fs.root();
                let _ = root.unlink(b"moved");
                let dir = fs.at("d").unwrap();
                for name in crate::image::list(&dir) {
                    // Never what lay on the disk before: our data has no zero bytes, holes do.
                    let data = read_all(&dir.lookup(name.as_bytes()).unwrap());
                    if name.starts_with('f') {
                        assert!(data.iter().all(|&byte| byte & 1 == 1 || byte == 0), "{name}");
                    }
                    dir.unlink(name.as_bytes()).unwrap();
                }
            }
            image.check();
        }
    }
}
