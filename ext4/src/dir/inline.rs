//! Directories that lie in their inode (`inline_data`): the parent's number and entries in `i_block`, more entries in the attribute `system.data`; no
//! entries for the dots. One that outgrows the inode gets a block and stays there.

use alloc::vec::Vec;

use super::entry::{self, Entry};
use super::{Found, Name, Spot, change};
use crate::inode::Inode;
use crate::layout::inode::BLOCK_LEN;
use crate::layout::{get32, put, put16, put32};
use crate::transaction::Tx;
use crate::{Errno, Result};

/// The parent's number.
const PARENT: usize = 4;

/// A part of the directory that holds whole entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Behind the parent's number in `i_block`.
    Block,
    /// The attribute.
    Attribute,
}

/// A directory's bytes, and its entries by part.
struct Contents {
    bytes: Vec<u8>,
}

impl Contents {
    fn load(dir: &Inode) -> Result<Self> {
        Ok(Self {
            bytes: dir.inline_data()?,
        })
    }

    fn parent(&self) -> u32 {
        get32(&self.bytes, 0)
    }

    fn part(&self, part: Part) -> &[u8] {
        let split = self.bytes.len().min(BLOCK_LEN);
        match part {
            Part::Block => &self.bytes[PARENT.min(split)..split],
            Part::Attribute => &self.bytes[split..],
        }
    }

    fn part_mut(&mut self, part: Part) -> &mut [u8] {
        let split = self.bytes.len().min(BLOCK_LEN);
        match part {
            Part::Block => &mut self.bytes[PARENT.min(split)..split],
            Part::Attribute => &mut self.bytes[split..],
        }
    }

    /// The entries of a part, empty ones too.
    fn entries(&self, dir: &Inode, part: Part) -> Result<Vec<Entry>> {
        entry::parse(self.part(part), 0).ok_or_else(|| dir.error(format_args!("bad entry in inline directory")))
    }

    fn store(&self, tx: &mut Tx<'_>, dir: &Inode) -> Result<()> {
        dir.put_inline(tx, &self.bytes)?;
        dir.set_len(self.bytes.len() as u64);
        Ok(())
    }
}

const PARTS: [Part; 2] = [Part::Block, Part::Attribute];

/// The first contents of a directory; false when its inode has no room for them.
pub(super) fn init(tx: &mut Tx<'_>, dir: &Inode, parent: u32) -> Result<bool> {
    if dir.inline_room()? < BLOCK_LEN {
        return Ok(false);
    }
    let mut bytes = alloc::vec![0; BLOCK_LEN];
    put32(&mut bytes, 0, parent);
    put16(&mut bytes, PARENT + 4, (BLOCK_LEN - PARENT) as u16);
    Contents { bytes }.store(tx, dir)?;
    Ok(true)
}

/// All names but the dots, each with the place behind it.
pub(super) fn places(dir: &Inode) -> Result<Vec<(u64, Name)>> {
    let contents = Contents::load(dir)?;
    let mut names = Vec::new();
    for (part, start) in PARTS.into_iter().zip([PARENT, BLOCK_LEN]) {
        let bytes = contents.part(part);
        let entries = contents.entries(dir, part)?;
        let real = entries.iter().filter(|entry| entry.ino != 0);
        names.extend(real.map(|entry| {
            let name = (entry.ino, entry.kind, entry.name(bytes).to_vec());
            ((start + entry.at + entry.len) as u64, name)
        }));
    }
    Ok(names)
}

/// All names but the dots.
pub(super) fn names(dir: &Inode) -> Result<Vec<Name>> {
    Ok(places(dir)?.into_iter().map(|(_, name)| name).collect())
}

/// The directory it is in.
pub(super) fn parent(dir: &Inode) -> u32 {
    get32(&dir.core.lock().block, 0)
}

/// Finds a name that is no dot.
pub(super) fn find(dir: &Inode, name: &[u8]) -> Result<Option<Found>> {
    let contents = Contents::load(dir)?;
    for part in PARTS {
        let bytes = contents.part(part);
        let entries = contents.entries(dir, part)?;
        if let Some(entry) = entries.iter().find(|entry| entry.is(bytes, name)) {
            return Ok(Some(Found {
                ino: entry.ino,
                entry: *entry,
                spot: Spot::Inline(part),
            }));
        }
    }
    Ok(None)
}

/// Adds a name; the directory gets a block if it must.
pub(super) fn add(tx: &mut Tx<'_>, dir: &Inode, name: &[u8], ino: u32, kind: u8) -> Result<()> {
    let mut contents = Contents::load(dir)?;
    for part in PARTS {
        let entries = contents.entries(dir, part)?;
        if entry::insert(contents.part_mut(part), &entries, ino, name, kind) {
            return contents.store(tx, dir);
        }
    }
    let need = entry::size(name.len()).max(12);
    let at = contents.bytes.len();
    if at + need <= dir.inline_room()? {
        contents.bytes.resize(at + need, 0);
        entry::store(&mut contents.bytes, at, need, ino, name, kind);
        return contents.store(tx, dir);
    }
    leave(tx, dir, contents)?;
    change::add_entry(tx, dir, name, ino, kind)
}

/// Moves the names into a block.
fn leave(tx: &mut Tx<'_>, dir: &Inode, contents: Contents) -> Result<()> {
    let dot = change::type_byte(tx, kernel::vfs::FileType::Directory);
    let mut all = alloc::vec![
        (dir.number(), dot, b".".to_vec()),
        (contents.parent(), dot, b"..".to_vec())
    ];
    all.extend(names(dir)?);
    dir.take_inline(tx)?;
    dir.set_len(0);
    match change::append_block(tx, dir) {
        Ok((_, buffer)) => change::store_leaf(tx, dir, &buffer, &all),
        Err(error) => {
            contents.store(tx, dir)?;
            Err(error)
        }
    }
}

/// Removes a name that was found.
pub(super) fn remove(tx: &mut Tx<'_>, dir: &Inode, found: &Entry, part: Part) -> Result<()> {
    let mut contents = Contents::load(dir)?;
    let entries = contents.entries(dir, part)?;
    let which = entries
        .iter()
        .position(|entry| entry.at == found.at)
        .ok_or(Errno::EUCLEAN)?;
    entry::remove(contents.part_mut(part), &entries, which);
    contents.store(tx, dir)
}

/// Makes a name that was found lead to another inode.
pub(super) fn replace(tx: &mut Tx<'_>, dir: &Inode, found: &Entry, part: Part, ino: u32, kind: u8) -> Result<()> {
    let mut contents = Contents::load(dir)?;
    let bytes = contents.part_mut(part);
    put32(bytes, found.at, ino);
    put(bytes, found.at + 7, &[kind]);
    contents.store(tx, dir)
}

/// The directory moves.
pub(super) fn set_parent(tx: &mut Tx<'_>, dir: &Inode, parent: u32) -> Result<()> {
    let mut contents = Contents::load(dir)?;
    put32(&mut contents.bytes, 0, parent);
    contents.store(tx, dir)
}
