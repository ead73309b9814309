//! The journal against models, against crashes, and against e2fsck and debugfs.

mod disk;
mod image;
mod judges;
mod model;
