//! Guests that attack the stub. Each harms itself at most; a bystander goes on.

use std::time::Duration;

use skas::{Exit, Regs};

use crate::life::children_in_use;
use crate::programs::*;

/// Start and end of a mapping of a stub: its code, and the first region.
fn stub_ranges(pid: i32) -> ((u64, u64), (u64, u64)) {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("our own child");
    let find = |rights: &str| {
        maps.lines()
            .filter(|line| line.contains(rights) && !line.contains("vsyscall"))
            .filter_map(|line| {
                let (start, end) = line.split(' ').next()?.split_once('-')?;
                Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
            })
            .find(|(start, _)| *start >= skas::layout().task_size)
            .expect("the stub's mapping")
    };
    (find("r-xp"), find("rw-s"))
}

fn stub_code(pid: i32, (start, end): (u64, u64)) -> Vec<u8> {
    let mem = std::fs::File::open(format!("/proc/{pid}/mem")).expect("our own child");
    let mut code = vec![0; (end - start) as usize];
    std::os::unix::fs::FileExt::read_exact_at(&mem, &mut code, start).expect("readable");
    code
}

pub fn jumping_to_any_host_call_of_the_stub_harms_only_oneself() {
    let (_bystander_space, mut bystander) = load_program(call_loop());
    let (probe_space, probe) = load_program(call_loop());
    let (code, region) = stub_ranges(probe_space.host_pid());
    let image = stub_code(probe_space.host_pid(), code);
    drop((probe, probe_space));
    let sites: Vec<u64> = image
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| *pair == [0x0f, 0x05])
        .map(|(i, _)| code.0 + i as u64)
        .collect();
    assert!(sites.len() > 15, "{}", sites.len());
    let stub_len = code.1 - code.0;
    // number and first four arguments
    let attacks: &[(i64, [u64; 4])] = &[
        (libc::SYS_munmap, [code.0, stub_len, 0, 0]),
        (libc::SYS_munmap, [0x1000, code.1, 0, 0]),
        (libc::SYS_mprotect, [code.0, stub_len, 7, 0]),
        (libc::SYS_mmap, [code.0, stub_len, 7, 0x32]),
        (libc::SYS_mmap, [region.0, region.1 - region.0, 7, 0x32]),
        (libc::SYS_mmap, [code.0, region.1 - region.0, 3, 0x8011]),
        (libc::SYS_mremap, [CODE, PAGE, PAGE, 3]),
        (libc::SYS_madvise, [code.0, stub_len, libc::MADV_DONTNEED as u64, 0]),
        (libc::SYS_clone, [0x8011, 0, 0, 0]),
        (libc::SYS_clone, [0x11, 0, 0, 0]),
        (libc::SYS_clone, [0x50f00, 0, 0, 0]),
        (libc::SYS_execve, [CODE, 0, 0, 0]),
        (libc::SYS_openat, [0, CODE, 0, 0]),
        (libc::SYS_kill, [std::process::id().into(), 9, 0, 0]),
        (libc::SYS_close, [0, 0, 0, 0]),
        (libc::SYS_dup2, [5, 0, 0, 0]),
        (libc::SYS_recvmsg, [0, CODE, 0, 0]),
        (libc::SYS_futex, [CODE, 0, 0, 0]),
        (libc::SYS_rt_sigreturn, [0, 0, 0, 0]),
        (libc::SYS_prctl, [1, 0, 0, 0]),
        (libc::SYS_exit, [0, 0, 0, 0]),
        (libc::SYS_exit_group, [0, 0, 0, 0]),
    ];
    for site in sites {
        for (nr, args) in attacks {
            let (space, mut thread) = load_program(call_loop());
            assert_eq!(thread.run(), Exit::Syscall);
            *thread.regs_mut() = Regs {
                rax: *nr as u64,
                rdi: args[0],
                rsi: args[1],
                rdx: args[2],
                r10: args[3],
                // for mremap the new address, for mmap the descriptor
                r8: if *nr == libc::SYS_mremap { code.0 } else { u64::MAX },
                rbx: region.0,
                rbp: CODE,
                ..Regs::start(site, CODE + 2048)
            };
            let kicker = thread.kicker();
            let host = std::thread::spawn(move || (thread.run(), thread));
            for _ in 0..20 {
                if host.is_finished() {
                    break;
                }
                std::thread::sleep(Duration::from_micros(500));
            }
            while !host.is_finished() {
                kicker.kick();
                std::thread::sleep(Duration::from_millis(1));
            }
            let (exit, thread) = host.join().expect("no panic");
            if !space.is_dead() {
                assert_eq!(
                    stub_code(space.host_pid(), code),
                    image,
                    "nr {nr} at {site:#x}: {exit:?}"
                );
                assert!(!matches!(exit, Exit::Dead));
            }
            drop(thread);
            assert_eq!(bystander.run(), Exit::Syscall, "nr {nr} at {site:#x}: {exit:?}");
        }
    }
    // Nobody was forked on the side: the zygote, the bystander, and perhaps one that is just dying.
    for _ in 0..100 {
        if children_in_use() <= 2 {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} are left", children_in_use());
}

pub fn clone_without_command_makes_no_process() {
    let (space, mut thread) = load_program(call_loop());
    let (code, _) = stub_ranges(space.host_pid());
    let image = stub_code(space.host_pid(), code);
    // "mov eax, 56; syscall"
    let site = image
        .windows(7)
        .position(|w| w == [0xb8, 56, 0, 0, 0, 0x0f, 0x05])
        .expect("the clone") as u64
        + code.0;
    // The fewest of some looks: a space may just be on its way out or into the pool.
    let looks = || (0..5).map(|_| children_in_use()).min();
    let before = looks();
    *thread.regs_mut() = Regs {
        rdi: 0x8011,
        rbx: DATA,
        ..Regs::start(site, 0)
    };
    let kicker = thread.kicker();
    let host = std::thread::spawn(move || thread.run());
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(looks(), before);
    // Meanwhile others fork.
    let (_other_space, mut other) = load_program(call_loop());
    drop(other.fork().expect("fork"));
    kicker.kick();
    assert_eq!(host.join().expect("no panic"), Exit::Dead);
}

pub fn a_region_full_of_nonsense_kills_only_its_process() {
    let (_bystander_space, mut bystander) = load_program(call_loop());
    for (program, byte) in [
        (scribble_once(), 0xff),
        (scribble_once(), 0),
        (scribble(), 0xff),
        (scribble(), 0x41),
        (scribble(), 0),
    ] {
        for (offset, len) in [
            (0, 16384),
            (0x40, 16),
            (0x1000, 12288),
            (0x40, 0x1c0),
            (0, 4),
            (0x200, 0xe00),
        ] {
            let (space, mut thread) = load_program(program);
            let (_, region) = stub_ranges(space.host_pid());
            let regs = thread.regs_mut();
            (regs.rdi, regs.rcx, regs.rax) = (region.0 + offset, len, byte);
            for round in 0..3 {
                let kicker = thread.kicker();
                let kick = std::thread::spawn(move || {
                    for _ in 0..10 {
                        std::thread::sleep(Duration::from_millis(2));
                        kicker.kick();
                    }
                });
                let exit = thread.run();
                if round == 1 {
                    let _ = thread.fork();
                    let _ = thread.spawn();
                    let _ = thread.xstate();
                    anonymous(&space, DATA, PAGE);
                }
                kick.join().expect("no panic");
                if exit == Exit::Dead {
                    break;
                }
            }
            assert_eq!(bystander.run(), Exit::Syscall);
        }
    }
}

pub fn a_stack_pointer_in_the_region_is_harmless() {
    let (space, mut thread) = load_program(on_stack());
    let (_, region) = stub_ranges(space.host_pid());
    for offset in [0, 0x40, 0x1000, 0x1800, 0x2000, 0x3ff8, 0x4000] {
        let regs = thread.regs_mut();
        (regs.rip, regs.rdi, regs.rsi) = (CODE, region.0 + offset, 64);
        assert_eq!(thread.run(), Exit::Syscall);
        assert_eq!(thread.regs().rsp, region.0 + offset);
        assert!(matches!(thread.run(), Exit::Fault { addr: 64, .. }));
    }
}

pub fn descriptors_of_the_kernel_are_not_in_the_stub() {
    let _open = std::fs::File::open("/dev/null").expect("there");
    let (space, mut thread) = load_program(call_loop());
    let (child_space, _child) = thread.fork().expect("fork");
    let _other = thread.spawn().expect("spawn");
    assert_eq!(thread.run(), Exit::Syscall);
    for space in [&space, &child_space] {
        // A child closes what it was given a moment after the fork.
        for round in 0.. {
            let names: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", space.host_pid()))
                .expect("our own child")
                .flatten()
                .map(|entry| entry.file_name().into_string().expect("a number"))
                .collect();
            if names == ["0"] {
                break;
            }
            assert!(round < 100, "{names:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

pub fn a_thread_that_spoils_its_sibling_s_commands_dies_with_it() {
    let (_bystander_space, mut bystander) = load_program(call_loop());
    // The header's fields: status, offsets, command, counts, arguments.
    for offset in [0x4c, 0x48, 0x7c, 0x80, 0x84, 0x88, 0x90, 0x200, 0] {
        let (space, mut thread) = load_program(call_loop());
        let (_, region) = stub_ranges(space.host_pid());
        space.write(CODE + 512, keep_writing()).expect("just mapped");
        let mut sibling = thread.spawn().expect("spawn");
        let regs = sibling.regs_mut();
        (regs.rip, regs.rdi, regs.rax) = (CODE + 512, region.0 + offset, 1);
        let kicker = sibling.kicker();
        let host = std::thread::spawn(move || while sibling.run() == Exit::Interrupted {});
        // As a timer tick would.
        let main = thread.kicker();
        let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = over.clone();
        let ticks = std::thread::spawn(move || {
            while !seen.load(std::sync::atomic::Ordering::Relaxed) {
                main.kick();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        for _ in 0..30 {
            anonymous(&space, DATA, PAGE);
            if thread.run() == Exit::Dead {
                break;
            }
            let _ = thread.fork();
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        ticks.join().expect("no panic");
        drop(thread);
        // The sibling computes for ever: only its death ends it.
        let pid = space.host_pid();
        if !space.is_dead() {
            assert!(
                std::process::Command::new("kill")
                    .args(["-9", &pid.to_string()])
                    .status()
                    .is_ok()
            );
        }
        while !host.is_finished() {
            kicker.kick();
            std::thread::sleep(Duration::from_millis(2));
        }
        host.join().expect("no panic");
        assert_eq!(bystander.run(), Exit::Syscall, "{offset:#x}");
    }
}

pub fn a_guest_that_forges_its_signal_mask_dies_when_kicked() {
    let (space, mut thread) = load_program(spin());
    let (code, region) = stub_ranges(space.host_pid());
    let image = stub_code(space.host_pid(), code);
    // "mov eax, 15; syscall"
    let site = image
        .windows(7)
        .position(|w| w == [0xb8, 15, 0, 0, 0, 0x0f, 0x05])
        .expect("the return") as u64
        + code.0;
    // A copy of its own frame, with every signal blocked and its own loop as the place to go on.
    let mem = std::fs::File::open(format!("/proc/{}/mem", space.host_pid())).expect("our own child");
    let size = (region.1 - region.0) as usize;
    let mut bytes = vec![0; size];
    std::os::unix::fs::FileExt::read_exact_at(&mem, &mut bytes, region.0).expect("readable");
    let ucontext = u32::from_le_bytes(bytes[0x48..0x4c].try_into().expect("four bytes")) as usize;
    bytes[ucontext + 296..ucontext + 304].fill(0xff);
    bytes[ucontext + 168..ucontext + 176].copy_from_slice(&CODE.to_le_bytes());
    anonymous(&space, DATA, size as u64);
    space.write(DATA, &bytes).expect("just mapped");
    *thread.regs_mut() = Regs::start(site, DATA + ucontext as u64);
    let kicker = thread.kicker();
    let host = std::thread::spawn(move || thread.run());
    std::thread::sleep(Duration::from_millis(20));
    kicker.kick();
    assert_eq!(host.join().expect("no panic"), Exit::Dead);
}
