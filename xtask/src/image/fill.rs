//! A fresh ext4, and the guest that unpacks an archive into it.
//!
//! The guest has the host's `/` as its root, read-only, the image as /dev/ubda, and the archive on its first serial line; it uses the host's
//! `mount` and `tar`. The archive begins when the guest says that the line is raw, so a terminal's habits harm no byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use harness::script::Scratch;

use super::progress::Progress;
use super::stop::{self, Running};
use super::tools;

/// What the guest says when the line is raw, and when the image is whole.
const READY: &str = "image: ready";
const WHOLE: &str = "image: whole";

/// init of the guest that unpacks. tar is told nothing about the archive's end by the line: it stops by itself.
const UNPACK: &str = "export PATH=/usr/bin:/bin:/usr/sbin:/sbin LC_ALL=C
end() { echo o >/proc/sysrq-trigger; sleep 60; }
mount -t proc proc /proc
mkdir /dev/target && mount -t ext4 /dev/ubda /dev/target && stty raw -echo </dev/ttyS0 || end
echo 'image: ready'
cat /dev/ttyS0 | tar -x -p -C /dev/target --numeric-owner --xattrs --xattrs-include='*' -f - || end
# What `make modules_install` does for a kernel without modules: modprobe finds that all is built in.
mount -t sysfs sysfs /sys
modules=lib/modules/$(uname -r)
mkdir -p /dev/target/$modules && ls /sys/module | sed 's|.*|kernel/&.ko|' >/dev/target/$modules/modules.builtin && >/dev/target/$modules/modules.order || end
[ ! -x /dev/target/sbin/depmod ] || chroot /dev/target /sbin/depmod || end
[ -e /dev/target/$modules/modules.dep ] || >/dev/target/$modules/modules.dep
umount /dev/target && echo 'image: whole'
end
";

/// Host space below which a failure is the host's, in bytes.
const NO_SPACE: u64 = 1 << 20;

/// Makes `image` an empty ext4 of `size` bytes, sparse.
///
/// # Errors
/// mke2fs is missing or fails.
pub fn format(image: &Path, size: u64, progress: &Progress) -> Result<(), String> {
    progress.stage("making an ext4 file system");
    let mke2fs = tools::program("mke2fs", "e2fsprogs")?;
    let file = std::fs::OpenOptions::new().write(true).open(image);
    file.and_then(|file| file.set_len(size))
        .map_err(|error| format!("an image of {size} bytes: {error}"))?;
    let mut command = Command::new(mke2fs);
    // mke2fs would give the root directory to whoever calls it.
    command
        .args(["-q", "-F", "-t", "ext4", "-L", "root", "-E", "root_owner=0:0"])
        .arg(image);
    tools::output(&mut command).map(drop)
}

/// Unpacks `archive`, of `total` bytes if somebody knows, into the file system of `image`.
///
/// # Errors
/// The image is too small, the host is full, the guest cannot be started, the archive is damaged.
pub fn unpack(
    linux: &Path,
    image: &Path,
    archive: &mut dyn Read,
    total: u64,
    progress: &Progress,
) -> Result<(), String> {
    let scratch = Scratch::new();
    let script = scratch.path().join("unpack");
    std::fs::write(&script, UNPACK).map_err(|error| format!("{}: {error}", script.display()))?;
    let folder = image.parent().unwrap_or(Path::new("/"));
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    let mut command = Command::new(linux);
    command
        // The image by its own name alone: words of a command line hold neither blanks nor commas.
        .current_dir(folder)
        .args([
            "rootfstype=hostfs",
            "quiet",
            "con=null",
            "con0=null,fd:1",
            "ssl0=fd:0,null",
        ])
        .arg(format!("ubda={name}"))
        .args(["init=/bin/sh", "--"])
        .arg(&script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut guest = Running::start(&mut command)?;
    let mut line = guest.child().stdin.take().expect("it is piped");
    let errors = stop::collect(guest.child().stderr.take().expect("it is piped"));
    let mut console = BufReader::new(guest.child().stdout.take().expect("it is piped"));
    let mut said = String::new();
    while !said.contains(READY) {
        if console.read_line(&mut said).is_ok_and(|len| len > 0) {
            continue;
        }
        guest.wait();
        let errors = errors.join().unwrap_or_default();
        return Err(format!(
            "the guest that fills the image ended: {}",
            tools::last_words(&(said + &errors))
        ));
    }
    let console = stop::collect(console);
    let sent = copy(archive, &mut line, total, progress);
    drop(line);
    let is_well = guest.wait();
    let console = console.join().unwrap_or_default();
    if console.contains("No space left on device") {
        return Err(match tools::free_space(folder) {
            Some(free) if free < NO_SPACE => format!("{}: no space left there", folder.display()),
            _ => "the image is too small for this: a larger --size helps".into(),
        });
    }
    sent?;
    if is_well && console.contains(WHOLE) {
        Ok(())
    } else {
        Err(format!(
            "the guest could not fill the image: {}",
            tools::last_words(&console)
        ))
    }
}

/// Sends the archive. A guest that ends early says why itself.
fn copy(archive: &mut dyn Read, line: &mut impl Write, total: u64, progress: &Progress) -> Result<(), String> {
    let mut buffer = vec![0; 64 << 10];
    let mut is_begun = false;
    loop {
        let len = match archive.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => len,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(format!("the archive: {error}")),
        };
        if !is_begun {
            is_begun = true;
            progress.transfer("unpacking into the image", total);
        }
        if line.write_all(&buffer[..len]).is_err() {
            return Ok(());
        }
        progress.advance(len as u64);
    }
}

/// Lets e2fsck look.
///
/// # Errors
/// It finds something to mend.
pub fn check(image: &Path, progress: &Progress) -> Result<(), String> {
    progress.stage("checking the file system");
    let e2fsck = tools::program("e2fsck", "e2fsprogs")?;
    let judged = Command::new(e2fsck).arg("-fn").arg(image).output();
    let judged = judged.map_err(|error| format!("e2fsck: {error}"))?;
    if judged.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&judged.stdout);
    Err(format!(
        "e2fsck is not content with the image: {}",
        tools::last_words(&said)
    ))
}
