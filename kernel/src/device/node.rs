//! Announcements of devices: a driver says that a device is there, devtmpfs and sysfs show it.
//!
//! [`announce`] and [`retract`] call the listeners one after the other and may sleep: no spin lock may be held.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use arch_um::sync::{SpinLock, order};

use crate::vfs::DevT;

/// A name that devtmpfs shows and sysfs lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceNode {
    /// Path below /dev (`null`, `pts/ptmx`, `input/event0`).
    pub name: String,
    /// Its number.
    pub dev: DevT,
    /// Permission bits.
    pub mode: u32,
    /// Its class in /sys/class (`mem`, `tty`, `misc`, `block`). `block` makes it a block device.
    pub class: &'static str,
}

impl DeviceNode {
    /// Whether it is a block device.
    pub fn is_block(&self) -> bool {
        self.class == "block"
    }

    /// The name in sysfs: the last part of the path below /dev.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }
}

/// Who shows devices.
pub trait NodeListener: Send + Sync {
    /// A device came.
    fn added(&self, node: &DeviceNode);
    /// A device went.
    fn removed(&self, node: &DeviceNode);
}

struct Nodes {
    nodes: Vec<DeviceNode>,
    listeners: Vec<Arc<dyn NodeListener>>,
}

static NODES: SpinLock<Nodes> = SpinLock::new(
    &order::DEVICE,
    Nodes {
        nodes: Vec::new(),
        listeners: Vec::new(),
    },
);

/// Shows a device. A second announcement of the same name and number changes nothing.
pub fn announce(node: DeviceNode) {
    let listeners = {
        let mut all = NODES.lock();
        if all
            .nodes
            .iter()
            .any(|old| old.name == node.name && old.class == node.class)
        {
            return;
        }
        all.nodes.push(node.clone());
        all.listeners.clone()
    };
    for listener in listeners {
        listener.added(&node);
    }
}

/// Takes a device away again, by the name it was announced with.
pub fn retract(name: &str) {
    let (node, listeners) = {
        let mut all = NODES.lock();
        let Some(index) = all.nodes.iter().position(|node| node.name == name) else {
            return;
        };
        (all.nodes.remove(index), all.listeners.clone())
    };
    for listener in listeners {
        listener.removed(&node);
    }
}

/// Tells `listener` of all devices there are and of all that come and go from now on.
pub fn listen(listener: Arc<dyn NodeListener>) {
    let nodes = {
        let mut all = NODES.lock();
        all.listeners.push(listener.clone());
        all.nodes.clone()
    };
    for node in &nodes {
        listener.added(node);
    }
}

/// All devices, in the order they came.
pub fn nodes() -> Vec<DeviceNode> {
    NODES.lock().nodes.clone()
}
