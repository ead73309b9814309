//! The busybox image: one program, its applets, and the few files its init reads.

use std::io::Cursor;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::script::Scratch;
use tar::{Builder, EntryType, Header};

use super::progress::Progress;
use super::{fill, tools};

/// Folders and their permissions.
const FOLDERS: &[(&str, u32)] = &[
    ("./", 0o755),
    ("bin/", 0o755),
    ("dev/", 0o755),
    ("etc/", 0o755),
    ("etc/init.d/", 0o755),
    ("home/", 0o755),
    ("mnt/", 0o755),
    ("proc/", 0o555),
    ("root/", 0o700),
    ("run/", 0o755),
    ("sbin/", 0o755),
    ("sys/", 0o555),
    ("tmp/", 0o1777),
    ("usr/", 0o755),
    ("usr/bin/", 0o755),
    ("usr/sbin/", 0o755),
    ("var/", 0o755),
    ("var/log/", 0o755),
    ("var/tmp/", 0o1777),
];

/// Device files for a boot with `devtmpfs.mount=0`: name, permissions, major, minor.
const DEVICES: &[(&str, u32, u32, u32)] = &[
    ("dev/console", 0o600, 5, 1),
    ("dev/null", 0o666, 1, 3),
    ("dev/tty", 0o666, 5, 0),
    ("dev/tty0", 0o620, 4, 0),
    ("dev/zero", 0o666, 1, 5),
];

/// Files, their permissions and contents.
const FILES: &[(&str, u32, &str)] = &[
    (
        "etc/inittab",
        0o644,
        "# busybox's init: <line>:<ignored>:<action>:<program>. More consoles want lines of their own, con1=pts gives
# tty1::respawn:/sbin/getty -L 38400 tty1
::sysinit:/etc/init.d/rcS
tty0::respawn:/bin/login -f root
::restart:/sbin/init
::ctrlaltdel:/sbin/reboot
::shutdown:/bin/umount -a -r
",
    ),
    (
        "etc/init.d/rcS",
        0o755,
        "#!/bin/sh
mount -t proc proc /proc
mount -o remount,rw /
mount -a
hostname -F /etc/hostname
",
    ),
    (
        "etc/fstab",
        0o644,
        "/dev/root / ext4 defaults 0 1
proc /proc proc defaults 0 0
sysfs /sys sysfs defaults 0 0
tmpfs /run tmpfs mode=755 0 0
",
    ),
    (
        "etc/passwd",
        0o644,
        "root:x:0:0:root:/root:/bin/sh\nnobody:*:65534:65534:nobody:/nonexistent:/bin/false\n",
    ),
    // No password; in passwd itself busybox would take the empty field for none at all.
    (
        "etc/shadow",
        0o600,
        "root::19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n",
    ),
    (
        "etc/group",
        0o644,
        "root:x:0:\ntty:x:5:\ndisk:x:6:\nusers:x:100:\nnogroup:x:65534:\n",
    ),
    ("etc/hostname", 0o644, "busybox\n"),
    ("etc/hosts", 0o644, "127.0.0.1 localhost busybox\n"),
    ("etc/profile", 0o644, "export PS1='\\u@\\h:\\w\\$ '\n"),
];

/// Fills the image with `program`, or the busybox there is.
///
/// # Errors
/// There is no static busybox, or what [`fill::unpack`] says.
pub fn fill(linux: &Path, image: &Path, program: Option<&Path>, progress: &Progress) -> Result<(), String> {
    let scratch = Scratch::new();
    let program = match program {
        // Absolute: a bare name would be looked for in PATH.
        Some(program) if tools::is_static(program) => {
            std::path::absolute(program).map_err(|error| format!("{}: {error}", program.display()))?
        }
        Some(program) => return Err(format!("{}: no static x86-64 executable", program.display())),
        None => find(&scratch, progress)?,
    };
    let archive = archive(&program)?;
    let total = archive.len() as u64;
    fill::unpack(linux, image, &mut Cursor::new(archive), total, progress)
}

/// The installed busybox if it is static, else the one of the package, which needs no installation.
fn find(scratch: &Scratch, progress: &Progress) -> Result<PathBuf, String> {
    let installed = tools::program("busybox", "busybox-static");
    if let Ok(program) = &installed
        && tools::is_static(program)
    {
        return Ok(program.clone());
    }
    progress.stage("fetching Debian's package busybox-static");
    let way_out = |error| {
        format!(
            "no static busybox: apt-get install busybox-static, or --busybox FILE. Fetching the package failed: {error}"
        )
    };
    let fetch = || {
        tools::output(
            Command::new(tools::program("apt-get", "apt")?)
                .args(["download", "busybox-static"])
                .current_dir(scratch.path()),
        )?;
        let packages = std::fs::read_dir(scratch.path()).map_err(|error| error.to_string())?;
        let mut files = packages.flatten().map(|entry| entry.path());
        let package = files
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .ok_or("apt-get brought no package")?;
        tools::output(
            Command::new(tools::program("dpkg-deb", "dpkg")?)
                .arg("-x")
                .arg(package)
                .arg(scratch.path()),
        )
    };
    fetch().map_err(way_out)?;
    let found = ["bin/busybox", "usr/bin/busybox"].map(|name| scratch.path().join(name));
    let mut found = found.into_iter().filter(|path| tools::is_static(path));
    found.next().ok_or_else(|| way_out("it holds no static busybox".into()))
}

/// The whole tree as a tar archive.
fn archive(program: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", program.display());
    let executable = std::fs::read(program).map_err(failed)?;
    let applets = tools::output(Command::new(program).arg0("busybox").arg("--list-full"))?;
    let mut tar = Builder::new(Vec::new());
    let mut add = |kind: EntryType, name: &str, mode: u32, device: (u32, u32), target: &str, data: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(data.len() as u64);
        header.set_device_major(device.0)?;
        header.set_device_minor(device.1)?;
        if !target.is_empty() {
            return tar.append_link(&mut header, name, target);
        }
        tar.append_data(&mut header, name, data)
    };
    let mut fill = || -> std::io::Result<()> {
        for &(name, mode) in FOLDERS {
            add(EntryType::Directory, name, mode, (0, 0), "", &[])?;
        }
        for &(name, mode, major, minor) in DEVICES {
            add(EntryType::Char, name, mode, (major, minor), "", &[])?;
        }
        for &(name, mode, text) in FILES {
            add(EntryType::Regular, name, mode, (0, 0), "", text.as_bytes())?;
        }
        add(EntryType::Regular, "bin/busybox", 0o755, (0, 0), "", &executable)?;
        for applet in String::from_utf8_lossy(&applets).lines() {
            if applet != "bin/busybox" {
                add(EntryType::Symlink, applet, 0o777, (0, 0), "/bin/busybox", &[])?;
            }
        }
        add(EntryType::Symlink, "etc/mtab", 0o777, (0, 0), "/proc/mounts", &[])
    };
    fill().map_err(failed)?;
    tar.into_inner().map_err(failed)
}
