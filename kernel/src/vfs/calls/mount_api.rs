//! The new mount interface: `fsopen(2)`, `fsconfig(2)`, `fsmount(2)`, `fspick(2)`, `move_mount(2)`, `open_tree(2)`, `mount_setattr(2)`.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use arch_um::sync::{LockClass, Mutex};

use super::at::{self, Start};
use super::mount::{device_of, move_mount, reconfigure, require_admin, set_propagation};
use super::open::read_extensible;
use crate::abi_struct;
use crate::syscall::Context;
use crate::user::UserAddr;
use crate::vfs::fd_table::{CloseOnExec, Fd};
use crate::vfs::file::{File, FileOps, OpenFlags, SeekKind};
use crate::vfs::inode::{FileSystemType, FsFlags, MountSource};
use crate::vfs::mount::{self, Deep, Mount, MountFlags};
use crate::vfs::mount_options::MountOptions;
use crate::vfs::path::Path;
use crate::vfs::super_block::SuperBlock;
use crate::vfs::{anon, registry};
use crate::{Errno, Result};

/// A configuration under way: what `fsopen` and `fspick` give.
struct Configuration {
    kind: &'static dyn FileSystemType,
    state: Mutex<State>,
}

static CONFIGURATION: LockClass = LockClass::new("FS_CONFIGURATION", 145);

#[derive(Default)]
struct State {
    source: Option<Vec<u8>>,
    parsed: MountOptions,
    /// The instance, once made.
    block: Option<Arc<SuperBlock>>,
    /// The mount that is reconfigured.
    picked: Option<Arc<Mount>>,
}

impl FileOps for Configuration {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> SeekKind {
        SeekKind::Stream
    }

    /// Messages of the file system: there are never any.
    fn read_at(&self, _file: &File, _pos: u64, _dst: &mut dyn crate::io::Sink) -> Result<usize> {
        Err(Errno::ENODATA)
    }
}

fn install(cx: &Context, kind: &'static dyn FileSystemType, state: State, cloexec: CloseOnExec) -> Result<usize> {
    let ops = Arc::new(Configuration {
        kind,
        state: Mutex::new(&CONFIGURATION, state),
    });
    let file = anon::file(ops, "[fscontext]", OpenFlags::RDWR, cx.task().cred());
    Ok(cx.files().install(file, cloexec)?.0 as usize)
}

fn cloexec(set: bool) -> CloseOnExec {
    if set { CloseOnExec::Yes } else { CloseOnExec::No }
}

/// `fsopen(2)`.
pub fn sys_fsopen(cx: &Context, name: UserAddr, flags: u32) -> Result<usize> {
    require_admin(cx)?;
    at::check_flags(flags, 1)?;
    let name = name.read_cstr(4096)?;
    install(cx, registry::find(&name)?, State::default(), cloexec(flags & 1 != 0))
}

/// `fspick(2)`.
pub fn sys_fspick(cx: &Context, dir: Fd, path: UserAddr, flags: u32) -> Result<usize> {
    const CLOEXEC: u32 = 1;
    const NOFOLLOW: u32 = 2;
    const NO_AUTOMOUNT: u32 = 4;
    const EMPTY_PATH: u32 = 8;
    require_admin(cx)?;
    at::check_flags(flags, CLOEXEC | NOFOLLOW | NO_AUTOMOUNT | EMPTY_PATH)?;
    let mut resolve = 0;
    if flags & NOFOLLOW != 0 {
        resolve |= at::SYMLINK_NOFOLLOW;
    }
    if flags & EMPTY_PATH != 0 {
        resolve |= at::EMPTY_PATH;
    }
    let (_, place) = at::resolve(cx, dir, path, resolve)?;
    if !place.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    let kind = registry::find(place.mount.fs().fs_type().as_bytes())?;
    let state = State {
        picked: Some(place.mount),
        ..State::default()
    };
    install(cx, kind, state, cloexec(flags & CLOEXEC != 0))
}

fn configuration(file: &File) -> Result<&Configuration> {
    file.ops_as::<Configuration>().ok_or(Errno::EINVAL)
}

const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_SET_PATH: u32 = 3;
const FSCONFIG_CMD_CREATE: u32 = 6;
const FSCONFIG_CMD_RECONFIGURE: u32 = 7;
const FSCONFIG_CMD_CREATE_EXCL: u32 = 8;

/// `fsconfig(2)`. Binary values and descriptors are taken by no file system here: `EOPNOTSUPP`.
pub fn sys_fsconfig(cx: &Context, fd: Fd, cmd: u32, key: UserAddr, value: UserAddr, aux: i32) -> Result<usize> {
    if fd.0 < 0 {
        return Err(Errno::EINVAL);
    }
    let file = cx.files().get(fd)?;
    let config = configuration(&file)?;
    let mut state = config.state.lock();
    match cmd {
        FSCONFIG_SET_FLAG | FSCONFIG_SET_STRING | FSCONFIG_SET_PATH => {
            if key.is_null() || value.is_null() != (cmd == FSCONFIG_SET_FLAG) || (cmd != FSCONFIG_SET_PATH && aux != 0)
            {
                return Err(Errno::EINVAL);
            }
            if state.block.is_some() {
                return Err(Errno::EBUSY);
            }
            let key = key.read_cstr(256).map_err(|error| {
                if error == Errno::ENAMETOOLONG {
                    Errno::EINVAL
                } else {
                    error
                }
            })?;
            let value = if value.is_null() {
                None
            } else {
                Some(value.read_cstr(4096)?)
            };
            match (&key[..], value) {
                (b"source", Some(value)) if state.source.is_none() => state.source = Some(value),
                (b"source", _) => return Err(Errno::EINVAL),
                (key, value) => state.parsed.push(key, value.as_deref()),
            }
        }
        FSCONFIG_CMD_CREATE | FSCONFIG_CMD_CREATE_EXCL => create(cx, config, &mut state)?,
        FSCONFIG_CMD_RECONFIGURE => {
            require_admin(cx)?;
            let mount = state.picked.clone().ok_or(Errno::EINVAL)?;
            let _change = mount::change();
            let read_only = state.parsed.read_only.unwrap_or_else(|| mount.block().is_read_only());
            reconfigure(&mount, core::mem::take(&mut state.parsed), read_only)?;
        }
        2 | 4 | 5 => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::EOPNOTSUPP),
    }
    Ok(0)
}

fn create(cx: &Context, config: &Configuration, state: &mut State) -> Result<()> {
    require_admin(cx)?;
    if state.block.is_some() || state.picked.is_some() {
        return Err(Errno::EBUSY);
    }
    let text = state.source.clone().unwrap_or_default();
    let start = Start::new(cx, Fd::CWD, &text)?;
    let device = device_of(&start.walk, &start.start, config.kind, &text)?;
    let read_only = state.parsed.read_only.unwrap_or(false);
    let source = MountSource {
        source: text,
        options: state.parsed.options.clone(),
        device,
        read_only,
    };
    let block = SuperBlock::of(config.kind.mount(&source)?, read_only);
    if config.kind.flags().contains(FsFlags::NEEDS_DEVICE) && block.is_read_only() != read_only {
        return Err(Errno::EBUSY);
    }
    state.block = Some(block);
    Ok(())
}

const MOUNT_ATTR_ATIME: u64 = 0x70;
const MOUNT_ATTR_NOATIME: u64 = 0x10;
const MOUNT_ATTR_STRICTATIME: u64 = 0x20;

/// Flags of `fsmount(2)` and `mount_setattr(2)`, without those of access times.
const ATTRIBUTES: [(u64, MountFlags); 6] = [
    (1, MountFlags::READ_ONLY),
    (2, MountFlags::NOSUID),
    (4, MountFlags::NODEV),
    (8, MountFlags::NOEXEC),
    (0x80, MountFlags::NODIRATIME),
    (0x20_0000, MountFlags::NOSYMFOLLOW),
];

fn plain_attributes(raw: u64) -> MountFlags {
    ATTRIBUTES
        .iter()
        .filter(|(bit, _)| raw & bit != 0)
        .fold(MountFlags::empty(), |flags, (_, flag)| flags | *flag)
}

fn known_attributes() -> u64 {
    ATTRIBUTES.iter().fold(MOUNT_ATTR_ATIME, |known, (bit, _)| known | bit)
}

/// The access time policy in `raw`. `EINVAL` for a number there is not.
fn atime(raw: u64) -> Result<MountFlags> {
    match raw & MOUNT_ATTR_ATIME {
        0 => Ok(MountFlags::RELATIME),
        MOUNT_ATTR_NOATIME => Ok(MountFlags::NOATIME),
        MOUNT_ATTR_STRICTATIME => Ok(MountFlags::empty()),
        _ => Err(Errno::EINVAL),
    }
}

/// What stands behind a detached tree: closing it without `move_mount` dissolves it.
struct Tree {
    top: Arc<Mount>,
}

impl FileOps for Tree {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> SeekKind {
        SeekKind::Stream
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if !self.top.is_attached() {
            let below = {
                let change = mount::change();
                let below = mount::below(&self.top);
                for mount in below.iter().rev() {
                    change.detach(mount);
                }
                below
            };
            // Instances are let go after the tree is free for others.
            drop(below);
        }
    }
}

fn install_tree(cx: &Context, top: Arc<Mount>, cloexec: CloseOnExec) -> Result<usize> {
    let path = Path::root_of(&top);
    let file = File::new(Arc::new(Tree { top }), Some(path), OpenFlags::PATH, cx.task().cred());
    Ok(cx.files().install(file, cloexec)?.0 as usize)
}

/// `fsmount(2)`.
pub fn sys_fsmount(cx: &Context, fd: Fd, flags: u32, attributes: u32) -> Result<usize> {
    require_admin(cx)?;
    at::check_flags(flags, 1)?;
    let raw = u64::from(attributes);
    if raw & !known_attributes() != 0 {
        return Err(Errno::EINVAL);
    }
    let mount_flags = plain_attributes(raw) | atime(raw)?;
    let file = cx.files().get(fd)?;
    let config = configuration(&file)?;
    let mut state = config.state.lock();
    let block = state.block.take().ok_or(Errno::EINVAL)?;
    let root = block.root().clone();
    let mount = Mount::new(
        block,
        root,
        state.source.clone().unwrap_or_else(|| b"none".to_vec()),
        mount_flags,
    );
    install_tree(cx, mount, cloexec(flags & 1 != 0))
}

/// `open_tree(2)`.
pub fn sys_open_tree(cx: &Context, dir: Fd, path: UserAddr, flags: u32) -> Result<usize> {
    const CLONE: u32 = 1;
    const RECURSIVE: u32 = 0x8000;
    let cloexec_bit = OpenFlags::CLOEXEC.bits();
    let walk_flags = at::EMPTY_PATH | at::SYMLINK_NOFOLLOW | at::NO_AUTOMOUNT;
    at::check_flags(flags, CLONE | RECURSIVE | cloexec_bit | walk_flags)?;
    if flags & RECURSIVE != 0 && flags & CLONE == 0 {
        return Err(Errno::EINVAL);
    }
    let (_, place) = at::resolve(cx, dir, path, flags & walk_flags)?;
    let cloexec = cloexec(flags & cloexec_bit != 0);
    if flags & CLONE == 0 {
        let walk = crate::vfs::walk::WalkContext::of(cx.task());
        let file = crate::vfs::open::open_place(Some(cx), &walk, place, OpenFlags::PATH)?;
        return Ok(cx.files().install(file, cloexec)?.0 as usize);
    }
    require_admin(cx)?;
    let change = mount::change();
    let copies = change.copy_tree(&place, if flags & RECURSIVE != 0 { Deep::Yes } else { Deep::No });
    let mut top = None;
    for (copy, point) in copies {
        match point {
            Some(point) => change.attach(&copy, &point),
            None => top = Some(copy),
        }
    }
    drop(change);
    install_tree(cx, top.ok_or(Errno::EINVAL)?, cloexec)
}

/// `move_mount(2)`: attaches a detached tree, or moves what is mounted.
pub fn sys_move_mount(
    cx: &Context,
    from_dir: Fd,
    from: UserAddr,
    to_dir: Fd,
    to: UserAddr,
    flags: u32,
) -> Result<usize> {
    const F_SYMLINKS: u32 = 1;
    const F_EMPTY_PATH: u32 = 4;
    const T_SYMLINKS: u32 = 0x10;
    const T_EMPTY_PATH: u32 = 0x40;
    require_admin(cx)?;
    at::check_flags(flags, 0x77)?;
    let translate = |follow: u32, empty: u32| {
        let nofollow = if flags & follow == 0 { at::SYMLINK_NOFOLLOW } else { 0 };
        nofollow | if flags & empty != 0 { at::EMPTY_PATH } else { 0 }
    };
    let (_, source) = at::resolve(cx, from_dir, from, translate(F_SYMLINKS, F_EMPTY_PATH))?;
    let (_, target) = at::resolve(cx, to_dir, to, translate(T_SYMLINKS, T_EMPTY_PATH))?;
    if !source.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    if source.mount.is_attached() {
        move_mount(&source, &target)?;
    } else {
        if target.mount.is_within(&source.mount) {
            return Err(Errno::ELOOP);
        }
        mount::place(&source.mount, &target)?;
    }
    Ok(0)
}

abi_struct! {
    /// `struct mount_attr`.
    pub struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns: u64,
    }
}

/// `mount_setattr(2)`.
pub fn sys_mount_setattr(
    cx: &Context,
    dir: Fd,
    path: UserAddr,
    flags: u32,
    attr: UserAddr,
    size: usize,
) -> Result<usize> {
    const RECURSIVE: u32 = 0x8000;
    at::check_flags(
        flags,
        at::EMPTY_PATH | RECURSIVE | at::SYMLINK_NOFOLLOW | at::NO_AUTOMOUNT,
    )?;
    require_admin(cx)?;
    let attr: MountAttr = read_extensible(attr, size)?;
    if (attr.set | attr.clear) & !known_attributes() != 0 {
        // Mounts with mapped ids are not configured in.
        return Err(Errno::EINVAL);
    }
    let times = match (attr.set & MOUNT_ATTR_ATIME, attr.clear & MOUNT_ATTR_ATIME) {
        (0, 0) => None,
        (set, MOUNT_ATTR_ATIME) => Some(atime(set)?),
        _ => return Err(Errno::EINVAL),
    };
    let (_, place) = at::resolve(cx, dir, path, flags & (at::EMPTY_PATH | at::SYMLINK_NOFOLLOW))?;
    if !place.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    if attr.propagation != 0 {
        let kind = u32::try_from(attr.propagation).map_err(|_| Errno::EINVAL)?;
        set_propagation(&place, kind)?;
    }
    let _change = mount::change();
    let mut mounts = alloc::vec![place.mount.clone()];
    if flags & RECURSIVE != 0 {
        mounts.extend(mount::below(&place.mount));
    }
    for mount in mounts {
        let mut new = (mount.flags() - plain_attributes(attr.clear)) | plain_attributes(attr.set);
        if let Some(times) = times {
            new = (new - (MountFlags::NOATIME | MountFlags::RELATIME)) | times;
        }
        mount.set_flags(new);
    }
    Ok(0)
}
