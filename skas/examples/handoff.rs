//! Prints what the primitives of guest execution cost on this host: `cargo run --release -p skas --example handoff [seccomp|ptrace]`.

use std::time::Instant;

use skas::{Backing, Config, Exit, MapFlags, Prot, Regs, SeccompMode, UserThread, Waiting};

const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x1000_0000;

/// A guest that calls number `rbx` forever, and one that touches every page from `rdi` on, `rcx` of them, and then calls.
const LOOP: &[u8] = b"\x89\xd8\x0f\x05\xeb\xfa";
const TOUCH: &[u8] = b"\xc6\x07\x01\x48\x81\xc7\x00\x10\x00\x00\x48\xff\xc9\x75\xf1\x0f\x05\xeb\xfc";

fn pin(cpu: Option<usize>) {
    let status = std::process::Command::new("taskset")
        .args([
            "-cp",
            &cpu.map_or("0-63".into(), |cpu| cpu.to_string()),
            &std::process::id().to_string(),
        ])
        .stdout(std::process::Stdio::null())
        .status();
    if !status.is_ok_and(|status| status.success()) {
        println!("(taskset is missing: not pinned)");
    }
}

fn row(name: &str, count: u32, start: Instant) {
    println!(
        "{name:<44} {:>9.0} ns",
        start.elapsed().as_nanos() as f64 / f64::from(count)
    );
}

fn guest(program: &[u8], waiting: Waiting) -> UserThread {
    let (space, mut thread) = UserThread::new().expect("a new space");
    thread.set_waiting(waiting);
    let all = Prot::READ | Prot::WRITE | Prot::EXEC;
    space
        .map(CODE, 4096, all, Backing::Anonymous, MapFlags::empty())
        .expect("queued");
    space.write(CODE, program).expect("written");
    *thread.regs_mut() = Regs::start(CODE, 0);
    thread
}

fn rows(title: &str, waiting: Waiting) {
    println!("-- {title}");
    let mut thread = guest(LOOP, waiting);
    for _ in 0..2000 {
        assert_eq!(thread.run(), Exit::Syscall);
    }
    let start = Instant::now();
    for _ in 0..20000 {
        assert_eq!(thread.run(), Exit::Syscall);
        thread.regs_mut().rax = 1;
    }
    row("system call", 20000, start);
    let space = thread.space().clone();
    let start = Instant::now();
    for _ in 0..5000 {
        space
            .map(DATA, 65536, Prot::READ, Backing::Anonymous, MapFlags::empty())
            .expect("queued");
        thread.run();
        space.unmap(DATA, 65536).expect("queued");
        thread.run();
    }
    row("mmap + munmap (two calls)", 5000, start);
    let start = Instant::now();
    for _ in 0..1000 {
        let (_, mut child) = thread.fork().expect("fork");
        child.run();
    }
    row("fork + one call + end", 1000, start);
    let start = Instant::now();
    for _ in 0..1000 {
        let (space, mut child) = UserThread::new().expect("new");
        child.set_waiting(waiting);
        space
            .map(CODE, 4096, Prot::READ, Backing::Anonymous, MapFlags::empty())
            .expect("queued");
        child.regs_mut().rip = CODE;
        child.run();
    }
    row("new space + one exit + end", 1000, start);
    let start = Instant::now();
    for _ in 0..2000 {
        let mut child = thread.spawn().expect("spawn");
        child.run();
    }
    row("spawn + one call + end", 2000, start);
    let mut touch = guest(TOUCH, waiting);
    let space = touch.space().clone();
    let pages = 4096u32;
    let start = Instant::now();
    for _ in 0..4 {
        let rw = Prot::READ | Prot::WRITE;
        space
            .map(DATA, u64::from(pages) * 4096, rw, Backing::Anonymous, MapFlags::empty())
            .expect("queued");
        space.advise(DATA, u64::from(pages) * 4096, 15).expect("queued");
        let regs = touch.regs_mut();
        (regs.rip, regs.rdi, regs.rcx) = (CODE, DATA, u64::from(pages));
        assert_eq!(touch.run(), Exit::Syscall);
    }
    row("anonymous fault, 4 KiB page", 4 * pages, start);
    let mut buf = [0; 64];
    let start = Instant::now();
    for _ in 0..10000 {
        space.read(DATA, &mut buf).expect("mapped");
    }
    row("read of 64 bytes", 10000, start);
}

fn main() {
    let mode = match std::env::args().nth(1).as_deref() {
        Some("ptrace") => SeccompMode::Off,
        _ => SeccompMode::On,
    };
    let config = Config {
        seccomp: mode,
        low_2g: false,
        ncpus: 1,
        host_cpus: Vec::new(),
    };
    if let Err(error) = skas::init(config, &mut |text| print!("{text}")) {
        println!("{error}");
        std::process::exit(1);
    }
    println!("backend {}, {:?}", skas::backend(), skas::layout());
    rows("parked, free placement", Waiting::Park(None));
    pin(Some(0));
    rows("parked, same CPU", Waiting::Park(Some(0)));
    rows("parked, two CPUs", Waiting::Park(Some(1)));
    rows("spinning, two CPUs", Waiting::Spin(None));
    pin(None);
    rows("spinning, free placement", Waiting::Spin(None));
    println!("{:?}", skas::statistics());
}
