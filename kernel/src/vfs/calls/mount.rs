//! `mount(2)`, `umount2(2)`, `pivot_root(2)`. The calls of the new interface are in `mount_api`.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::at::Start;
use crate::syscall::Context;
use crate::task::{self, Capabilities};
use crate::user::UserAddr;
use crate::vfs::fd_table::Fd;
use crate::vfs::inode::{FileSystemType, FsFlags, MountSource};
use crate::vfs::mount::{self, Deep, Mount, MountFlags};
use crate::vfs::mount_options::MountOptions;
use crate::vfs::path::Path;
use crate::vfs::walk::{WalkContext, WalkFlags};
use crate::vfs::{DevT, FileType, registry};
use crate::{Errno, Result};

const MS_REMOUNT: u32 = 32;
const MS_BIND: u32 = 4096;
const MS_MOVE: u32 = 8192;
const MS_REC: u32 = 16384;
const MS_SILENT: u32 = 32768;
const MS_UNBINDABLE: u32 = 1 << 17;
const MS_PRIVATE: u32 = 1 << 18;
const MS_SLAVE: u32 = 1 << 19;
const MS_SHARED: u32 = 1 << 20;
const MS_STRICTATIME: u32 = 1 << 24;
const MS_MGC_VAL: u32 = 0xc0ed_0000;
const MS_MGC_MSK: u32 = 0xffff_0000;

/// `EPERM` unless the caller may change the mount tree.
pub(super) fn require_admin(cx: &Context) -> Result<()> {
    if cx.task().cred().capable(Capabilities::SYS_ADMIN) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// The mount's own part of `mount(2)`'s flags; access times are relative unless told otherwise.
fn mount_flags(raw: u32) -> MountFlags {
    let mut flags = MountFlags::from_bits_truncate(raw);
    if raw & MS_STRICTATIME != 0 {
        flags -= MountFlags::NOATIME | MountFlags::RELATIME;
    } else if !flags.contains(MountFlags::NOATIME) {
        flags |= MountFlags::RELATIME;
    } else {
        flags -= MountFlags::RELATIME;
    }
    flags
}

/// A string argument that may be absent.
fn read_optional(at: UserAddr) -> Result<Vec<u8>> {
    if at.is_null() {
        Ok(Vec::new())
    } else {
        at.read_cstr(4096)
    }
}

/// The block device behind `source`, for a kind that needs one. `ENOTBLK`, `EACCES` on a `nodev` mount.
pub(super) fn device_of(
    walk: &WalkContext,
    start: &Path,
    kind: &dyn FileSystemType,
    source: &[u8],
) -> Result<Option<DevT>> {
    if !kind.flags().contains(FsFlags::NEEDS_DEVICE) {
        return Ok(None);
    }
    if source.is_empty() {
        return Err(Errno::EINVAL);
    }
    let place = crate::vfs::walk::lookup(walk, start, source, WalkFlags::FOLLOW)?;
    if place.dentry.kind() != FileType::BlockDevice {
        return Err(Errno::ENOTBLK);
    }
    if !place.mount.allows_devices() {
        return Err(Errno::EACCES);
    }
    Ok(Some(place.inode().metadata()?.rdev))
}

/// `mount(2)`.
pub fn sys_mount(
    cx: &Context,
    source: UserAddr,
    target: UserAddr,
    kind: UserAddr,
    flags: u64,
    data: UserAddr,
) -> Result<usize> {
    let mut flags = flags as u32;
    if flags & MS_MGC_MSK == MS_MGC_VAL {
        flags &= !MS_MGC_MSK;
    }
    let kind = read_optional(kind)?;
    let source = read_optional(source)?;
    let data = if data.is_null() { Vec::new() } else { read_data(data)? };
    let text = target.read_path()?;
    let start = Start::new(cx, Fd::CWD, &text)?;
    let at = start.lookup(&text, WalkFlags::FOLLOW)?;
    require_admin(cx)?;
    let propagation = MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE;
    if flags & MS_REMOUNT != 0 {
        remount(&at, flags, &data)?;
    } else if flags & MS_BIND != 0 {
        let from = bind_source(cx, &source)?;
        bind(&from, &at, if flags & MS_REC != 0 { Deep::Yes } else { Deep::No })?;
    } else if flags & propagation != 0 {
        set_propagation(&at, flags & !(MS_REC | MS_SILENT))?;
    } else if flags & MS_MOVE != 0 {
        let from = bind_source(cx, &source)?;
        move_mount(&from, &at)?;
    } else {
        new_mount(&start, &kind, source, flags, &data, &at)?;
    }
    Ok(0)
}

/// The option text: up to a page, ended by a NUL or the page.
fn read_data(at: UserAddr) -> Result<Vec<u8>> {
    match at.read_cstr(4096) {
        Err(Errno::ENAMETOOLONG) => {
            let mut bytes = alloc::vec![0; 4095];
            at.read(&mut bytes)?;
            Ok(bytes)
        }
        other => other,
    }
}

fn bind_source(cx: &Context, source: &[u8]) -> Result<Path> {
    if source.is_empty() {
        return Err(Errno::EINVAL);
    }
    Start::new(cx, Fd::CWD, source)?.lookup(source, WalkFlags::FOLLOW)
}

fn new_mount(start: &Start, kind: &[u8], source: Vec<u8>, flags: u32, data: &[u8], at: &Path) -> Result<()> {
    if kind.is_empty() {
        return Err(Errno::EINVAL);
    }
    let kind = registry::find(kind)?;
    let parsed = MountOptions::parse(data);
    let flags = parsed.flags(mount_flags(flags));
    let device = device_of(&start.walk, &start.start, kind, &source)?;
    let read_only = flags.contains(MountFlags::READ_ONLY);
    let source = MountSource {
        source,
        options: parsed.options,
        device,
        read_only,
    };
    // "ro" of a new mount counts for the instance and the mount.
    mount::mount_new(kind.name(), &source, flags, at)?;
    Ok(())
}

fn remount(at: &Path, raw: u32, data: &[u8]) -> Result<()> {
    if !at.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    let parsed = MountOptions::parse(data);
    let keep_times = MountFlags::NOATIME | MountFlags::NODIRATIME | MountFlags::RELATIME;
    let names_times = raw & (keep_times.bits() | MS_STRICTATIME) != 0;
    let mut flags = parsed.flags(mount_flags(raw));
    if !names_times {
        flags = (flags - keep_times) | (at.mount.flags() & keep_times);
    }
    let _change = mount::change();
    if raw & MS_BIND == 0 {
        let read_only = flags.contains(MountFlags::READ_ONLY);
        reconfigure(&at.mount, parsed, read_only)?;
        flags.set(MountFlags::READ_ONLY, read_only);
    }
    at.mount.set_flags(flags);
    Ok(())
}

/// New options for the whole instance. `EBUSY` when it shall become read-only while files are open for writing.
pub(super) fn reconfigure(mount: &Arc<Mount>, parsed: MountOptions, read_only: bool) -> Result<()> {
    let block = mount.block();
    if read_only && !block.is_read_only() && has_writers(mount) {
        return Err(Errno::EBUSY);
    }
    let source = MountSource {
        source: mount.source().to_vec(),
        options: parsed.options,
        device: None,
        read_only,
    };
    block.fs().remount(&source)?;
    block.set_read_only(read_only);
    Ok(())
}

/// Whether some process has a file of `mount`'s instance open for writing.
fn has_writers(mount: &Arc<Mount>) -> bool {
    let writes = |file: &Arc<crate::vfs::File>| {
        let same = file
            .path()
            .is_some_and(|path| Arc::ptr_eq(path.mount.block(), mount.block()));
        same && file.access().contains(crate::vfs::Access::WRITE)
            && file.path().is_some_and(|path| path.dentry.kind() == FileType::Regular)
    };
    let of = |process: &Arc<task::Process>| {
        process.threads().iter().any(|task| {
            task.try_files()
                .is_some_and(|files| files.list().iter().any(|(_, file, _)| writes(file)))
        })
    };
    task::table::processes().iter().any(of)
}

/// Shows `from` at `at` too (`MS_BIND`).
pub(in crate::vfs) fn bind(from: &Path, at: &Path, deep: Deep) -> Result<()> {
    let change = mount::change();
    if !from.mount.is_attached() && from.mount.mount_point().is_some() {
        return Err(Errno::EINVAL);
    }
    let copies = change.copy_tree(from, deep);
    let mut at = at.clone();
    mount::cross(&mut at);
    for (copy, point) in copies {
        let point = point.unwrap_or_else(|| at.clone());
        mount::check_place(&copy, &point)?;
        change.attach(&copy, &point);
    }
    Ok(())
}

/// There are no peer groups: everything is private, and asking for more is taken as given.
pub(super) fn set_propagation(at: &Path, kind: u32) -> Result<()> {
    if !kind.is_power_of_two() || !at.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    if kind == MS_SHARED || kind == MS_SLAVE {
        arch_um::stub!("mount propagation (MS_SHARED, MS_SLAVE)");
    }
    Ok(())
}

/// Moves the mount at `from` to `at`.
pub(in crate::vfs) fn move_mount(from: &Path, at: &Path) -> Result<()> {
    let change = mount::change();
    let mount = &from.mount;
    if !from.is_mount_root() || mount.mount_point().is_none() {
        return Err(Errno::EINVAL);
    }
    let mut at = at.clone();
    mount::cross(&mut at);
    if at.mount.is_within(mount) {
        return Err(Errno::ELOOP);
    }
    mount::check_place(mount, &at)?;
    change.move_to(mount, &at);
    Ok(())
}

const MNT_FORCE: u32 = 1;
const MNT_DETACH: u32 = 2;
const MNT_EXPIRE: u32 = 4;
const UMOUNT_NOFOLLOW: u32 = 8;

/// `umount2(2)`.
pub fn sys_umount2(cx: &Context, target: UserAddr, flags: u32) -> Result<usize> {
    if flags & !(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let text = target.read_path()?;
    let follow = if flags & UMOUNT_NOFOLLOW == 0 {
        WalkFlags::FOLLOW
    } else {
        WalkFlags::empty()
    };
    let place = Start::new(cx, Fd::CWD, &text)?.lookup(&text, follow)?;
    require_admin(cx)?;
    let Path { mount, dentry } = place;
    if !Arc::ptr_eq(&dentry, mount.root()) || !mount.is_attached() {
        return Err(Errno::EINVAL);
    }
    drop(dentry);
    if flags & MNT_EXPIRE != 0 && flags & (MNT_FORCE | MNT_DETACH) != 0 {
        return Err(Errno::EINVAL);
    }
    let root = cx.task().fs().root();
    if Arc::ptr_eq(&root.mount, &mount) && flags & MNT_DETACH == 0 {
        // The root cannot go; "unmounting" it makes it read-only, for the way down.
        drop(root);
        return remount_root(&mount);
    }
    drop(root);
    if mount.mount_point().is_none() {
        return Err(Errno::EINVAL);
    }
    umount(mount, flags)?;
    Ok(0)
}

fn remount_root(mount: &Arc<Mount>) -> Result<usize> {
    let _change = mount::change();
    mount.fs().sync()?;
    reconfigure(mount, MountOptions::default(), true)?;
    mount.set_flags(mount.flags() | MountFlags::READ_ONLY);
    Ok(0)
}

fn umount(mount: Arc<Mount>, flags: u32) -> Result<()> {
    let change = mount::change();
    let below = mount::below(&mount);
    if flags & MNT_DETACH != 0 {
        for child in below.iter().rev() {
            change.detach(child);
        }
        change.detach(&mount);
        // Instances are let go after the tree is free for others.
        drop(change);
        return Ok(());
    }
    if !below.is_empty() || mount::is_busy(&mount, 1) {
        return Err(Errno::EBUSY);
    }
    if flags & MNT_EXPIRE != 0 && !mount.mark_expiring() {
        return Err(Errno::EAGAIN);
    }
    change.detach(&mount);
    drop(change);
    // Here the last reference goes, and with it the instance is written out and let go.
    drop(mount);
    Ok(())
}

/// `pivot_root(2)`.
pub fn sys_pivot_root(cx: &Context, new_root: UserAddr, put_old: UserAddr) -> Result<usize> {
    require_admin(cx)?;
    let directory = WalkFlags::FOLLOW | WalkFlags::DIRECTORY;
    let text = new_root.read_path()?;
    let new = Start::new(cx, Fd::CWD, &text)?.lookup(&text, directory)?;
    let text = put_old.read_path()?;
    let put_old = Start::new(cx, Fd::CWD, &text)?.lookup(&text, directory)?;
    let old = cx.task().fs().root();
    let change = mount::change();
    if Arc::ptr_eq(&new.mount, &old.mount) || Arc::ptr_eq(&put_old.mount, &old.mount) {
        return Err(Errno::EBUSY);
    }
    let Some(root_point) = old.mount.mount_point() else {
        return Err(Errno::EINVAL);
    };
    let is_below = put_old.mount.is_within(&new.mount) && put_old.dentry.is_within(put_old.mount.root());
    if !new.is_mount_root() || !old.is_mount_root() || new.mount.mount_point().is_none() || !is_below {
        return Err(Errno::EINVAL);
    }
    let mut put_old = put_old;
    mount::cross(&mut put_old);
    // The old root leaves its place first: the new one takes it.
    change.detach(&old.mount);
    change.move_to(&new.mount, &root_point);
    change.move_to(&old.mount, &put_old);
    drop(change);
    for process in task::table::processes() {
        for task in process.threads() {
            if let Some(fs) = task.try_fs() {
                fs.replace(&old, &new);
            }
        }
    }
    Ok(0)
}
