# mount, umount, findmnt, in an empty directory of a guest: not for a host. Expected output: mounts.expected.
exec 2>&1
export LC_ALL=C
mkdir m
mount -t tmpfs -o size=1M,mode=700 none m; mountpoint m >/dev/null; echo mountpoint $?
dd if=/dev/zero of=m/f bs=64k 2>&1 | head -1
df --output=size,used,avail m; stat -f -c '%T %b %S' m; stat -c %a m
mkdir -p src/d; echo x >src/d/f; mkdir dst
mount --bind src dst; cat dst/d/f; mount -o remount,ro,bind dst; touch dst/n; umount dst
umount m; mountpoint -q m; echo mountpoint $?
mount --rbind src dst; findmnt -n -o TARGET,FSTYPE dst | sed "s,$PWD,," ; umount dst
mount -t proc p m; test -d m/self/fd; echo proc $?; umount m
mount -t sysfs s m; ls -d m/block m/class m/devices m/kernel; umount m
mount -t devtmpfs d m; ls m/null m/zero; umount m
mount -t devpts d m; ls m; umount m
umount m; echo $?
mount -t xnosuch none m 2>&1 | sed "s,$PWD,,"
mount --move m dst >/dev/null 2>&1; echo $?
mount -t tmpfs none m; mkdir m/a; mount -t tmpfs none m/a; umount m 2>&1 | sed "s,$PWD,,"; umount -R m; echo recursive $?
mount -t tmpfs none m; (cd m; umount -l "$OLDPWD/m"; echo lazy $?; echo still >here; cat here); ls m
mount --make-private /; echo private $?
