//! [`Mm`]: an address space, shared by threads and vfork children; how it changes, and its copy by fork.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use arch_um::sync::{Mutex, MutexGuard, order};
use skas::{AddressSpace, MapFlags, Prot, UserThread};

use super::cached::CachedPages;
use super::layout::Layout;
use super::limits::Limits;
use super::maps::Program;
use super::tree::{Counts, Detached, Direction, VmaTree};
use super::vma::{PAGE_SIZE, VmFlags, Vma, VmaBacking};
use crate::{Errno, Result};

/// `vm.max_map_count`: most mappings of one process.
pub static MAX_MAP_COUNT: AtomicU64 = AtomicU64::new(65530);

/// Anonymous mappings of this many bytes and more are made at once, so that the host's `ENOMEM` reaches the caller; smaller ones are queued.
pub const EAGER_BYTES: u64 = 64 << 20;

/// File offsets from here on are more than some hosts' file systems have.
const FAR: u64 = 1 << 40;

/// An address space.
pub struct Mm {
    space: Arc<AddressSpace>,
    state: Mutex<MmState>,
}

/// What the guest asked for.
pub struct MmState {
    /// The mappings.
    pub(super) tree: VmaTree,
    /// Where new ones go.
    pub(super) layout: Layout,
    /// Flags of mappings to come (`mlockall(MCL_FUTURE)`).
    pub(super) future: VmFlags,
    /// Start of the heap and its end now.
    pub(super) heap: Range<u64>,
    /// What runs here.
    pub(super) program: Arc<Program>,
    /// Which pages of cached files are mapped.
    pub(super) cached: CachedPages,
    /// The last fault for which nothing was to be done, and how often it came in a row.
    pub(super) idle_fault: (u64, u32),
    /// Most resident memory seen, bytes.
    pub(super) peak_rss: u64,
    /// Most mapped memory seen, pages.
    pub(super) peak_total: u64,
}

/// Sums for /proc, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Mapped (`VmSize`).
    pub size: u64,
    /// Most mapped ever (`VmPeak`).
    pub peak: u64,
    /// Locked (`VmLck`).
    pub locked: u64,
    /// Private and writable (`VmData`).
    pub data: u64,
    /// Stacks (`VmStk`).
    pub stack: u64,
    /// The program's code (`VmExe`).
    pub text: u64,
    /// Code of libraries (`VmLib`).
    pub lib: u64,
    /// Resident, anonymous (`RssAnon`).
    pub rss_anon: u64,
    /// Resident, files (`RssFile`).
    pub rss_file: u64,
    /// Resident, shared (`RssShmem`).
    pub rss_shmem: u64,
    /// Most resident ever seen (`VmHWM`).
    pub rss_peak: u64,
}

impl Mm {
    /// An empty space over `space` for a new program.
    pub fn new(space: Arc<AddressSpace>, layout: Layout) -> Arc<Self> {
        let state = MmState {
            tree: VmaTree::new(),
            layout,
            future: VmFlags::empty(),
            heap: 0..0,
            program: Arc::new(Program::default()),
            cached: CachedPages::default(),
            idle_fault: (0, 0),
            peak_rss: 0,
            peak_total: 0,
        };
        Arc::new(Self {
            space,
            state: Mutex::new(&order::MM, state),
        })
    }

    /// The host side.
    pub fn space(&self) -> &Arc<AddressSpace> {
        &self.space
    }

    /// The state, locked.
    pub(crate) fn lock(&self) -> MutexGuard<'_, MmState> {
        self.state.lock()
    }

    /// `fork(2)`: a copy with one thread, a copy of `user`. The caller sets the child's return value.
    ///
    /// # Errors
    /// `ENOMEM`, `EAGAIN` as the host gives them.
    pub fn fork(self: &Arc<Self>, user: &mut UserThread) -> Result<(Arc<Mm>, UserThread)> {
        let state = self.lock();
        let (space, child) = user.fork()?;
        let mut copy = MmState {
            tree: state.tree.clone(),
            layout: state.layout,
            future: VmFlags::empty(),
            heap: state.heap.clone(),
            program: state.program.clone(),
            cached: state.cached.clone(),
            idle_fault: (0, 0),
            peak_rss: 0,
            peak_total: state.tree.counts().total,
        };
        drop(state);
        let dropped = copy.cut_for_child(&space)?;
        let mm = Arc::new(Mm {
            space,
            state: Mutex::new(&order::MM, copy),
        });
        drop(dropped);
        super::cached::forked(&mm);
        Ok((mm, child))
    }

    /// Sums for /proc. Asks the host for what is resident.
    pub fn stats(&self) -> Stats {
        let usage = self.space.memory_usage();
        let mut state = self.lock();
        let resident = usage.rss_anon + usage.rss_file + usage.rss_shmem;
        state.peak_rss = state.peak_rss.max(resident);
        let counts = state.tree.counts();
        let bytes = |pages: u64| pages * PAGE_SIZE;
        let text = state
            .program
            .code
            .end
            .saturating_sub(state.program.code.start)
            .next_multiple_of(PAGE_SIZE);
        Stats {
            size: bytes(counts.total),
            peak: bytes(state.peak_total.max(counts.total)),
            locked: bytes(counts.locked),
            data: bytes(counts.data),
            stack: bytes(counts.stack),
            text,
            lib: bytes(counts.exec).saturating_sub(text),
            rss_anon: usage.rss_anon,
            rss_file: usage.rss_file,
            rss_shmem: usage.rss_shmem,
            rss_peak: state.peak_rss,
        }
    }

    /// Bytes of private writable mappings, touched or not; everything while somebody changes them.
    pub fn private(&self) -> u64 {
        match self.state.try_lock() {
            Some(state) => state.tree.counts().data.saturating_mul(PAGE_SIZE),
            None => u64::MAX,
        }
    }

    /// Places the empty heap.
    pub fn set_heap(&self, start: u64) {
        self.lock().heap = start..start;
    }

    /// The program that runs here.
    pub fn program(&self) -> Arc<Program> {
        self.lock().program.clone()
    }

    /// Changes what is said of the program (`prctl(PR_SET_MM)`, exec).
    pub fn set_program(&self, program: Program) {
        self.lock().program = Arc::new(program);
    }
}

impl Drop for Mm {
    fn drop(&mut self) {
        super::cached::forget(self.state.get_mut());
    }
}

impl MmState {
    /// What a child does not get: locks, and mappings marked so.
    fn cut_for_child(&mut self, space: &AddressSpace) -> Result<Detached> {
        let special = VmFlags::LOCKED | VmFlags::LOCK_ON_FAULT | VmFlags::DONT_FORK | VmFlags::WIPE_ON_FORK;
        let marked: Vec<Vma> = self
            .tree
            .iter()
            .filter(|vma| vma.flags.intersects(special))
            .cloned()
            .collect();
        let mut gone = Detached::default();
        for vma in marked {
            let range = vma.start..vma.end;
            if vma.flags.contains(VmFlags::DONT_FORK) {
                space.unmap(vma.start, vma.len())?;
                self.cached.clear(range.clone());
                gone.0.extend(self.tree.carve(range).0);
                continue;
            }
            if vma.flags.contains(VmFlags::WIPE_ON_FORK) {
                map_on_host(space, &vma, MapFlags::empty())?;
            }
            self.tree
                .update(range, |vma| vma.flags -= VmFlags::LOCKED | VmFlags::LOCK_ON_FAULT);
        }
        Ok(gone)
    }

    /// The sums over its mappings.
    pub fn counts(&self) -> Counts {
        self.tree.counts()
    }

    /// The mapping that contains `addr`.
    pub fn find(&self, addr: u64) -> Option<&Vma> {
        self.tree.find(addr)
    }

    /// Whether nothing is mapped in the range.
    pub fn is_free(&self, range: Range<u64>) -> bool {
        self.tree.is_free(range)
    }

    /// Where things go.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Room for `len` bytes, by the layout; tries the other way when the preferred part is full.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn find_free(&mut self, len: u64, align: u64) -> Result<u64> {
        let Layout {
            task_size,
            min_addr,
            mmap_base,
            direction,
            ..
        } = self.layout;
        let first = match direction {
            Direction::TopDown => min_addr..mmap_base,
            Direction::BottomUp => mmap_base..task_size,
        };
        if let Some(found) = self.tree.find_free(len, first, align, direction) {
            return Ok(found);
        }
        let whole = min_addr..task_size;
        self.tree
            .find_free(len, whole, align, Direction::BottomUp)
            .ok_or(Errno::ENOMEM)
    }

    /// Whether `pages` more of this kind keep within `RLIMIT_AS` and `RLIMIT_DATA`. `ENOMEM`.
    pub fn may_expand(&self, limits: &Limits, pages: u64, is_data: bool) -> Result<()> {
        let counts = self.tree.counts();
        if counts.total.saturating_add(pages) > limits.address_space / PAGE_SIZE {
            return Err(Errno::ENOMEM);
        }
        if is_data && counts.data.saturating_add(pages) > limits.data / PAGE_SIZE {
            return Err(Errno::ENOMEM);
        }
        if is_data {
            super::oom::mapped(pages);
        }
        Ok(())
    }

    /// `ENOMEM` when `extra` more mappings are too many.
    pub fn check_map_count(&self, extra: isize) -> Result<()> {
        let count = self.tree.len().saturating_add_signed(extra) as u64;
        if extra > 0 && count > MAX_MAP_COUNT.load(Ordering::Relaxed) {
            Err(Errno::ENOMEM)
        } else {
            Ok(())
        }
    }

    /// Puts `vma` in the place of whatever is there, here and (queued) on the host. The limits are checked.
    pub fn map(&mut self, space: &AddressSpace, vma: Vma, flags: MapFlags) -> Result<Detached> {
        let range = vma.start..vma.end;
        map_on_host(space, &vma, flags)?;
        let gone = self.tree.carve(range.clone());
        self.cached.removed(range, &gone);
        self.tree.insert(vma);
        self.peak_total = self.peak_total.max(self.tree.counts().total);
        Ok(gone)
    }

    /// Takes the range out, here and (queued) on the host.
    pub fn unmap(&mut self, space: &AddressSpace, range: Range<u64>) -> Result<Detached> {
        if self.tree.is_free(range.clone()) {
            return Ok(Detached::default());
        }
        space.unmap(range.start, range.end - range.start)?;
        let gone = self.tree.carve(range.clone());
        self.cached.removed(range, &gone);
        Ok(gone)
    }
}

/// Queues the host mapping of a whole VMA. A cached file gets a hole: its pages come at faults.
pub(super) fn map_on_host(space: &AddressSpace, vma: &Vma, mut flags: MapFlags) -> Result<()> {
    if vma.flags.contains(VmFlags::NORESERVE) {
        flags |= MapFlags::NORESERVE;
    }
    match vma.host_backing() {
        Some(backing) => space.map(vma.start, vma.len(), vma.prot, backing, flags),
        None => space.unmap(vma.start, vma.len()),
    }
}

/// Whether the host could refuse this mapping for a reason the caller should hear of.
pub(super) fn wants_flush(vma: &Vma, flags: MapFlags) -> bool {
    if flags.contains(MapFlags::POPULATE) {
        return true;
    }
    match &vma.backing {
        VmaBacking::File(_) => vma.offset_of(vma.end) >= FAR || super::proof::of(vma).is_some(),
        _ => vma.len() >= EAGER_BYTES && vma.prot.contains(Prot::WRITE),
    }
}
