//! /proc/locks: the file locks and leases that are held.
//!
//! Locks hang on inodes; the ones that can matter belong to files that some process has open, so those are asked.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::fs::pseudo::{Seq, Tree};
use crate::task::table;
use crate::vfs::Inode;
use crate::vfs::lease::{Leases, Shown};
use crate::vfs::lock::{END, FileLocks, LockKind, Owner, Record};
use crate::{Result, seq};

pub(super) fn fill(tree: &Arc<Tree>) {
    tree.text("locks", 0o444, show);
}

/// The inodes behind all open files, each once.
fn open_inodes() -> Vec<Arc<dyn Inode>> {
    let mut inodes: Vec<Arc<dyn Inode>> = Vec::new();
    let tables = table::processes()
        .into_iter()
        .filter_map(|process| process.any_thread()?.try_files());
    for (_, file, _) in tables.flat_map(|files| files.list()) {
        let has_any = |inode: &Arc<dyn Inode>| {
            inode.state().get::<FileLocks>().is_some() || inode.state().get::<Leases>().is_some()
        };
        let Some(inode) = file.inode().filter(has_any) else {
            continue;
        };
        if !inodes.iter().any(|known| Arc::ptr_eq(known, &inode)) {
            inodes.push(inode);
        }
    }
    inodes
}

fn show(out: &mut Seq) -> Result<()> {
    let mut number = 0;
    for inode in open_inodes() {
        let Ok(meta) = inode.metadata() else { continue };
        let file = alloc::format!("{:02x}:{:02x}:{}", meta.dev.major, meta.dev.minor, meta.ino);
        let leases = inode.state().get::<Leases>();
        for lease in leases.iter().flat_map(|leases| leases.shown()) {
            number += 1;
            lease_line(number, lease, &file, out);
        }
        let locks = inode.state().get::<FileLocks>();
        for record in locks.iter().flat_map(|locks| locks.records()) {
            number += 1;
            line(number, &record, &file, out);
        }
    }
    Ok(())
}

fn lease_line(number: u32, lease: Shown, file: &str, out: &mut Seq) {
    let state = if lease.is_breaking { "BREAKING " } else { "ACTIVE   " };
    let kind = match lease.kind {
        None => "UNLCK",
        Some(LockKind::Read) => "READ ",
        Some(LockKind::Write) => "WRITE",
    };
    seq!(out, "{number}: LEASE  {state} {kind} {} {file} 0 EOF\n", lease.pid.0);
}

fn line(number: u32, record: &Record, file: &str, out: &mut Seq) {
    let owner = match record.owner {
        Owner::Process(_) => "POSIX ",
        Owner::Description(_) => "OFDLCK",
        Owner::Flock(_) => "FLOCK ",
    };
    let kind = match record.kind {
        LockKind::Read => "READ ",
        LockKind::Write => "WRITE",
    };
    seq!(
        out,
        "{number}: {owner} ADVISORY  {kind} {} {file} {} ",
        record.pid,
        record.start
    );
    if record.end == END {
        seq!(out, "EOF\n");
    } else {
        seq!(out, "{}\n", record.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_shows_kind_owner_and_range() {
        let record = Record {
            owner: Owner::Flock(1),
            kind: LockKind::Write,
            start: 0,
            end: END,
            pid: 42,
        };
        let mut out = Seq::new();
        line(1, &record, "62:00:7", &mut out);
        assert_eq!(out.into_bytes(), b"1: FLOCK  ADVISORY  WRITE 42 62:00:7 0 EOF\n");
    }
}
