//! The `ioctl`s of /dev/loopN (`loop(4)`).

use alloc::sync::Arc;

use super::LoopDevice;
use super::abi::{
    LOOP_CHANGE_FD, LOOP_CLR_FD, LOOP_CONFIGURE, LOOP_GET_STATUS, LOOP_GET_STATUS64, LOOP_SET_BLOCK_SIZE,
    LOOP_SET_CAPACITY, LOOP_SET_DIRECT_IO, LOOP_SET_FD, LOOP_SET_STATUS, LOOP_SET_STATUS64, LoopConfig, LoopFlags,
    LoopInfo, LoopInfo64, Settings,
};
use crate::block::device::BlockDevice;
use crate::syscall::Context;
use crate::task::Capabilities;
use crate::user::UserPtr;
use crate::vfs::fd_table::Fd;
use crate::vfs::{Access, DevT, File, FileType};
use crate::{Errno, Result};

/// Longest key of the encryption that Linux once had.
const KEY_SIZE: u32 = 32;
/// `MAX_LFS_FILESIZE`.
const LAST_OFFSET: u64 = i64::MAX as u64;

pub(super) fn ioctl(
    own: &Arc<LoopDevice>,
    device: &Arc<BlockDevice>,
    cx: &Context,
    file: &File,
    cmd: u32,
    arg: u64,
) -> Result<usize> {
    let fd = || cx.files().get(Fd(arg as u32 as i32));
    match cmd {
        LOOP_SET_FD => own.bind(fd()?, file.access(), Settings::default(), None)?,
        LOOP_CONFIGURE => configure(own, cx, file, UserPtr::new(arg).read()?)?,
        LOOP_CLR_FD => detach(own, device)?,
        LOOP_CHANGE_FD => own.change_file(fd()?)?,
        LOOP_SET_STATUS => {
            require(cx, file)?;
            set_status(own, &UserPtr::<LoopInfo>::new(arg).read()?.widen())?;
        }
        LOOP_SET_STATUS64 => {
            require(cx, file)?;
            set_status(own, &UserPtr::new(arg).read()?)?;
        }
        LOOP_GET_STATUS => {
            let info = status(own)?.narrow().ok_or(Errno::EOVERFLOW)?;
            UserPtr::new(arg).write(&info)?;
        }
        LOOP_GET_STATUS64 => UserPtr::new(arg).write(&status(own)?)?,
        LOOP_SET_CAPACITY => {
            require(cx, file)?;
            own.update_len()?;
        }
        LOOP_SET_DIRECT_IO => {
            require(cx, file)?;
            own.change_settings(|old| {
                let mut new = *old;
                new.flags.set(LoopFlags::DIRECT_IO, arg != 0);
                Ok(new)
            })?;
        }
        LOOP_SET_BLOCK_SIZE => {
            require(cx, file)?;
            own.set_block_size(u32::try_from(arg).map_err(|_| Errno::EINVAL)?)?;
        }
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

/// Who may change a bound device: those who have it open for writing, and the administrator.
fn require(cx: &Context, file: &File) -> Result<()> {
    if file.access().contains(Access::WRITE) || cx.task().cred().capable(Capabilities::SYS_ADMIN) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

fn configure(own: &Arc<LoopDevice>, cx: &Context, file: &File, config: LoopConfig) -> Result<()> {
    let backing = cx.files().get(Fd(config.fd as i32))?;
    let flags = LoopFlags::from_bits(config.info.flags).ok_or(Errno::EINVAL)?;
    let block_size = Some(config.block_size).filter(|&size| size != 0);
    let settings = wanted(&config.info, &Settings::default(), flags)?;
    own.bind(backing, file.access(), settings, block_size)
}

/// The settings that `info` asks for, on top of `old`.
fn wanted(info: &LoopInfo64, old: &Settings, flags: LoopFlags) -> Result<Settings> {
    // Encryption went with Linux 5.16.
    if info.encrypt_key_size > KEY_SIZE || info.encrypt_type != 0 {
        return Err(Errno::EINVAL);
    }
    if info.offset > LAST_OFFSET || info.size_limit > LAST_OFFSET {
        return Err(Errno::EOVERFLOW);
    }
    Ok(Settings {
        offset: info.offset,
        size_limit: info.size_limit,
        flags,
        file_name: info.file_name,
        crypt_name: info.crypt_name,
        init: old.init,
    })
}

fn set_status(own: &LoopDevice, info: &LoopInfo64) -> Result<()> {
    const SET: LoopFlags = LoopFlags::AUTOCLEAR.union(LoopFlags::PARTITION_SCAN);
    let asked = LoopFlags::from_bits_truncate(info.flags);
    own.change_settings(|old| {
        let flags = (old.flags - LoopFlags::AUTOCLEAR) | (asked & SET);
        wanted(info, old, flags)
    })
}

/// `LOOP_CLR_FD`: at once, or at the last close when others use the device.
fn detach(own: &LoopDevice, device: &BlockDevice) -> Result<()> {
    if device.disk().users().count() <= 1 {
        return own.clear();
    }
    own.change_settings(|old| {
        let mut new = *old;
        new.flags |= LoopFlags::AUTOCLEAR;
        Ok(new)
    })
}

fn status(own: &LoopDevice) -> Result<LoopInfo64> {
    let binding = own.bound()?;
    let metadata = binding.file.inode().ok_or(Errno::ENXIO)?.metadata()?;
    let rdev = if metadata.kind == FileType::BlockDevice {
        metadata.rdev
    } else {
        DevT::default()
    };
    let settings = &binding.settings;
    Ok(LoopInfo64 {
        device: metadata.dev.encode(),
        inode: metadata.ino,
        rdevice: rdev.encode(),
        offset: settings.offset,
        size_limit: settings.size_limit,
        number: own.number,
        flags: settings.flags.bits(),
        file_name: settings.file_name,
        crypt_name: settings.crypt_name,
        init: settings.init,
        ..LoopInfo64::default()
    })
}
