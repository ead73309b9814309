//! How fast hostfs walks a tree, against the host itself: `cargo run --release -p hostfs --example walk -- /usr`.
//!
//! Both sides read every directory and stat every entry, staying on one device. hostfs keeps every inode in hand, as a name cache would.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Instant;

use hostfs::{HostFs, HostfsArgs};
use kernel::Result;
use kernel::task::Cred;
use kernel::vfs::{File, FileSystem, FileType, Inode, OpenFlags};

fn native(dir: &std::path::Path, dev: u64, count: &mut u64) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let Ok(stat) = std::fs::symlink_metadata(entry.path()) else {
            continue;
        };
        *count += 1;
        if stat.is_dir() && stat.dev() == dev {
            native(&entry.path(), dev, count);
        }
    }
}

/// A name as a name cache holds it: the directory, the name, the file.
type Name = (Arc<dyn Inode>, Vec<u8>, Arc<dyn Inode>);

fn guest(dir: &Arc<dyn Inode>, held: &mut Vec<Name>) -> Result<()> {
    let dev = dir.metadata()?.dev;
    let file = File::new(
        dir.clone().open(OpenFlags::empty())?,
        None,
        OpenFlags::empty(),
        Cred::root(),
    );
    let mut names = Vec::new();
    file.ops().read_dir(&file, 0, &mut |entry| {
        names.push(entry.name.to_vec());
        true
    })?;
    drop(file);
    for name in names.into_iter().filter(|name| name != b"." && name != b"..") {
        let Ok(child) = dir.lookup(&name) else { continue };
        let Ok(stat) = child.found_metadata() else { continue };
        held.push((dir.clone(), name, child.clone()));
        if stat.kind == FileType::Directory && stat.dev == dev {
            guest(&child, held)?;
        }
    }
    Ok(())
}

fn main() {
    let root = std::env::args().nth(1).unwrap_or_else(|| "/usr".into());
    let path = std::path::Path::new(&root);
    let dev = std::fs::metadata(path).map_or(0, |stat| stat.dev());
    for round in 1..=3 {
        let (start, mut count) = (Instant::now(), 0);
        native(path, dev, &mut count);
        let host = start.elapsed();
        let args = HostfsArgs {
            root: root.clone().into_bytes(),
            append: false,
        };
        let fs = HostFs::with_anchor_limit(&args, 8192).unwrap_or_else(|error| panic!("{root}: {error}"));
        let (start, mut held) = (Instant::now(), Vec::new());
        if let Err(error) = guest(&fs.root(), &mut held) {
            panic!("{root}: {error}");
        }
        let ours = start.elapsed();
        let per = |time: std::time::Duration, n: usize| time.as_nanos() as f64 / n.max(1) as f64 / 1000.0;
        let (inodes, anchors) = fs.usage();
        println!(
            "round {round}: host {count} entries {host:.2?} ({:.2} µs each); hostfs {} entries {ours:.2?} ({:.2} µs each), {inodes} inodes, {anchors} anchors",
            per(host, count as usize),
            held.len(),
            per(ours, held.len())
        );
        let start = Instant::now();
        let good = held
            .iter()
            .filter(|(dir, name, child)| dir.revalidate(name, child))
            .count();
        let again = start.elapsed();
        let start = Instant::now();
        held.iter().for_each(|(_, _, child)| assert!(child.metadata().is_ok()));
        let stats = start.elapsed();
        println!(
            "         revalidate {:.2} µs, stat of an inode in hand {:.2} µs",
            per(again, good),
            per(stats, held.len())
        );
        drop(held);
        let _ = fs.unmount();
    }
}
