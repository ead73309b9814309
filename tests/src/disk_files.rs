//! Disk images and COW files for tests, and guests that use them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use harness::script::{Ran, Scratch, in_guest_with, natively};
use harness::{Backend, Linux, Outcome, executable};

/// What serves a guest's disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The host thread pool.
    Pool,
    /// The host's io_uring, where a disk can have one.
    IoUring,
}

impl Engine {
    /// The words of the command line that choose it.
    pub fn words(self) -> &'static [&'static str] {
        match self {
            Self::Pool => &[],
            Self::IoUring => &["ubd=io_uring"],
        }
    }

    /// As [`with_disks`], with this engine.
    pub fn with_disks(self, words: &[String], script: &str) -> (Ran, Outcome) {
        in_guest_with(Linux::hostfs(Backend::Seccomp).args(words).args(self.words()), script)
    }
}

/// Makes tests of functions that take an [`Engine`](disk_files::Engine): one for each.
#[macro_export]
macro_rules! for_each_engine {
    ($($name:ident;)*) => {
        mod pool {
            $(#[test] fn $name() { super::$name(tests::disk_files::Engine::Pool) })*
        }
        mod io_uring {
            $(#[test] fn $name() { super::$name(tests::disk_files::Engine::IoUring) })*
        }
    };
}

/// Bytes of a mebibyte.
pub const MIB: u64 = 1 << 20;

/// An image of `len` zeros without blocks.
pub fn image(scratch: &Scratch, name: &str, len: u64) -> PathBuf {
    let path = scratch.path().join(name);
    let file = File::create(&path).expect("an image");
    file.set_len(len).expect("its length");
    path
}

/// Formats `disk`; `how` is what stands before the file in mke2fs's words.
///
/// # Panics
/// When mke2fs does not want that.
pub fn format(disk: &Path, how: &str) {
    let made = natively(&format!("mke2fs -q -F {how} {}", disk.display()));
    assert_eq!(made.status, 0, "{how}: {}", made.output);
}

/// A fresh file system on a fresh image of 64 MiB.
pub fn formatted(scratch: &Scratch, name: &str, how: &str) -> PathBuf {
    let disk = image(scratch, name, 64 * MIB);
    format(&disk, how);
    disk
}

/// Nothing in the image is to be mended.
///
/// # Panics
/// When something is.
pub fn assert_clean(disk: &Path, what: &str) {
    let judged = natively(&format!("e2fsck -fn -E no_optimize_extents {}", disk.display()));
    assert_eq!(judged.status, 0, "{what}: {}", judged.output);
}

/// What ran ended with status 0.
///
/// # Panics
/// When it did not.
pub fn succeeded(ran: &Ran, what: &str) {
    assert_eq!(ran.status, 0, "{what}: {}", ran.output);
}

/// Runs `script` in a guest that has the disks `words` (`ubda=...`).
pub fn with_disks(words: &[String], script: &str) -> (Ran, Outcome) {
    Engine::Pool.with_disks(words, script)
}

/// The word that makes `path` /dev/ubda.
pub fn ubda(path: &Path) -> String {
    format!("ubda={}", path.display())
}

/// A guest that has the disks `words`, does `first` and sleeps.
pub fn holder(scratch: &Scratch, words: &[String], first: &str) -> Child {
    let (init, ready) = (scratch.path().join("init"), scratch.path().join("ready"));
    fs::write(&init, format!("#!/bin/sh\n{first}\n>{}\nsleep 1000\n", ready.display())).expect("init's file");
    natively(&format!("chmod 755 {}", init.display()));
    let holder = Linux::hostfs(Backend::Seccomp)
        .args(words)
        .args(["rw", "con=null", &format!("init={}", init.display())])
        .command()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut holder = holder.expect("the first instance starts");
    while !ready.exists() {
        assert_eq!(holder.try_wait().expect("a child"), None, "the first instance ended");
        std::thread::sleep(Duration::from_millis(10));
    }
    holder
}

/// Kills a guest of [`holder`].
///
/// # Panics
/// When it cannot be killed.
pub fn end(mut holder: Child) {
    holder.kill().expect("the first instance ends");
    holder.wait().expect("the first instance ends");
}

/// A directory with a backing file `back` of `len` bytes, some of them not zero, and 1 MiB of noise.
pub fn files(len: u64) -> Scratch {
    let scratch = Scratch::new();
    let made = natively(&format!(
        "cd {}; head -c 1M /dev/urandom >noise; truncate -s {len} back
        dd if=noise of=back bs=4k seek=3 count=100 conv=notrunc status=none; dd if=noise of=back bs=1k seek=3000 count=50 conv=notrunc status=none
        truncate -s {len} back; touch -d '2020-01-01 00:00:00.5' back",
        scratch.path().display()
    ));
    assert_eq!(made.status, 0, "{}", made.output);
    scratch
}

/// A shell script that writes pieces of the noise at the sectors of `$disk`, which has `len` bytes; the same for the same `seed`.
pub fn writes(scratch: &Scratch, len: u64, mut seed: u64) -> String {
    let mut random = |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let noise = scratch.path().join("noise");
    (0..40)
        .map(|_| {
            let count = 1 + random(100);
            let (seek, skip) = (random(len / 512 - count), random(2048 - count));
            format!(
                "dd if={} of=$disk bs=512 seek={seek} skip={skip} count={count} conv=notrunc $flags status=none\n",
                noise.display()
            )
        })
        .collect()
}

/// What the disk must be after `scripts` of [`writes`].
pub fn model(scratch: &Scratch, scripts: &[&str]) -> Vec<u8> {
    let path = scratch.path().join("model");
    let script = format!(
        "disk={0}; flags=; cp {1} $disk\n",
        path.display(),
        scratch.path().join("back").display()
    );
    let made = natively(&(script + &scripts.concat()));
    assert_eq!(made.status, 0, "{}", made.output);
    fs::read(path).expect("the model")
}

/// Runs `script` in a guest of ours that was started in the directory of `scratch`.
pub fn in_ours(backend: Backend, scratch: &Scratch, words: &[&str], script: &str) -> Ran {
    let linux = Linux::hostfs(backend).directory(scratch.path()).args(words);
    in_guest_with(linux, script).0
}

/// Runs a command in the directory of `scratch`.
pub fn tool(scratch: &Scratch, words: &[&str]) -> Output {
    let output = Command::new(words[0])
        .args(&words[1..])
        .current_dir(scratch.path())
        .output();
    output.unwrap_or_else(|error| panic!("{}: {error}", words[0]))
}

/// Merges `cow` by the stock tool and by ours, and returns what both made of it.
pub fn merged(scratch: &Scratch, cow: &str) -> Vec<u8> {
    let ours = executable();
    for (words, output) in [
        (vec!["uml_moo", cow, "by-stock"], "by-stock"),
        (vec![ours.to_str().expect("a path"), "moo", cow, "by-ours"], "by-ours"),
    ] {
        let _ = fs::remove_file(scratch.path().join(output));
        let ran = tool(scratch, &words);
        assert!(
            ran.status.success(),
            "{words:?}: {}",
            String::from_utf8_lossy(&ran.stderr)
        );
    }
    let read = |name: &str| fs::read(scratch.path().join(name)).expect("the merged file");
    let (stock, ours) = (read("by-stock"), read("by-ours"));
    assert!(stock == ours, "uml_moo and linux moo differ");
    stock
}
