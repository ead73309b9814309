//! The calls as programs make them (`resize2fs`).

use kernel::syscall::Context;
use kernel::task::Capabilities;
use kernel::user::{UserAddr, UserPtr};
use kernel::vfs::File;

use super::layout::Batch;
use crate::instance::Ext4;
use crate::layout::features::RoCompat;
use crate::layout::group::Desc;
use crate::layout::{get_split, get16, get32};
use crate::{Errno, Result};

/// Bytes of `struct ext4_new_group_input`: group, places of both bitmaps and the inode table, blocks, blocks of them for the superuser.
const GROUP_LEN: usize = 40;

/// `EPERM` without `CAP_SYS_RESOURCE`, `EROFS`.
fn require_grower(cx: &Context, file: &File) -> Result<()> {
    if !cx.task().cred().capable(Capabilities::SYS_RESOURCE) {
        return Err(Errno::EPERM);
    }
    if let Some(path) = file.path() {
        path.mount.require_writable()?;
    }
    Ok(())
}

/// `EXT4_IOC_RESIZE_FS`: the new size in blocks.
pub(crate) fn resize(fs: &Ext4, cx: &Context, file: &File, arg: u64) -> Result<usize> {
    let blocks = UserPtr::<u64>::new(arg).read()?;
    require_grower(cx, file)?;
    fs.grow(blocks).map(|()| 0)
}

/// `EXT4_IOC_GROUP_EXTEND`: the last group gets what it lacks, up to this many blocks in all; none are asked for by who wants to know whether it works.
pub(crate) fn extend_group(fs: &Ext4, cx: &Context, file: &File, arg: u64) -> Result<usize> {
    require_grower(cx, file)?;
    let blocks = UserPtr::<u32>::new(arg).read()?;
    fs.extend(u64::from(blocks)).map(|()| 0)
}

/// `EXT4_IOC_GROUP_ADD`: one group, laid out by the caller.
pub(crate) fn add_group(fs: &Ext4, cx: &Context, file: &File, arg: u64) -> Result<usize> {
    let mut raw = [0; GROUP_LEN];
    UserAddr(arg).read(&mut raw)?;
    require_grower(cx, file)?;
    let desc = Desc {
        block_bitmap: get_split(&raw, 8, 12),
        inode_bitmap: get_split(&raw, 16, 20),
        inode_table: get_split(&raw, 24, 28),
        ..Desc::default()
    };
    fs.add(get32(&raw, 0), desc, get32(&raw, 32), get16(&raw, 36))
        .map(|()| 0)
}

impl Ext4 {
    /// Fills the last group up, to at most `blocks` blocks in all. `EPERM` when it is full; other errors as [`grow`](Self::grow).
    pub fn extend(&self, blocks: u64) -> Result<()> {
        let growing = self.may_grow()?;
        let before = self.geometry.size.counts();
        if blocks == 0 || blocks == before.blocks {
            return Ok(());
        }
        if blocks < before.blocks {
            self.warn(format_args!("can't shrink FS - resize aborted"));
            return Err(Errno::EINVAL);
        }
        let whole = self.geometry.group_start(before.groups);
        if whole == before.blocks {
            self.warn(format_args!("need to use ext2online to resize further"));
            return Err(Errno::EPERM);
        }
        let target = whole.min(blocks);
        if target < blocks {
            self.warn(format_args!(
                "will only finish group ({target} blocks, {} new)",
                target - before.blocks
            ));
        }
        self.groups_for(target)?;
        self.require_on_device(target)?;
        growing.settle(self.extend_last(target))
    }

    fn add(&self, group: u32, places: Desc, blocks: u32, reserved: u16) -> Result<()> {
        let growing = self.may_grow()?;
        let is_sparse = self.geometry.ro_compat.contains(RoCompat::SPARSE_SUPER);
        if group.is_multiple_of(self.geometry.descs_per_block()) && !is_sparse {
            self.warn(format_args!("Can't resize non-sparse filesystem further"));
            return Err(Errno::EPERM);
        }
        let batch = Batch::given(self, group, places, blocks, reserved)?;
        self.require_on_device(batch.end)?;
        self.groups_for(batch.end)?;
        if self.geometry.desc_blocks_for(group + 1) > self.geometry.desc_blocks()
            && self.geometry.size.reserved_gdt() == 0
        {
            self.warn(format_args!("No reserved GDT blocks, can't resize"));
            return Err(Errno::EPERM);
        }
        growing.settle(self.bring(&batch))
    }
}
