//! The driver against images made by `mke2fs`, driven through the VFS's traits; judged by `e2fsck -fn` and `debugfs`.

mod crash;
mod hostile;
mod image;
mod model;
mod names;
mod read;
mod space;
mod together;
mod write;
mod xattr;
