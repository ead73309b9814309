//! Reading ELF headers (`elf(5)`): what a file asks to be loaded, checked. Nothing is mapped here.
//!
//! Every number comes from a file that anybody may have written: it is checked against wrap-around, order and the size of the address space before it
//! is used.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use elf::abi;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::parse::ParsingTable;
use elf::segment::ProgramHeader;
use skas::Prot;

use crate::mm::vma::{PAGE_SIZE, page_align_down, page_align_up};
use crate::user::PATH_MAX;
use crate::{Errno, Result};

const EHDR_SIZE: usize = 64;
const PHDR_SIZE: usize = 56;
/// Largest table of program headers, bytes.
const PHDRS_MAX: usize = 65536;

/// Where an image may be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// At the addresses it names (`ET_EXEC`).
    Fixed,
    /// Anywhere (`ET_DYN`).
    Relocatable,
}

/// What `PT_GNU_STACK` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackAccess {
    /// Read and write.
    Data,
    /// Code runs on the stack.
    Executable,
}

/// A segment to load. `vaddr` and `offset` are equal modulo the page size where `filesz` is not 0; no sum wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First byte, before the bias.
    pub vaddr: u64,
    /// First byte in the file.
    pub offset: u64,
    /// Bytes from the file.
    pub filesz: u64,
    /// Bytes in memory.
    pub memsz: u64,
    /// Protection.
    pub prot: Prot,
    /// As the file says it: code and data are told apart by it.
    pub flags: u32,
}

impl Segment {
    /// The pages it touches.
    pub fn pages(&self) -> Range<u64> {
        let end = self.vaddr + self.memsz;
        page_align_down(self.vaddr)..page_align_up(end).unwrap_or(end)
    }
}

/// A file that can be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Where it may go.
    pub kind: Kind,
    /// First instruction, before the bias.
    pub entry: u64,
    /// What to load, in the file's order.
    pub segments: Vec<Segment>,
    /// The path of the interpreter, without its NUL.
    pub interpreter: Option<Vec<u8>>,
    /// What the stack must allow.
    pub stack: StackAccess,
    /// Where the program headers lie in memory, before the bias; 0 when they are not loaded.
    pub phdr: u64,
    /// How many there are.
    pub phnum: u16,
    /// What the bias must be a multiple of.
    pub align: u64,
}

impl Image {
    /// The pages from the first to the last segment.
    pub fn span(&self) -> Range<u64> {
        let start = self
            .segments
            .iter()
            .map(|segment| segment.pages().start)
            .min()
            .unwrap_or(0);
        let end = self
            .segments
            .iter()
            .map(|segment| segment.pages().end)
            .max()
            .unwrap_or(0);
        start..end
    }
}

/// Where the bytes of the file come from: fills the buffer from an offset as far as the file goes.
pub type ReadAt<'a> = dyn Fn(u64, &mut [u8]) -> Result<usize> + 'a;

/// Whether the file claims to be ELF at all.
pub fn is_elf(head: &[u8]) -> bool {
    head.starts_with(&abi::ELFMAGIC)
}

/// Reads what `head` (the first bytes of the file) and `read` say. `task_size` is the end of the address space.
///
/// # Errors
/// `ENOEXEC` for what is not an x86-64 ELF program, `EINVAL` for segments that cannot be loaded, `EIO` from the file.
pub fn parse(head: &[u8], read: &ReadAt<'_>, task_size: u64) -> Result<Image> {
    let bytes = head.get(..EHDR_SIZE).ok_or(Errno::ENOEXEC)?;
    let ident = parse_ident::<LittleEndian>(bytes).map_err(|_| Errno::ENOEXEC)?;
    if ident.1 != Class::ELF64 {
        return Err(Errno::ENOEXEC);
    }
    let header = FileHeader::parse_tail(ident, &bytes[16..]).map_err(|_| Errno::ENOEXEC)?;
    let kind = match header.e_type {
        abi::ET_EXEC => Kind::Fixed,
        abi::ET_DYN => Kind::Relocatable,
        _ => return Err(Errno::ENOEXEC),
    };
    let table_size = usize::from(header.e_phnum) * PHDR_SIZE;
    let sane = header.e_machine == abi::EM_X86_64
        && usize::from(header.e_phentsize) == PHDR_SIZE
        && (1..=PHDRS_MAX).contains(&table_size);
    if !sane {
        return Err(Errno::ENOEXEC);
    }
    let table = bytes_at(head, read, header.e_phoff, table_size)?.ok_or(Errno::ENOEXEC)?;
    let headers: Vec<ProgramHeader> = ParsingTable::new(LittleEndian, Class::ELF64, &table).iter().collect();
    let mut image = Image {
        kind,
        entry: header.e_entry,
        segments: Vec::new(),
        interpreter: None,
        stack: StackAccess::Data,
        phdr: 0,
        phnum: header.e_phnum,
        align: PAGE_SIZE,
    };
    for program in &headers {
        match program.p_type {
            abi::PT_INTERP if image.interpreter.is_none() => {
                image.interpreter = Some(interpreter(head, read, program)?)
            }
            abi::PT_GNU_STACK if program.p_flags & abi::PF_X != 0 => image.stack = StackAccess::Executable,
            abi::PT_GNU_STACK => image.stack = StackAccess::Data,
            abi::PT_LOAD => {
                if program.p_align.is_power_of_two() {
                    image.align = image.align.max(program.p_align);
                }
                let table = header
                    .e_phoff
                    .checked_sub(program.p_offset)
                    .filter(|&at| at < program.p_filesz);
                if let Some(at) = table {
                    image.phdr = program.p_vaddr.wrapping_add(at);
                }
                image.segments.extend(segment(program, task_size)?);
            }
            _ => {}
        }
    }
    let span = image.span();
    // A program at fixed addresses may have no memory at all: it starts, and faults at its first instruction.
    if image.segments.is_empty() && kind == Kind::Relocatable {
        return Err(Errno::ENOEXEC);
    }
    if span.end > task_size || image.align > task_size {
        return Err(Errno::EINVAL);
    }
    Ok(image)
}

/// `len` bytes at `offset`, from `head` if they are there; none when the file ends before.
fn bytes_at(head: &[u8], read: &ReadAt<'_>, offset: u64, len: usize) -> Result<Option<Vec<u8>>> {
    let at = usize::try_from(offset).ok();
    if let Some(found) = at.and_then(|at| head.get(at..at.checked_add(len)?)) {
        return Ok(Some(found.to_vec()));
    }
    if offset.checked_add(len as u64).is_none_or(|end| end > i64::MAX as u64) {
        return Ok(None);
    }
    let mut bytes = vec![0; len];
    Ok((read(offset, &mut bytes)? == len).then_some(bytes))
}

fn interpreter(head: &[u8], read: &ReadAt<'_>, program: &ProgramHeader) -> Result<Vec<u8>> {
    let len = usize::try_from(program.p_filesz).map_err(|_| Errno::ENOEXEC)?;
    if !(2..=PATH_MAX).contains(&len) {
        return Err(Errno::ENOEXEC);
    }
    let mut path = bytes_at(head, read, program.p_offset, len)?.ok_or(Errno::EIO)?;
    if path.pop() != Some(0) {
        return Err(Errno::ENOEXEC);
    }
    let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
    path.truncate(end);
    Ok(path)
}

/// A `PT_LOAD` header, checked; none for an empty one.
fn segment(program: &ProgramHeader, task_size: u64) -> Result<Option<Segment>> {
    if program.p_memsz == 0 {
        return Ok(None);
    }
    let fits = program.p_filesz <= program.p_memsz
        && program.p_memsz <= task_size
        && program.p_vaddr <= task_size - program.p_memsz
        && program
            .p_offset
            .checked_add(program.p_filesz)
            .is_some_and(|end| end <= i64::MAX as u64);
    let aligned = program.p_vaddr % PAGE_SIZE == program.p_offset % PAGE_SIZE;
    if !fits || program.p_filesz != 0 && !aligned {
        return Err(Errno::EINVAL);
    }
    let mut prot = Prot::empty();
    prot.set(Prot::READ, program.p_flags & abi::PF_R != 0);
    prot.set(Prot::WRITE, program.p_flags & abi::PF_W != 0);
    prot.set(Prot::EXEC, program.p_flags & abi::PF_X != 0);
    Ok(Some(Segment {
        vaddr: program.p_vaddr,
        offset: program.p_offset,
        filesz: program.p_filesz,
        memsz: program.p_memsz,
        prot,
        flags: program.p_flags,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK_SIZE: u64 = 0x7ffd_0000_0000;

    /// A program with the given `(type, flags, offset, vaddr, filesz, memsz, align)` headers.
    fn program(kind: u16, headers: &[(u32, u32, u64, u64, u64, u64, u64)]) -> Vec<u8> {
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        file.extend(kind.to_le_bytes());
        file.extend(62u16.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend(0x1040u64.to_le_bytes());
        file.extend(64u64.to_le_bytes());
        file.extend(0u64.to_le_bytes());
        file.extend(0u32.to_le_bytes());
        for half in [64u16, 56, headers.len() as u16, 64, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        for &(kind, flags, offset, vaddr, filesz, memsz, align) in headers {
            file.extend(kind.to_le_bytes());
            file.extend(flags.to_le_bytes());
            for word in [offset, vaddr, vaddr, filesz, memsz, align] {
                file.extend(word.to_le_bytes());
            }
        }
        file
    }

    fn read(file: &[u8]) -> Result<Image> {
        let at = |offset: u64, buf: &mut [u8]| {
            let rest = file.get(offset as usize..).unwrap_or_default();
            let count = rest.len().min(buf.len());
            buf[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        };
        parse(&file[..file.len().min(256)], &at, TASK_SIZE)
    }

    #[test]
    fn a_position_independent_program_is_understood() {
        let mut file = program(
            3,
            &[
                (abi::PT_INTERP, 4, 64 + 4 * 56, 0, 9, 9, 1),
                (abi::PT_LOAD, 5, 0, 0, 0x2000, 0x2000, 0x1000),
                (abi::PT_LOAD, 6, 0x2e00, 0x3e00, 0x200, 0x900, 0x20_0000),
                (abi::PT_GNU_STACK, 6, 0, 0, 0, 0, 16),
            ],
        );
        file.extend(b"/lib/ld\0\0");
        let image = read(&file).unwrap();
        assert_eq!(image.kind, Kind::Relocatable);
        assert_eq!(image.interpreter.as_deref(), Some(&b"/lib/ld"[..]));
        assert_eq!((image.phdr, image.phnum, image.align), (64, 4, 0x20_0000));
        assert_eq!(image.span(), 0..0x5000);
        assert_eq!(image.stack, StackAccess::Data);
    }

    #[test]
    fn hostile_segments_are_refused() {
        let max = u64::MAX;
        for segment in [
            (abi::PT_LOAD, 5, 0, 0, 0x2000, 0x1000, 0x1000),
            (abi::PT_LOAD, 5, 0, max - 0xfff, 0x1000, 0x1000, 0x1000),
            (abi::PT_LOAD, 5, 0, 0x1000, 0x1000, max, 0x1000),
            (abi::PT_LOAD, 5, max - 0xfff, 0x1000, 0x1000, 0x1000, 0x1000),
            (abi::PT_LOAD, 5, 0x10, 0x1000, 0x1000, 0x1000, 0x1000),
            (abi::PT_LOAD, 5, 0, TASK_SIZE, 0x1000, 0x1000, 0x1000),
        ] {
            assert_eq!(read(&program(2, &[segment])), Err(Errno::EINVAL), "{segment:x?}");
        }
    }

    #[test]
    fn what_is_not_a_program_is_not_executable() {
        let good = program(2, &[(abi::PT_LOAD, 5, 0, 0x40_0000, 0x100, 0x100, 0x1000)]);
        assert!(read(&good).is_ok());
        let with = |at: usize, value: u8| {
            let mut bad = good.clone();
            bad[at] = value;
            read(&bad)
        };
        for (at, value) in [(4, 1), (5, 2), (16, 1), (18, 3), (54, 55), (56, 0), (57, 255)] {
            assert_eq!(with(at, value), Err(Errno::ENOEXEC), "byte {at}");
        }
        assert_eq!(read(&good[..63]), Err(Errno::ENOEXEC));
        assert_eq!(read(&program(2, &[])), Err(Errno::ENOEXEC));
    }

    #[test]
    fn an_interpreter_must_be_a_string() {
        let file = program(
            3,
            &[
                (abi::PT_INTERP, 4, 0, 0, 4, 4, 1),
                (abi::PT_LOAD, 5, 0, 0, 0x78, 0x78, 0x1000),
            ],
        );
        assert_eq!(read(&file), Err(Errno::ENOEXEC));
        let long = program(
            3,
            &[
                (abi::PT_INTERP, 4, 64, 0, 5000, 8, 1),
                (abi::PT_LOAD, 5, 0, 0, 0x78, 0x78, 0x1000),
            ],
        );
        assert_eq!(read(&long), Err(Errno::ENOEXEC));
    }
}
