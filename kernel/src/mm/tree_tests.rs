//! The tree of mappings against a model that keeps one entry a page.

extern crate std;

use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::OnceLock;

use arch_um::host::mem::SharedMemory;
use proptest::prelude::*;
use skas::Prot;

use super::tree::{Direction, STACK_GUARD_GAP, VmaTree};
use super::vma::{PAGE_SIZE, VmFlags, Vma, VmaBacking};

const PAGES: u64 = 96;
const BASE: u64 = 1 << 32;

fn addr(page: u64) -> u64 {
    BASE + page * PAGE_SIZE
}

fn object() -> Arc<SharedMemory> {
    static OBJECT: OnceLock<Arc<SharedMemory>> = OnceLock::new();
    OBJECT
        .get_or_init(|| Arc::new(SharedMemory::new("test").unwrap()))
        .clone()
}

/// What the model knows of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    prot: Prot,
    locked: bool,
    /// The page of the shared object, none for anonymous memory.
    object_page: Option<u64>,
}

#[derive(Clone, Debug)]
enum Op {
    Map {
        start: u64,
        len: u64,
        prot: u32,
        shift: Option<u64>,
    },
    Carve {
        start: u64,
        len: u64,
    },
    Protect {
        start: u64,
        len: u64,
        prot: u32,
    },
    Lock {
        start: u64,
        len: u64,
    },
    Search {
        len: u64,
        top: u64,
        align: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let range = || (0..PAGES, 1..24u64).prop_map(|(start, len)| (start, len.min(PAGES - start)));
    prop_oneof![
        3 => (range(), 0..8u32, proptest::option::of(0..3u64))
            .prop_map(|((start, len), prot, shift)| Op::Map { start, len, prot, shift }),
        2 => range().prop_map(|(start, len)| Op::Carve { start, len }),
        2 => (range(), 0..8u32).prop_map(|((start, len), prot)| Op::Protect { start, len, prot }),
        1 => range().prop_map(|(start, len)| Op::Lock { start, len }),
        3 => (1..20u64, prop_oneof![Just(PAGES), 1..PAGES], prop_oneof![3 => Just(1u64), 1 => Just(8u64)])
            .prop_map(|(len, top, align)| Op::Search { len, top, align }),
    ]
}

fn vma(start: u64, len: u64, prot: u32, shift: Option<u64>) -> Vma {
    let (backing, offset) = match shift {
        // The same object at the same distance joins; another shift does not.
        Some(shift) => (
            VmaBacking::SharedAnonymous(object()),
            (start + shift * 1000) * PAGE_SIZE,
        ),
        None => (VmaBacking::Anonymous, 0),
    };
    Vma {
        start: addr(start),
        end: addr(start + len),
        prot: Prot::from_bits_truncate(prot),
        flags: VmFlags::MAY_ALL,
        backing,
        offset,
        name: None,
    }
}

/// What the tree says of every page.
fn pages(tree: &VmaTree) -> Vec<Option<Page>> {
    (0..PAGES)
        .map(|page| {
            tree.find(addr(page)).map(|vma| Page {
                prot: vma.prot,
                locked: vma.flags.contains(VmFlags::LOCKED),
                object_page: (!vma.is_anonymous()).then(|| vma.offset_of(addr(page)) / PAGE_SIZE),
            })
        })
        .collect()
}

fn joins(one: Option<Page>, two: Option<Page>) -> bool {
    match (one, two) {
        (Some(one), Some(two)) => {
            one.prot == two.prot && one.locked == two.locked && one.object_page.map(|page| page + 1) == two.object_page
        }
        _ => false,
    }
}

fn check(tree: &VmaTree, model: &[Option<Page>]) -> Result<(), TestCaseError> {
    let seen = pages(tree);
    prop_assert_eq!(&seen[..], model);
    let mapped = model.iter().flatten().count() as u64;
    prop_assert_eq!(tree.counts().total, mapped);
    prop_assert_eq!(
        tree.counts().locked,
        model.iter().flatten().filter(|page| page.locked).count() as u64
    );
    let edges = model
        .windows(2)
        .filter(|two| two[1].is_some() && !joins(two[0], two[1]))
        .count();
    let mappings = edges + usize::from(model[0].is_some());
    prop_assert_eq!(tree.len(), mappings, "as few mappings as the pages allow");
    Ok(())
}

/// The highest (or lowest) free place by looking at all.
fn search(model: &[Option<Page>], len: u64, top: u64, align: u64, direction: Direction) -> Option<u64> {
    let fits = |&start: &u64| {
        addr(start).is_multiple_of(align * PAGE_SIZE)
            && start + len <= top
            && model[start as usize..(start + len) as usize]
                .iter()
                .all(Option::is_none)
    };
    match direction {
        Direction::TopDown => (0..PAGES).rev().find(fits),
        Direction::BottomUp => (0..PAGES).find(fits),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_is_what_a_page_by_page_model_says_it_is(ops in proptest::collection::vec(op(), 1..60)) {
        let mut tree = VmaTree::new();
        let mut model: Vec<Option<Page>> = std::vec![None; PAGES as usize];
        for op in ops {
            match op {
                Op::Map { start, len, prot, shift } => {
                    let range = addr(start)..addr(start + len);
                    let growth = tree.growth_of_carve(range.clone());
                    let before = tree.len() as isize;
                    drop(tree.carve(range));
                    prop_assert_eq!(tree.len() as isize, before + growth);
                    tree.insert(vma(start, len, prot, shift));
                    for page in start..start + len {
                        let object_page = shift.map(|shift| page + shift * 1000);
                        model[page as usize] =
                            Some(Page { prot: Prot::from_bits_truncate(prot), locked: false, object_page });
                    }
                }
                Op::Carve { start, len } => {
                    let gone = tree.carve(addr(start)..addr(start + len));
                    let bytes: u64 = gone.0.iter().map(Vma::len).sum();
                    let expected = model[start as usize..(start + len) as usize].iter().flatten().count() as u64;
                    prop_assert_eq!(bytes, expected * PAGE_SIZE);
                    model[start as usize..(start + len) as usize].fill(None);
                }
                Op::Protect { start, len, prot } => {
                    let prot = Prot::from_bits_truncate(prot);
                    tree.update(addr(start)..addr(start + len), |vma| vma.prot = prot);
                    model[start as usize..(start + len) as usize].iter_mut().flatten().for_each(|page| page.prot = prot);
                }
                Op::Lock { start, len } => {
                    tree.update(addr(start)..addr(start + len), |vma| vma.flags |= VmFlags::LOCKED);
                    model[start as usize..(start + len) as usize].iter_mut().flatten().for_each(|page| page.locked = true);
                }
                Op::Search { len, top, align } => {
                    for direction in [Direction::TopDown, Direction::BottomUp] {
                        let found = tree.find_free(len * PAGE_SIZE, BASE..addr(top), align * PAGE_SIZE, direction);
                        let expected = search(&model, len, top, align, direction).map(addr);
                        prop_assert_eq!(found, expected, "{} pages below {} aligned {} {:?}", len, top, align, direction);
                    }
                }
            }
            check(&tree, &model)?;
            let covered = model.iter().take(10).all(Option::is_some);
            prop_assert_eq!(tree.covers(BASE..addr(10)), covered);
        }
    }

    #[test]
    fn nothing_is_placed_in_the_gap_below_a_stack(stack in 300..600u64, len in 1..300u64) {
        let mut tree = VmaTree::new();
        let mut below = vma(stack, 4, 3, None);
        below.flags |= VmFlags::GROWSDOWN;
        tree.insert(below);
        let whole = BASE..addr(604);
        for direction in [Direction::TopDown, Direction::BottomUp] {
            if let Some(found) = tree.find_free(len * PAGE_SIZE, whole.clone(), PAGE_SIZE, direction) {
                let end = found + len * PAGE_SIZE;
                prop_assert!(end <= addr(stack) - STACK_GUARD_GAP || found >= addr(stack + 4));
                prop_assert!(tree.is_free_with_gap(found..end));
            }
        }
        prop_assert!(!tree.is_free_with_gap(addr(stack - 1)..addr(stack)));
    }
}

#[test]
fn a_freed_range_can_be_allocated_again_whole() {
    let mut tree = VmaTree::new();
    let whole = BASE..addr(64);
    for _ in 0..64 {
        let at = tree
            .find_free(PAGE_SIZE, whole.clone(), PAGE_SIZE, Direction::TopDown)
            .unwrap();
        tree.insert(vma((at - BASE) / PAGE_SIZE, 1, 3, None));
    }
    assert_eq!(tree.len(), 1);
    assert_eq!(
        tree.find_free(PAGE_SIZE, whole.clone(), PAGE_SIZE, Direction::TopDown),
        None
    );
    drop(tree.carve(addr(20)..addr(30)));
    assert_eq!(
        tree.find_free(10 * PAGE_SIZE, whole, PAGE_SIZE, Direction::TopDown),
        Some(addr(20))
    );
}
