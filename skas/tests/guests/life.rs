//! Processes and threads: many of them, interrupted, killed.

use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use skas::{Exit, UserThread};

use crate::programs::*;

/// Children of this process on the host that are not zombies.
pub fn children() -> Vec<i32> {
    let me = std::process::id();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let mut fields = stat.rsplit(") ").next().unwrap_or("").split(' ');
        let state = fields.next();
        if fields.next() == Some(&me.to_string()) && state != Some("Z") {
            found.push(pid);
        }
    }
    found
}

/// How many of our children are not spaces forked ahead of need.
pub fn children_in_use() -> usize {
    for _ in 0..2000 {
        let (ready, all) = skas::pool();
        let count = children().len();
        if ready == all && skas::pool() == (ready, all) {
            return count.saturating_sub(ready);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the pool is never full: {:?}", skas::pool());
}

fn gone(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| {
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
    })
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("never came: {what}");
}

pub fn sixty_four_forks_live_at_once() {
    let (space, mut thread) = load_program(add_and_report());
    anonymous(&space, DATA, PAGE);
    write_u64(&space, DATA, 1000);
    let mut family = Vec::new();
    for i in 0..64 {
        let (space, mut child) = thread.fork().expect("fork");
        child.regs_mut().rdi = DATA;
        child.regs_mut().rsi = i;
        family.push((space, child, i));
    }
    for (space, child, i) in &mut family {
        assert_eq!(child.run(), Exit::Syscall);
        assert_eq!((child.regs().rdx, read_u64(space, DATA)), (1000 + *i, 1000 + *i));
    }
}

pub fn eight_threads_run_in_parallel_and_die() {
    let (space, mut thread) = load_program(count());
    anonymous(&space, DATA, PAGE);
    let stop = Arc::new(AtomicBool::new(false));
    let mut kickers = Vec::new();
    let mut hosts = Vec::new();
    for i in 0..8 {
        let mut other = thread.spawn().expect("spawn");
        other.regs_mut().rdi = DATA + 64 * i;
        kickers.push(other.kicker());
        let stop = stop.clone();
        hosts.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let exit = other.run();
                assert!(exit == Exit::Interrupted, "{exit:?}");
            }
            drop(other);
        }));
    }
    until("all eight count", || {
        (0..8).all(|i| read_u64(&space, DATA + 64 * i) > 1000)
    });
    // A change queued while they run is in force for all of them after a kick.
    stop.store(true, Ordering::Relaxed);
    kickers.iter().for_each(|kicker| kicker.kick());
    hosts.into_iter().for_each(|host| host.join().expect("no panic"));
    thread.regs_mut().rip = 0;
    assert!(matches!(thread.run(), Exit::Fault { .. }));
    for _ in 0..50 {
        let mut others: Vec<_> = (0..8).map(|_| thread.spawn().expect("spawn")).collect();
        assert!(matches!(others[7].run(), Exit::Fault { .. }));
    }
    kickers.iter().for_each(|kicker| kicker.kick());
}

pub fn a_vfork_child_shares_memory_and_its_thread_is_reused() {
    let (space, mut thread) = load_program(add_and_report());
    anonymous(&space, DATA, PAGE);
    let before = skas::statistics();
    for i in 1..20 {
        let mut child = thread.spawn().expect("spawn");
        assert!(Arc::ptr_eq(child.space(), &space));
        child.regs_mut().rdi = DATA;
        child.regs_mut().rsi = 1;
        assert_eq!(child.run(), Exit::Syscall);
        assert_eq!(read_u64(&space, DATA), i);
    }
    let after = skas::statistics();
    assert_eq!(
        (
            after.threads - before.threads,
            after.thread_reuses - before.thread_reuses
        ),
        (1, 18)
    );
    // The first thread ends, another goes on.
    let mut child = thread.spawn().expect("spawn");
    drop(thread);
    child.regs_mut().rdi = DATA;
    assert_eq!(child.run(), Exit::Syscall);
    assert_eq!(read_u64(&space, DATA), 19);
    let (_, mut grandchild) = child.fork().expect("fork of a thread that is not the first");
    grandchild.regs_mut().rip = CODE;
    assert_eq!(grandchild.run(), Exit::Syscall);
    drop(child);
    assert!(space.is_dead());
}

pub fn a_kick_ends_a_spinning_guest() {
    let (_space, mut thread) = load_program(spin());
    let kicker = thread.kicker();
    for _ in 0..20 {
        let kicker = kicker.clone();
        let other = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            kicker.kick();
        });
        assert_eq!(thread.run(), Exit::Interrupted);
        other.join().expect("no panic");
    }
}

pub fn a_kick_before_run_ends_it_at_once() {
    let (_space, mut thread) = load_program(spin());
    let kicker = thread.kicker();
    kicker.kick();
    kicker.kick();
    assert_eq!(thread.run(), Exit::Interrupted);
    let (_space, mut thread) = load_program(call_loop());
    let other = thread.kicker();
    kicker.kick();
    assert_eq!(thread.run(), Exit::Syscall);
    other.kick();
    assert_eq!(thread.run(), Exit::Interrupted);
    assert_eq!(thread.run(), Exit::Syscall);
    drop(thread);
    other.kick();
}

pub fn a_kick_on_its_way_to_an_ending_thread_harms_nobody_else() {
    let (_space, mut thread) = load_program(call_loop());
    for _ in 0..40 {
        // More than a space keeps idle, so that some really end.
        let mut others: Vec<_> = (0..12).map(|_| thread.spawn().expect("spawn")).collect();
        let kickers: Vec<_> = others.iter().map(UserThread::kicker).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let host = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                kickers.iter().for_each(|kicker| kicker.kick());
            }
        });
        for other in &mut others {
            for _ in 0..4 {
                assert!(matches!(other.run(), Exit::Syscall | Exit::Interrupted));
            }
        }
        drop(others);
        stop.store(true, Ordering::Relaxed);
        host.join().expect("no panic");
        assert_eq!(thread.run(), Exit::Syscall);
    }
}

pub fn a_killed_stub_is_dead() {
    let (bystander_space, mut bystander) = load_program(call_loop());
    let (space, mut thread) = load_program(spin());
    let pid = space.host_pid();
    if skas::backend() == skas::Backend::Seccomp {
        let other = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            kill(pid);
        });
        assert_eq!(thread.run(), Exit::Dead);
        other.join().expect("no panic");
    } else {
        kill(pid);
    }
    assert_eq!(thread.run(), Exit::Dead);
    assert!(space.is_dead());
    assert!(thread.fork().is_err() && thread.spawn().is_err() && thread.flush().is_ok() | true);
    assert!(space.read(CODE, &mut [0]).is_err());
    // Killed between two runs.
    let (space, mut thread) = load_program(call_loop());
    assert_eq!(thread.run(), Exit::Syscall);
    kill(space.host_pid());
    assert_eq!(thread.run(), Exit::Dead);
    let (space, mut thread) = load_program(call_loop());
    kill(space.host_pid());
    assert!(thread.fork().is_err());
    assert_eq!(bystander.run(), Exit::Syscall);
    assert!(!bystander_space.is_dead());
}

fn kill(pid: i32) {
    let status = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status();
    assert!(status.expect("kill").success());
}

pub fn no_stub_outlives_the_kernel() {
    if std::env::var_os("SKAS_VICTIM").is_some() {
        let (space, mut thread) = load_program(spin());
        let (child_space, child) = thread.fork().expect("fork");
        let other = thread.spawn().expect("spawn");
        eprintln!("stubs {} {}", space.host_pid(), child_space.host_pid());
        let zygote = children();
        eprintln!("stubs {zygote:?}");
        eprintln!("ready");
        thread.run();
        drop((child, other));
        return;
    }
    let me = std::env::current_exe().expect("our own path");
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut victim = std::process::Command::new(me)
        .args(&args)
        .env("SKAS_VICTIM", "1")
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("ourselves can be started");
    let mut stubs = Vec::new();
    for line in BufReader::new(victim.stderr.take().expect("piped")).lines() {
        let line = line.expect("text");
        stubs.extend(
            line.split(|c: char| !c.is_ascii_digit())
                .filter_map(|word| word.parse::<i32>().ok()),
        );
        if line == "ready" {
            break;
        }
    }
    stubs.sort();
    stubs.dedup();
    assert!(stubs.len() >= 3, "{stubs:?}");
    assert!(stubs.iter().all(|pid| !gone(*pid)), "{stubs:?}");
    std::thread::sleep(Duration::from_millis(20));
    victim.kill().expect("our own child");
    victim.wait().expect("our own child");
    until("all stubs are gone", || stubs.iter().all(|pid| gone(*pid)));
}

pub fn dropped_spaces_leave_no_process() {
    let before = children_in_use();
    for _ in 0..20 {
        let (_space, mut thread) = load_program(call_loop());
        assert_eq!(thread.run(), Exit::Syscall);
        let (child_space, child) = thread.fork().expect("fork");
        let other = thread.spawn().expect("spawn");
        drop((thread, child, other, child_space));
    }
    until("only the zygote is left", || children_in_use() <= before);
    drop(UserThread::new().expect("still works"));
}
