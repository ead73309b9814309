//! The kernel with its lock checker on (the dev build; `arch_um::sync::lockdep`): what takes locks from the system calls down to the disks is done once, and no
//! order is wrong.

use harness::script::{Scratch, in_guest_with};
use harness::{Backend, Linux, workspace};
use tests::disk_files::{MIB, image, ubda};

const WORK: &str = "set -e; mount -t sysfs none /sys
    work() { mkdir $1/d; seq 1 20000 >$1/d/f; cp -a /etc/passwd $1/d; ln $1/d/f $1/d/g; mv $1/d/g $1/g; ln -s f $1/d/l; setfattr -n user.a -v b $1/g 2>/dev/null || :
      truncate -s 100 $1/g; fallocate -l 1M $1/h && fallocate -p -o 4096 -l 8192 $1/h || >$1/h; dd if=/dev/zero of=$1/o bs=4k count=64 oflag=direct conv=fsync status=none
      sync $1/h; tar cf $1/t.tar -C $1/d .; find $1 | wc -l; (exec 3<$1/g; rm $1/g; cat <&3 >/dev/null); rm -r $1/d; fstrim $1 2>/dev/null || :; sync; }
    for t in ext2 ext3 ext4; do mke2fs -q -F -t $t /dev/ubda; mount -t $t /dev/ubda $M; work $M
      truncate -s 32M $M/image; mke2fs -q -F -t ext4 $M/image; mkdir $M/n; mount -o loop $M/image $M/n; work $M/n; umount $M/n
      mount -o remount,ro $M; umount $M; e2fsck -fn /dev/ubda >/dev/null 2>&1; done
    mount -t tmpfs none $M; work $M; umount $M; losetup -D; sleep 0.01 | cat; echo done";

#[test]
fn files_disks_loop_devices_and_mounts_take_their_locks_in_order() {
    let checked = workspace().join("target/debug/linux");
    assert!(
        checked.exists(),
        "cargo build -p linux makes the kernel with the checker"
    );
    for backend in Backend::ALL {
        let scratch = Scratch::new();
        let disk = image(&scratch, "disk", 64 * MIB);
        let linux = Linux::hostfs(backend).executable(&checked).arg(ubda(&disk));
        let (ran, outcome) = in_guest_with(linux, &format!("M={}/m; mkdir $M; {WORK}", scratch.path().display()));
        assert!(
            ran.output.ends_with("done\n"),
            "{backend:?}: {}{}",
            ran.output,
            outcome.console()
        );
    }
}
