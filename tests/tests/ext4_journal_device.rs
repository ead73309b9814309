//! ext4 with its journal on another disk, in real guests: made, used, killed, found again under another name. `e2fsck -j` is the judge.

use std::path::Path;

use harness::script::{Scratch, natively};
use tests::disk_files::{MIB, end, holder, image, succeeded, ubda, with_disks};

/// The words that make `first` /dev/ubda and `second` /dev/ubdb.
fn both(first: &Path, second: &Path) -> [String; 2] {
    [ubda(first), format!("ubdb={}", second.display())]
}

fn assert_clean(disk: &Path, journal: &Path) {
    let judged = natively(&format!("e2fsck -fn -j {} {}", journal.display(), disk.display()));
    assert_eq!(judged.status, 0, "{}", judged.output);
}

#[test]
fn a_journal_on_another_disk_is_used_claimed_and_found_where_it_went() {
    for size in [1024, 4096] {
        let scratch = Scratch::new();
        let (disk, journal) = (image(&scratch, "disk", 64 * MIB), image(&scratch, "journal", 16 * MIB));
        let (ran, _) = with_disks(
            &both(&disk, &journal),
            &format!(
                "export PATH=$PATH:/sbin:/usr/sbin; mkdir /dev/at; mke2fs -q -F -b {size} -O journal_dev /dev/ubdb >/dev/null && mke2fs -q -F -t ext4 -b {size} -J device=/dev/ubdb /dev/ubda >/dev/null || exit 1
                mount /dev/ubda /dev/at && cp -r /etc/init.d /dev/at/tree && sync; mount /dev/ubdb /dev/at 2>/dev/null; echo $?; python3 -c 'import os; os.open(\"/dev/ubdb\", os.O_RDWR | os.O_EXCL)' 2>&1 | tail -1
                mount -o remount,journal_dev=0x6210 /dev/at 2>/dev/null; echo $?; umount /dev/at; python3 -c 'import os; os.open(\"/dev/ubdb\", os.O_RDWR | os.O_EXCL)' && echo free
                mount -o journal_path=/dev/ubdc /dev/ubda /dev/at 2>/dev/null; echo $?; mount -o journal_path=/dev/ubdb /dev/ubda /dev/at && diff -r /etc/init.d /dev/at/tree && echo equal; umount /dev/at"
            ),
        );
        assert_eq!(
            ran.output, "32\nOSError: [Errno 16] Device or resource busy: '/dev/ubdb'\n32\nfree\n32\nequal\n",
            "{size}"
        );
        assert_clean(&disk, &journal);
        // Killed at work; then the disks have changed places.
        let child = holder(
            &scratch,
            &both(&disk, &journal),
            "mkdir /dev/at; mount /dev/ubda /dev/at; cp -r /etc/init.d /dev/at/kept; sync; (while :; do cp -r /etc/init.d /dev/at/more; rm -r /dev/at/more; done) &
            sleep 0.4",
        );
        end(child);
        let (ran, outcome) = with_disks(
            &both(&journal, &disk),
            "mkdir /dev/at; mount /dev/ubdb /dev/at 2>/dev/null; echo $?; mount -o journal_dev=0x6200 /dev/ubdb /dev/at; diff -r /etc/init.d /dev/at/kept && echo kept; umount /dev/at
            mount -t ext4 /dev/ubdb /dev/at && umount /dev/at && echo noted; dmesg | grep -o 'EXT4-fs (ubdb): .*'",
        );
        succeeded(&ran, &outcome.console());
        let lines: Vec<&str> = ran.output.lines().collect();
        assert_eq!(lines[..3], ["32", "kept", "noted"], "{}", ran.output);
        for part in [
            "EXT4-fs (ubdb): failed to open journal device unknown-block(98,16) -16",
            "EXT4-fs (ubdb): external journal device major/minor numbers have changed",
            "EXT4-fs (ubdb): recovery complete",
        ] {
            assert!(ran.output.contains(part), "{part}: {}", ran.output);
        }
        assert_clean(&disk, &journal);
    }
}
