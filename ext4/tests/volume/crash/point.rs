//! One cut through a workload: the image that a power failure leaves, its recovery in one of several ways, and the verdict.

use std::sync::Arc;

use ext4::fault::{FaultDevice, Image as Bytes, Request};
use kernel::vfs::FileSystem;

use super::history::History;
use crate::image::{Image, make, mount, write_at};
use crate::random::Random;
use crate::tree::Tree;

/// A workload that ran, to be cut.
pub struct Cut<'a> {
    pub kind: &'static str,
    pub options: &'a str,
    pub e2fsck: E2fsck,
    pub base: &'a Bytes,
    pub history: &'a History,
    pub requests: Vec<Request>,
}

/// A file that `e2fsck` is shown images in.
struct Bench {
    image: Image,
    shown: Bytes,
}

impl Bench {
    fn show(&mut self, image: Bytes) -> &Image {
        self.image.show(&image, &self.shown);
        self.shown = image;
        &self.image
    }
}

/// A disk that can be cut anywhere but inside of the super block: its checksum covers two sectors, so ext4, Linux's too, needs a disk that
/// writes them together.
fn cuttable(image: Bytes) -> Arc<FaultDevice> {
    let disk = FaultDevice::new(image);
    disk.keep_whole(1024..2048);
    disk
}

/// Whether `e2fsck` can recover such a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum E2fsck {
    Can,
    /// It clears orphans and forgets the inodes of their attributes' values.
    LosesValues,
}

/// Who recovers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recovery {
    Ours,
    /// The power fails once more, while the journal is replayed.
    Twice,
    E2fsck,
}

impl Cut<'_> {
    /// Cuts at `points` requests, spread over the whole run. How many were good, all of them, or what the first bad one showed.
    pub fn try_points(&self, points: u64, seed: u64) -> Result<u64, String> {
        let mut random = Random::new(seed ^ 0xC0FF_EE00);
        let mut bench = Bench {
            image: Image::of(self.kind, self.base),
            shown: self.base.clone(),
        };
        let total = self.requests.len() as u64;
        let points = points.min(total + 1);
        let disk = cuttable(self.base.clone());
        let mut done = 0;
        for point in 0..points {
            // One in each of as many equal parts; or, where most can be lost, before the next flush.
            let (from, to) = (point * (total + 1) / points, (point + 1) * (total + 1) / points);
            let mut request = from + random.below(to - from);
            let waits = random.below(2) == 0;
            while waits && self.requests.get(request as usize).is_some_and(|next| !next.is_flush()) {
                request += 1;
            }
            let request = request.max(done);
            while done < request {
                let repeated = self.requests[done as usize].repeat(&disk);
                repeated.map_err(|error| format!("request {done} again: {error}"))?;
                done += 1;
            }
            // All that was not flushed is lost in some, all of it is there in others.
            let kept = match random.below(8) {
                0 => 0,
                1 => 1,
                _ => random.next().max(2),
            };
            let recovery = match random.below(6) {
                0 if self.e2fsck == E2fsck::Can => Recovery::E2fsck,
                1 => Recovery::Twice,
                _ => Recovery::Ours,
            };
            let crashed = disk.crash(kept);
            self.examine(&mut bench, crashed.clone(), request, recovery, &mut random)
                .map_err(|text| {
                    let kept_at = crate::image::keep(&crashed, &format!("crash-{seed}"));
                    format!("point {request} of {total}, kept {kept}, {recovery:?}: {text} (the disk: {kept_at})")
                })?;
        }
        Ok(points)
    }

    fn examine(
        &self,
        bench: &mut Bench,
        crashed: Bytes,
        request: u64,
        recovery: Recovery,
        random: &mut Random,
    ) -> Result<(), String> {
        let image = match recovery {
            Recovery::Ours => crashed,
            Recovery::Twice => self.fail_again(crashed, random)?,
            Recovery::E2fsck => {
                let image = bench.show(crashed);
                image.replayed_by_e2fsck()?;
                bench.shown = image.load();
                bench.shown.clone()
            }
        };
        let disk = FaultDevice::new(image);
        let fs = mount(self.kind, disk.clone(), self.options, false).map_err(|error| format!("mount: {error}"))?;
        let found = Tree::of(&fs).map_err(|error| format!("what is there cannot be read: {error}"))?;
        self.history.allows(request, &found)?;
        if random.below(4) == 0 {
            go_on(&fs)?;
        }
        fs.end().map_err(|error| format!("unmount: {error}"))?;
        bench.show(disk.image()).judged()
    }

    /// Mounts, and cuts the mount.
    fn fail_again(&self, crashed: Bytes, random: &mut Random) -> Result<Bytes, String> {
        let disk = FaultDevice::new(crashed.clone());
        disk.record();
        let fs =
            mount(self.kind, disk.clone(), self.options, false).map_err(|error| format!("first mount: {error}"))?;
        let requests = disk.recorded();
        fs.end().map_err(|error| format!("first unmount: {error}"))?;
        let again = cuttable(crashed);
        for request in &requests[..random.below(requests.len() as u64 + 1) as usize] {
            request
                .repeat(&again)
                .map_err(|error| format!("replay again: {error}"))?;
        }
        Ok(again.crash(random.next()))
    }
}

/// What was recovered is a file system to work on.
fn go_on(fs: &crate::image::Mounted) -> Result<(), String> {
    let root = fs.root();
    for name in crate::image::list(&root).iter().take(3) {
        // Directories that are not empty stay.
        let _ = root.unlink(name.as_bytes()).or_else(|_| root.rmdir(name.as_bytes()));
    }
    let file = make(&root, "after the crash");
    match write_at(&file, 3000, &[1; 30_000]) {
        Ok(_) | Err(ext4::Errno::ENOSPC) => {}
        Err(error) => return Err(format!("a write after the crash: {error}")),
    }
    fs.fs.sync().map_err(|error| format!("sync after the crash: {error}"))
}
