//! Guest memory through typed, fallible objects: an address a guest gave is an allegation until it is used.
//!
//! [`UserPtr`] and [`UserSlice`] hold numbers only; using one reaches into the address space of the current task (`skas`), page by page checked
//! by the host. Nothing is validated before use, as on Linux.

use alloc::vec;
use alloc::vec::Vec;
use core::marker::PhantomData;

use smallvec::{SmallVec, smallvec};

use crate::abi::Abi;
use crate::io::{Sink, Source};
use crate::task;
use crate::{Errno, Result};

/// Longest path a guest may hand in, with its NUL (`PATH_MAX`).
pub const PATH_MAX: usize = 4096;
const PAGE: u64 = 4096;

/// An address in the current task's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserAddr(pub u64);

impl UserAddr {
    /// Whether it is 0.
    pub fn is_null(self) -> bool {
        self.0 == 0
    }

    /// Fills `buf` from here on. `EFAULT` unless every byte could be read.
    pub fn read(self, buf: &mut [u8]) -> Result<()> {
        if buf.is_empty() {
            return Ok(());
        }
        task::current().mm().read(self.0, buf).map_err(|(_, error)| error)
    }

    /// Stores `data` from here on. `EFAULT` unless every byte could be written.
    pub fn write(self, data: &[u8]) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        task::current().mm().write(self.0, data).map_err(|(_, error)| error)
    }

    /// The address `bytes` further on; wraps, and then faults at use.
    pub fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// Reads a string up to its NUL, which is not part of the result.
    ///
    /// # Errors
    /// `EFAULT`; `ENAMETOOLONG` when no NUL comes within `limit` bytes.
    pub fn read_cstr(self, limit: usize) -> Result<Vec<u8>> {
        let mm = task::current().mm();
        let mut text = Vec::new();
        let mut at = self.0;
        while text.len() < limit {
            // Never past a page end in one step: the next page may be absent although the string ends before it.
            let step = ((PAGE - at % PAGE) as usize).min(limit - text.len()).min(256);
            let old = text.len();
            text.resize(old + step, 0);
            mm.read(at, &mut text[old..]).map_err(|(_, error)| error)?;
            if let Some(end) = text[old..].iter().position(|&byte| byte == 0) {
                text.truncate(old + end);
                return Ok(text);
            }
            at = at.wrapping_add(step as u64);
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// Reads a path: at most [`PATH_MAX`] bytes with its NUL.
    pub fn read_path(self) -> Result<Vec<u8>> {
        self.read_cstr(PATH_MAX)
    }
}

/// A `T` in the current task's memory.
pub struct UserPtr<T> {
    addr: UserAddr,
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for UserPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for UserPtr<T> {}

impl<T: Abi> UserPtr<T> {
    /// The `T` alleged to be at `addr`.
    pub fn new(addr: u64) -> Self {
        Self {
            addr: UserAddr(addr),
            kind: PhantomData,
        }
    }

    /// The address.
    pub fn addr(self) -> UserAddr {
        self.addr
    }

    /// Whether it is the null pointer.
    pub fn is_null(self) -> bool {
        self.addr.is_null()
    }

    /// None for the null pointer.
    pub fn non_null(self) -> Option<Self> {
        (!self.is_null()).then_some(self)
    }

    /// Reads the value. `EFAULT`.
    pub fn read(self) -> Result<T> {
        let mut bytes = vec![0; T::SIZE];
        self.addr.read(&mut bytes)?;
        Ok(T::decode(&bytes))
    }

    /// Stores `value`. `EFAULT`.
    pub fn write(self, value: &T) -> Result<()> {
        self.addr.write(&value.to_bytes())
    }

    /// The pointer to the `index`th following value.
    pub fn nth(self, index: usize) -> Self {
        Self::new(self.addr.0.wrapping_add((index as u64).wrapping_mul(T::SIZE as u64)))
    }

    /// Reads `count` values. The caller has bounded `count`.
    pub fn read_many(self, count: usize) -> Result<Vec<T>> {
        let mut bytes = vec![0; T::SIZE.checked_mul(count).ok_or(Errno::EINVAL)?];
        self.addr.read(&mut bytes)?;
        Ok(bytes.chunks_exact(T::SIZE).map(T::decode).collect())
    }
}

/// A run of bytes in the current task's memory.
#[derive(Clone, Copy, Debug)]
pub struct UserSlice {
    /// First byte.
    pub addr: UserAddr,
    /// Bytes.
    pub len: usize,
}

impl UserSlice {
    /// `len` bytes from `addr` on.
    pub fn new(addr: u64, len: usize) -> Self {
        Self {
            addr: UserAddr(addr),
            len,
        }
    }

    /// As the destination of a read.
    pub fn writer(self) -> UserIo {
        UserIo::over(smallvec![self])
    }

    /// As the origin of a write.
    pub fn reader(self) -> UserIo {
        UserIo::over(smallvec![self])
    }
}

/// A walk over guest buffers, in either direction (`readv(2)`, `writev(2)`).
pub struct UserIo {
    /// One buffer, the common case, costs no allocation.
    slices: SmallVec<[UserSlice; 1]>,
    index: usize,
    offset: usize,
    left: usize,
}

impl UserIo {
    /// Over `slices` in order; their lengths add up to at most `MAX_RW_COUNT` (the caller has cut them).
    pub fn new(slices: Vec<UserSlice>) -> Self {
        Self::over(SmallVec::from_vec(slices))
    }

    fn over(slices: SmallVec<[UserSlice; 1]>) -> Self {
        let left = slices.iter().map(|slice| slice.len).sum();
        Self {
            slices,
            index: 0,
            offset: 0,
            left,
        }
    }

    /// The piece at the walk's position: address and bytes to its end.
    fn piece(&mut self) -> Option<(u64, usize)> {
        loop {
            let slice = self.slices.get(self.index)?;
            if self.offset < slice.len {
                return Some((slice.addr.0.wrapping_add(self.offset as u64), slice.len - self.offset));
            }
            self.index += 1;
            self.offset = 0;
        }
    }

    /// Moves up to `len` bytes with `step(addr, range of the kernel buffer)`, which says how far it came and why it stopped.
    fn walk(
        &mut self,
        len: usize,
        mut step: impl FnMut(u64, core::ops::Range<usize>) -> Result<(), (usize, Errno)>,
    ) -> Result<usize> {
        let mut done = 0;
        while done < len {
            let Some((addr, room)) = self.piece() else { break };
            let count = room.min(len - done);
            let (moved, fault) = match step(addr, done..done + count) {
                Ok(()) => (count, None),
                Err((moved, error)) => (moved, Some(error)),
            };
            self.offset += moved;
            self.left -= moved;
            done += moved;
            match fault {
                Some(error) if done == 0 => return Err(error),
                Some(_) => break,
                None => {}
            }
        }
        Ok(done)
    }
}

impl Sink for UserIo {
    fn remaining(&self) -> usize {
        self.left
    }

    fn write(&mut self, data: &[u8]) -> Result<usize> {
        let mm = task::current().mm();
        self.walk(data.len(), |addr, range| mm.write(addr, &data[range]))
    }
}

impl Source for UserIo {
    fn remaining(&self) -> usize {
        self.left
    }

    fn read(&mut self, data: &mut [u8]) -> Result<usize> {
        let mm = task::current().mm();
        let len = data.len();
        self.walk(len, |addr, range| mm.read(addr, &mut data[range]))
    }
}
