//! Block devices by what is on them: `root=PARTUUID=…`, `PARTLABEL=`, `UUID=`, `LABEL=`.
//!
//! Linux knows the first two; the others it leaves to an initial ram disk, which we do not need: the kernel looks into ext2/3/4 superblocks itself
//! (offsets: ext4 disk layout, "The Super Block").

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use super::disk::{Disk, disks};
use super::partition::Partition;
use crate::io::SliceSink;
use crate::vfs::DevT;

/// Where an ext2/3/4 superblock begins.
const EXT_AT: u64 = 1024;
const EXT_MAGIC: [u8; 2] = [0x53, 0xef];

/// The device that `text` (`KEY=value`) names. `PARTUUID=…/PARTNROFF=n` is the partition `n` numbers behind.
pub fn find(text: &str) -> Option<DevT> {
    let (key, value) = text.split_once('=')?;
    match key {
        "PARTUUID" => {
            let (uuid, offset) = value.split_once("/PARTNROFF=").unwrap_or((value, "0"));
            let offset: i64 = offset.parse().ok()?;
            let (disk, part) = partition(|part| part.uuid().is_some_and(|own| own.eq_ignore_ascii_case(uuid)))?;
            number(&disk, i64::from(part.number).checked_add(offset)?)
        }
        "PARTLABEL" => {
            let (disk, part) = partition(|part| part.guid.is_some() && part.label() == value)?;
            number(&disk, part.number.into())
        }
        "UUID" => file_system(|ext| ext.uuid.eq_ignore_ascii_case(value)),
        "LABEL" => file_system(|ext| ext.label == value),
        _ => None,
    }
}

fn partition(is_it: impl Fn(&Partition) -> bool) -> Option<(Arc<Disk>, Partition)> {
    disks().into_iter().find_map(|disk| {
        let part = disk.partitions().into_iter().find(|part| is_it(part))?;
        Some((disk, part))
    })
}

fn number(disk: &Arc<Disk>, number: i64) -> Option<DevT> {
    match u32::try_from(number).ok()? {
        0 => Some(disk.dev()),
        number => Some(disk.part(number)?.dev()),
    }
}

/// What a superblock says of itself.
#[derive(Debug, PartialEq, Eq)]
struct Ext {
    uuid: String,
    label: String,
}

impl Ext {
    fn read(superblock: &[u8]) -> Option<Self> {
        if superblock.get(56..58)? != EXT_MAGIC {
            return None;
        }
        let mut uuid = String::new();
        for (index, byte) in superblock.get(104..120)?.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                uuid.push('-');
            }
            uuid.push_str(&format!("{byte:02x}"));
        }
        let label = superblock.get(120..136)?;
        let end = label.iter().position(|&byte| byte == 0).unwrap_or(label.len());
        Some(Self {
            uuid,
            label: String::from_utf8_lossy(&label[..end]).into_owned(),
        })
    }
}

fn file_system(is_it: impl Fn(&Ext) -> bool) -> Option<DevT> {
    let found = |disk: &Disk, start: u64, len: u64| {
        let mut superblock = [0; 136];
        let fits = len >= EXT_AT + superblock.len() as u64;
        let got = fits.then(|| disk.cache().read(start + EXT_AT, &mut SliceSink::new(&mut superblock)));
        got == Some(Ok(superblock.len())) && Ext::read(&superblock).is_some_and(|ext| is_it(&ext))
    };
    disks().into_iter().find_map(|disk| {
        if found(&disk, 0, disk.len()) {
            return Some(disk.dev());
        }
        let part = disk.parts().into_iter().find(|part| {
            let info = part.info();
            found(&disk, info.start, info.len)
        })?;
        Some(part.dev())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ext_superblock_tells_its_uuid_and_label() {
        let mut superblock = [0; 136];
        assert_eq!(Ext::read(&superblock), None);
        superblock[56..58].copy_from_slice(&EXT_MAGIC);
        superblock[104..120].copy_from_slice(&core::array::from_fn::<u8, 16, _>(|index| index as u8));
        superblock[120..124].copy_from_slice(b"root");
        let ext = Ext::read(&superblock).expect("a superblock");
        assert_eq!(
            (ext.uuid.as_str(), ext.label.as_str()),
            ("00010203-0405-0607-0809-0a0b0c0d0e0f", "root")
        );
    }
}
