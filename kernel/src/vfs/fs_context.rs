//! Root, working directory and umask of a task; shared with `CLONE_FS`.

/// What `chroot`, `chdir` and `umask` change.
pub struct FsContext {}

impl FsContext {
    /// A copy of its own (`fork(2)`).
    pub fn fork(&self) -> alloc::sync::Arc<Self> {
        alloc::sync::Arc::new(Self {})
    }
}
