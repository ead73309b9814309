//! `errors=panic`: damage ends the guest with Linux's words and UML's status, and the image knows of it.

use harness::script::{Scratch, natively};
use tests::disk_files::{formatted, succeeded, ubda, with_disks};

#[test]
fn damage_panics_with_errors_panic_and_the_disk_is_told_before() {
    for from in ["mount -o errors=panic /dev/ubda /dev/at", "mount /dev/ubda /dev/at"] {
        let scratch = Scratch::new();
        let disk = formatted(&scratch, "disk", "-t ext4 -O ^metadata_csum");
        let image = disk.display();
        let damaged = natively(&format!(
            "debugfs -w -R 'mkdir /dir' {image}; debugfs -w -R 'write /etc/passwd /dir/file' {image}; debugfs -w -R 'zap_block -f /dir -p 0xff 0' {image}"
        ));
        succeeded(&damaged, "the damage");
        if !from.contains("panic") {
            succeeded(&natively(&format!("tune2fs -e panic {image}")), "the default");
        }
        let script = format!(
            "mkdir /dev/at; {from}; echo before >/dev/at/before; sync; echo mounted; ls /dev/at/dir; echo survived"
        );
        let (ran, outcome) = with_disks(&[ubda(&disk)], &script);
        let console = outcome.console();
        assert_eq!(ran.output, "mounted\n", "{console}");
        assert!(console.contains("EXT4-fs error (device ubda): "), "{console}");
        assert!(
            console.contains("Kernel panic - not syncing: EXT4-fs (device ubda): panic forced after error\n"),
            "{console}"
        );
        assert_eq!(outcome.code(), 134, "{console}");
        let told = natively(&format!("dumpe2fs -h {image}"));
        for line in [
            "clean with errors",
            "FS Error count:           1",
            "First error err:          EFSCORRUPTED",
        ] {
            assert!(told.output.contains(line), "{line}: {}", told.output);
        }
        // What was synchronized before is there when the journal has been replayed.
        let replayed = natively(&format!(
            "e2fsck -fy {image} >/dev/null; debugfs -R 'cat /before' {image}"
        ));
        assert!(replayed.output.contains("before\n"), "{}", replayed.output);
    }
}
