//! What the memory calls ask of other rooms about the calling task: resource limits, capabilities, personality.

use crate::task::rlimit::Resource;
use crate::task::{Capabilities, Task};

/// The soft limits that memory calls look at, in bytes (`getrlimit(2)`); `u64::MAX` is no limit.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `RLIMIT_AS`.
    pub address_space: u64,
    /// `RLIMIT_DATA`.
    pub data: u64,
    /// `RLIMIT_STACK`.
    pub stack: u64,
    /// `RLIMIT_MEMLOCK`.
    pub memlock: u64,
    /// `CAP_IPC_LOCK`.
    pub may_lock: bool,
    /// `personality(2)`.
    pub personality: u32,
}

impl Limits {
    /// Those of `task`.
    pub fn of(task: &Task) -> Self {
        let limits = *task.process().limits().lock();
        Self {
            address_space: limits.soft(Resource::AS),
            data: limits.soft(Resource::DATA),
            stack: limits.soft(Resource::STACK),
            memlock: limits.soft(Resource::MEMLOCK),
            may_lock: task.cred().capable(Capabilities::IPC_LOCK),
            personality: task.with_attributes(|attributes| attributes.personality),
        }
    }
}
