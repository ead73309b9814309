//! The memory devices, major 1: `null`, `zero`, `full`, `random`, `urandom`, `kmsg` (`null(4)`, `full(4)`).
//!
//! `mem`, `kmem` and `port` do not exist: there is no physical memory and there are no ports to reach.

use alloc::string::ToString;
use alloc::sync::Arc;
use core::any::Any;

use super::char::{CharDriver, register_char};
use super::kmsg::Kmsg;
use super::node::{DeviceNode, announce};
use super::random::Random;
use crate::io::{Sink, Source};
use crate::syscall::Context;
use crate::vfs::file::{MapBacking, WriteAt, Written};
use crate::vfs::{Access, DevT, File, FileOps, OpenFlags};
use crate::{Errno, Result};

/// The major number.
pub const MEM_MAJOR: u32 = 1;

const DEVICES: [(u32, &str, u32); 6] = [
    (3, "null", 0o666),
    (5, "zero", 0o666),
    (7, "full", 0o666),
    (8, "random", 0o666),
    (9, "urandom", 0o666),
    (11, "kmsg", 0o644),
];

/// Registers major 1 and announces its devices.
pub(super) fn init() {
    if let Err(error) = register_char(MEM_MAJOR, 0..256, "mem", Arc::new(Mem)) {
        log::error!("mem: major {MEM_MAJOR}: {error:?}");
        return;
    }
    for (minor, name, mode) in DEVICES {
        announce(DeviceNode {
            name: name.to_string(),
            dev: DevT::new(MEM_MAJOR, minor),
            mode,
            class: "mem",
        });
    }
}

/// The driver of major 1.
struct Mem;

impl CharDriver for Mem {
    fn open(&self, _cx: &Context, dev: DevT, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Ok(match dev.minor {
            3 => Arc::new(Null),
            5 => Arc::new(Zero),
            7 => Arc::new(Full),
            8 | 9 => Arc::new(Random),
            11 => Arc::new(Kmsg::open()),
            _ => return Err(Errno::ENXIO),
        })
    }
}

/// All bytes of `src` are gone, unread: `write(fd, NULL, 1)` succeeds.
fn swallow(at: WriteAt, src: &mut dyn Source) -> Result<Written> {
    let end = match at {
        WriteAt::Offset(pos) => pos,
        WriteAt::End => 0,
    };
    Ok(Written {
        count: src.remaining(),
        end,
    })
}

/// Fills `dst` with zeros.
fn zeros(dst: &mut dyn Sink) -> Result<usize> {
    static ZEROS: [u8; 16384] = [0; 16384];
    let mut total = 0;
    while dst.remaining() > 0 {
        let piece = dst.remaining().min(ZEROS.len());
        match dst.write(&ZEROS[..piece]) {
            Ok(count) => total += count,
            Err(error) if total == 0 => return Err(error),
            Err(_) => break,
        }
        if interrupted() {
            break;
        }
        arch_um::cpu::cond_resched();
    }
    Ok(total)
}

/// Whether a signal waits: long reads of endless devices end early then.
pub(super) fn interrupted() -> bool {
    arch_um::thread::with_current(|thread| thread.is_some_and(|thread| thread.interrupted()))
}

/// `/dev/null`.
struct Null;

impl FileOps for Null {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, _file: &File, _pos: u64, _dst: &mut dyn Sink) -> Result<usize> {
        Ok(0)
    }

    fn write_at(&self, _file: &File, pos: WriteAt, src: &mut dyn Source) -> Result<Written> {
        swallow(pos, src)
    }

    fn lseek(&self, _file: &File, _offset: i64, _whence: u32) -> Option<Result<u64>> {
        Some(Ok(0))
    }
}

/// `/dev/zero`.
struct Zero;

impl FileOps for Zero {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, _file: &File, _pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        zeros(dst)
    }

    fn write_at(&self, _file: &File, pos: WriteAt, src: &mut dyn Source) -> Result<Written> {
        swallow(pos, src)
    }

    fn lseek(&self, _file: &File, _offset: i64, _whence: u32) -> Option<Result<u64>> {
        Some(Ok(0))
    }

    fn map(&self, _file: &File, _writable: Access) -> Result<MapBacking> {
        Ok(MapBacking::Zero)
    }
}

/// `/dev/full`: zeros to read, no room to write.
struct Full;

impl FileOps for Full {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, _file: &File, _pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        zeros(dst)
    }

    fn write_at(&self, _file: &File, _pos: WriteAt, _src: &mut dyn Source) -> Result<Written> {
        Err(Errno::ENOSPC)
    }

    fn lseek(&self, _file: &File, _offset: i64, _whence: u32) -> Option<Result<u64>> {
        Some(Ok(0))
    }
}
