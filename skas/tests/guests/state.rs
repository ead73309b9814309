//! Registers, exceptions, FP state.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use skas::{Access, Backing, Exit, FaultCode, MapFlags, Prot, Regs, Share};

use crate::programs::*;

const ENOSYS: u64 = -38i64 as u64;

pub fn a_system_call_is_answered_and_leaves_registers_as_hardware_does() {
    let (_space, mut thread) = load_program(call_loop());
    thread.regs_mut().rbx = 39;
    thread.regs_mut().r12 = 0x1234_5678_9abc_def0;
    thread.regs_mut().rsp = 0x7000;
    for i in 0..1000 {
        assert_eq!(thread.run(), Exit::Syscall);
        let regs = *thread.regs();
        assert_eq!((regs.orig_rax, regs.rax), (39, ENOSYS));
        assert_eq!(
            (regs.rip, regs.rcx, regs.r11 & 0xff00),
            (CODE + 5, CODE + 5, regs.eflags & 0xff00)
        );
        assert_eq!(
            (regs.r12, regs.rsp, regs.cs, regs.ss),
            (0x1234_5678_9abc_def0, 0x7000, 0x33, 0x2b)
        );
        thread.regs_mut().rax = i;
    }
    // Restarted by registers alone.
    thread.regs_mut().rip -= 2;
    thread.regs_mut().rax = 57;
    assert_eq!(thread.run(), Exit::Syscall);
    assert_eq!(thread.regs().orig_rax, 57);
}

pub fn a_wild_pointer_gives_address_and_access() {
    let wild = 0x5ead_0000;
    for (program, rdi, access, code) in [
        (store(), wild + 5, Access::Write, FaultCode::MapErr),
        (load(), wild + 6, Access::Read, FaultCode::MapErr),
        (jump(), 0x6ead_0007, Access::Exec, FaultCode::MapErr),
        (store(), DATA + 8, Access::Write, FaultCode::AccErr),
        (load(), DATA + PAGE, Access::Read, FaultCode::AccErr),
        (jump(), DATA + 16, Access::Exec, FaultCode::AccErr),
    ] {
        let (space, mut thread) = load_program(program);
        space
            .map(DATA, PAGE, Prot::READ, Backing::Anonymous, MapFlags::empty())
            .expect("queued");
        space
            .map(DATA + PAGE, PAGE, Prot::empty(), Backing::Anonymous, MapFlags::empty())
            .expect("queued");
        thread.regs_mut().rdi = rdi;
        for _ in 0..2 {
            match thread.run() {
                Exit::Fault {
                    addr,
                    access: a,
                    code: c,
                    ..
                } => assert_eq!((addr, a, c), (rdi, access, code)),
                other => panic!("{other:?}"),
            }
        }
        // Mapped, it goes on.
        if access != Access::Exec {
            anonymous(&space, rdi & !4095, PAGE);
            assert_eq!(thread.run(), Exit::Syscall);
        }
    }
    let (_space, mut thread) = load_program(load());
    thread.regs_mut().rdi = 0x8000_0000_0000_0000;
    match thread.run() {
        Exit::Exception {
            signo: libc::SIGSEGV,
            code: 0x80,
            addr: 0,
            trapno: 13,
            ..
        } => (),
        other => panic!("{other:?}"),
    }
}

pub fn a_processor_exception_gives_its_signal() {
    for (program, signal, vector) in [
        (breakpoint(), libc::SIGTRAP, 3),
        (divide(), libc::SIGFPE, 0),
        (undefined(), libc::SIGILL, 6),
        (privileged(), libc::SIGSEGV, 13),
    ] {
        let (_space, mut thread) = load_program(program);
        match thread.run() {
            Exit::Exception { signo, trapno, .. } => {
                assert_eq!(signo, signal);
                // The ptrace backend does not learn the vector of every exception.
                assert!(trapno == vector || skas::backend() == skas::Backend::Ptrace, "{trapno}");
            }
            other => panic!("{other:?}"),
        }
        if signal == libc::SIGTRAP {
            assert_eq!(thread.regs().rip, CODE + 1);
            assert_eq!(thread.run(), Exit::Syscall);
        }
    }
    // Single step: the trap flag comes back as a trap.
    let (_space, mut thread) = load_program(call_loop());
    thread.regs_mut().eflags |= 0x100;
    assert!(matches!(
        thread.run(),
        Exit::Exception {
            signo: libc::SIGTRAP,
            ..
        }
    ));
    assert_eq!(thread.regs().rip, CODE + 3);
}

pub fn int_0x80_and_x32_numbers_are_foreign() {
    let (_space, mut thread) = load_program(int80());
    assert_eq!(thread.run(), Exit::ForeignSyscall);
    assert_eq!((thread.regs().orig_rax, thread.regs().rip), (20, CODE + 7));
    assert_eq!(thread.run(), Exit::ForeignSyscall);
    assert_eq!(thread.regs().orig_rax, 0x4000_0027);
}

pub fn a_vsyscall_looks_like_a_system_call() {
    let (space, mut thread) = load_program(vsyscall());
    anonymous(&space, DATA, PAGE);
    thread.regs_mut().rsp = DATA + 256;
    assert_eq!(thread.run(), Exit::Syscall);
    let regs = thread.regs();
    assert_eq!((regs.orig_rax, regs.rsp), (libc::SYS_gettimeofday as u64, DATA + 256));
    assert_eq!(regs.rip, CODE + vsyscall().len() as u64 - 1);
}

pub fn vector_registers_survive_a_system_call_and_a_fork() {
    if !std::is_x86_feature_detected!("avx") {
        return;
    }
    let (space, mut thread) = load_program(vector());
    anonymous(&space, DATA, PAGE);
    let pattern: Vec<u8> = (0..32).map(|i| i * 7 + 1).collect();
    space.write(DATA, &pattern).expect("writable");
    thread.regs_mut().rdi = DATA;
    thread.regs_mut().rsi = DATA + 64;
    assert_eq!(thread.run(), Exit::Syscall);
    let image = thread.xstate();
    assert!(image.len() > 512, "{}", image.len());
    assert_eq!(image[160..176], pattern[..16]);
    thread.set_xstate(&image).expect("its own image");
    let (child_space, mut child) = thread.fork().expect("fork");
    assert_eq!(child.xstate(), image);
    let mut other = thread.spawn().expect("spawn");
    other.regs_mut().rsi = DATA + 512;
    for (space, thread, at) in [
        (&child_space, &mut child, 64),
        (&space, &mut other, 512),
        (&space, &mut thread, 64),
    ] {
        assert_eq!(thread.run(), Exit::Syscall);
        for i in [0, 32] {
            let mut found = [0; 32];
            space.read(DATA + at + i, &mut found).expect("readable");
            assert_eq!(found[..], pattern[..]);
        }
    }
    thread.reset_xstate();
    thread.regs_mut().rip = CODE + vector().len() as u64 - 24;
    let image = thread.xstate();
    assert_eq!((image[0], image[1]), (0x7f, 3));
    assert!(image[512..520].iter().all(|byte| *byte == 0));
}

pub fn a_bad_xstate_image_is_refused() {
    let (_space, mut thread) = load_program(call_loop());
    assert_eq!(thread.run(), Exit::Syscall);
    let image = thread.xstate();
    let mut bad = image.clone();
    bad[27] = 0xff;
    assert!(thread.set_xstate(&bad).is_err());
    let mut bad = image.clone();
    bad[519] = 0x80;
    assert!(thread.set_xstate(&bad).is_err());
    assert!(thread.set_xstate(&image[..511]).is_err());
    assert!(thread.set_xstate(&image[..512]).is_ok(), "the legacy part alone");
    assert!(thread.set_xstate(&image).is_ok());
    assert_eq!(thread.run(), Exit::Syscall);
}

pub fn fs_base_is_set_and_reported() {
    let (space, mut thread) = load_program(fs_base());
    anonymous(&space, DATA, PAGE);
    write_u64(&space, DATA + 128, 4711);
    thread.regs_mut().fs_base = DATA + 128;
    thread.regs_mut().rdi = DATA;
    assert_eq!(thread.run(), Exit::Syscall);
    assert_eq!((thread.regs().rdx, thread.regs().fs_base), (4711, DATA + 128));
    let (_child_space, mut child) = thread.fork().expect("fork");
    let mut other = thread.spawn().expect("spawn");
    for thread in [&mut thread, &mut child, &mut other] {
        assert_eq!(thread.regs().fs_base, DATA + 128);
        assert_eq!(thread.run(), Exit::Syscall);
        assert_eq!(thread.regs().fs_base, DATA + 64);
    }
    *thread.regs_mut() = Regs {
        fs_base: u64::MAX,
        rdi: DATA,
        ..Regs::start(CODE, 0)
    };
    assert!(
        matches!(thread.run(), Exit::Fault { addr: 0, .. }),
        "a base out of range counts as 0"
    );
}

pub fn a_beyond_end_of_file_access_is_a_bus_error() {
    let (space, mut thread) = load_program(load());
    let fd = Arc::new(OwnedFd::from(
        std::fs::File::open("/proc/self/exe").expect("our own file"),
    ));
    let end = std::fs::metadata("/proc/self/exe")
        .expect("our own file")
        .len()
        .next_multiple_of(PAGE);
    let backing = Backing::File {
        fd,
        offset: end - PAGE,
        share: Share::Private,
    };
    space
        .map(DATA, 2 * PAGE, Prot::READ, backing, MapFlags::empty())
        .expect("queued");
    thread.regs_mut().rdi = DATA + PAGE + 3;
    match thread.run() {
        Exit::Fault {
            addr,
            code: FaultCode::Bus,
            ..
        } => assert_eq!(addr, DATA + PAGE + 3),
        other => panic!("{other:?}"),
    }
}
