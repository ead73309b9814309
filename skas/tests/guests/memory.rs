//! Mapping changes, forks and access from the kernel's side.

use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use arch_um::Errno;
use skas::{Backing, Exit, MapFlags, Prot, Share, UserThread};

use crate::programs::*;

fn temp_file() -> std::fs::File {
    let path = std::env::temp_dir().join(format!("skas-{}-{:?}", std::process::id(), std::time::Instant::now()));
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .expect("a temporary file");
    std::fs::remove_file(&path).expect("just made");
    file.set_len(16 * PAGE).expect("room");
    file
}

fn fd(file: &std::fs::File) -> Arc<OwnedFd> {
    Arc::new(OwnedFd::from(file.try_clone().expect("a descriptor")))
}

pub fn anonymous_memory_needs_no_exit() {
    let (space, mut thread) = load_program(touch_pages());
    anonymous(&space, DATA, 256 * PAGE);
    thread.regs_mut().rdi = DATA;
    thread.regs_mut().rcx = 256;
    let before = skas::statistics();
    assert_eq!(thread.run(), Exit::Syscall);
    assert_eq!(skas::statistics().faults, before.faults);
    assert_eq!(thread.regs().rdi, DATA + 256 * PAGE);
}

pub fn a_private_file_mapping_keeps_writes_and_a_shared_one_does_not() {
    let mut file = temp_file();
    file.write_all(&7u64.to_le_bytes()).expect("room");
    let (space, mut thread) = load_program(add_and_report());
    let fd = fd(&file);
    for (i, share) in [Share::Private, Share::Shared].into_iter().enumerate() {
        let backing = Backing::File {
            fd: fd.clone(),
            offset: 0,
            share,
        };
        space
            .map(DATA + i as u64 * PAGE, PAGE, RW, backing, MapFlags::empty())
            .expect("queued");
    }
    thread.regs_mut().rdi = DATA;
    thread.regs_mut().rsi = 10;
    assert_eq!(thread.run(), Exit::Syscall);
    assert_eq!(thread.regs().rdx, 17);
    let mut bytes = [0; 8];
    file.rewind()
        .and_then(|()| file.read_exact(&mut bytes))
        .expect("readable");
    assert_eq!(u64::from_le_bytes(bytes), 7);
    thread.regs_mut().rip = CODE;
    thread.regs_mut().rdi = DATA + PAGE;
    assert_eq!(thread.run(), Exit::Syscall);
    file.rewind()
        .and_then(|()| file.read_exact(&mut bytes))
        .expect("readable");
    assert_eq!(u64::from_le_bytes(bytes), 17);
}

pub fn an_error_in_the_queue_is_reported_with_its_errno() {
    let file = std::fs::File::open("/proc/self/exe").expect("our own file");
    let (space, mut thread) = load_program(call_loop());
    assert_eq!(thread.run(), Exit::Syscall);
    let backing = Backing::File {
        fd: fd(&file),
        offset: 0,
        share: Share::Shared,
    };
    let at = *thread.regs();
    anonymous(&space, DATA, PAGE);
    space
        .map(DATA + PAGE, PAGE, RW, backing.clone(), MapFlags::empty())
        .expect("queued");
    anonymous(&space, DATA + 2 * PAGE, PAGE);
    assert_eq!(thread.run(), Exit::QueueFailed(Errno::EACCES));
    assert_eq!(*thread.regs(), at);
    // What came before is in force, what came after is not.
    write_u64(&space, DATA, 1);
    assert_eq!(space.write(DATA + 2 * PAGE, &[1]), Err((0, Errno::EFAULT)));
    assert_eq!(thread.run(), Exit::Syscall);
    space
        .map(DATA + PAGE, PAGE, RW, backing.clone(), MapFlags::empty())
        .expect("queued");
    assert_eq!(thread.flush(), Err(Errno::EACCES));
    space.protect(DATA + 8 * PAGE, PAGE, RW).expect("queued");
    assert_eq!(thread.flush(), Err(Errno::ENOMEM));
    space
        .map(DATA + PAGE, PAGE, RW, backing, MapFlags::empty())
        .expect("queued");
    assert_eq!(thread.fork().err(), Some(Errno::EACCES));
    assert!(thread.fork().is_ok());
    assert_eq!(
        space.map(DATA + 1, PAGE, RW, Backing::Anonymous, MapFlags::empty()),
        Err(Errno::EINVAL)
    );
    let end = skas::layout().task_size;
    assert_eq!(
        space.map(end, PAGE, RW, Backing::Anonymous, MapFlags::empty()),
        Err(Errno::ENOMEM)
    );
    anonymous(&space, end - PAGE, PAGE);
    assert_eq!(thread.run(), Exit::Syscall);
    write_u64(&space, end - 8, 1);
    assert_eq!(space.write(end - 4, &[0; 8]), Err((4, Errno::EFAULT)));
}

pub fn fork_copies_private_memory_and_shares_shared_memory() {
    let (space, mut parent) = load_program(add_and_report());
    let shared = DATA + PAGE;
    anonymous(&space, DATA, PAGE);
    let backing = Backing::File {
        fd: fd(&temp_file()),
        offset: 0,
        share: Share::Shared,
    };
    space.map(shared, PAGE, RW, backing, MapFlags::empty()).expect("queued");
    write_u64(&space, DATA, 100);
    write_u64(&space, shared, 100);
    // Queued before the fork: both see it.
    anonymous(&space, DATA + 2 * PAGE, PAGE);
    let (child_space, mut child) = parent.fork().expect("fork");
    write_u64(&child_space, DATA + 2 * PAGE, 5);
    assert_eq!(read_u64(&space, DATA + 2 * PAGE), 0);
    let rounds = [
        (true, DATA, 1, 101),
        (false, DATA, 2, 102),
        (true, shared, 1, 101),
        (false, shared, 2, 103),
    ];
    for (in_child, addr, value, sum) in rounds {
        let thread = if in_child { &mut child } else { &mut parent };
        let regs = thread.regs_mut();
        (regs.rip, regs.rdi, regs.rsi) = (CODE, addr, value);
        assert_eq!(thread.run(), Exit::Syscall);
        assert_eq!(thread.regs().rdx, sum);
    }
    // A grandchild, after its parent is gone.
    let (grand_space, mut grandchild) = child.fork().expect("fork");
    drop((child, child_space));
    grandchild.regs_mut().rip = CODE;
    grandchild.regs_mut().rdi = DATA;
    grandchild.regs_mut().rsi = 1;
    assert_eq!(grandchild.run(), Exit::Syscall);
    assert_eq!(read_u64(&grand_space, DATA), 102);
}

pub fn reset_empties_the_space() {
    let (space, mut thread) = load_program(call_loop());
    anonymous(&space, DATA, PAGE);
    assert_eq!(thread.run(), Exit::Syscall);
    let other = thread.spawn().expect("spawn");
    assert_eq!(thread.reset(), Err(Errno::EBUSY));
    drop(other);
    anonymous(&space, DATA + PAGE, PAGE);
    thread.reset().expect("alone now");
    for addr in [CODE, DATA, DATA + PAGE] {
        assert_eq!(space.read(addr, &mut [0; 8]), Err((0, Errno::EFAULT)));
    }
    assert!(matches!(thread.run(), Exit::Fault { .. }));
    anonymous(&space, CODE, PAGE);
    space.write(CODE, call_loop()).expect("just mapped");
    thread.regs_mut().rip = CODE;
    assert_eq!(thread.run(), Exit::Syscall);
}

pub fn user_memory_access_counts_exactly() {
    let (space, _thread) = load_program(call_loop());
    anonymous(&space, DATA, 3 * PAGE);
    space.protect(DATA + 2 * PAGE, PAGE, Prot::READ).expect("queued");
    let mut buf = vec![0; 4 * PAGE as usize];
    assert_eq!(
        space.read(DATA + 100, &mut buf),
        Err((3 * PAGE as usize - 100, Errno::EFAULT))
    );
    assert_eq!(
        space.write(DATA + 100, &buf),
        Err((2 * PAGE as usize - 100, Errno::EFAULT))
    );
    assert_eq!(space.read(u64::MAX - 3, &mut [0; 8]), Err((0, Errno::EFAULT)));
    assert_eq!(
        space.read(0x7fff_0000_0000, &mut [0; 8]),
        Err((0, Errno::EFAULT)),
        "the stub is not guest memory"
    );
    assert_eq!(space.read(DATA, &mut []), Ok(()));
    let pattern: Vec<u8> = (0..2 * PAGE).map(|i| i as u8).collect();
    space.write(DATA, &pattern).expect("writable");
    let mut found = vec![0; pattern.len()];
    space.read(DATA, &mut found).expect("readable");
    assert_eq!(found, pattern);
}

pub fn forced_writes_go_through_protection() {
    let (space, _thread) = load_program(call_loop());
    let file = temp_file();
    let backing = |share| Backing::File {
        fd: fd(&file),
        offset: 0,
        share,
    };
    space
        .map(DATA, PAGE, Prot::READ, backing(Share::Private), MapFlags::empty())
        .expect("queued");
    space
        .map(DATA + PAGE, PAGE, Prot::READ, backing(Share::Shared), MapFlags::empty())
        .expect("queued");
    assert_eq!(space.write(DATA, &[9]), Err((0, Errno::EFAULT)));
    space.write_forced(DATA, &[9]).expect("private");
    let mut byte = [0];
    space.read(DATA, &mut byte).expect("readable");
    assert_eq!(byte, [9]);
    space.read(DATA + PAGE, &mut byte).expect("readable");
    assert_eq!(byte, [0], "the file is untouched");
    assert!(
        space
            .write_forced(0x1000_0000_0000 & (skas::layout().task_size - 1), &[1])
            .is_err()
    );
}

pub fn remap_moves_pages() {
    let (space, mut thread) = load_program(call_loop());
    anonymous(&space, DATA, 2 * PAGE);
    write_u64(&space, DATA + PAGE, 77);
    space.remap(DATA, 2 * PAGE, DATA + 16 * PAGE, 4 * PAGE).expect("queued");
    thread.flush().expect("moved");
    assert_eq!(read_u64(&space, DATA + 17 * PAGE), 77);
    assert_eq!(read_u64(&space, DATA + 19 * PAGE), 0);
    assert!(space.read(DATA, &mut [0]).is_err());
    space
        .remap(DATA + 16 * PAGE, 4 * PAGE, DATA + 16 * PAGE, 8 * PAGE)
        .expect("queued");
    assert_eq!(thread.run(), Exit::Syscall);
    assert_eq!(read_u64(&space, DATA + 23 * PAGE), 0);
}

pub fn cmpxchg_is_exact_and_faults() {
    let (space, mut thread) = load_program(call_loop());
    anonymous(&space, DATA, PAGE);
    assert_eq!(space.cmpxchg_u32(DATA + 4, 0, 5), Ok(0));
    assert_eq!(space.cmpxchg_u32(DATA + 4, 0, 6), Ok(5));
    assert_eq!(read_u64(&space, DATA), 5 << 32);
    assert_eq!(space.cmpxchg_u32(DATA + 8 * PAGE, 0, 5), Err(Errno::EFAULT));
    space.protect(DATA, PAGE, Prot::READ).expect("queued");
    assert_eq!(space.cmpxchg_u32(DATA + 4, 5, 6), Err(Errno::EFAULT));
    assert_eq!(space.cmpxchg_u32(DATA + 2, 5, 6), Err(Errno::EINVAL));
    assert_eq!(space.cmpxchg_u32(0x7fff_0000_0000, 5, 6), Err(Errno::EFAULT));
    assert_eq!(thread.run(), Exit::Syscall);
}

pub fn residency_and_usage_are_reported() {
    let (space, mut thread) = load_program(touch_pages());
    anonymous(&space, DATA, 16 * PAGE);
    space.advise(DATA, 16 * PAGE, libc::MADV_NOHUGEPAGE).expect("queued");
    thread.regs_mut().rdi = DATA;
    thread.regs_mut().rcx = 4;
    assert_eq!(thread.run(), Exit::Syscall);
    let resident = space.resident(DATA, 8 * PAGE);
    assert_eq!(resident, [true, true, true, true, false, false, false, false]);
    assert!(space.memory_usage().rss_anon >= 5 * PAGE);
}

pub fn long_queues_are_split() {
    let (space, mut thread) = load_program(call_loop());
    let files: Vec<_> = (0..40).map(|_| fd(&temp_file())).collect();
    for (i, fd) in files.iter().enumerate() {
        let backing = Backing::File {
            fd: fd.clone(),
            offset: 0,
            share: Share::Shared,
        };
        space
            .map(DATA + i as u64 * 2 * PAGE, PAGE, RW, backing, MapFlags::empty())
            .expect("queued");
    }
    assert_eq!(thread.run(), Exit::Syscall);
    for i in 0..300 {
        let prot = if i % 2 == 0 { RW } else { Prot::READ };
        space
            .map(
                DATA + (200 + i) * PAGE,
                PAGE,
                prot,
                Backing::Anonymous,
                MapFlags::empty(),
            )
            .expect("queued");
    }
    assert_eq!(thread.run(), Exit::Syscall);
    write_u64(&space, DATA + 498 * PAGE, 1);
    write_u64(&space, DATA + 78 * PAGE, 1);
    // Queued without a run, then needed: the read flushes.
    let (empty, _owner) = UserThread::new().expect("a new space");
    anonymous(&empty, DATA, PAGE);
    assert_eq!(read_u64(&empty, DATA), 0);
    // Files do not stay behind in the stub.
    if let Ok(open) = std::fs::read_dir(format!("/proc/{}/fd", space.host_pid())) {
        assert_eq!(open.count(), 1);
    }
}

pub fn a_queued_change_is_in_force_before_any_thread_runs() {
    let (space, mut first) = load_program(load());
    let mut second = first.spawn().expect("spawn");
    let big = 64 * PAGE;
    for round in 0..300 {
        anonymous(&space, DATA, big);
        space.write(DATA, &vec![1; big as usize]).expect("just mapped");
        space.unmap(DATA, big).expect("queued");
        for thread in [&mut first, &mut second] {
            let regs = thread.regs_mut();
            (regs.rip, regs.rdi) = (CODE, DATA + big - 1);
        }
        let exits = std::thread::scope(|scope| {
            let handles = [&mut first, &mut second].map(|thread| scope.spawn(|| thread.run()));
            handles.map(|handle| handle.join().expect("no panic"))
        });
        for exit in exits {
            assert!(matches!(exit, Exit::Fault { .. }), "round {round}: {exit:?}");
        }
    }
}
