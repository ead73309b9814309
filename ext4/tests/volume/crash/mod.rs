//! The power goes, at each request of a workload: whatever the disk kept of its unflushed writes, the next mount replays the journal, the tree is one
//! that was there, what was synchronized is there, and `e2fsck` finds nothing to mend.
//!
//! A case is a kind of disk, mount options, a flavour of work and a seed; it runs once, and is cut at many points. `EXT4_JUDGE_CASES=17` runs one case
//! again, `EXT4_CRASH_POINTS` sets how many points a case has.

mod flavours;
mod history;
mod known;
mod point;
mod work;

use std::sync::OnceLock;

use ext4::fault::{FaultDevice, Image as Bytes};

use crate::campaign::{Campaign, chosen, setting};
use crate::image::{Image, mount};

/// Disks: type, words for `mke2fs`, mebibytes.
const DISKS: [(&str, &str, u64); 10] = [
    ("ext4", "-b 1024 -J size=1", 8),
    ("ext3", "-b 1024 -J size=1", 8),
    ("ext4", "-b 4096 -J size=4", 16),
    ("ext4", ALL_1K, 8),
    ("ext3", "-b 4096 -J size=4", 16),
    ("ext4", "-b 2048 -J size=2", 12),
    ("ext4", ALL_4K, 20),
    (
        "ext4",
        "-b 1024 -J size=1 -g 2048 -O ^metadata_csum,uninit_bg,^64bit,^flex_bg",
        8,
    ),
    ("ext3", "-b 2048 -J size=2", 12),
    ("ext4", ALL_2K, 12),
];

const ALL_1K: &str = "-b 1024 -J size=1 -g 4096 -O large_dir,ea_inode,inline_data,orphan_file,fast_commit,metadata_csum_seed,sparse_super2";
const ALL_2K: &str = "-b 2048 -J size=3 -O large_dir,ea_inode,orphan_file,fast_commit,metadata_csum_seed,sparse_super2";
const ALL_4K: &str =
    "-b 4096 -J size=6 -O large_dir,ea_inode,inline_data,orphan_file,fast_commit,metadata_csum_seed,sparse_super2";

/// How they are mounted.
const OPTIONS: [&str; 7] = [
    "",
    "data=writeback",
    "discard",
    "data=journal",
    "journal_checksum",
    "nodelalloc",
    "data=writeback,journal_async_commit,journal_checksum",
];

/// One run of a workload.
struct Case {
    disk: usize,
    options: usize,
    flavour: usize,
    seed: u64,
}

impl Case {
    /// Neighbours differ in everything; the first 420 are all there are.
    fn new(number: u64) -> Self {
        let all = (DISKS.len() * OPTIONS.len() * flavours::KINDS) as u64;
        // 137 is a prime that divides none of the factors.
        let which = (number * 137 % all) as usize;
        Self {
            disk: which % DISKS.len(),
            options: which / DISKS.len() % OPTIONS.len(),
            flavour: which / DISKS.len() / OPTIONS.len(),
            seed: number,
        }
    }

    fn run(&self, points: u64) -> Result<u64, String> {
        let (kind, how, _) = DISKS[self.disk];
        let options = OPTIONS[self.options];
        let bytes = formatted(self.disk);
        let disk = FaultDevice::new(bytes.clone());
        disk.record();
        let fs = mount(kind, disk.clone(), options, false).map_err(|error| format!("mount: {error}"))?;
        let mut history = work::run(&fs, &disk, self.flavour, self.seed, 70);
        history.begin(disk.requests());
        drop(fs);
        history.all_synced(disk.requests());
        let cut = point::Cut {
            kind,
            options,
            e2fsck: if how.contains("ea_inode") && flavours::name(self.flavour) == "attributes" {
                point::E2fsck::LosesValues
            } else {
                point::E2fsck::Can
            },
            base: bytes,
            history: &history,
            requests: disk.recorded(),
        };
        cut.try_points(points, self.seed)
            .map_err(|text| format!("{how} -o {options} {}: {text}", flavours::name(self.flavour)))
    }
}

/// What `mke2fs` makes of a kind of disk. Made once.
fn formatted(disk: usize) -> &'static Bytes {
    static MADE: [OnceLock<Bytes>; DISKS.len()] = [const { OnceLock::new() }; DISKS.len()];
    MADE[disk].get_or_init(|| {
        let (kind, options, megabytes) = DISKS[disk];
        Image::new_on_used(kind, options, megabytes).load()
    })
}

fn campaign(cases: u64, points: u64) {
    let points = setting("EXT4_CRASH_POINTS", points);
    Campaign {
        units: "points",
        row: &|number| {
            let (kind, how, _) = DISKS[Case::new(number).disk];
            format!("{kind} {how}")
        },
        run: &|number| Case::new(number).run(points),
    }
    .judge(chosen(cases));
}

#[test]
fn after_a_crash_at_any_request_the_disk_is_whole_and_what_was_synced_is_there() {
    campaign(60, 18);
}

#[test]
#[ignore = "twenty thousand points take long: cargo xtask judge ext4 crash"]
fn at_scale() {
    campaign(setting("EXT4_JUDGE_COUNT", 510), 40);
}
