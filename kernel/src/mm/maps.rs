//! What /proc shows of an address space: the program ([`Program`]) and a snapshot of its mappings ([`MapEntry`]).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use skas::Prot;

use super::space::Mm;
use super::vma::{VmFlags, Vma, VmaBacking};
use crate::vfs::File;

/// What runs in an address space: set by exec, read by /proc (`stat`, `cmdline`, `environ`, `auxv`, `exe`).
#[derive(Clone, Default)]
pub struct Program {
    /// Code of the program file.
    pub code: Range<u64>,
    /// Initialized data of the program file.
    pub data: Range<u64>,
    /// Where the heap begins.
    pub start_brk: u64,
    /// The stack pointer at the first instruction.
    pub start_stack: u64,
    /// The argument strings.
    pub args: Range<u64>,
    /// The environment strings.
    pub env: Range<u64>,
    /// The auxiliary vector as it lies on the stack, `AT_NULL` included.
    pub auxv: Vec<(u64, u64)>,
    /// The program file. It cannot be written while this exists.
    pub exe: Option<Arc<File>>,
}

/// What a mapping shows in the last column of /proc/pid/maps.
#[derive(Clone)]
pub enum MapName {
    /// Nothing.
    None,
    /// `[heap]`.
    Heap,
    /// `[stack]`.
    Stack,
    /// `/dev/zero (deleted)`: shared anonymous memory.
    SharedAnonymous,
    /// `[anon:NAME]`, or `[anon_shmem:NAME]` for shared memory.
    Named(Arc<[u8]>),
    /// A file: its path as seen from the reader's root, device and inode number of its metadata.
    File(Arc<File>),
}

/// One mapping.
#[derive(Clone)]
pub struct MapEntry {
    /// Where.
    pub range: Range<u64>,
    /// Protection now.
    pub prot: Prot,
    /// Shared and other flags (`VmFlags` of smaps).
    pub flags: VmFlags,
    /// Byte offset in the file.
    pub offset: u64,
    /// The last column.
    pub name: MapName,
}

impl Mm {
    /// The mappings in order of address.
    pub fn maps(&self) -> Vec<MapEntry> {
        let state = self.lock();
        let stack = state.program.start_stack;
        let heap = state.heap.clone();
        state.tree.iter().map(|vma| entry(vma, stack, &heap)).collect()
    }

    /// `brk` now.
    pub fn brk(&self) -> u64 {
        self.lock().heap.end
    }

    /// `/proc/pid/auxv`: the bytes.
    pub fn auxv_bytes(&self) -> Vec<u8> {
        let program = self.program();
        program
            .auxv
            .iter()
            .flat_map(|(key, value)| [key.to_le_bytes(), value.to_le_bytes()])
            .flatten()
            .collect()
    }
}

fn entry(vma: &Vma, stack: u64, heap: &Range<u64>) -> MapEntry {
    let name = match &vma.backing {
        VmaBacking::File(mapped) => MapName::File(mapped.file.clone()),
        _ if vma.name.is_some() => vma.name.clone().map_or(MapName::None, MapName::Named),
        VmaBacking::SharedAnonymous(_) => MapName::SharedAnonymous,
        VmaBacking::Anonymous if heap.start < heap.end && vma.start < heap.end && vma.end > heap.start => MapName::Heap,
        VmaBacking::Anonymous if vma.start <= stack && stack < vma.end => MapName::Stack,
        VmaBacking::Anonymous => MapName::None,
    };
    MapEntry {
        range: vma.start..vma.end,
        prot: vma.prot,
        flags: vma.flags,
        offset: vma.offset,
        name,
    }
}
