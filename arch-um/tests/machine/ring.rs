//! Requests of images through the host's io_uring.

use crate::{PASS, boot, tests};
use arch_um::Errno;
use arch_um::host::image::{Durability, Image, ImageOptions};
use arch_um::host::ring::{Failure, ImageRing, Place, Request, why_not};
use arch_um::sync::{Interruptible, SpinLock, WaitQueue, order};
use std::path::PathBuf;
use std::sync::Arc;

tests! {
    a_request_through_a_ring_is_as_by_a_call => PASS;
    a_ring_that_is_full_gives_requests_back => PASS;
    a_ring_dropped_at_work_completes_what_it_has_and_lets_the_image_go => PASS;
}

type Outcome = (Vec<u8>, Result<(), Failure>);

/// Collects outcomes.
struct Outcomes {
    queue: WaitQueue,
    list: SpinLock<Vec<(u64, Outcome)>>,
}

impl Outcomes {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            queue: WaitQueue::new(),
            list: SpinLock::new(&order::LEAF, Vec::new()),
        })
    }

    fn submit(self: &Arc<Self>, ring: &Arc<ImageRing>, request: Request, at: u64, place: Place) {
        let outcomes = self.clone();
        let done = move |data, outcome| {
            outcomes.list.lock().push((at, (data, outcome)));
            outcomes.queue.wake_all();
        };
        ring.clone().submit(request, at, place, Box::new(done));
    }

    /// Waits until there are `count`.
    fn wait(&self, count: usize) -> Vec<(u64, Outcome)> {
        let mut list = self
            .queue
            .wait_until(Interruptible::No, None, || {
                let mut list = self.list.lock();
                (list.len() >= count).then(|| std::mem::take(&mut *list))
            })
            .expect("no limit");
        list.sort_by_key(|(at, _)| *at);
        list
    }
}

/// An image of sevens.
fn image(name: &str, len: usize) -> (PathBuf, Arc<Image>) {
    let path = std::env::temp_dir().join(format!("ring-{}-{name}", std::process::id()));
    std::fs::write(&path, vec![7; len]).expect("a temporary file");
    let image = Image::open(&path, ImageOptions::default()).expect("it opens");
    (path, Arc::new(image))
}

/// A ring, unless the host or a sandbox around us has none to give, which is said.
fn ring(image: Arc<Image>) -> Option<Arc<ImageRing>> {
    match ImageRing::new(image) {
        Ok(ring) => Some(ring),
        Err(errno @ (Errno::ENOSYS | Errno::EPERM | Errno::EINVAL)) => {
            eprintln!("skipped: no io_uring, {}", why_not(errno));
            None
        }
        Err(errno) => panic!("no ring: {errno}"),
    }
}

fn a_request_through_a_ring_is_as_by_a_call() {
    boot(1, || {
        let (path, image) = image("calls", 10_000);
        let Some(ring) = ring(image) else { return };
        let outcomes = Outcomes::new();
        for place in [Place::Here, Place::Elsewhere] {
            let one = |request, at| {
                outcomes.submit(&ring, request, at, place);
                outcomes.wait(1).remove(0).1
            };
            let (data, outcome) = one(Request::Write(vec![9; 600], Durability::Cached), 1000);
            assert_eq!((data.len(), outcome), (600, Ok(())));
            let outcome = one(Request::Write(vec![5; 10], Durability::Stable), 1100).1;
            assert_eq!(outcome, Ok(()));
            assert_eq!(one(Request::Flush, 0), (Vec::new(), Ok(())));
            // Behind the end that the file had when it was opened are zeros.
            let (data, outcome) = one(Request::Read(vec![1; 12_288]), 0);
            let mut model = vec![7; 10_000];
            model[1000..1600].fill(9);
            model[1100..1110].fill(5);
            model.resize(12_288, 0);
            assert_eq!((data == model, outcome), (true, Ok(())));
            match one(Request::PunchHole(4096), 4096).1 {
                Ok(()) => assert_eq!(one(Request::Read(vec![1; 4096]), 4096), (vec![0; 4096], Ok(()))),
                outcome => assert_eq!(outcome, Err(Failure::Host(Errno::EOPNOTSUPP))),
            }
            let outcome = one(Request::Write(vec![7; 4096], Durability::Cached), 4096).1;
            assert_eq!(outcome, Ok(()));
            let far = one(Request::Read(vec![1; 512]), u64::MAX - 511).1;
            assert_eq!(far, Err(Failure::Host(Errno::EINVAL)));
        }
        let _ = std::fs::remove_file(path);
    })
}

fn a_ring_that_is_full_gives_requests_back() {
    boot(2, || {
        let (path, image) = image("full", 1 << 20);
        let Some(ring) = ring(image) else { return };
        let outcomes = Outcomes::new();
        // Synchronous writes are slower than we are.
        for at in 0..512 {
            let request = Request::Write(vec![at as u8; 512], Durability::Stable);
            outcomes.submit(&ring, request, at * 512, Place::Elsewhere);
        }
        let list = outcomes.wait(512);
        let refused = list
            .iter()
            .filter(|(_, (_, outcome))| *outcome == Err(Failure::Refused));
        assert!(refused.count() > 0, "512 requests found room");
        let contents = std::fs::read(&path).expect("the image");
        for (at, (data, outcome)) in list {
            // A buffer comes back whatever became of the request.
            assert_eq!(data, vec![(at / 512) as u8; 512]);
            let byte = if outcome.is_ok() { data[0] } else { 7 };
            assert!(contents[at as usize..][..512].iter().all(|&stored| stored == byte));
        }
        let _ = std::fs::remove_file(path);
    })
}

fn a_ring_dropped_at_work_completes_what_it_has_and_lets_the_image_go() {
    boot(2, || {
        let (path, image) = image("dropped", 1 << 20);
        let Some(ring) = ring(image) else { return };
        let outcomes = Outcomes::new();
        for at in 0..20 {
            let request = Request::Write(vec![at as u8; 512], Durability::Stable);
            outcomes.submit(&ring, request, at * 512, Place::Elsewhere);
        }
        drop(ring);
        for (at, (_, outcome)) in outcomes.wait(20) {
            assert_eq!(outcome, Ok(()), "{at}");
        }
        // The lock is gone with the last request: each lets go before it tells.
        Image::open(&path, ImageOptions::default()).expect("nobody has it open");
        let _ = std::fs::remove_file(path);
    })
}
