# Access control lists as different users see them, in the working directory; the output is the same on every Linux file system that has them.
export PATH=/usr/bin:/bin:/usr/sbin:/sbin
as() { setpriv --reuid "$1" --regid "$2" --groups "$3" sh -c "$4" 2>&1 | sed 's/.*: //'; }
everybody() {
    for who in '1000 1000 1000' '1001 1 1' '1002 1000 1000' '1002 1 1,2001' '1002 1000 1000,2001' '1003 1 1'; do
        for what in 'cat f' 'echo \#x >>f' './f' 'test -r f && echo r; test -w f && echo w; test -x f && echo x'; do
            echo "$who: $what: $(as $who "$what" | tr '\n' ' ')"
        done
    done
}
whole() { find "$@" ! -type l | LC_ALL=C sort | xargs getfacl -n; }
chmod 755 .
umask 022
printf '#!/bin/sh\necho ran\n' >f
chown 1000:1000 f
chmod 640 f
everybody
setfacl -m u:1001:rwx,u:1003:0,g:2001:r,m::rx f
getfacl -n f; ls -l f | cut -c1-11; stat -c %a f; everybody
for mode in 600 666 711 070 007 777; do
    chmod $mode f; echo "== chmod $mode"; getfacl -cn f; everybody
done
echo '== who may set'
as 1001 1 1 'setfacl -m u:1001:rwx f'; as 1000 1000 1000 'setfacl -m u:1002:rx f && echo set'; as 1003 1 1 'setfacl -b f'; as 1003 1 1 'getfacl -cn f'
setfacl -b f; getfacl -cn f; ls -l f | cut -c1-11; everybody
setfacl -m u::rw,g::r,o::- f; stat -c %a f; getfattr -m - f
chown 1000:2001 f; chmod 2755 f; as 1000 1000 1000 'setfacl -m u:1001:rx f'; stat -c %a f
chmod 2755 f; as 1000 2001 2001 'setfacl -m u:1001:rx f'; stat -c %a f
setfacl -d -m u:1001:rx f
echo '== inheritance'
mkdir d plain
setfacl -d -m u:1001:rwx,g:2001:rx,o::- d; getfacl -n d
umask 077
touch d/file plain/file; mkdir d/sub; mkfifo d/fifo; ln -s file d/link; mkdir -m 711 d/sub/711; cp f d/sub/copy; install -m 604 f d/sub/604
python3 -c 'import os
fd = os.open("d", os.O_TMPFILE | os.O_RDWR, 0o666)
os.link("/proc/self/fd/%d" % fd, "d/unnamed", follow_symlinks=True)
os.close(os.open("d/0777", os.O_CREAT | os.O_RDWR, 0o777))'
umask 022
whole d plain
setfacl -k d; touch d/later; getfacl -cn d d/later
echo '== directories'
mkdir -p dir/in; echo secret >dir/in/file; chmod 700 dir dir/in; chown -R 1000:1000 dir
setfacl -m u:1001:x dir; setfacl -m u:1001:rwx dir/in; setfacl -m g:2001:x dir
as 1001 1 1 'ls dir'; as 1001 1 1 'ls dir/in; cat dir/in/file; echo new >dir/in/new; rm dir/in/file; ls dir/in'; as 1002 1 2001 'ls dir/in'; as 1002 1 1,2001 'cd dir && echo in'
chmod +t dir/in; as 1001 1 1 'echo more >dir/in/more; rm -f dir/in/more; ls dir/in'
echo '== copies'
setfacl -m u:1005:rwx f; cp -a f g; getfacl -cn g; mv g d/moved; getfacl -cn d/moved; ln f d/hard; setfacl -x u:1005 d/hard; getfacl -cn f
tar --acls -cf t.tar d f && mkdir out && tar --acls -xf t.tar -C out && whole d >1; (cd out; whole d) >2; cmp 1 2 && echo same
echo '== nonsense'
python3 - <<'END'
import os, struct, errno
def attempt(name, value):
    try: os.setxattr('f', name, value); print('set')
    except OSError as e: print(errno.errorcode[e.errno])
entry = lambda tag, perm, id=0xffffffff: struct.pack('<HHI', tag, perm, id)
head = struct.pack('<I', 2)
whole = [entry(1, 6), entry(2, 4, 5), entry(4, 4), entry(16, 7), entry(32, 0)]
A = 'system.posix_acl_access'
attempt(A, head + b''.join(whole)); print(os.getxattr('f', A) == head + b''.join(whole))
for drop in range(5): attempt(A, head + b''.join(whole[:drop] + whole[drop + 1:]))
attempt(A, head + b''.join(reversed(whole))); attempt(A, head + b''.join(whole)[:-3]); attempt(A, b''); attempt(A, b'\2\0')
attempt(A, struct.pack('<I', 1) + b''.join(whole)); attempt(A, head + entry(1, 15) + b''.join(whole[1:])); attempt(A, head + entry(3, 6) + b''.join(whole[1:]))
attempt(A, head + b''.join(whole[:2] + [entry(2, 4, 0xffffffff)] + whole[2:])); attempt('system.posix_acl_default', head + b''.join(whole))
attempt('system.posix_acl_other', head + b''.join(whole)); attempt(A, head); print(os.listxattr('f'))
END
