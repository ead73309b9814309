//! Disks and their host: locks against other instances and real UML, hosts that are full, files that are cut, block devices.

use std::fs;
use std::os::unix::fs::MetadataExt;

use harness::script::{Scratch, in_guest_with, natively};
use harness::uml::{Uml, in_uml};
use harness::{Backend, Linux};
use tests::disk_files::{Engine, MIB, end, holder, image, ubda, with_disks};
use tests::for_each_engine;

for_each_engine! {
    a_full_host_is_enospc_in_the_guest_and_space_made_is_used;
    an_image_cut_on_the_host_gives_io_errors_and_no_zeros;
    a_block_device_of_the_host_is_a_disk;
}

#[test]
fn real_uml_and_ours_keep_each_other_away_from_a_disk() {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", MIB);
    let ours = holder(&scratch, &[ubda(&disk)], "");
    let (output, console) = in_uml(&[ubda(&disk)], "dd if=/dev/ubda of=/dev/null count=1 2>&1 | head -1");
    assert!(output.contains("failed to open"), "{output}");
    assert!(
        console.contains("F_SETLK failed, file already locked by pid"),
        "{console}"
    );
    assert!(
        console.contains(&format!("Failed to lock '{}', err = 11", disk.display())),
        "{console}"
    );
    end(ours);
    let ready = scratch.path().join("open");
    let look = "test -e /dev/ubda && echo there || echo absent; dmesg | grep 'ubda'";
    let mut uml = Uml::start(
        &[ubda(&disk)],
        &format!(
            "exec 3</dev/ubda; >{0}; while test -e {0}; do sleep 0.1; done",
            ready.display()
        ),
    );
    uml.wait_for(&ready);
    let refused = with_disks(&[ubda(&disk)], look).0.output;
    let shared = with_disks(&[format!("ubdac={}", disk.display())], look).0.output;
    let pid = uml.pid();
    fs::remove_file(ready).expect("the file that UML waits for");
    uml.finish();
    let after = with_disks(&[ubda(&disk)], look).0.output;
    assert!(refused.starts_with("absent"), "{refused}");
    assert!(
        refused.contains(&format!("F_SETLK failed, file already locked by pid {pid}")),
        "{refused}"
    );
    assert!(
        refused.contains("ubda: Can't open") && refused.contains("errno = 11"),
        "{refused}"
    );
    assert!(
        shared.starts_with("there") && after.starts_with("there"),
        "{shared}{after}"
    );
}

#[test]
fn a_lock_stays_when_the_guest_opens_the_image_through_hostfs() {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", MIB);
    // hostfs opens and closes the file in the process that holds the lock: a POSIX lock would be gone.
    let holder = holder(
        &scratch,
        &[ubda(&disk)],
        &format!("cat {0} >/dev/null; : >>{0}", disk.display()),
    );
    let second = with_disks(&[ubda(&disk)], "test -e /dev/ubda && echo there || echo absent").0;
    end(holder);
    assert_eq!(second.output, "absent\n");
}

#[test]
fn instances_of_ours_and_real_uml_share_a_backing_file_that_nobody_may_write() {
    let scratch = Scratch::new();
    let back = image(&scratch, "back", MIB);
    let word = |name: &str| format!("ubda={},{}", scratch.path().join(name).display(), back.display());
    let ours = holder(&scratch, &[word("first")], "");
    let script = "echo mine | dd of=/dev/ubda conv=fsync 2>/dev/null; head -c 5 /dev/ubda";
    let second = with_disks(&[word("second")], script).0.output;
    let (third, console) = in_uml(&[word("third")], script);
    let writer = with_disks(&[ubda(&back)], "test -e /dev/ubda && echo there || echo absent")
        .0
        .output;
    end(ours);
    assert_eq!((second.as_str(), third.as_str()), ("mine\n", "mine\n"), "{console}");
    assert_eq!(writer, "absent\n");
    assert!(fs::read(back).expect("the backing file").iter().all(|&byte| byte == 0));
}

fn a_full_host_is_enospc_in_the_guest_and_space_made_is_used(engine: Engine) {
    let scratch = Scratch::new();
    let small = scratch.path().join("small");
    fs::create_dir(&small).expect("a directory");
    let disk = small.join("disk");
    // A file system of 4 MiB that only this instance sees.
    let namespace = if harness::is_root() { "-m" } else { "-rm" };
    let linux = Linux::hostfs(Backend::Seccomp)
        .under(["unshare", namespace, "/bin/sh", "-c"])
        .under([format!(
            "mount -t tmpfs -o size=4M none {0} && head -c 2M /dev/zero >{0}/ballast && truncate -s 16M {1} && exec \"$0\" \"$@\"",
            small.display(),
            disk.display()
        )
        .as_str()])
        .arg(ubda(&disk))
        .args(engine.words());
    let script = format!(
        "dd if=/dev/zero of=/dev/ubda bs=1M oflag=direct 2>&1 | head -1
        dd if=/dev/zero of=/dev/ubda bs=1M count=8 seek=8 conv=fsync 2>&1 | head -1
        rm {}/ballast; echo good | dd of=/dev/ubda bs=512 seek=20000 conv=sync oflag=direct 2>/dev/null
        dd if=/dev/ubda bs=512 skip=20000 count=1 iflag=direct 2>/dev/null | head -c 5",
        small.display()
    );
    let (ran, _) = in_guest_with(linux, &script);
    assert_eq!(
        ran.output,
        "dd: error writing '/dev/ubda': No space left on device\ndd: fsync failed for '/dev/ubda': No space left on device\ngood\n"
    );
}

fn an_image_cut_on_the_host_gives_io_errors_and_no_zeros(engine: Engine) {
    for backend in Backend::ALL {
        let scratch = Scratch::new();
        let disk = image(&scratch, "disk", 8 * MIB);
        let linux = Linux::hostfs(backend).arg(ubda(&disk)).args(engine.words());
        let (ran, _) = in_guest_with(
            linux,
            &format!(
                "truncate -s 1M {0}; head -c 1M /dev/ubda | wc -c; dd if=/dev/ubda of=/dev/null bs=4k skip=1024 count=1 iflag=direct 2>&1 | head -1
                dd if=/dev/zero of=/dev/ubda bs=4k seek=1024 count=1 oflag=direct 2>&1 | head -1; stat -c %s {0}
                truncate -s 8M {0}; dd if=/dev/ubda bs=4k skip=1024 count=1 iflag=direct 2>/dev/null | wc -c",
                disk.display()
            ),
        );
        assert_eq!(
            ran.output,
            "1048576\ndd: error reading '/dev/ubda': Input/output error\ndd: error writing '/dev/ubda': Input/output error\n1048576\n4096\n",
            "{backend:?} {engine:?}"
        );
    }
}

fn a_block_device_of_the_host_is_a_disk(engine: Engine) {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", 8 * MIB);
    let attached = natively(&format!("losetup --find --show {}", disk.display()));
    assert_eq!(attached.status, 0, "losetup needs root: {}", attached.output);
    let device = attached.output.trim().to_owned();
    let run = |word: String, script: &str| engine.with_disks(&[word], script).0.output;
    let written = run(
        format!("ubda={device}"),
        "blockdev --getsize64 /dev/ubda; dd if=/dev/urandom of=/dev/ubda bs=1M conv=fsync 2>/dev/null; blkdiscard -o 1M -l 2M /dev/ubda
        dd if=/dev/ubda bs=1M skip=1 count=2 2>/dev/null | cmp -n 2097152 - /dev/zero && echo zeros; sha256sum </dev/ubda",
    );
    let cow = run(
        format!("ubda={}:{device}", scratch.path().join("cow").display()),
        "echo changed | dd of=/dev/ubda conv=fsync 2>/dev/null; tail -c +513 /dev/ubda | sha256sum",
    );
    natively(&format!("losetup --detach {device}"));
    let sum = natively(&format!("sha256sum <{}", disk.display())).output;
    assert_eq!(written, format!("8388608\nzeros\n{sum}"));
    assert_eq!(
        cow,
        natively(&format!("tail -c +513 {} | sha256sum", disk.display())).output
    );
    assert!(
        fs::metadata(&disk).expect("the image").blocks() * 512 <= 6 * MIB,
        "the discard has reached the file below"
    );
}

#[test]
fn a_second_instance_is_refused_with_the_pid_of_the_holder_unless_flag_c_shares() {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", MIB);
    let holder = holder(&scratch, &[ubda(&disk)], "");
    let look = "test -e /dev/ubda && echo there || echo absent; dmesg | grep 'ubda'";
    let second = with_disks(&[ubda(&disk)], look).0;
    let shared = with_disks(&[format!("ubdac={}", disk.display())], look).0;
    let pid = holder.id();
    end(holder);
    let after = with_disks(&[ubda(&disk)], look).0;
    assert!(
        second.output.contains(&format!("locked by pid {pid}")),
        "{}",
        second.output
    );
    assert!(shared.output.starts_with("there"), "{}", shared.output);
    assert!(after.output.starts_with("there"), "{}", after.output);
}

#[test]
fn a_file_that_may_not_be_written_is_a_read_only_disk() {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", MIB);
    natively(&format!("chmod 444 {}", disk.display()));
    // An ordinary user: nothing keeps root from writing.
    let linux = Linux::hostfs(Backend::Seccomp).user(65534).arg(ubda(&disk));
    let (ran, _) = in_guest_with(
        linux,
        "blockdev --getro --getsize64 /dev/ubda; dd if=/dev/zero of=/dev/ubda count=1 2>&1 | head -1; dmesg | grep -c 'ubda:'",
    );
    assert_eq!(
        ran.output,
        "1\n1048576\ndd: writing to '/dev/ubda': Operation not permitted\n0\n"
    );
}

#[test]
fn where_the_host_forbids_io_uring_one_line_names_the_cause_and_the_pool_serves() {
    const IO_URING_SETUP: i64 = 425;
    let switch = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let denied = match switch.trim() {
        "" | "0" => "forbids it (seccomp",
        _ => "kernel.io_uring_disabled",
    };
    for (errno, cause) in [(1, denied), (38, "has none")] {
        let scratch = Scratch::new();
        let words = ["first", "second"].map(|name| image(&scratch, name, MIB).display().to_string());
        let linux = Linux::hostfs(Backend::Seccomp)
            .under(tests::denied(errno, &[IO_URING_SETUP]))
            .args([format!("ubda={}", words[0]), format!("ubdb={}", words[1])])
            .args(Engine::IoUring.words());
        let (ran, _) = in_guest_with(
            linux,
            "for d in a b; do echo good | dd of=/dev/ubd$d conv=fsync 2>/dev/null; head -c 5 /dev/ubd$d; done; dmesg | grep io_uring,",
        );
        let (contents, told) = ran.output.split_at(10);
        assert_eq!(contents, "good\ngood\n");
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(
            told.contains(cause) && told.contains("disks are served by the thread pool"),
            "{told}"
        );
    }
}

#[test]
fn a_kernel_killed_with_requests_in_its_ring_leaves_nothing() {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", 64 * MIB);
    let ready = scratch.path().join("written");
    let writers = format!(
        "for n in 0 1 2 3; do (while :; do dd if=/dev/zero of=/dev/ubda bs=64k count=200 seek=$((n * 250)) conv=notrunc,fsync; : >{}; done) & done",
        ready.display()
    );
    let words = [ubda(&disk), Engine::IoUring.words()[0].to_owned()];
    let holder = holder(&scratch, &words, &writers);
    while !ready.exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let open = format!("ls -l /proc/{}/fd | grep -c io_uring", holder.id());
    let has_ring = natively(&open).output != "0\n";
    end(holder);
    // The host takes back what is under way when the process is gone: the disk can be had at once.
    let image = disk.display();
    assert_eq!(natively(&format!("fuser {image} 2>/dev/null")).output, "");
    let look = "test -e /dev/ubda && echo there; dmesg | grep -c 'no io_uring'";
    let (ran, _) = Engine::IoUring.with_disks(&[ubda(&disk)], look);
    // Where the host gives no ring, the log says so.
    let excuses = if has_ring { "0" } else { "1" };
    assert_eq!(ran.output, format!("there\n{excuses}\n"));
}
