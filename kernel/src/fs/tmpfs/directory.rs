//! Names of a tmpfs directory, with positions for `getdents64(2)` that stay what they are while names come and go.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use hashbrown::HashMap;

use super::inode::TmpInode;
use crate::{Errno, Result};

/// Position of the first name; `.` and `..` are 0 and 1.
pub const FIRST: u64 = 2;

/// The table of names.
pub struct Names {
    by_name: HashMap<Box<[u8]>, u64>,
    by_position: BTreeMap<u64, (Box<[u8]>, Arc<TmpInode>)>,
    next: u64,
    /// The directory above; the root's is itself.
    pub parent: Weak<TmpInode>,
    /// Removed: nothing can be made in it any more.
    pub dead: bool,
}

impl Names {
    /// No names.
    pub fn new(parent: Weak<TmpInode>) -> Self {
        Self {
            by_name: HashMap::new(),
            by_position: BTreeMap::new(),
            next: FIRST,
            parent,
            dead: false,
        }
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The inode called `name`.
    pub fn get(&self, name: &[u8]) -> Option<&Arc<TmpInode>> {
        let position = self.by_name.get(name)?;
        self.by_position.get(position).map(|(_, inode)| inode)
    }

    /// Adds a name that is not there. `ENOENT` in a removed directory.
    pub fn insert(&mut self, name: &[u8], inode: Arc<TmpInode>) -> Result<()> {
        if self.dead {
            return Err(Errno::ENOENT);
        }
        let position = self.next;
        self.next += 1;
        self.by_name.insert(name.into(), position);
        self.by_position.insert(position, (name.into(), inode));
        Ok(())
    }

    /// Takes a name out.
    pub fn remove(&mut self, name: &[u8]) -> Option<Arc<TmpInode>> {
        let position = self.by_name.remove(name)?;
        self.by_position.remove(&position).map(|(_, inode)| inode)
    }

    /// Lets `name` lead to `inode`, at its old position.
    pub fn replace(&mut self, name: &[u8], inode: Arc<TmpInode>) -> Option<Arc<TmpInode>> {
        let position = self.by_name.get(name)?;
        self.by_position
            .get_mut(position)
            .map(|(_, old)| core::mem::replace(old, inode))
    }

    /// Up to `limit` entries from `position` on: position, name, inode.
    pub fn list(&self, position: u64, limit: usize) -> Vec<(u64, Box<[u8]>, Arc<TmpInode>)> {
        let entries = self.by_position.range(position..).take(limit);
        entries
            .map(|(&at, (name, inode))| (at, name.clone(), inode.clone()))
            .collect()
    }

    /// Takes everything out.
    pub fn drain(&mut self) -> Vec<Arc<TmpInode>> {
        self.by_name.clear();
        core::mem::take(&mut self.by_position)
            .into_values()
            .map(|(_, inode)| inode)
            .collect()
    }
}
