//! /sys/block/loopN/loop: there while the device is bound, which is how `losetup(8)` sees that it is.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use super::LoopDevice;
use super::abi::{LoopFlags, Settings};
use crate::fs::pseudo::Seq;
use crate::fs::sysfs;
use crate::vfs::mount;
use crate::{Result, seq};

fn path(device: &LoopDevice) -> String {
    format!("devices/virtual/block/{}/loop", device.name())
}

pub(super) fn add(device: &Arc<LoopDevice>) {
    let dir = sysfs::dir(&path(device));
    let own = device.clone();
    sysfs::attribute(&dir, "backing_file", move |out| {
        let binding = own.bound()?;
        if let Some(path) = binding.file.path() {
            out.bytes(&path.display(&mount::namespace_root()));
        }
        seq!(out, "\n");
        Ok(())
    });
    let show = |name: &str, show: fn(&Settings, &mut Seq)| {
        let own = device.clone();
        sysfs::attribute(&dir, name, move |out| -> Result<()> {
            show(&own.bound()?.settings, out);
            Ok(())
        });
    };
    show("offset", |settings, out| seq!(out, "{}\n", settings.offset));
    show("sizelimit", |settings, out| seq!(out, "{}\n", settings.size_limit));
    show("autoclear", |settings, out| flag(settings, LoopFlags::AUTOCLEAR, out));
    show("partscan", |settings, out| {
        flag(settings, LoopFlags::PARTITION_SCAN, out)
    });
    show("dio", |settings, out| flag(settings, LoopFlags::DIRECT_IO, out));
}

fn flag(settings: &Settings, flag: LoopFlags, out: &mut Seq) {
    seq!(out, "{}\n", u32::from(settings.flags.contains(flag)));
}

pub(super) fn remove(device: &LoopDevice) {
    sysfs::remove(&path(device));
}
