//! Root, working directory and umask of a task; shared with `CLONE_FS`.
//!
//! Lock order: `FS_STRUCT`; a path that is replaced is dropped after the lock.

use alloc::sync::Arc;

use arch_um::sync::{SpinLock, order};

use super::attr::{Mode, NewMode};
use super::path::Path;

/// What `chroot`, `chdir` and `umask` change.
pub struct FsContext {
    state: SpinLock<State>,
}

#[derive(Clone)]
struct State {
    root: Path,
    cwd: Path,
    umask: u32,
}

impl FsContext {
    /// Root and working directory at `root`, umask 022.
    pub fn new(root: Path) -> Arc<Self> {
        Self::with(State {
            cwd: root.clone(),
            root,
            umask: 0o022,
        })
    }

    /// At the root of the mount tree: where the first task starts.
    pub fn initial() -> Arc<Self> {
        Self::new(super::mount::namespace_root())
    }

    fn with(state: State) -> Arc<Self> {
        Arc::new(Self {
            state: SpinLock::new(&order::FS_STRUCT, state),
        })
    }

    /// A copy of its own (`fork(2)`, `unshare(CLONE_FS)`).
    pub fn fork(&self) -> Arc<Self> {
        let state = self.state.lock().clone();
        Self::with(state)
    }

    /// What `/` means.
    pub fn root(&self) -> Path {
        self.state.lock().root.clone()
    }

    /// What a relative path starts at.
    pub fn cwd(&self) -> Path {
        self.state.lock().cwd.clone()
    }

    /// Both in one step: root, working directory.
    pub fn root_and_cwd(&self) -> (Path, Path) {
        let state = self.state.lock();
        (state.root.clone(), state.cwd.clone())
    }

    /// `chroot(2)`.
    pub fn set_root(&self, root: Path) {
        let old = core::mem::replace(&mut self.state.lock().root, root);
        drop(old);
    }

    /// `chdir(2)`.
    pub fn set_cwd(&self, cwd: Path) {
        let old = core::mem::replace(&mut self.state.lock().cwd, cwd);
        drop(old);
    }

    /// Root and working directory that are `old` become `new` (`pivot_root(2)`, the change of root at boot).
    pub fn replace(&self, old: &Path, new: &Path) {
        let dropped = {
            let mut state = self.state.lock();
            let root = state
                .root
                .same_as(old)
                .then(|| core::mem::replace(&mut state.root, new.clone()));
            let cwd = state
                .cwd
                .same_as(old)
                .then(|| core::mem::replace(&mut state.cwd, new.clone()));
            (root, cwd)
        };
        drop(dropped);
    }

    /// The bits that a new file does not get.
    pub fn umask(&self) -> u32 {
        self.state.lock().umask
    }

    /// `umask(2)`; the mask before.
    pub fn set_umask(&self, mask: u32) -> u32 {
        core::mem::replace(&mut self.state.lock().umask, mask & 0o777)
    }

    /// `mode` under the umask.
    pub fn masked(&self, wanted: Mode) -> NewMode {
        let umask = Mode::from_bits_truncate(self.umask());
        NewMode { wanted, umask }
    }
}
