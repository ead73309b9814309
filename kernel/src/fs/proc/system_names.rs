//! /proc/sys/kernel/{hostname,domainname}: settings that can be polled for changes.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::Result;
use crate::fs::pseudo::Content;
use crate::fs::pseudo::text::{pull, push_from};
use crate::io::{Sink, Source};
use crate::sys::utsname;
use crate::vfs::file::{WriteAt, Written};
use crate::vfs::{File, FileOps, OpenFlags, PollEvents, PollTable};

/// A name of the system as a file.
struct Name {
    get: fn() -> Vec<u8>,
    set: fn(&[u8]),
}

/// `hostname`.
pub(super) fn hostname() -> Arc<dyn Content> {
    Arc::new(Name {
        get: utsname::hostname,
        set: utsname::set_hostname,
    })
}

/// `domainname`.
pub(super) fn domainname() -> Arc<dyn Content> {
    Arc::new(Name {
        get: utsname::domainname,
        set: utsname::set_domainname,
    })
}

impl Content for Name {
    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(NameFile {
            name: self,
            seen: AtomicU64::new(utsname::events().0),
        }))
    }
}

struct NameFile {
    name: Arc<Name>,
    /// The change that the last poll told of.
    seen: AtomicU64,
}

impl FileOps for NameFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, _file: &File, pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        let mut text = (self.name.get)();
        text.push(b'\n');
        push_from(&text, pos, dst)
    }

    fn write_at(&self, _file: &File, pos: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let data = pull(src, 4096)?;
        (self.name.set)(&data);
        let start = match pos {
            WriteAt::Offset(pos) => pos,
            WriteAt::End => 0,
        };
        Ok(Written {
            count: data.len(),
            end: start.saturating_add(data.len() as u64),
        })
    }

    fn announces(&self) -> bool {
        true
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        let (changes, queue) = utsname::events();
        if let Some(table) = table {
            table.listen(queue);
        }
        let ready = PollEvents::IN | PollEvents::OUT | PollEvents::RDNORM | PollEvents::WRNORM;
        if self.seen.swap(changes, Ordering::Relaxed) == changes {
            ready
        } else {
            ready | PollEvents::ERR | PollEvents::PRI
        }
    }
}
