//! The journal against its rules, against models, against crashes, and against e2fsck and debugfs.

mod disk;
mod fast;
#[path = "../volume/fast_area.rs"]
mod fast_area;
mod faults;
mod hostile;
mod image;
mod judges;
mod model;
mod races;
mod rules;
mod threads;
