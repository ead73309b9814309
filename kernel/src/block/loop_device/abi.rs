//! `linux/loop.h`: numbers and layouts.

use bitflags::bitflags;

use crate::abi_struct;

pub(super) const LOOP_SET_FD: u32 = 0x4c00;
pub(super) const LOOP_CLR_FD: u32 = 0x4c01;
pub(super) const LOOP_SET_STATUS: u32 = 0x4c02;
pub(super) const LOOP_GET_STATUS: u32 = 0x4c03;
pub(super) const LOOP_SET_STATUS64: u32 = 0x4c04;
pub(super) const LOOP_GET_STATUS64: u32 = 0x4c05;
pub(super) const LOOP_CHANGE_FD: u32 = 0x4c06;
pub(super) const LOOP_SET_CAPACITY: u32 = 0x4c07;
pub(super) const LOOP_SET_DIRECT_IO: u32 = 0x4c08;
pub(super) const LOOP_SET_BLOCK_SIZE: u32 = 0x4c09;
pub(super) const LOOP_CONFIGURE: u32 = 0x4c0a;
pub(super) const LOOP_CTL_ADD: u32 = 0x4c80;
pub(super) const LOOP_CTL_REMOVE: u32 = 0x4c81;
pub(super) const LOOP_CTL_GET_FREE: u32 = 0x4c82;

bitflags! {
    /// `LO_FLAGS_*`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(super) struct LoopFlags: u32 {
        /// Writes are refused.
        const READ_ONLY = 1;
        /// Let go of the file at the last close.
        const AUTOCLEAR = 4;
        /// Look for partitions.
        const PARTITION_SCAN = 8;
        /// Around the cache of the file's file system; taken as said.
        const DIRECT_IO = 16;
    }
}

/// 64 bytes, of which a name fills 63 at most.
pub(super) type Name = [[u8; 32]; 2];

abi_struct! {
    /// `struct loop_info64`.
    pub(super) struct LoopInfo64 {
        pub device: u64,
        pub inode: u64,
        pub rdevice: u64,
        pub offset: u64,
        pub size_limit: u64,
        pub number: u32,
        pub encrypt_type: u32,
        pub encrypt_key_size: u32,
        pub flags: u32,
        pub file_name: Name,
        pub crypt_name: Name,
        pub encrypt_key: [u8; 32],
        pub init: [u64; 2],
    }
}

abi_struct! {
    /// `struct loop_info` of x86-64.
    pub(super) struct LoopInfo {
        pub number: i32,
        pub pad: [u8; 4],
        pub device: u64,
        pub inode: u64,
        pub rdevice: u64,
        pub offset: i32,
        pub encrypt_type: u32,
        pub encrypt_key_size: u32,
        pub flags: u32,
        pub name: Name,
        pub encrypt_key: [u8; 32],
        pub init: [u64; 2],
        pub reserved: [u8; 8],
    }
}

abi_struct! {
    /// `struct loop_config`.
    pub(super) struct LoopConfig {
        pub fd: u32,
        pub block_size: u32,
        pub info: LoopInfo64,
        pub reserved: [u64; 8],
    }
}

/// What a program has said of a bound device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// First byte of the file.
    pub offset: u64,
    /// Most bytes; 0 for all.
    pub size_limit: u64,
    /// See [`LoopFlags`].
    pub flags: LoopFlags,
    /// The name the program gave; for show.
    pub file_name: Name,
    /// For show.
    pub crypt_name: Name,
    /// For show.
    pub init: [u64; 2],
}

impl LoopInfo {
    /// The long form.
    pub(super) fn widen(&self) -> LoopInfo64 {
        LoopInfo64 {
            number: self.number as u32,
            device: self.device,
            inode: self.inode,
            rdevice: self.rdevice,
            offset: self.offset as u64,
            encrypt_type: self.encrypt_type,
            encrypt_key_size: self.encrypt_key_size,
            flags: self.flags,
            file_name: self.name,
            encrypt_key: self.encrypt_key,
            init: self.init,
            ..LoopInfo64::default()
        }
    }
}

impl LoopInfo64 {
    /// The short form; none when the offset does not fit (`EOVERFLOW`).
    pub(super) fn narrow(&self) -> Option<LoopInfo> {
        Some(LoopInfo {
            number: self.number as i32,
            device: self.device,
            inode: self.inode,
            rdevice: self.rdevice,
            offset: i32::try_from(self.offset).ok()?,
            encrypt_type: self.encrypt_type,
            encrypt_key_size: self.encrypt_key_size,
            flags: self.flags,
            name: self.file_name,
            encrypt_key: self.encrypt_key,
            init: self.init,
            ..LoopInfo::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Abi;

    #[test]
    fn layouts_have_linuxs_sizes() {
        assert_eq!((LoopInfo::SIZE, LoopInfo64::SIZE, LoopConfig::SIZE), (168, 232, 304));
    }
}
