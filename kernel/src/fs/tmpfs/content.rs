//! The bytes of a regular file.
//!
//! Born in kernel memory, in pieces of 64 KiB that grow by pages: a small file costs no host descriptor, and data goes to a guest in one copy. The
//! first `mmap(2)` moves them to a memfd, which stubs can map; they stay there. Holes cost nothing in either form.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use arch_um::host::OwnedFd;
use arch_um::host::mem::SharedMemory;

use super::{PAGE, TmpFs};
use crate::io::{Sink, Source};
use crate::vfs::file::SeekTarget;
use crate::{Errno, Result};

const CHUNK: u64 = 64 * 1024;
const PAGES_PER_CHUNK: u64 = CHUNK / PAGE;
static ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];

/// The bytes and their number.
pub struct Content {
    size: u64,
    store: Store,
}

enum Store {
    Heap(BTreeMap<u64, Chunk>),
    Host(HostStore),
}

struct HostStore {
    memory: SharedMemory,
    /// Pages counted so far.
    charged: u64,
}

/// Up to 64 KiB. `bytes` reaches up to the last page that was written; what is not present is zero there.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    present: u16,
}

impl Chunk {
    fn pages(&self) -> u64 {
        u64::from(self.present.count_ones())
    }
}

/// The bits of the pages that `start..end` (bytes in a chunk) touches.
fn page_mask(start: u64, end: u64) -> u16 {
    let first = start / PAGE;
    let last = end.div_ceil(PAGE);
    let upto = |page: u64| {
        if page >= PAGES_PER_CHUNK {
            u16::MAX
        } else {
            (1u16 << page) - 1
        }
    };
    upto(last) & !upto(first)
}

impl Content {
    /// No bytes.
    pub fn new() -> Self {
        Self {
            size: 0,
            store: Store::Heap(BTreeMap::new()),
        }
    }

    /// Bytes in the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Pages that cost memory.
    pub fn pages(&self) -> u64 {
        match &self.store {
            Store::Heap(chunks) => chunks.values().map(Chunk::pages).sum(),
            Store::Host(host) => host.memory.allocated().div_ceil(PAGE),
        }
    }

    /// Reads from `pos` on, to the end of the file or of `dst`.
    pub fn read(&self, pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        let end = self.size.min(pos.saturating_add(dst.remaining() as u64));
        let mut at = pos;
        let mut buffer = Vec::new();
        while at < end {
            let count = match &self.store {
                Store::Heap(chunks) => read_chunk(chunks, at, end, dst),
                Store::Host(host) => {
                    buffer.resize(((end - at) as usize).min(CHUNK as usize), 0);
                    let got = host.memory.read_at(&mut buffer, at)?;
                    if got == 0 {
                        break;
                    }
                    dst.write(&buffer[..got])
                }
            };
            match count {
                Ok(0) => break,
                Ok(count) => at += count as u64,
                Err(_) if at > pos => break,
                Err(error) => return Err(error),
            }
        }
        Ok(at.saturating_sub(pos) as usize)
    }

    /// Writes all of `src` at `pos`, growing the file.
    ///
    /// # Errors
    /// `ENOSPC`; after some bytes their count is returned instead.
    pub fn write(&mut self, fs: &TmpFs, pos: u64, src: &mut dyn Source) -> Result<usize> {
        let mut at = pos;
        let mut buffer = Vec::new();
        while src.remaining() > 0 {
            let step = match &mut self.store {
                Store::Heap(chunks) => write_chunk(chunks, fs, at, src),
                Store::Host(host) => host.write(fs, self.size, at, src, &mut buffer),
            };
            match step {
                Ok(0) => break,
                Ok(count) => {
                    at += count as u64;
                    self.size = self.size.max(at);
                }
                Err(_) if at > pos => break,
                Err(error) => return Err(error),
            }
        }
        Ok((at - pos) as usize)
    }

    /// Makes the file `size` bytes long.
    pub fn resize(&mut self, fs: &TmpFs, size: u64) -> Result<()> {
        match &mut self.store {
            Store::Heap(chunks) if size < self.size => {
                let mut freed = 0;
                let keep = size.div_ceil(CHUNK);
                freed += chunks.split_off(&keep).values().map(Chunk::pages).sum::<u64>();
                freed += clear(chunks, size, keep * CHUNK);
                fs.uncharge_pages(freed);
            }
            Store::Heap(_) => {}
            Store::Host(host) => {
                host.memory.resize(size)?;
                host.recount(fs);
            }
        }
        self.size = size;
        Ok(())
    }

    /// Makes `start..end` a hole; the size stays.
    pub fn punch(&mut self, fs: &TmpFs, start: u64, end: u64) -> Result<()> {
        match &mut self.store {
            Store::Heap(chunks) => fs.uncharge_pages(clear(chunks, start, end)),
            Store::Host(host) => {
                host.memory.punch_hole(start..end.min(self.size).max(start))?;
                host.recount(fs);
            }
        }
        Ok(())
    }

    /// Finds memory for `start..end` without growing the file. `ENOSPC` leaves what was found.
    pub fn allocate(&mut self, fs: &TmpFs, start: u64, end: u64) -> Result<()> {
        let missing = end.div_ceil(PAGE) - start / PAGE;
        let limit = fs.options.lock().pages.unwrap_or(u64::MAX);
        if missing > limit {
            return Err(Errno::ENOSPC);
        }
        match &mut self.store {
            Store::Heap(chunks) => {
                let mut at = start;
                while at < end {
                    let stop = end.min((at / CHUNK + 1) * CHUNK);
                    prepare(chunks, fs, at, stop)?;
                    at = stop;
                }
                Ok(())
            }
            Store::Host(host) => {
                // Beyond the end of file the memfd has no place for pages that must not show.
                if start < self.size {
                    host.memory.allocate(start..end.min(self.size))?;
                    host.recount(fs);
                }
                Ok(())
            }
        }
    }

    /// `SEEK_DATA`, `SEEK_HOLE`: by pages. Contents in a memfd count as data all over.
    pub fn seek(&self, pos: u64, target: SeekTarget) -> Result<u64> {
        if pos >= self.size {
            return Err(Errno::ENXIO);
        }
        let Store::Heap(chunks) = &self.store else {
            return Ok(if target == SeekTarget::Data { pos } else { self.size });
        };
        let mut at = pos;
        while at < self.size {
            let index = at / CHUNK;
            let Some(chunk) = chunks.get(&index) else {
                if target == SeekTarget::Hole {
                    return Ok(at);
                }
                match chunks.range(index..).next() {
                    Some((&next, _)) => at = next * CHUNK,
                    None => return Err(Errno::ENXIO),
                }
                continue;
            };
            let present = chunk.present >> (at % CHUNK / PAGE) & 1 == 1;
            if present == (target == SeekTarget::Data) {
                return Ok(at);
            }
            at = (at / PAGE + 1) * PAGE;
        }
        if target == SeekTarget::Hole {
            Ok(self.size)
        } else {
            Err(Errno::ENXIO)
        }
    }

    /// The memfd with the contents, for a mapping; moves them there at the first call.
    ///
    /// # Errors
    /// The host's: `EMFILE`, `ENOMEM`.
    pub fn host_memory(&mut self, fs: &TmpFs) -> Result<Arc<OwnedFd>> {
        if let Store::Heap(chunks) = &self.store {
            let memory = SharedMemory::new("tmpfs")?;
            memory.resize(self.size)?;
            let mut charged = 0;
            for (index, chunk) in chunks {
                charged += chunk.pages();
                for page in (0..PAGES_PER_CHUNK).filter(|page| chunk.present >> page & 1 == 1) {
                    let start = (page * PAGE) as usize;
                    let at = index * CHUNK + start as u64;
                    let len = PAGE.min(self.size.saturating_sub(at)) as usize;
                    memory.write_at(&chunk.bytes[start..start + len], at)?;
                }
            }
            let mut host = HostStore { memory, charged };
            host.recount(fs);
            self.store = Store::Host(host);
        }
        match &self.store {
            Store::Host(host) => Ok(host.memory.fd()),
            Store::Heap(_) => Err(Errno::ENOMEM),
        }
    }

    /// Gives back what was counted.
    pub fn release(&mut self, fs: &TmpFs) {
        let pages = match &self.store {
            Store::Heap(_) => self.pages(),
            Store::Host(host) => host.charged,
        };
        fs.uncharge_pages(pages);
        *self = Self::new();
    }
}

impl Default for Content {
    fn default() -> Self {
        Self::new()
    }
}

impl HostStore {
    fn recount(&mut self, fs: &TmpFs) {
        let now = self.memory.allocated().div_ceil(PAGE);
        fs.adjust_pages(self.charged, now);
        self.charged = now;
    }

    fn write(&mut self, fs: &TmpFs, size: u64, at: u64, src: &mut dyn Source, buffer: &mut Vec<u8>) -> Result<usize> {
        buffer.resize(src.remaining().min(CHUNK as usize), 0);
        let count = src.read(buffer)?;
        let end = at + count as u64;
        // What lies before the end of file is mostly there already; what comes behind it is new.
        let new = end.div_ceil(PAGE).saturating_sub(size.div_ceil(PAGE).max(at / PAGE));
        fs.charge_pages(new)?;
        fs.uncharge_pages(new);
        self.memory.write_at(&buffer[..count], at)?;
        self.recount(fs);
        Ok(count)
    }
}

fn read_chunk(chunks: &BTreeMap<u64, Chunk>, at: u64, end: u64, dst: &mut dyn Sink) -> Result<usize> {
    let offset = (at % CHUNK) as usize;
    let want = (end - at).min(CHUNK - at % CHUNK) as usize;
    let bytes = chunks.get(&(at / CHUNK)).map_or(&[][..], |chunk| &chunk.bytes);
    match bytes.get(offset..bytes.len().min(offset + want)) {
        Some(found) if !found.is_empty() => dst.write(found),
        _ => dst.write(&ZEROS[..want.min(ZEROS.len())]),
    }
}

/// Makes the pages of `start..end`, within one chunk, present.
fn prepare<'a>(chunks: &'a mut BTreeMap<u64, Chunk>, fs: &TmpFs, start: u64, end: u64) -> Result<&'a mut Chunk> {
    let base = start / CHUNK * CHUNK;
    let mask = page_mask(start - base, end - base);
    let chunk = chunks.entry(base / CHUNK).or_default();
    fs.charge_pages(u64::from((mask & !chunk.present).count_ones()))?;
    chunk.present |= mask;
    let need = ((end - base).div_ceil(PAGE) * PAGE) as usize;
    if chunk.bytes.len() < need {
        // Small files stay small, growing ones do not copy themselves again and again.
        chunk.bytes.reserve_exact(need.next_power_of_two() - chunk.bytes.len());
        chunk.bytes.resize(need, 0);
    }
    Ok(chunk)
}

fn write_chunk(chunks: &mut BTreeMap<u64, Chunk>, fs: &TmpFs, at: u64, src: &mut dyn Source) -> Result<usize> {
    let mut end = at + (src.remaining() as u64).min(CHUNK - at % CHUNK);
    let offset = (at % CHUNK) as usize;
    let chunk = match prepare(chunks, fs, at, end) {
        // At the limit what still fits is written.
        Err(Errno::ENOSPC) if end > (at / PAGE + 1) * PAGE => {
            end = (at / PAGE + 1) * PAGE;
            prepare(chunks, fs, at, end)?
        }
        other => other?,
    };
    src.read(&mut chunk.bytes[offset..offset + (end - at) as usize])
}

/// Zeroes `start..end` and lets whole pages go; how many.
fn clear(chunks: &mut BTreeMap<u64, Chunk>, start: u64, end: u64) -> u64 {
    if start >= end {
        return 0;
    }
    let mut freed = 0;
    let touched: Vec<u64> = chunks
        .range(start / CHUNK..=(end - 1) / CHUNK)
        .map(|(&index, _)| index)
        .collect();
    for index in touched {
        let Some(chunk) = chunks.get_mut(&index) else { continue };
        let base = index * CHUNK;
        let from = start.saturating_sub(base);
        let to = (end - base).min(CHUNK);
        let len = chunk.bytes.len() as u64;
        let zero_to = to.min(len);
        if from < zero_to {
            chunk.bytes[from as usize..zero_to as usize].fill(0);
        }
        let whole = if from.div_ceil(PAGE) < to / PAGE {
            page_mask(from.div_ceil(PAGE) * PAGE, to / PAGE * PAGE)
        } else {
            0
        };
        freed += u64::from((chunk.present & whole).count_ones());
        chunk.present &= !whole;
        if chunk.present == 0 {
            chunks.remove(&index);
        }
    }
    freed
}
