//! Access control lists: `setfacl`, `getfacl` and users who try, on the host's own file system and on the guest's ext4 and tmpfs.

use harness::script::{Scratch, in_guest_with, natively};
use harness::{Backend, Linux, is_root, workspace};
use tests::disk_files::{MIB, image, ubda};

#[test]
fn lists_grant_deny_follow_the_mode_and_are_inherited_as_on_the_host() {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", 64 * MIB);
    assert_eq!(natively(&format!("mke2fs -q -F -t ext4 {}", disk.display())).status, 0);
    let judge = workspace().join("tests/judges/acl.sh");
    let judge = judge.display();
    let guest = |mount: &str| {
        let script = format!(
            "export PATH=$PATH:/sbin; mkdir /dev/at; {mount} /dev/at && cd /dev/at && . {judge}\ncd /; umount /dev/at"
        );
        let (ran, outcome) = in_guest_with(Linux::hostfs(Backend::Seccomp).arg(ubda(&disk)), &script);
        assert_eq!(ran.status, 0, "{mount}: {}{}", ran.output, outcome.console());
        ran.output
    };
    let ext4 = guest("mount /dev/ubda");
    let tmpfs = guest("mount -t tmpfs none");
    assert!(
        ext4.contains("user:1001:rwx") && ext4.contains("Permission denied"),
        "{ext4}"
    );
    same("ext4 and tmpfs", &ext4, &tmpfs);
    let checked = natively(&format!("e2fsck -fn {}", disk.display()));
    assert_eq!(checked.status, 0, "{}", checked.output);
    // Only root can be other users.
    if is_root() {
        let native = natively(&format!(
            "mkdir {0}/at && mount -t tmpfs none {0}/at && cd {0}/at && . {judge}\ncd /; umount {0}/at",
            scratch.path().display()
        ));
        assert_eq!(native.status, 0, "{}", native.output);
        same("the host and the guest", &native.output, &ext4);
    }
}

/// Names the first line that differs: the whole is long.
fn same(what: &str, left: &str, right: &str) {
    let differs = left.lines().zip(right.lines()).position(|(left, right)| left != right);
    let line = differs.unwrap_or_else(|| left.lines().count().min(right.lines().count()));
    let around = |text: &str| {
        let lines: Vec<&str> = text.lines().skip(line.saturating_sub(6)).take(10).collect();
        lines.join("\n")
    };
    assert!(
        left == right,
        "{what} differ at line {line}:\n{}\n--- and\n{}",
        around(left),
        around(right)
    );
}
