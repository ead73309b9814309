//! Partition tables: MBR with extended partitions, GPT with its checksums and backup.
//!
//! Sources: UEFI specification 2.10, chapter 5; the MBR as DOS and Linux read it.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::SECTOR;
use crate::Result;

/// Most partitions a disk shows.
pub const MOST: u32 = 255;
/// Partition types of extended partitions: they hold a chain of further tables.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// The type of the MBR entry that protects a GPT.
const GPT_PROTECTIVE: u8 = 0xee;

/// One partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number, 1 and up: `ubda1`.
    pub number: u32,
    /// First byte on the disk.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// GPT's unique GUID as stored, if any (`PARTUUID`).
    pub guid: Option<[u8; 16]>,
    /// MBR's disk signature, if the table is an MBR.
    pub signature: Option<u32>,
    /// GPT's name in UTF-16, ended by a zero (`PARTLABEL`).
    pub label: [u16; LABEL],
}

/// Most characters of a GPT partition's name.
pub const LABEL: usize = 36;

impl Partition {
    /// A partition that nothing is known of but its place.
    pub const fn at(number: u32, start: u64, len: u64) -> Self {
        Self {
            number,
            start,
            len,
            guid: None,
            signature: None,
            label: [0; LABEL],
        }
    }

    /// The name in its GPT entry; empty without one.
    pub fn label(&self) -> String {
        let characters = self.label.iter().copied().take_while(|&unit| unit != 0);
        char::decode_utf16(characters)
            .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect()
    }

    /// `PARTUUID` as blkid(8) writes it: GPT's GUID, or `SIGNATURE-NN` in an MBR.
    pub fn uuid(&self) -> Option<String> {
        match (self.guid, self.signature) {
            (Some(guid), _) => Some(guid_text(&guid)),
            (None, Some(signature)) if signature != 0 => Some(format!("{signature:08x}-{:02x}", self.number)),
            _ => None,
        }
    }
}

/// A GUID as GPT stores it (the first three fields little-endian) in its usual form.
fn guid_text(guid: &[u8; 16]) -> String {
    const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::new();
    for (place, index) in ORDER.into_iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{:02x}", guid[index]));
    }
    text
}

/// Reads the partition table of a disk of `len` bytes in blocks of `block` bytes through `read(offset, buffer)`. No table is an empty list; a broken entry is left out.
pub fn scan(len: u64, block: u64, mut read: impl FnMut(u64, &mut [u8]) -> Result<()>) -> Result<Vec<Partition>> {
    let mut mbr = [0; SECTOR as usize];
    if len < SECTOR {
        return Ok(vec![]);
    }
    read(0, &mut mbr)?;
    if mbr[510..] != [0x55, 0xaa] {
        return Ok(vec![]);
    }
    if entries(&mbr).any(|entry| entry.kind == GPT_PROTECTIVE) {
        for header_at in [block, (len / block).saturating_sub(1) * block] {
            if let Some(found) = gpt(len, block, header_at, &mut read)? {
                return Ok(found);
            }
        }
        return Ok(vec![]);
    }
    // A boot sector of a file system carries the same signature: its "entries" do not have the two legal boot flags.
    if mbr[446..510].chunks_exact(16).any(|entry| entry[0] & 0x7f != 0) {
        return Ok(vec![]);
    }
    dos(len, block, &mbr, &mut read)
}

struct MbrEntry {
    kind: u8,
    start: u64,
    sectors: u64,
}

fn entries(sector: &[u8]) -> impl Iterator<Item = MbrEntry> + '_ {
    sector[446..510].chunks_exact(16).map(|raw| MbrEntry {
        kind: raw[4],
        start: u64::from(u32_at(raw, 8)),
        sectors: u64::from(u32_at(raw, 12)),
    })
}

fn dos(
    len: u64,
    block: u64,
    mbr: &[u8],
    read: &mut impl FnMut(u64, &mut [u8]) -> Result<()>,
) -> Result<Vec<Partition>> {
    let signature = Some(u32_at(mbr, 440));
    let fits = |start: u64, sectors: u64| sectors > 0 && start < len / block;
    // A partition that runs past the end is cut, as Linux does.
    let cut = |start: u64, sectors: u64| (start * block, sectors.min(len / block - start) * block);
    let mut found = vec![];
    let mut extended = None;
    for (index, entry) in entries(mbr).enumerate() {
        if entry.kind == 0 || !fits(entry.start, entry.sectors) {
            continue;
        }
        let (start, mut bytes) = cut(entry.start, entry.sectors);
        if EXTENDED.contains(&entry.kind) {
            extended.get_or_insert(entry.start);
            // Room for a boot loader, not for data.
            bytes = bytes.min(block.max(2 * SECTOR));
        }
        found.push(Partition {
            signature,
            ..Partition::at(index as u32 + 1, start, bytes)
        });
    }
    let Some(base) = extended else { return Ok(found) };
    let mut table_at = base;
    let mut number = 5;
    // A chain with a loop ends with the numbers, or here if its tables hold nothing.
    for _ in 0..2 * MOST {
        if number > MOST {
            break;
        }
        let mut table = [0; SECTOR as usize];
        if table_at >= len / block {
            break;
        }
        read(table_at * block, &mut table)?;
        if table[510..] != [0x55, 0xaa] {
            break;
        }
        let mut next = None;
        for entry in entries(&table).take(2) {
            if entry.kind == 0 || entry.sectors == 0 {
                continue;
            }
            if EXTENDED.contains(&entry.kind) {
                next = Some(base + entry.start);
            } else if fits(table_at + entry.start, entry.sectors) {
                let (start, bytes) = cut(table_at + entry.start, entry.sectors);
                found.push(Partition {
                    signature,
                    ..Partition::at(number, start, bytes)
                });
                number += 1;
            }
        }
        match next {
            Some(next) if next != table_at => table_at = next,
            _ => break,
        }
    }
    Ok(found)
}

fn gpt(
    len: u64,
    block: u64,
    header_at: u64,
    read: &mut impl FnMut(u64, &mut [u8]) -> Result<()>,
) -> Result<Option<Vec<Partition>>> {
    if header_at + SECTOR > len || header_at == 0 {
        return Ok(None);
    }
    let mut header = [0; SECTOR as usize];
    read(header_at, &mut header)?;
    let header_len = u32_at(&header, 12) as usize;
    if &header[..8] != b"EFI PART"
        || !(92..=SECTOR as usize).contains(&header_len)
        || u64_at(&header, 24) != header_at / block
    {
        return Ok(None);
    }
    let stored = u32_at(&header, 16);
    header[16..20].fill(0);
    if crc32(&header[..header_len]) != stored {
        return Ok(None);
    }
    let table_at = u64_at(&header, 72).saturating_mul(block);
    let (count, size) = (u64::from(u32_at(&header, 80)), u64::from(u32_at(&header, 84)));
    // The specification has entries of 128 · 2ⁿ bytes; a table of more than 1 MiB is nonsense.
    if size < 128 || size * count > 1 << 20 || table_at.saturating_add(size * count) > len {
        return Ok(None);
    }
    let mut table = vec![0; (size * count) as usize];
    read(table_at, &mut table)?;
    if crc32(&table) != u32_at(&header, 88) {
        return Ok(None);
    }
    let (first_usable, last_usable) = (u64_at(&header, 40), u64_at(&header, 48));
    let mut found = vec![];
    for (index, raw) in table.chunks_exact(size as usize).enumerate().take(MOST as usize) {
        let (first, last) = (u64_at(raw, 32), u64_at(raw, 40));
        let used = raw[..16] != [0; 16];
        if !used || first < first_usable || last > last_usable || first > last || last >= len / block {
            continue;
        }
        let mut guid = [0; 16];
        guid.copy_from_slice(&raw[16..32]);
        let mut label = [0; LABEL];
        for (unit, raw) in label.iter_mut().zip(raw[56..128].chunks_exact(2)) {
            *unit = u16::from_le_bytes([raw[0], raw[1]]);
        }
        found.push(Partition {
            guid: Some(guid),
            label,
            ..Partition::at(index as u32 + 1, first * block, (last - first + 1) * block)
        });
    }
    Ok(Some(found))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    crate::abi::Abi::decode(&bytes[at..at + 4])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    crate::abi::Abi::decode(&bytes[at..at + 8])
}

/// CRC-32 of IEEE 802.3, as GPT uses it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan_image(image: &[u8]) -> Vec<Partition> {
        scan(image.len() as u64, 512, |at, data| {
            data.copy_from_slice(&image[at as usize..][..data.len()]);
            Ok(())
        })
        .expect("memory can be read")
    }

    fn entry(image: &mut [u8], table: usize, index: usize, kind: u8, start: u32, sectors: u32) {
        let at = table * 512 + 446 + index * 16;
        image[at + 4] = kind;
        image[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        image[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
        image[table * 512 + 510..table * 512 + 512].copy_from_slice(&[0x55, 0xaa]);
    }

    #[test]
    fn primary_and_logical_partitions_are_numbered_as_linux_does() {
        let mut image = vec![0; 4096 * 512];
        entry(&mut image, 0, 0, 0x83, 64, 100);
        entry(&mut image, 0, 2, 0x05, 1000, 2000);
        entry(&mut image, 1000, 0, 0x83, 10, 90);
        entry(&mut image, 1000, 1, 0x05, 500, 200);
        entry(&mut image, 1500, 0, 0x82, 20, 30);
        let found: Vec<_> = scan_image(&image)
            .iter()
            .map(|p| (p.number, p.start / 512, p.len / 512))
            .collect();
        assert_eq!(found, [(1, 64, 100), (3, 1000, 2), (5, 1010, 90), (6, 1520, 30)]);
    }

    #[test]
    fn identities_are_written_as_blkid_writes_them() {
        let mut part = Partition::at(5, 0, 512);
        assert_eq!((part.uuid(), part.label()), (None, String::new()));
        part.signature = Some(0xdead);
        assert_eq!(part.uuid().as_deref(), Some("0000dead-05"));
        part.guid = Some([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(part.uuid().as_deref(), Some("03020100-0504-0706-0809-0a0b0c0d0e0f"));
        part.label[0] = u16::from(b'x');
        assert_eq!(part.label(), "x");
    }

    #[test]
    fn a_chain_that_bites_its_tail_ends() {
        let mut image = vec![0; 4096 * 512];
        entry(&mut image, 0, 0, 0x05, 1000, 2000);
        entry(&mut image, 1000, 0, 0x83, 1, 1);
        entry(&mut image, 1000, 1, 0x05, 500, 10);
        entry(&mut image, 1500, 1, 0x05, 0, 10);
        assert!(scan_image(&image).len() <= MOST as usize);
    }

    #[test]
    fn a_chain_of_empty_tables_that_bites_its_tail_ends() {
        let mut image = vec![0; 4096 * 512];
        entry(&mut image, 0, 0, 0x05, 1000, 2000);
        entry(&mut image, 1000, 1, 0x05, 500, 10);
        entry(&mut image, 1500, 1, 0x05, 0, 10);
        assert_eq!(scan_image(&image).len(), 1);
    }

    /// A GPT with one partition of blocks 100 to 199, its primary header spoilt when `spoil`.
    fn gpt_image(block: usize, spoil: Spoil) -> Vec<u8> {
        let mut image = vec![0; 1024 * block];
        entry(&mut image, 0, 0, GPT_PROTECTIVE, 1, 1023);
        for (header, table) in [(1, 2), (1023, 990)] {
            let mut entries = vec![0; 128 * 128];
            entries[..16].fill(7);
            entries[16..32].fill(9);
            entries[32..40].copy_from_slice(&100_u64.to_le_bytes());
            entries[40..48].copy_from_slice(&199_u64.to_le_bytes());
            let mut head = vec![0; 92];
            head[..8].copy_from_slice(b"EFI PART");
            head[12..16].copy_from_slice(&92_u32.to_le_bytes());
            for (at, value) in [(24, header as u64), (40, 34), (48, 989), (72, table as u64)] {
                head[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            head[80..84].copy_from_slice(&128_u32.to_le_bytes());
            head[84..88].copy_from_slice(&128_u32.to_le_bytes());
            head[88..92].copy_from_slice(&crc32(&entries).to_le_bytes());
            let sum = crc32(&head);
            head[16..20].copy_from_slice(&sum.to_le_bytes());
            image[header * block..][..92].copy_from_slice(&head);
            image[table * block..][..entries.len()].copy_from_slice(&entries);
        }
        match spoil {
            Spoil::Nothing => {}
            Spoil::Header => image[block + 30] ^= 1,
            Spoil::Table => image[2 * block + 40] ^= 1,
        }
        image
    }

    #[derive(Clone, Copy)]
    enum Spoil {
        Nothing,
        Header,
        Table,
    }

    #[test]
    fn the_backup_serves_when_the_first_gpt_is_damaged() {
        for block in [512, 4096] {
            for spoil in [Spoil::Nothing, Spoil::Header, Spoil::Table] {
                let image = gpt_image(block, spoil);
                let found = scan(image.len() as u64, block as u64, |at, data| {
                    data.copy_from_slice(&image[at as usize..][..data.len()]);
                    Ok(())
                });
                let found: Vec<_> = found.expect("memory can be read");
                let places: Vec<_> = found.iter().map(|p| (p.number, p.start, p.len, p.guid)).collect();
                let block = block as u64;
                assert_eq!(places, [(1, 100 * block, 100 * block, Some([9; 16]))]);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_table_makes_a_partition_past_the_end(
            mut image in proptest::collection::vec(proptest::prelude::any::<u8>(), 64 * 512),
            entries in proptest::collection::vec((0_usize..64, 0_usize..4, 0_u8..=255, 0_u32..80, 0_u32..80), 0..20),
        ) {
            for (table, index, kind, start, sectors) in entries {
                entry(&mut image, table, index, kind, start, sectors);
                image[table * 512 + 446 + index * 16] &= 0x80;
            }
            for part in scan_image(&image) {
                assert!(part.number <= MOST && part.len > 0 && part.start + part.len <= image.len() as u64);
            }
        }
    }

    #[test]
    fn a_file_systems_boot_sector_is_no_table() {
        let mut image = vec![0x90; 512];
        image[510..].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(scan_image(&image), []);
    }

    #[test]
    fn the_check_value_of_crc32_holds() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
