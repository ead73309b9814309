//! Mapping a program and its interpreter into a new address space.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use skas::{MapFlags, Prot};

use super::elf::{Image, Kind, Segment};
use crate::mm::space::MmState;
use crate::mm::vma::{MappedFile, PAGE_SIZE, VmFlags, Vma, VmaBacking, page_align_down, page_align_up};
use crate::mm::{Mm, layout::Layout};
use crate::vfs::{Access, File};
use crate::{Errno, Result};

/// A program file that is ready to be mapped.
pub struct Binary {
    /// What to map.
    pub image: Image,
    /// The file and how it is mapped.
    mapped: Arc<MappedFile>,
}

impl Binary {
    /// Asks `file` how it is mapped. `ENODEV` when it cannot be.
    pub fn new(file: Arc<File>, image: Image) -> Result<Self> {
        let backing = file.ops().map(&file, Access::READ)?;
        Ok(Self {
            image,
            mapped: Arc::new(MappedFile::read_only(file, backing)),
        })
    }

    /// The file.
    pub fn file(&self) -> &Arc<File> {
        &self.mapped.file
    }
}

/// A binary in memory.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// What was added to all its addresses.
    pub bias: u64,
    /// First instruction.
    pub entry: u64,
    /// Its lowest page.
    pub start: u64,
    /// Behind its last byte.
    pub end: u64,
    /// From the first to the last byte of executable segments that come from the file.
    pub code: Range<u64>,
    /// The last segment's bytes from the file.
    pub data: Range<u64>,
    /// Bytes behind the file's part of a page that must be zero: address and length.
    pub zero: Vec<(u64, usize)>,
}

/// Where a relocatable binary goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where programs go.
    Program,
    /// Among the mappings: interpreters, and programs that need none.
    Mappings,
}

/// Maps `binary`. `ENOMEM` when it does not fit, `EPERM`/`EINVAL` for addresses that cannot be mapped.
pub fn load(mm: &Mm, binary: &Binary, place: Place) -> Result<Loaded> {
    let mut state = mm.lock();
    let layout = mm_layout(&state);
    let image = &binary.image;
    let span = image.span();
    let bias = match image.kind {
        Kind::Fixed => 0,
        Kind::Relocatable => {
            let start = choose(&mut state, &layout, image, place)?;
            start.wrapping_sub(span.start & !(image.align - 1))
        }
    };
    if image.segments.is_empty() {
        return Ok(Loaded {
            entry: image.entry,
            ..Loaded::default()
        });
    }
    let moved = |addr: u64| addr.wrapping_add(bias);
    if moved(span.start) < layout.min_addr {
        return Err(Errno::EPERM);
    }
    if moved(span.end) > layout.task_size || !state.is_free(moved(span.start)..moved(span.end)) {
        return Err(Errno::ENOMEM);
    }
    let mut loaded = Loaded {
        bias,
        entry: moved(image.entry),
        start: moved(span.start),
        ..Loaded::default()
    };
    loaded.code.start = u64::MAX;
    for segment in &image.segments {
        map_segment(&mut state, mm, binary, segment, bias, &mut loaded.zero)?;
        let start = moved(segment.vaddr);
        let file_end = start + segment.filesz;
        if segment.prot.contains(Prot::EXEC) {
            loaded.code.start = loaded.code.start.min(start);
            loaded.code.end = loaded.code.end.max(file_end);
        }
        if start >= loaded.data.start {
            loaded.data.start = start;
        }
        loaded.data.end = loaded.data.end.max(file_end);
        loaded.end = loaded.end.max(start + segment.memsz);
    }
    loaded.code.start = loaded.code.start.min(loaded.code.end);
    Ok(loaded)
}

fn mm_layout(state: &MmState) -> Layout {
    state.layout()
}

/// An aligned address for the whole span of a relocatable image.
fn choose(state: &mut MmState, layout: &Layout, image: &Image, place: Place) -> Result<u64> {
    let span = image.span();
    // What lies between the aligned start and the first page is room too.
    let len = span.end - (span.start & !(image.align - 1));
    if place == Place::Program {
        let start = layout.program_base() & !(image.align - 1);
        if start
            .checked_add(len)
            .is_some_and(|end| state.is_free(start..end) && end <= layout.task_size)
        {
            return Ok(start);
        }
    }
    state.find_free(len, image.align)
}

fn map_segment(
    state: &mut MmState,
    mm: &Mm,
    binary: &Binary,
    segment: &Segment,
    bias: u64,
    zero: &mut Vec<(u64, usize)>,
) -> Result<()> {
    let start = segment.vaddr.wrapping_add(bias);
    let first_page = page_align_down(start);
    let pages_end = page_align_up(start + segment.memsz).ok_or(Errno::ENOMEM)?;
    let file_end = start + segment.filesz;
    let mut anonymous_from = first_page;
    if segment.filesz != 0 {
        anonymous_from = page_align_up(file_end).ok_or(Errno::ENOMEM)?;
        let vma = Vma {
            start: first_page,
            end: anonymous_from,
            prot: segment.prot,
            flags: VmFlags::MAY_ALL,
            backing: VmaBacking::File(binary.mapped.clone()),
            offset: page_align_down(segment.offset),
            name: None,
        };
        let _ = state.map(mm.space(), vma, MapFlags::empty())?;
        // A segment that cannot be written has nobody to expect zeros there.
        if segment.memsz > segment.filesz && segment.prot.contains(Prot::WRITE) && anonymous_from > file_end {
            zero.push((file_end, (anonymous_from - file_end) as usize));
        }
    }
    if pages_end > anonymous_from {
        let vma = Vma {
            start: anonymous_from,
            end: pages_end,
            prot: segment.prot,
            flags: VmFlags::MAY_ALL,
            backing: VmaBacking::Anonymous,
            offset: 0,
            name: None,
        };
        let _ = state.map(mm.space(), vma, MapFlags::empty())?;
    }
    Ok(())
}

/// Kept below the stack pointer when a program starts, bytes.
const STACK_ROOM: u64 = 128 << 10;

/// Maps the stack: `used` bytes of it will be written at once. It ends at the layout's stack top.
pub fn map_stack(mm: &Mm, used: u64, stack_limit: u64, prot: Prot) -> Result<()> {
    let mut state = mm.lock();
    let layout = state.layout();
    let used = page_align_up(used).ok_or(Errno::E2BIG)?;
    let room = STACK_ROOM.min(page_align_down(stack_limit).saturating_sub(used));
    let start = layout.stack_top.checked_sub(used + room).ok_or(Errno::ENOMEM)?;
    if !state.is_free(start..layout.stack_top) {
        return Err(Errno::ENOMEM);
    }
    let vma = Vma {
        start,
        end: layout.stack_top,
        prot,
        flags: VmFlags::MAY_ALL | VmFlags::GROWSDOWN,
        backing: VmaBacking::Anonymous,
        offset: 0,
        name: None,
    };
    let _ = state.map(mm.space(), vma, MapFlags::empty())?;
    debug_assert!(start.is_multiple_of(PAGE_SIZE));
    Ok(())
}
