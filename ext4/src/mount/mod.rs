//! From a device to a mounted file system and back.
//!
//! * [`options`]: `mount -o`.  * [`features`]: who may mount what.  * [`open`]: reading the super block, starting and ending an instance.
//! * [`recovery`]: where the journal comes in.  * [`external`]: a journal on its own device.  * [`fast_commit`]: what Linux logged between full commits.  * [`types`]: `ext4`, `ext3`, `ext2` as the VFS knows them.  * [`disk`]: kernel disks as devices.
//! * [`fs`]: the instance as the VFS sees it.

mod disk;
mod external;
mod fast_commit;
mod features;
mod fs;
pub mod open;
pub(crate) mod options;
mod recovery;
mod types;

pub use external::{JournalDevice, OpenJournal};
pub use open::{Mounting, mount};
pub use types::register;
