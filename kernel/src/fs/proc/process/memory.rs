//! `cmdline`, `environ`, `auxv`, `maps`: a process's memory as text.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use skas::Prot;

use super::space::{self, MapEntry, MapName, VmFlags};
use super::subject::Found;
use crate::fs::pseudo::Seq;
use crate::mm::Mm;
use crate::task;
use crate::vfs::Path;
use crate::{Result, seq};

/// Longest piece of a guest's strings that is shown: Linux's limit on arguments and environment together.
const STRINGS_MAX: u64 = 6 << 20;
const PAGE: usize = 4096;

/// The bytes in `range` of `mm`, as far as they can be read.
pub(super) fn read(mm: &Mm, range: Range<u64>) -> Vec<u8> {
    let len = range.end.saturating_sub(range.start).min(STRINGS_MAX) as usize;
    let mut bytes = vec![0; len];
    for (index, page) in bytes.chunks_mut(PAGE).enumerate() {
        if let Err((got, _)) = mm.space().read(range.start + (index * PAGE) as u64, page) {
            let end = index * PAGE + got;
            bytes.truncate(end);
            break;
        }
    }
    bytes
}

/// The arguments. A program that writes over them beyond their end (`setproctitle`) shows what it wrote, on into the environment.
pub(super) fn cmdline(found: &Found, out: &mut Seq) -> Result<()> {
    let Some(mm) = found.task.try_mm() else { return Ok(()) };
    let program = space::program(&mm);
    let args = read(&mm, program.args.clone());
    if args.last().is_none_or(|&last| last == 0) || program.env.start != program.args.end {
        out.bytes(&args);
        return Ok(());
    }
    let more = read(&mm, program.env.clone());
    let end = more.iter().position(|&byte| byte == 0).unwrap_or(more.len());
    let first = args.iter().position(|&byte| byte == 0);
    match first {
        // Overwritten as one string: up to its end.
        Some(end) => out.bytes(&args[..end]),
        None => {
            out.bytes(&args);
            out.bytes(&more[..end]);
        }
    }
    Ok(())
}

pub(super) fn environ(found: &Found, out: &mut Seq) -> Result<()> {
    if let Some(mm) = found.task.try_mm() {
        out.bytes(&read(&mm, space::program(&mm).env.clone()));
    }
    Ok(())
}

pub(super) fn auxv(found: &Found, out: &mut Seq) -> Result<()> {
    if let Some(mm) = found.task.try_mm() {
        out.bytes(&space::auxv(&mm));
    }
    Ok(())
}

pub(super) fn maps(found: &Found, out: &mut Seq) -> Result<()> {
    if let Some(mm) = found.task.try_mm() {
        for entry in space::maps(&mm) {
            map_line(&entry, out);
        }
    }
    Ok(())
}

/// A line of `maps`, as `smaps` has it too.
pub(super) fn map_line(entry: &MapEntry, out: &mut Seq) {
    let start = out.len();
    let flag = |set, letter| if set { letter } else { '-' };
    seq!(
        out,
        "{:08x}-{:08x} {}{}{}{} ",
        entry.range.start,
        entry.range.end,
        flag(entry.prot.contains(Prot::READ), 'r'),
        flag(entry.prot.contains(Prot::WRITE), 'w'),
        flag(entry.prot.contains(Prot::EXEC), 'x'),
        if entry.flags.contains(VmFlags::SHARED) {
            's'
        } else {
            'p'
        }
    );
    let meta = match &entry.name {
        MapName::File(file) => file.inode().and_then(|inode| inode.metadata().ok()),
        _ => None,
    };
    let (dev, ino) = meta.map_or((Default::default(), 0), |meta| (meta.dev, meta.ino));
    seq!(out, "{:08x} {:02x}:{:02x} {ino} ", entry.offset, dev.major, dev.minor);
    let name = name_of(&entry.name);
    if !name.is_empty() {
        // The name stands in column 73, or one blank behind a long line.
        while out.len() - start < 73 {
            out.bytes(b" ");
        }
        out.escaped(&name, b"\n");
    }
    out.bytes(b"\n");
}

fn name_of(name: &MapName) -> Vec<u8> {
    match name {
        MapName::None => Vec::new(),
        MapName::Heap => b"[heap]".to_vec(),
        MapName::Stack => b"[stack]".to_vec(),
        MapName::SharedAnonymous => b"/dev/zero (deleted)".to_vec(),
        MapName::Named(name) => [b"[anon:", &name[..], b"]"].concat(),
        MapName::File(file) => file.path().map(path_text).unwrap_or_default(),
    }
}

/// A path as the reader sees it.
pub(super) fn path_text(path: &Path) -> Vec<u8> {
    let root = task::try_current().and_then(|task| task.try_fs()).map(|fs| fs.root());
    path.display(&root.unwrap_or_else(crate::vfs::mount::namespace_root))
}
