# util-linux and procps, in an empty directory: what needs no mounts.
export LC_ALL=C TZ=UTC
umask 022
flock lock echo locked
(flock 9; sleep 0.3; echo first) 9>lock & sleep 0.1; flock lock echo second; wait
flock -n lock true; echo $?
(flock 9; flock -n lock echo no; echo busy $?) 9>lock
flock -s lock flock -s -n lock echo shared
setsid sh -c 'echo $$ >p; ps -o sid= -p $$ | tr -d " " >q'; cmp p q && echo session
setsid -w sh -c 'exit 4'; echo $?
script -qec 'tty; stty size; echo in script' /dev/null </dev/null | sed 's,/dev/pts/.*,pts,'
script -qec 'exit 3' /dev/null </dev/null; echo $?
getopt -o ab: -l long:,flag -- -a -b x --long=y rest
setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'id; cat /etc/shadow; touch /root/x; chown 0 p; kill -0 1'
setpriv --dump | head -4
taskset 1 nproc; taskset -p $$ | sed 's/[0-9]*.s/P/;s/: .*//'; chrt -p $$ | sed 's/[0-9]*.s/P/'
ionice; ionice -c 2 -n 3 ionice
prlimit --nofile=100 sh -c 'ulimit -n'; renice -n 3 -p $$ | sed s/$$/P/; nice
fallocate -l 1M f; fallocate -c -o 0 -l 4096 f 2>&1 | sed 's/:.*//'; fallocate -p -o 0 -l 8192 f; stat -c %s f
fincore p >/dev/null; echo fincore $?; lslocks >/dev/null; echo lslocks $?; lsblk >/dev/null; echo lsblk $?; ipcs >/dev/null; echo ipcs $?
losetup -a; swapon -s; blkid /nonexistent; echo $?; mountpoint /proc; mountpoint -q lock; echo $?
sleep 33 & S=$!
ps -o comm,args,stat -p $S; pgrep -f 'sleep 33' | grep -c "^$S\$"; kill $S; wait $S 2>/dev/null; echo $?
ps aux >o; head -1 o; ps -ef | head -1; ps axjf >/dev/null; echo $?; ps -eLf >/dev/null; echo $?
ps -eo pid,ppid,user,nice,rss,vsz,tty,stat,time,wchan:20,cmd >/dev/null; echo $?
top -b -n 1 | sed -n '7p'; top -b -n 2 -d 0.1 >/dev/null; echo top $?
free | awk '{print NF}'; vmstat | tail -1 | wc -w; vmstat 1 2 | wc -l; uptime >/dev/null; echo $?
pmap -x $$ | tail -1 | awk '{print NF}'; pwdx $$ | sed "s/$$/P/;s,$PWD,D,"; sysctl kernel.ostype; sysctl -a >/dev/null 2>&1; echo $?
watch -n 0.1 -g date +%N >/dev/null 2>&1 </dev/null
cat /proc/self/comm /proc/$$/comm; readlink /proc/self/exe; head -1 /proc/self/status
