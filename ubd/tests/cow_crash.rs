//! Power is lost: of what was not flushed, any part may be on the host's disk, in any order. Whatever is there, a sector of a COW disk
//! shows the value of the last flush or one written since, never a hole and never another sector's data.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arch_um::Errno;
use arch_um::host::image::{Cached, Durability};
use proptest::prelude::*;
use ubd::cow::{Bitmap, CowStore, Header, Layout, Saving};
use ubd::store::Store;

const SECTORS: u64 = 8192 + 64;
const SIZE: u64 = SECTORS * 512;

/// A host file whose cache is lost when the power goes, and which fails now and then.
#[derive(Default)]
struct Disk {
    stable: BTreeMap<u64, [u8; 512]>,
    /// Writes since the last flush, sector by sector, oldest first.
    cached: Vec<(u64, [u8; 512])>,
    /// Calls until one fails; none for never.
    fails_in: Option<u32>,
}

impl Disk {
    fn sector(&self, number: u64) -> [u8; 512] {
        let cached = self.cached.iter().rev().find(|(at, _)| *at == number);
        match cached {
            Some((_, data)) => *data,
            None => self.stable.get(&number).copied().unwrap_or([0; 512]),
        }
    }

    fn may_fail(&mut self) -> Result<(), Errno> {
        match &mut self.fails_in {
            Some(0) => {
                self.fails_in = None;
                Err(Errno::ENOSPC)
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The power goes; `survives` says of each cached sector, in order, whether it had reached the disk.
    fn lose_power(&mut self, mut survives: impl FnMut() -> bool) {
        for (at, data) in std::mem::take(&mut self.cached) {
            if survives() {
                self.stable.insert(at, data);
            }
        }
    }
}

#[derive(Clone, Default)]
struct HostFile(Arc<Mutex<Disk>>);

impl HostFile {
    fn disk(&self) -> std::sync::MutexGuard<'_, Disk> {
        self.0.lock().expect("no test thread panics with it")
    }
}

impl Store for HostFile {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        let disk = self.disk();
        for (index, piece) in data.chunks_mut(512).enumerate() {
            piece.copy_from_slice(&disk.sector(offset / 512 + index as u64)[..piece.len()]);
        }
        Ok(())
    }

    fn read_cached(&self, offset: u64, data: &mut [u8]) -> Cached {
        match self.read(offset, data) {
            Ok(()) => Cached::Yes,
            Err(_) => Cached::No,
        }
    }

    fn write(&self, offset: u64, data: &[u8], _durability: Durability) -> Result<(), Errno> {
        let mut disk = self.disk();
        for (index, piece) in data.chunks(512).enumerate() {
            disk.may_fail()?;
            let mut sector = disk.sector(offset / 512 + index as u64);
            sector[..piece.len()].copy_from_slice(piece);
            disk.cached.push((offset / 512 + index as u64, sector));
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Errno> {
        let mut disk = self.disk();
        disk.may_fail()?;
        disk.lose_power(|| true);
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.write(offset, &vec![0; len as usize], Durability::Cached)
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.discard(offset, len)
    }
}

/// A sector that says which one it is and which write made it.
fn stamped(sector: u64, stamp: u64) -> [u8; 512] {
    let mut data = [0; 512];
    for (index, word) in data.chunks_mut(8).enumerate() {
        let value = if index % 2 == 0 { sector + 1 } else { stamp };
        word.copy_from_slice(&value.to_le_bytes());
    }
    data
}

fn layout() -> Layout {
    Header::new("/back".into(), 0, SIZE).layout()
}

fn open(cow: &HostFile, backing: &HostFile) -> CowStore {
    let layout = layout();
    let bitmap = Bitmap::load(layout.bitmap_len, |at, bytes| {
        cow.read(layout.bitmap_offset + at, bytes)
    });
    let bitmap = bitmap.expect("a small bitmap");
    CowStore::new(
        Box::new(cow.clone()),
        Arc::new(backing.clone()),
        layout,
        bitmap,
        Saving::OnFlush,
    )
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, u64),
    Flush,
    Fail(u32),
    Crash(u64),
}

fn step() -> impl Strategy<Value = Step> {
    // Sectors whose bits lie in both chunks of the bitmap, and close enough to be written again.
    let first = prop_oneof![0..24_u64, 4090..4102_u64, 8192..8240_u64];
    prop_oneof![
        8 => (first, 1..16_u64).prop_map(|(first, count)| Step::Write(first, count)),
        2 => Just(Step::Flush),
        1 => (0..12_u32).prop_map(Step::Fail),
        1 => any::<u64>().prop_map(Step::Crash),
    ]
}

/// What each sector may show after a crash: first the value of the last flush, then those written since.
type Allowed = BTreeMap<u64, Vec<[u8; 512]>>;

fn check(store: &CowStore, allowed: &Allowed) -> Result<(), TestCaseError> {
    for (&sector, values) in allowed {
        let mut data = [0; 512];
        store.read(sector * 512, &mut data).expect("it reads");
        prop_assert!(
            values.contains(&data),
            "sector {} shows {:?}, {} values are allowed",
            sector,
            &data[..16],
            values.len()
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn after_a_loss_of_power_every_sector_is_as_flushed_or_as_written_since(steps in prop::collection::vec(step(), 1..80)) {
        let (cow, backing) = (HostFile::default(), HostFile::default());
        let mut allowed = Allowed::new();
        for sector in (0..40).chain(4080..4120).chain(8180..SECTORS) {
            backing.disk().stable.insert(sector, stamped(sector, 0));
            allowed.insert(sector, vec![stamped(sector, 0)]);
        }
        let mut store = open(&cow, &backing);
        let mut stamp = 1;
        for step in steps {
            match step {
                Step::Write(first, count) => {
                    let sectors = first..(first + count).min(SECTORS);
                    let data: Vec<u8> = sectors.clone().flat_map(|sector| stamped(sector, stamp)).collect();
                    // A write that fails may have happened in part.
                    let _ = store.write(first * 512, &data, Durability::Cached);
                    for sector in sectors {
                        allowed.entry(sector).or_default().push(stamped(sector, stamp));
                    }
                    stamp += 1;
                }
                Step::Flush => {
                    if store.flush().is_ok() {
                        for (&sector, values) in &mut allowed {
                            let mut data = [0; 512];
                            store.read(sector * 512, &mut data).expect("it reads");
                            prop_assert!(values.contains(&data));
                            *values = vec![data];
                        }
                    }
                }
                Step::Fail(calls) => cow.disk().fails_in = Some(calls),
                Step::Crash(mut seed) => {
                    let survives = || {
                        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        seed >> 63 == 1
                    };
                    cow.disk().lose_power(survives);
                    store = open(&cow, &backing);
                    check(&store, &allowed)?;
                }
            }
        }
        check(&store, &allowed)?;
    }
}

#[test]
fn a_flush_writes_data_before_bits() {
    let (cow, backing) = (HostFile::default(), HostFile::default());
    let store = open(&cow, &backing);
    store.write(0, &stamped(0, 1), Durability::Cached).expect("it writes");
    assert!(store.is_unsaved());
    // The third step of the flush fails: data, flush, bits.
    cow.disk().fails_in = Some(1);
    assert_eq!(store.flush(), Err(Errno::ENOSPC));
    let bitmap = layout().bitmap_offset / 512;
    assert!(!cow.disk().stable.contains_key(&bitmap), "no bit");
    assert!(
        cow.disk().stable.contains_key(&(layout().data_offset / 512)),
        "but its data"
    );
    assert!(store.is_unsaved(), "the bit is not forgotten");
    store.flush().expect("it flushes");
    assert_eq!(cow.disk().stable[&bitmap][0], 1);
    assert!(!store.is_unsaved());
}

#[test]
fn a_failed_write_leaves_the_backing_files_data() {
    let (cow, backing) = (HostFile::default(), HostFile::default());
    backing.disk().stable.insert(1, stamped(1, 0));
    let store = open(&cow, &backing);
    cow.disk().fails_in = Some(1);
    let data = [stamped(0, 1), stamped(1, 1)].concat();
    assert_eq!(store.write(0, &data, Durability::Cached), Err(Errno::ENOSPC));
    let mut read = [1; 512];
    store.read(512, &mut read).expect("it reads");
    assert_eq!(read, stamped(1, 0));
}
