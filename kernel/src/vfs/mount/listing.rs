//! Mounts as /proc/self/mounts and /proc/self/mountinfo list them.

use alloc::string::String;
use alloc::vec::Vec;

use super::{MountFlags, all};
use crate::vfs::attr::DevT;
use crate::vfs::path::{Path, Reach};

/// One line of /proc/self/mountinfo, as data.
#[derive(Clone, Debug)]
pub struct MountInfo {
    /// Mount number.
    pub id: u32,
    /// The number of the mount it hangs on (its own for the first).
    pub parent: u32,
    /// The instance's device number.
    pub dev: DevT,
    /// The place inside the instance that is shown (`/` for the whole).
    pub root: Vec<u8>,
    /// Where it hangs, as seen from the reader's root.
    pub point: Vec<u8>,
    /// Flags of the mount.
    pub flags: MountFlags,
    /// Whether the instance is read-only.
    pub block_read_only: bool,
    /// `ext4`, `tmpfs`, …
    pub fs_type: &'static str,
    /// What was named as the source.
    pub source: Vec<u8>,
    /// The file system's own options, a comma before each.
    pub fs_options: String,
}

impl MountInfo {
    /// The mount's options for /proc/self/mountinfo: `rw,nosuid,relatime`.
    pub fn mount_options(&self) -> String {
        let mut text = String::from(if self.flags.contains(MountFlags::READ_ONLY) {
            "ro"
        } else {
            "rw"
        });
        push_flags(&mut text, self.flags);
        text
    }

    /// The instance's options for /proc/self/mountinfo: `rw,size=4k`.
    pub fn block_options(&self) -> String {
        let mut text = String::from(if self.block_read_only { "ro" } else { "rw" });
        text.push_str(&self.fs_options);
        text
    }

    /// All of it in one, for /proc/mounts: `rw,nosuid,relatime,size=4k`.
    pub fn all_options(&self) -> String {
        let read_only = self.block_read_only || self.flags.contains(MountFlags::READ_ONLY);
        let mut text = String::from(if read_only { "ro" } else { "rw" });
        push_flags(&mut text, self.flags);
        text.push_str(&self.fs_options);
        text
    }
}

fn push_flags(text: &mut String, flags: MountFlags) {
    const NAMES: [(MountFlags, &str); 7] = [
        (MountFlags::NOSUID, ",nosuid"),
        (MountFlags::NODEV, ",nodev"),
        (MountFlags::NOEXEC, ",noexec"),
        (MountFlags::NOATIME, ",noatime"),
        (MountFlags::NODIRATIME, ",nodiratime"),
        (MountFlags::RELATIME, ",relatime"),
        (MountFlags::NOSYMFOLLOW, ",nosymfollow"),
    ];
    for (flag, name) in NAMES {
        if flags.contains(flag) {
            text.push_str(name);
        }
    }
}

/// The mounts that someone with this root can reach, parents first: /proc/self/{mounts,mountinfo}.
pub fn mounts(root: &Path) -> Vec<MountInfo> {
    let mut infos = Vec::new();
    for mount in all() {
        let (point, reach) = Path::root_of(&mount).text(root);
        if reach == Reach::Unreachable {
            continue;
        }
        let shown = Path::root_of(&mount).text_within(mount.block().root());
        infos.push(MountInfo {
            id: mount.id(),
            parent: mount.parent().map_or(mount.id(), |parent| parent.id()),
            dev: mount.fs().dev(),
            root: shown,
            point,
            flags: mount.flags(),
            block_read_only: mount.block().is_read_only(),
            fs_type: mount.fs().fs_type(),
            source: mount.source().to_vec(),
            fs_options: mount.fs().show_options(),
        });
    }
    infos
}
