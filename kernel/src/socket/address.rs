//! Names of local sockets (`unix(7)`): a path, or any bytes behind a NUL (abstract).

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use arch_um::sync::{SpinLock, order};

use super::unix::UnixSocket;
use crate::syscall::Context;
use crate::task::Cred;
use crate::user::{UserAddr, UserPtr};
use crate::vfs::calls::at::Start;
use crate::vfs::fd_table::Fd;
use crate::vfs::permission::{self, May};
use crate::vfs::walk::WalkFlags;
use crate::vfs::{FileType, Mode, NewNode, Path, namei};
use crate::{Errno, Result};

/// `AF_UNIX`.
pub const AF_UNIX: u16 = 1;
/// Bytes of `sun_path`.
const PATH_LEN: usize = 108;

/// A name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// As bound, without a NUL.
    Path(Vec<u8>),
    /// What follows the leading NUL.
    Abstract(Vec<u8>),
}

/// What a bound inode knows of its socket.
pub struct Bound(Weak<UnixSocket>);

/// Abstract names in use.
static ABSTRACT: SpinLock<BTreeMap<Vec<u8>, Weak<UnixSocket>>> = SpinLock::new(&order::LEAF, BTreeMap::new());

/// What a guest gave as an address: a name, or none (autobind, or "disconnect").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// `AF_UNSPEC`.
    Unspecified,
    /// `AF_UNIX` without a name.
    Nameless,
    /// A name.
    Named(Address),
}

/// Reads a `struct sockaddr_un`. `EINVAL` for a wrong length or family.
pub fn read(at: UserAddr, len: u32) -> Result<Given> {
    let len = len as usize;
    if !(2..=PATH_LEN + 2).contains(&len) {
        return Err(Errno::EINVAL);
    }
    let mut raw = alloc::vec![0; len];
    at.read(&mut raw)?;
    let family = u16::from_le_bytes([raw[0], raw[1]]);
    let name = &raw[2..];
    match (family, name) {
        (0, _) => Ok(Given::Unspecified),
        (AF_UNIX, []) => Ok(Given::Nameless),
        (AF_UNIX, [0, rest @ ..]) => Ok(Given::Named(Address::Abstract(rest.to_vec()))),
        (AF_UNIX, _) => {
            let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
            Ok(Given::Named(Address::Path(name[..end].to_vec())))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// The byte form of a name; of none too.
pub fn encode(address: Option<&Address>) -> Vec<u8> {
    let mut raw = AF_UNIX.to_le_bytes().to_vec();
    match address {
        Some(Address::Path(path)) => {
            raw.extend_from_slice(path);
            raw.push(0);
        }
        Some(Address::Abstract(name)) => {
            raw.push(0);
            raw.extend_from_slice(name);
        }
        None => {}
    }
    raw
}

/// Gives a name to a guest: cut to its buffer, the true length told.
pub fn write(address: Option<&Address>, at: UserAddr, len: UserPtr<i32>) -> Result<()> {
    let room = usize::try_from(len.read()?).map_err(|_| Errno::EINVAL)?;
    let raw = encode(address);
    at.write(&raw[..raw.len().min(room)])?;
    len.write(&(raw.len() as i32))
}

/// Binds `socket` to `address`. `EADDRINUSE` when it is taken.
pub fn bind(cx: &Context, socket: &Arc<UnixSocket>, address: &Address) -> Result<()> {
    match address {
        Address::Path(text) => {
            let start = Start::new(cx, Fd::CWD, text)?;
            let parent = start.parent(text)?;
            let taken = |error| {
                if error == Errno::EEXIST {
                    Errno::EADDRINUSE
                } else {
                    error
                }
            };
            let name = namei::new_name(&parent, FileType::Socket).map_err(taken)?;
            let mode = cx.task().fs().masked(Mode::from_bits_truncate(0o777));
            let dentry = namei::create(&parent.dir, name, NewNode::Socket, mode, &start.walk.cred).map_err(taken)?;
            dentry.inode().state().get_or_init(|| Bound(Arc::downgrade(socket)));
            // The name must stay in the cache of inodes as long as the socket is bound: its inode carries the way to it.
            socket.keep(Path {
                mount: parent.dir.mount.clone(),
                dentry,
            });
            Ok(())
        }
        Address::Abstract(name) => {
            let mut names = ABSTRACT.lock();
            if names.get(name).is_some_and(|held| held.strong_count() > 0) {
                return Err(Errno::EADDRINUSE);
            }
            names.insert(name.clone(), Arc::downgrade(socket));
            Ok(())
        }
    }
}

/// A free abstract name of five hexadecimal digits (autobind).
pub fn autobind(socket: &Arc<UnixSocket>) -> Result<Address> {
    let mut names = ABSTRACT.lock();
    for number in 0..0x10_0000u32 {
        let name = alloc::format!("{number:05x}").into_bytes();
        if names.get(&name).is_none_or(|held| held.strong_count() == 0) {
            names.insert(name.clone(), Arc::downgrade(socket));
            return Ok(Address::Abstract(name));
        }
    }
    Err(Errno::ENOSPC)
}

/// The name is free again, if it is `socket`'s (an accepted socket has its listener's name).
pub fn release(address: &Address, socket: &Weak<UnixSocket>) {
    if let Address::Abstract(name) = address {
        let mut names = ABSTRACT.lock();
        if names.get(name).is_some_and(|held| Weak::ptr_eq(held, socket)) {
            names.remove(name);
        }
    }
}

/// The socket bound to `address`. `ECONNREFUSED` when nobody is.
pub fn find(cx: &Context, address: &Address, cred: &Cred) -> Result<Arc<UnixSocket>> {
    match address {
        Address::Path(text) => {
            let place = Start::new(cx, Fd::CWD, text)?.lookup(text, WalkFlags::FOLLOW)?;
            permission::path(&place, cred, May::WRITE)?;
            if place.dentry.kind() != FileType::Socket {
                return Err(Errno::ECONNREFUSED);
            }
            let bound = place.dentry.inode().state().get::<Bound>();
            bound.and_then(|bound| bound.0.upgrade()).ok_or(Errno::ECONNREFUSED)
        }
        Address::Abstract(name) => {
            let found = ABSTRACT.lock().get(name).and_then(Weak::upgrade);
            found.ok_or(Errno::ECONNREFUSED)
        }
    }
}
