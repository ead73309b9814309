//! Block maps of ext2 and ext3: twelve direct blocks, then trees of one, two and three levels (ext4 disk layout, "Direct/Indirect Block Addressing").

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Kind, Mapping};
use crate::buffer::Buffer;
use crate::inode::Inode;
use crate::instance::Ext4;
use crate::journal::Freed;
use crate::layout::{get32, put32};
use crate::space::blocks::Run;
use crate::transaction::Tx;
use crate::{Errno, Result};

const DIRECT: u64 = 12;
/// Runs of blocks freed in one step.
const RUNS: usize = 8;

/// Where the pointer to a block is: first the slot in the inode, then a slot in each block below it.
struct Place {
    slots: [usize; 4],
    len: usize,
}

fn pointers(block_size: u64) -> u64 {
    block_size / 4
}

/// The most blocks a file can have.
pub(crate) fn capacity(block_size: u64) -> u64 {
    let n = pointers(block_size);
    DIRECT + n + n * n + n * n * n
}

fn place(block_size: u64, at: u64) -> Result<Place> {
    let n = pointers(block_size);
    let mut slots = [0; 4];
    if at < DIRECT {
        slots[0] = at as usize;
        return Ok(Place { slots, len: 1 });
    }
    let mut rest = at - DIRECT;
    let mut span = n;
    for level in 1..=3u32 {
        if rest < span {
            slots[0] = 11 + level as usize;
            for depth in 1..=level {
                slots[depth as usize] = (rest / n.pow(level - depth) % n) as usize;
            }
            return Ok(Place {
                slots,
                len: 1 + level as usize,
            });
        }
        rest -= span;
        span *= n;
    }
    Err(Errno::EFBIG)
}

/// File blocks below the pointer `slots[..=depth]` of a way of `len`.
fn span(block_size: u64, len: usize, depth: usize) -> u64 {
    pointers(block_size).pow((len - 1 - depth) as u32)
}

fn root_pointer(inode: &Inode, slot: usize) -> u64 {
    u64::from(get32(&inode.core.lock().block, slot * 4))
}

fn pointer(buffer: &Buffer, slot: usize) -> u64 {
    u64::from(buffer.read(|bytes| get32(bytes, slot * 4)))
}

fn checked(fs: &Ext4, inode: &Inode, block: u64) -> Result<u64> {
    if block == 0 || fs.is_file_space(block, 1) {
        return Ok(block);
    }
    Err(inode.error(format_args!("invalid block {block}")))
}

pub(crate) fn lookup(fs: &Ext4, inode: &Inode, at: u64, most: u64) -> Result<Mapping> {
    let size = fs.block_size();
    let Ok(way) = place(size, at) else {
        return Ok(Mapping {
            kind: Kind::Hole,
            block: 0,
            len: 1,
        });
    };
    let mut block = checked(fs, inode, root_pointer(inode, way.slots[0]))?;
    let mut below: Option<Arc<Buffer>> = None;
    for depth in 1..way.len {
        if block == 0 {
            let whole = span(size, way.len, depth - 1);
            let base = if way.len == 1 {
                0
            } else {
                offset_below(size, &way, depth)
            };
            return Ok(Mapping {
                kind: Kind::Hole,
                block: 0,
                len: whole - base,
            });
        }
        let buffer = fs.file_block(block)?;
        block = checked(fs, inode, pointer(&buffer, way.slots[depth]))?;
        below = Some(buffer);
    }
    // The run: pointers that follow each other in the same block.
    let last = way.slots[way.len - 1];
    let room = if way.len == 1 {
        DIRECT as usize
    } else {
        pointers(size) as usize
    };
    let next = |slot: usize| match &below {
        Some(buffer) => pointer(buffer, slot),
        None => root_pointer(inode, slot),
    };
    let mut len = 1;
    while len < most && last + (len as usize) < room {
        let expected = if block == 0 { 0 } else { block + len };
        if next(last + len as usize) != expected || (block != 0 && !fs.is_file_space(expected, 1)) {
            break;
        }
        len += 1;
    }
    Ok(Mapping {
        kind: if block == 0 { Kind::Hole } else { Kind::Written },
        block,
        len,
    })
}

/// How far `way` is into what hangs below its slot `depth - 1`.
fn offset_below(size: u64, way: &Place, depth: usize) -> u64 {
    (depth..way.len)
        .map(|level| way.slots[level] as u64 * span(size, way.len, level))
        .sum()
}

fn set_pointer(tx: &mut Tx<'_>, inode: &Inode, holder: Option<&Arc<Buffer>>, slot: usize, block: u64) -> Result<()> {
    match holder {
        None => {
            put32(&mut inode.core.lock().block, slot * 4, block as u32);
            Ok(())
        }
        Some(buffer) => tx.modify(buffer, |bytes| put32(bytes, slot * 4, block as u32)),
    }
}

pub(crate) fn insert(tx: &mut Tx<'_>, inode: &Inode, at: u64, run: Run) -> Result<()> {
    let size = tx.fs.block_size();
    if run.first + u64::from(run.count) > u64::from(u32::MAX) {
        return Err(Errno::EFBIG);
    }
    // All pointer blocks first: when space runs out, nothing points to the run yet.
    let mut done = 0;
    while done < run.count {
        let way = place(size, at + u64::from(done))?;
        holder_of(tx, inode, &way, run.first)?;
        let room = if way.len == 1 { DIRECT } else { pointers(size) };
        done += (run.count - done).min((room - way.slots[way.len - 1] as u64) as u32);
    }
    done = 0;
    while done < run.count {
        let way = place(size, at + u64::from(done))?;
        let holder = holder_of(tx, inode, &way, run.first)?;
        let last = way.slots[way.len - 1];
        let room = if way.len == 1 {
            DIRECT as usize
        } else {
            pointers(size) as usize
        };
        let count = (run.count - done).min((room - last) as u32);
        let first = run.first + u64::from(done);
        let fill = |bytes: &mut [u8]| {
            for step in 0..count {
                put32(bytes, (last + step as usize) * 4, (first + u64::from(step)) as u32);
            }
        };
        match &holder {
            None => fill(&mut inode.core.lock().block),
            Some(buffer) => tx.modify(buffer, fill)?,
        }
        done += count;
    }
    Ok(())
}

/// The block that holds the last pointer of `way`, with those above it made as needed; none for the inode itself.
fn holder_of(tx: &mut Tx<'_>, inode: &Inode, way: &Place, near: u64) -> Result<Option<Arc<Buffer>>> {
    let mut holder: Option<Arc<Buffer>> = None;
    for depth in 0..way.len - 1 {
        let slot = way.slots[depth];
        let block = match &holder {
            None => root_pointer(inode, slot),
            Some(buffer) => pointer(buffer, slot),
        };
        let below = if block == 0 {
            let run = tx.allocate(near, 1)?;
            if run.first > u64::from(u32::MAX) {
                return Err(Errno::EFBIG);
            }
            let made = tx.handle.create(run.first)?;
            set_pointer(tx, inode, holder.as_ref(), slot, run.first)?;
            inode.core.lock().sectors += tx.fs.block_size() / 512;
            made
        } else {
            tx.fs.file_block(block)?
        };
        holder = Some(below);
    }
    Ok(holder)
}

/// Takes some blocks of `from..to` that lie below one pointer block out of the map: where to go on, and the blocks, which are the caller's now.
pub(crate) fn remove_some(tx: &mut Tx<'_>, inode: &Inode, from: u64, to: u64, most: u64) -> Result<(u64, Vec<Run>)> {
    let fs = tx.fs;
    let size = fs.block_size();
    let Ok(way) = place(size, from) else {
        return Ok((to, Vec::new()));
    };
    // Walk down; a missing pointer skips all that would be below it.
    let mut holders: Vec<Arc<Buffer>> = Vec::new();
    let mut block = root_pointer(inode, way.slots[0]);
    for depth in 1..way.len {
        if block == 0 {
            let next = from + span(size, way.len, depth - 1) - offset_below(size, &way, depth);
            return Ok((next, Vec::new()));
        }
        let buffer = fs.file_block(block)?;
        block = pointer(&buffer, way.slots[depth]);
        holders.push(buffer);
    }
    let last = way.slots[way.len - 1];
    let room = if way.len == 1 { DIRECT } else { pointers(size) };
    let count = (to - from).min(room - last as u64).min(most);
    let mut runs: Vec<Run> = Vec::new();
    let mut seen = 0;
    while seen < count {
        let slot = last + seen as usize;
        let block = match holders.last() {
            Some(buffer) => pointer(buffer, slot),
            None => root_pointer(inode, slot),
        };
        if block != 0 {
            let full = runs.len() == RUNS;
            match runs.last_mut() {
                Some(run) if run.first + u64::from(run.count) == block => run.count += 1,
                _ if full => break,
                _ => runs.push(Run { first: block, count: 1 }),
            }
        }
        seen += 1;
    }
    if !runs.is_empty() {
        let clear = |bytes: &mut [u8]| {
            (last..last + seen as usize).for_each(|slot| put32(bytes, slot * 4, 0));
        };
        match holders.last() {
            Some(buffer) => tx.modify(buffer, clear)?,
            None => clear(&mut inode.core.lock().block),
        }
    }
    let mut pointers = 0;
    // Pointer blocks that hold nothing any more go too, from below.
    for depth in (0..holders.len()).rev() {
        if !holders[depth].read(|bytes| bytes.iter().all(|&byte| byte == 0)) {
            break;
        }
        let above = depth.checked_sub(1).map(|above| holders[above].clone());
        set_pointer(tx, inode, above.as_ref(), way.slots[depth], 0)?;
        tx.free(holders[depth].block(), 1, Freed::Metadata)?;
        pointers += 1;
    }
    let mut core = inode.core.lock();
    core.sectors = core.sectors.saturating_sub(pointers * (size / 512));
    drop(core);
    Ok((from + seen, runs))
}

/// All pointer blocks. `EUCLEAN` for a map that meets itself.
pub(crate) fn pointer_blocks(fs: &Ext4, inode: &Inode) -> Result<BTreeSet<u64>> {
    let mut seen = BTreeSet::new();
    // Blocks and how many levels lie below them.
    let mut open: Vec<(u64, u32)> = (0..3)
        .map(|level| (root_pointer(inode, 12 + level as usize), level))
        .filter(|(block, _)| *block != 0)
        .collect();
    while let Some((block, below)) = open.pop() {
        if !seen.insert(block) {
            return Err(inode.error(format_args!("block {block} used twice")));
        }
        if below > 0 {
            let bytes = fs.file_block(block)?.snapshot();
            let pointers = bytes.chunks_exact(4).map(|raw| u64::from(get32(raw, 0)));
            open.extend(pointers.filter(|&block| block != 0).map(|block| (block, below - 1)));
        }
    }
    Ok(seen)
}
