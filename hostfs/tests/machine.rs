//! hostfs on the running machine: what waits for a disk must not hold a virtual CPU.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hostfs::{HostFs, HostfsArgs};
use kernel::io::{SliceSink, SliceSource};
use kernel::task::Cred;
use kernel::vfs::file::WriteAt;
use kernel::vfs::inode::NewAttr;
use kernel::vfs::{File, FileSystem, Inode, Mode, NewNode, OpenFlags};

const TESTS: &[harness::machine::Test] = &[
    (
        "others_run_on_the_cpu_while_a_file_is_synchronized",
        others_run_while_a_file_is_synchronized,
    ),
    (
        "data_that_the_host_does_not_cache_arrives_whole",
        data_that_the_host_does_not_cache_arrives_whole,
    ),
    (
        "appends_of_kernel_threads_do_not_overlap",
        appends_of_kernel_threads_do_not_overlap,
    ),
];

fn main() -> ExitCode {
    harness::machine::main(TESTS, |test| {
        arch_um::cpu::run(
            1,
            Box::new(move || {
                test();
                arch_um::exit::exit(0)
            }),
        )
    })
}

/// A tree on the disk of the build, gone with the value.
struct Tree {
    path: PathBuf,
    fs: Arc<HostFs>,
}

impl Tree {
    fn new() -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("hostfs-machine-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory for the test");
        let args = HostfsArgs {
            root: path.to_str().expect("UTF-8").into(),
            append: false,
        };
        let fs = HostFs::with_anchor_limit(&args, 64).expect("the directory exists");
        Self { path, fs }
    }

    fn make(&self, name: &str) -> (Arc<dyn Inode>, Arc<File>) {
        let (uid, gid) = arch_um::host::statx::effective_ids();
        let attr = NewAttr {
            mode: Mode::from_bits_retain(0o644),
            uid,
            gid,
        };
        let made = self
            .fs
            .root()
            .create(name.as_bytes(), NewNode::Regular, attr)
            .expect("made");
        let file = open(&made, OpenFlags::RDWR);
        (made, file)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn open(inode: &Arc<dyn Inode>, flags: OpenFlags) -> Arc<File> {
    File::new(inode.clone().open(flags).expect("opened"), None, flags, Cred::root())
}

fn others_run_while_a_file_is_synchronized() {
    let tree = Tree::new();
    let (_, file) = tree.make("f");
    let (turns, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let other = (turns.clone(), stop.clone());
    let body = move || {
        while !other.1.load(Ordering::Relaxed) {
            other.0.fetch_add(1, Ordering::Relaxed);
            arch_um::thread::yield_now();
        }
    };
    arch_um::thread::spawn("other", Box::new(body)).expect("a thread");
    // The other thread has had no turn yet on this only CPU unless this one slept.
    let before = turns.load(Ordering::Relaxed);
    file.ops()
        .write_at(&file, WriteAt::Offset(0), &mut SliceSource::new(&[1; 100_000]))
        .expect("written");
    file.ops().sync(&file).expect("synchronized");
    assert!(turns.load(Ordering::Relaxed) > before);
    stop.store(true, Ordering::Relaxed);
}

fn data_that_the_host_does_not_cache_arrives_whole() {
    let tree = Tree::new();
    let (made, file) = tree.make("big");
    let data: Vec<u8> = (0..8_000_001u32).map(|i| (i / 11) as u8).collect();
    file.ops()
        .write_at(&file, WriteAt::Offset(0), &mut SliceSource::new(&data))
        .expect("written");
    file.ops().sync_data(&file).expect("synchronized");
    // dd's way to drop one file from the cache; without dd the data comes from the cache, which must be as good.
    let input = format!("if={}", tree.path.join("big").display());
    let dropped = move || {
        Command::new("dd")
            .args([&input, "iflag=nocache", "count=0", "status=none"])
            .status()
    };
    let _ = arch_um::pool::run(dropped);
    let reader = open(&made, OpenFlags::empty());
    let mut back = vec![0; data.len() + 10];
    let mut sink = SliceSink::new(&mut back);
    let count = reader.ops().read_at(&reader, 0, &mut sink).expect("read");
    assert_eq!(count, data.len());
    assert!(back[..count] == data);
}

fn appends_of_kernel_threads_do_not_overlap() {
    let tree = Tree::new();
    let (made, file) = tree.make("log");
    drop(file);
    let done = Arc::new(AtomicU64::new(0));
    for _ in 0..4 {
        // Synchronous, so that each sleeps in the middle of its append.
        let file = open(&made, OpenFlags::WRONLY | OpenFlags::APPEND | OpenFlags::DSYNC);
        let done = done.clone();
        let body = move || {
            for _ in 0..10 {
                let written = file
                    .ops()
                    .write_at(&file, WriteAt::End, &mut SliceSource::new(b"line\n"));
                assert!(written.is_ok_and(|written| written.count == 5 && written.end % 5 == 0));
            }
            done.fetch_add(1, Ordering::Relaxed);
        };
        arch_um::thread::spawn("appender", Box::new(body)).expect("a thread");
    }
    while done.load(Ordering::Relaxed) < 4 {
        arch_um::thread::yield_now();
    }
    let text = std::fs::read_to_string(tree.path.join("log")).expect("read");
    assert_eq!(text, "line\n".repeat(40));
}
