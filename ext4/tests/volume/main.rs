//! The driver against images made by `mke2fs`, driven through the VFS's traits; judged by `e2fsck -fn` and `debugfs`.

mod campaign;
mod crash;
mod damage;
mod errors;
mod external;
mod fast;
mod fast_area;
mod image;
mod inline;
mod linux;
mod logged;
mod model;
mod names;
mod project;
mod random;
mod read;
mod readers;
mod resize;
mod scale;
mod space;
mod sync;
mod together;
mod tree;
mod write;
mod xattr;
