//! Instances that watch instances: no circles, chains of bounded length, and a bounded number of ways that one wake-up can take.
//!
//! A wake-up climbs from a file through all instances that watch each other above it, on the stack of whoever wakes; `poll` descends the same way.
//! So what [`Epoll::watch_instance`] lets in decides how deep the kernel's stack gets and how long a waker works.
//!
//! Lock order: `NESTING` is outermost; `Epoll::watchers` is a leaf.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use arch_um::sync::{LockClass, Mutex};

use super::{Epoll, Interest};
use crate::vfs::fd_table::Fd;
use crate::vfs::file::File;
use crate::{Errno, Result};

/// Longest chain, in links between instances.
const LINKS_MAX: usize = 4;
/// Most ways from an instance up to others.
const PATHS_MAX: usize = 1000;

/// One nesting at a time, so that two halves of a circle cannot close it together.
static NESTING: Mutex<()> = Mutex::new(&NESTING_CLASS, ());
static NESTING_CLASS: LockClass = LockClass::new("EPOLL_NESTING", 255);

/// What is above an instance.
#[derive(Clone, Copy)]
struct Above {
    /// Links of the longest chain.
    links: usize,
    /// Ways to an instance, the empty one included.
    paths: usize,
}

/// Instances looked at, with the links below each: so that a net of instances is walked once, not once for each way through it.
type Below = BTreeMap<*const Epoll, (Arc<Epoll>, usize)>;

impl Epoll {
    /// Adds `inner`, the instance that `file` is.
    ///
    /// # Errors
    /// `ELOOP` for a circle or a chain that gets too long, `EINVAL` when a wake-up could go too many ways, and those of [`Epoll::add`].
    pub(super) fn watch_instance(
        self: &Arc<Self>,
        fd: Fd,
        file: &Arc<File>,
        inner: &Arc<Epoll>,
        interest: Interest,
    ) -> Result<()> {
        let _one = NESTING.lock();
        let mut below = Below::new();
        let links = inner.links_below(self, &mut below)?;
        if self.above(&mut BTreeMap::new()).links + 1 + links > LINKS_MAX {
            return Err(Errno::ELOOP);
        }
        {
            let mut watchers = inner.watchers.lock();
            watchers.retain(|watcher| watcher.strong_count() > 0);
            watchers.push(Arc::downgrade(self));
        }
        let mut seen = BTreeMap::new();
        let crowded = below
            .values()
            .any(|(instance, _)| instance.above(&mut seen).paths > PATHS_MAX);
        let result = if crowded {
            Err(Errno::EINVAL)
        } else {
            self.add(fd, file, interest)
        };
        if result.is_err() {
            inner.forget_watcher(self);
        }
        result
    }

    /// One link from `watcher` is gone.
    pub(super) fn forget_watcher(&self, watcher: &Epoll) {
        let mut watchers = self.watchers.lock();
        let at = watchers.iter().position(|one| core::ptr::eq(one.as_ptr(), watcher));
        if let Some(at) = at {
            watchers.swap_remove(at);
        }
    }

    /// The longest chain of links that starts here. `ELOOP` when `target` is in one.
    fn links_below(self: &Arc<Self>, target: &Arc<Epoll>, seen: &mut Below) -> Result<usize> {
        if Arc::ptr_eq(self, target) {
            return Err(Errno::ELOOP);
        }
        if let Some((_, links)) = seen.get(&Arc::as_ptr(self)) {
            return Ok(*links);
        }
        let mut links = 0;
        for inner in self.watched_instances() {
            links = links.max(inner.links_below(target, seen)? + 1);
        }
        seen.insert(Arc::as_ptr(self), (self.clone(), links));
        Ok(links)
    }

    fn watched_instances(&self) -> Vec<Arc<Epoll>> {
        let files: Vec<_> = self
            .entries
            .lock()
            .values()
            .filter_map(|entry| entry.file.upgrade())
            .collect();
        files.iter().filter_map(|file| super::instance(file).ok()).collect()
    }

    fn above(&self, seen: &mut BTreeMap<*const Epoll, Above>) -> Above {
        if let Some(above) = seen.get(&core::ptr::from_ref(self)) {
            return *above;
        }
        let watchers: Vec<_> = self.watchers.lock().iter().filter_map(Weak::upgrade).collect();
        let mut above = Above { links: 0, paths: 1 };
        for watcher in watchers {
            let next = watcher.above(seen);
            above.links = above.links.max(next.links + 1);
            above.paths = above.paths.saturating_add(next.paths);
        }
        seen.insert(core::ptr::from_ref(self), above);
        above
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Cred;
    use crate::vfs::anon;
    use crate::vfs::file::OpenFlags;

    fn make() -> (Arc<File>, Arc<Epoll>) {
        let file = anon::file(Epoll::new(), "[eventpoll]", OpenFlags::empty(), Cred::root());
        let epoll = super::super::instance(&file).unwrap();
        (file, epoll)
    }

    fn link(outer: &Arc<Epoll>, inner: &(Arc<File>, Arc<Epoll>)) -> Result<()> {
        outer.watch_instance(Fd(9), &inner.0, &inner.1, Interest { events: 1, data: 0 })
    }

    #[test]
    fn circles_are_refused() {
        let (one, two) = (make(), make());
        assert_eq!(link(&one.1, &two), Ok(()));
        assert_eq!(link(&two.1, &one), Err(Errno::ELOOP));
        assert_eq!(link(&one.1, &one), Err(Errno::ELOOP));
        one.1.remove((9, two.0.id())).unwrap();
        assert_eq!(link(&two.1, &one), Ok(()));
    }

    #[test]
    fn a_chain_has_four_links_from_whichever_end_it_is_built() {
        let chain: Vec<_> = (0..6).map(|_| make()).collect();
        for at in 0..4 {
            assert_eq!(link(&chain[at].1, &chain[at + 1]), Ok(()));
        }
        assert_eq!(link(&chain[4].1, &chain[5]), Err(Errno::ELOOP));
        let chain: Vec<_> = (0..6).map(|_| make()).collect();
        for at in (1..5).rev() {
            assert_eq!(link(&chain[at].1, &chain[at + 1]), Ok(()));
        }
        assert_eq!(link(&chain[0].1, &chain[1]), Err(Errno::ELOOP));
    }

    #[test]
    fn a_net_with_too_many_ways_through_it_is_refused_from_above_and_below() {
        let layers: Vec<Vec<_>> = (0..3).map(|_| (0..40).map(|_| make()).collect()).collect();
        let mut refused = 0;
        for pair in [0, 1] {
            for outer in &layers[pair] {
                for inner in &layers[pair + 1] {
                    refused += usize::from(link(&outer.1, inner) == Err(Errno::EINVAL));
                }
            }
        }
        assert!(refused > 0);
        let ways = |instance: &Arc<Epoll>| instance.above(&mut BTreeMap::new()).paths;
        assert!(layers.iter().flatten().all(|(_, instance)| ways(instance) <= PATHS_MAX));
    }
}
