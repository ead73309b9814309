//! Root, working directory and umask of a task; shared with `CLONE_FS`.

/// What `chroot`, `chdir` and `umask` change.
pub struct FsContext {}
