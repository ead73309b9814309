# coreutils, in an empty directory. What it prints must not depend on the machine.
export LC_ALL=C TZ=UTC
umask 022
mkdir -p a/b/c; for i in 1 2 3; do echo file$i >a/f$i; done; touch -d '2020-01-02 03:04:05.123456789' a/f1 a/f2 a/f3
ln a/f1 a/hard; ln -s f1 a/soft; ln -s /nonexistent a/dangling; mkfifo a/fifo; chmod 4755 a/f2; chmod 1777 a/b
chown 12:34 a/f3; mknod a/null c 1 3; mknod a/blk b 8 0
touch -d '2020-01-02' a a/b a/b/c; touch -h -d '2021-01-01' a/soft a/dangling; touch -d '2022-01-01' a/fifo a/null a/blk
ls -lR --time-style=full-iso a
cp -a a copy && ls -lR --time-style=full-iso copy | sed 1s/copy/a/ >l1; ls -lR --time-style=full-iso a >l2; diff l1 l2; echo cp-a $?
stat -c '%n %s %b %f %h %F %a %u %g %t %T %y' a/* 
mv copy moved; ls moved; rm -r moved; ls; rmdir a 2>&1
cp --sparse=always /etc/services s; cmp s /etc/services; du -sb a/f1 ; 
truncate -s 1M t; stat -c '%s %b' t; truncate -s -1 t; stat -c %s t; fallocate -l 64K fa; stat -c '%s' fa; fallocate -p -o 4096 -l 8192 fa; stat -c '%s %b' fa
seq 100000 >n; split -l 30000 n part.; ls part.*; cat part.* | cmp - n; split -n 4 n q.; wc -c q.*; csplit -s n 500 1000; wc -l xx*
sha256sum n | cut -c1-64; md5sum n; b2sum n; cksum n; base64 n | md5sum; tac n | head -2; shuf -n 5 --random-source=n n
install -D -m 640 -o 1 -g 2 n x/y/z; stat -c '%a %u %g' x/y/z; mktemp -u -p . XXX | wc -c
timeout 0.2 sleep 5; echo $?; timeout -s KILL 0.2 sleep 5; echo $?; nohup echo hi 2>/dev/null; nice -n 5 nice; env -i A=1 env; 
echo tee | tee a1 a2; cat a1 a2; dd if=/dev/zero of=sp bs=64k count=4 conv=sparse 2>/dev/null; stat -c '%s %b' sp; dd if=n of=dd bs=1000 skip=2 seek=1 count=3 2>&1 | head -2; od -c dd | head -5
paste n n | head -2; join n n | head -2; comm -12 l1 l2 | wc -l; expand n | wc; fold -w 3 n | wc -l; nl n | head -2; pr -t -2 n | head -2; tr -d 1 <n | md5sum; uniq -c l1 | head -2; cut -c1-2 n | sort -u | wc -l
readlink a/soft; readlink -f a/soft | sed s,$dir,,; realpath --relative-to=. a/b/c; pathchk -p a; test -p a/fifo && echo fifo; [ a/f1 -ef a/hard ] && echo ef
chmod -R u=rwX,go= a; ls -l a | awk '{print $1}'; chmod u+s,g+s a/f1; stat -c %A a/f1; chown 5 a/f1; stat -c %A a/f1; chgrp 7 a/f1; id -u; id -un; groups root;  printf '%05d\n' 7; factor 1234567890123; numfmt --to=iec 123456789; date -d @0; expr 3 + 4; sync; link a/f1 a/l2; unlink a/l2; 
df --output=target . >/dev/null; echo df $?; mkdir -m 700 m7; stat -c %a m7; cat a/nonexist; ls -d a/*/; dircolors -b | wc -c; stdbuf -o0 echo x; rm -rf a; ls -a; uname -s -m; whoami; yes | head -3; sleep 0.01; ls -i n | wc -w; vdir -d . | wc -l; sum n; ptx </dev/null; tsort <<X
a b
b c
X
rm -r x; kill -l | head -1; false; echo $?; cp n n; cp -l n nl; cp -s $PWD/n ns; cp --reflink=always n nr 2>&1 | sed 's/ .*reflink/reflink/'; cp -u n nl; mv -n n nl; ls -1; ln -f nl n; mv -T nl n2; mv n2 /dev/shm/judge.$$ && mv /dev/shm/judge.$$ n3; cmp n n3
# tail -f sees what is appended, and ends with the writer.
echo 0 >log
(for i in 1 2 3; do sleep 0.1; echo $i >>log; done; sleep 1.2) & tail -f -n +1 --pid=$! log 2>/dev/null
wait
