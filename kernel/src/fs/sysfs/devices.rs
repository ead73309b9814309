//! Devices as they are announced: a directory below `devices`, links to it from `class` and `dev`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;

use super::{attribute, block, constant, dir, link, remove, setting};
use crate::device::node::{self, DeviceNode, NodeListener};
use crate::fs::pseudo::Tree;
use crate::seq;

/// Where things of a device lie; paths below /sys.
struct Place {
    /// `devices/virtual/mem/null`.
    device: String,
    /// `class/mem`.
    class: String,
    /// `dev/char`.
    numbers: &'static str,
    /// `1:3`.
    number: String,
}

impl Place {
    fn of(node: &DeviceNode) -> Self {
        let name = node.short_name();
        let number = format!("{}:{}", node.dev.major, node.dev.minor);
        let class = format!("class/{}", node.class);
        let (device, numbers) = if node.is_block() {
            (block::path(node), "dev/block")
        } else {
            (format!("devices/virtual/{}/{name}", node.class), "dev/char")
        };
        Self {
            device,
            class,
            numbers,
            number,
        }
    }
}

/// What udev reads of a device, and writes to make it be announced again.
fn uevent(at: &Tree, node: &DeviceNode) {
    let mut text = format!(
        "MAJOR={}\nMINOR={}\nDEVNAME={}\n",
        node.dev.major, node.dev.minor, node.name
    );
    if node.is_block() {
        text.push_str(&block::uevent(node));
    } else if node.mode != 0o600 {
        text.push_str(&format!("DEVMODE=0{:o}\n", node.mode));
    }
    let show = move |out: &mut crate::fs::pseudo::Seq| {
        seq!(out, "{text}");
        Ok(())
    };
    setting(at, "uevent", show, |_| Ok(()));
}

/// Makes and removes directories.
struct Listener;

impl NodeListener for Listener {
    fn added(&self, node: &DeviceNode) {
        let place = Place::of(node);
        let at = dir(&place.device);
        constant(&at, "dev", place.number.clone());
        dir(&format!("{}/power", place.device));
        link(&place.device, "subsystem", &place.class);
        let kind = node.is_block().then(|| block::fill(&at, node, &place.device));
        uevent(&at, node);
        if node.class == "tty" && node.name == "console" {
            attribute(&at, "active", |out| {
                seq!(out, "{}\n", active_consoles());
                Ok(())
            });
        }
        link(&place.class, node.short_name(), &place.device);
        link(place.numbers, &place.number, &place.device);
        if kind == Some("disk") {
            link("block", node.short_name(), &place.device);
        }
    }

    fn removed(&self, node: &DeviceNode) {
        let place = Place::of(node);
        remove(&format!("{}/{}", place.class, node.short_name()));
        remove(&format!("{}/{}", place.numbers, place.number));
        remove(&format!("block/{}", node.short_name()));
        remove(&place.device);
    }
}

/// The consoles that get kernel messages, the one behind /dev/console last.
fn active_consoles() -> String {
    let named = crate::tty::console::named();
    if named.is_empty() {
        "tty0".to_string()
    } else {
        named.join(" ")
    }
}

/// Follows the announcements.
pub(super) fn init() {
    for class in ["mem", "tty", "misc", "block", "net", "input", "graphics", "vc"] {
        dir(&format!("class/{class}"));
    }
    dir("dev/char");
    dir("dev/block");
    dir("devices/virtual");
    dir("devices/platform");
    node::listen(Arc::new(Listener));
}
