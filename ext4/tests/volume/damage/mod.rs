//! Damaged images, mounted, walked and written to: there is always an errno, and a line in the log for what is damage; `errors=` is obeyed; nothing
//! panics, goes on without end, takes memory without bound, or reads or writes outside of the image.
//!
//! Each image has one to four changes in one kind of its metadata, whose checksums stay wrong in one half and are made right again in the other. A
//! case is 20 images.

mod anatomy;
mod guard;
mod poke;
mod seal;

use std::collections::BTreeSet;
use std::sync::OnceLock;

use ext4::Errno;
use ext4::fault::{FaultDevice, Image as Bytes};
use kernel::vfs::NewNode;

use self::anatomy::{Anatomy, Piece};
use self::guard::{Guard, heard};
use self::poke::Poke;
use crate::campaign::{Campaign, chosen, setting};
use crate::image::{Image, attr, mount};
use crate::random::Random;

/// Images: type, words for `mke2fs`.
const DISKS: [(&str, &str); 7] = [
    ("ext4", "-b 1024 -J size=1"),
    ("ext3", "-b 1024 -J size=1"),
    ("ext4", "-b 4096 -J size=4 -O ^metadata_csum,uninit_bg"),
    (
        "ext4",
        "-b 1024 -J size=1 -g 1024 -O large_dir,ea_inode,inline_data,orphan_file,fast_commit,metadata_csum_seed,sparse_super2",
    ),
    ("ext2", "-b 1024"),
    ("ext4", "-b 4096 -J size=4"),
    ("ext4", "-b 2048 -O ^metadata_csum,^has_journal,^64bit"),
];

/// Mebibytes of an image.
const SIZE: u64 = 12;
/// Images of a case.
const IMAGES: u64 = 20;
/// Bytes of memory that all of this may take, with what other tests in the same process take.
const MEMORY: u64 = 3 << 30;

/// A whole image that was unmounted, and one that was not.
fn whole(disk: usize) -> &'static [Vec<u8>; 2] {
    static MADE: [OnceLock<[Vec<u8>; 2]>; DISKS.len()] = [const { OnceLock::new() }; DISKS.len()];
    MADE[disk].get_or_init(|| {
        let (kind, options) = DISKS[disk];
        let disk = FaultDevice::new(Image::new(kind, options, SIZE).load());
        let fs = mount(kind, disk.clone(), "", false).unwrap();
        poke::fill(&fs);
        let crashed = disk.crash(1);
        fs.end().unwrap();
        [disk.image(), crashed].map(|image| {
            let mut bytes = vec![0; image.len() as usize];
            assert!(image.read(0, &mut bytes));
            bytes
        })
    })
}

/// One to four changes in one piece. What they were.
fn damage(image: &mut [u8], anatomy: &Anatomy, piece: &Piece, random: &mut Random) -> Vec<String> {
    let blocks = (image.len() / anatomy.block) as u32;
    let own = (piece.bytes.start / anatomy.block) as u32;
    let raw = &mut image[piece.bytes.clone()];
    // What is not zero is worth damaging, most of the time.
    let used: Vec<usize> = (0..raw.len()).filter(|&at| raw[at] != 0).collect();
    let mut done = Vec::new();
    for _ in 0..1 + random.below(4) {
        let at = if used.is_empty() || random.below(5) == 0 {
            random.below(raw.len() as u64) as usize
        } else {
            *random.of(&used)
        };
        match random.below(4) {
            0 => raw[at] ^= 1 << random.below(8),
            1 => {
                let any = random.next() as u8;
                let filler = *random.of(&[0, 0xFF, any]);
                raw[at..]
                    .iter_mut()
                    .take(1 + random.below(16) as usize)
                    .for_each(|byte| *byte = filler);
            }
            _ => {
                let any = random.below(u64::from(blocks)) as u32;
                let word = *random.of(&[0, 1, u32::MAX, 0x8000_0000, own, blocks - 1, blocks, any]);
                let at = (at / 4 * 4).min(raw.len() - 4);
                let bytes = if random.below(8) == 0 {
                    word.to_be_bytes()
                } else {
                    word.to_le_bytes()
                };
                raw[at..at + 4].copy_from_slice(&bytes);
            }
        }
        done.push(format!("{at:#x}"));
    }
    done
}

fn case(number: u64) -> Result<u64, String> {
    let disk = (number % DISKS.len() as u64) as usize;
    let mut random = Random::new(number);
    for index in 0..IMAGES {
        let mut image = whole(disk)[random.below(2) as usize].clone();
        let anatomy = Anatomy::of(&image);
        let pieces = anatomy.pieces(&image);
        let kinds: BTreeSet<&str> = pieces.iter().map(|piece| piece.part.kind()).collect();
        let kind = *random.of(&Vec::from_iter(kinds));
        let of_kind: Vec<&Piece> = pieces.iter().filter(|piece| piece.part.kind() == kind).collect();
        let piece = *random.of(&of_kind);
        let places = damage(&mut image, &anatomy, piece, &mut random);
        let is_sealed = random.below(2) == 0;
        if is_sealed {
            anatomy.seal(&mut image, piece);
        }
        let what = format!("image {index}: {:?} at {places:?}, sealed: {is_sealed}", piece.part);
        let tried = std::panic::catch_unwind(|| use_it(DISKS[disk].0, &image, number + index));
        match tried {
            Ok(Ok(())) => {}
            Ok(Err(text)) => return Err(format!("{what}: {text}")),
            Err(panic) => return Err(format!("{what}: {}", crate::campaign::words(&*panic))),
        }
    }
    Ok(IMAGES)
}

/// Mounts an image in several ways and does everything to it.
fn use_it(kind: &'static str, image: &[u8], turn: u64) -> Result<(), String> {
    let mut bytes = Bytes::new(image.len() as u64);
    assert!(bytes.write(0, image));
    let read_only = if turn.is_multiple_of(2) { "noload" } else { "" };
    for (options, read_only) in [
        (read_only, true),
        ("errors=continue", false),
        ("errors=remount-ro", false),
    ] {
        drop(heard());
        let mut poke = Poke::default();
        let mut log = Vec::new();
        match mount(kind, Guard::new(FaultDevice::new(bytes.clone())), options, read_only) {
            Err(error) => poke.errors.push(error),
            Ok(fs) => {
                log.extend(heard());
                poke.read(&fs);
                if !read_only {
                    poke.change(&fs);
                }
                let met = heard();
                let made = fs.root().create(b"last", NewNode::Regular, attr(0o600)).map(drop);
                obeys(options, &met, made)?;
                log.extend(met);
                // Unmounting damage may fail.
                let _ = fs.end();
            }
        }
        log.extend(heard());
        let is_damage = |error: &Errno| matches!(*error, Errno::EUCLEAN | Errno::EBADMSG);
        let is_told = log.iter().any(|line| line.contains("EXT4-fs") || line.contains("JBD2"));
        if poke.errors.iter().any(is_damage) && !is_told {
            return Err(format!(
                "{options}: damage is not in the log: {:?}, {log:?}",
                poke.errors
            ));
        }
    }
    Ok(())
}

/// Whether a mount that has logged `met` does what `errors=` says; `made` is what came of a new file.
fn obeys(options: &str, met: &[String], made: ext4::Result<()>) -> Result<(), String> {
    let has = |words: &str| met.iter().any(|line| line.contains(words));
    let is_stopped = has("Remounting filesystem read-only");
    let should_stop = has("aborted journal") || options == "errors=remount-ro" && has("EXT4-fs error");
    if is_stopped != should_stop {
        return Err(format!("{options}: stopped {is_stopped}, not {should_stop}: {met:?}"));
    }
    if is_stopped && made != Err(Errno::EROFS) {
        return Err(format!("{options}: a new file after an error: {made:?}"));
    }
    Ok(())
}

/// Most memory this process has ever used, in bytes.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}

fn campaign(cases: u64) {
    Campaign {
        units: "images",
        row: &|number| {
            let (kind, options) = DISKS[(number % DISKS.len() as u64) as usize];
            format!("{kind} {options}")
        },
        run: &case,
    }
    .judge(chosen(cases));
    assert!(memory() < MEMORY, "{} bytes of memory", memory());
}

#[test]
fn sealing_what_is_whole_changes_nothing() {
    for (number, disk) in DISKS.iter().enumerate() {
        for image in whole(number) {
            let anatomy = Anatomy::of(image);
            let mut sealed = image.clone();
            for piece in anatomy.pieces(image) {
                anatomy.seal(&mut sealed, &piece);
                let (was, is) = (&image[piece.bytes.clone()], &sealed[piece.bytes.clone()]);
                assert!(was == is, "{disk:?}: {piece:?}");
            }
            assert!(*image == sealed, "{disk:?}");
        }
    }
}

#[test]
fn damaged_images_do_no_harm() {
    campaign(14);
}

#[test]
#[ignore = "thousands of images take long: cargo xtask judge ext4 damage"]
fn at_scale() {
    campaign(setting("EXT4_JUDGE_COUNT", 140));
}
