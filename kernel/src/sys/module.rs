//! Modules: `init_module(2)`, `finit_module(2)`, `delete_module(2)`.
//!
//! Everything is built in. Loading a module that we have built in succeeds and does nothing, so that `insmod loop.ko` and boot scripts go on;
//! any other file is not one of ours: `ENOEXEC`.

use alloc::vec;
use alloc::vec::Vec;

use super::require;
use crate::syscall::Context;
use crate::task::Capabilities;
use crate::user::{UserAddr, UserSlice};
use crate::vfs::fd_table::Fd;
use crate::vfs::file::Access;
use crate::{Errno, Result};

/// What other kernels have as modules and we have built in.
pub const BUILT_IN: &[&str] = &[
    "binfmt_misc",
    "brd",
    "devpts",
    "ext2",
    "ext3",
    "ext4",
    "hostfs",
    "jbd2",
    "loop",
    "mbcache",
    "proc",
    "ramfs",
    "rtc",
    "softdog",
    "sysfs",
    "tmpfs",
    "ubd",
    "unix",
];

/// Largest module file that is looked at.
const FILE_MAX: usize = 64 << 20;
/// Longest parameters.
const PARAMETERS_MAX: usize = 4096;
const FLAGS_KNOWN: u32 = 7;
/// `MODULE_INIT_COMPRESSED_FILE`.
const FLAG_COMPRESSED: u32 = 4;

/// Whether the module with this name (dashes count as underscores) is part of the kernel.
pub fn is_built_in(name: &[u8]) -> bool {
    let plain = |byte: &u8| if *byte == b'-' { b'_' } else { *byte };
    BUILT_IN.iter().any(|known| known.bytes().eq(name.iter().map(plain)))
}

/// The name in a module file: `name=` in its `.modinfo`.
fn module_name(file: &[u8]) -> Option<&[u8]> {
    const KEY: &[u8] = b"\0name=";
    let start = file.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let rest = &file[start..];
    Some(&rest[..rest.iter().position(|&byte| byte == 0)?])
}

fn load(file: &[u8], parameters: &[u8]) -> Result<usize> {
    if !file.starts_with(b"\x7fELF") {
        return Err(Errno::ENOEXEC);
    }
    match module_name(file) {
        Some(name) if is_built_in(name) => {
            loaded(name, parameters);
            Ok(0)
        }
        _ => {
            arch_um::stub!("loadable modules");
            Err(Errno::ENOEXEC)
        }
    }
}

/// Tells the part of the kernel that the module is, for some come to life only now.
fn loaded(name: &[u8], parameters: &[u8]) {
    crate::block::module_loaded(name, core::str::from_utf8(parameters).unwrap_or_default());
}

/// `init_module(2)`.
pub fn sys_init_module(cx: &Context, image: UserSlice, params: UserAddr) -> Result<usize> {
    require(cx, Capabilities::SYS_MODULE)?;
    if image.len < 64 || image.len > FILE_MAX {
        return Err(Errno::ENOEXEC);
    }
    let mut file = vec![0; image.len];
    image.addr.read(&mut file)?;
    load(&file, &params.read_cstr(PARAMETERS_MAX)?)
}

/// `finit_module(2)`. Of a compressed file the name decides.
pub fn sys_finit_module(cx: &Context, fd: Fd, params: UserAddr, flags: u32) -> Result<usize> {
    require(cx, Capabilities::SYS_MODULE)?;
    if flags & !FLAGS_KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let params = params.read_cstr(PARAMETERS_MAX)?;
    let file = cx.files().get(fd)?;
    file.require(Access::READ)?;
    if flags & FLAG_COMPRESSED != 0 {
        let name = file.path().map(|path| path.dentry.name()).unwrap_or_default();
        let stem: Vec<u8> = name.iter().copied().take_while(|&byte| byte != b'.').collect();
        if !is_built_in(&stem) {
            return Err(Errno::ENOEXEC);
        }
        loaded(&stem, &params);
        return Ok(0);
    }
    let size = file.inode().ok_or(Errno::EINVAL)?.metadata()?.size;
    let mut bytes = vec![
        0;
        usize::try_from(size)
            .ok()
            .filter(|&size| size <= FILE_MAX)
            .ok_or(Errno::EFBIG)?
    ];
    let got = file.read_exact_at(0, &mut bytes)?;
    bytes.truncate(got);
    load(&bytes, &params)
}

/// `delete_module(2)`: nothing that could be unloaded is loaded.
pub fn sys_delete_module(cx: &Context, name: UserAddr) -> Result<usize> {
    require(cx, Capabilities::SYS_MODULE)?;
    name.read_cstr(64)?;
    Err(Errno::ENOENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_modules_load_and_others_do_not() {
        assert_eq!(load(b"\x7fELF....\0license=GPL\0name=loop\0x", b""), Ok(0));
        assert_eq!(load(b"\x7fELF....\0name=nvidia\0x", b""), Err(Errno::ENOEXEC));
        assert_eq!(load(b"#!/bin/sh", b""), Err(Errno::ENOEXEC));
        assert!(is_built_in(b"binfmt-misc"));
    }
}
