//! Programs we did not write, on the host's own tree: what they print in a guest is what they print on the host.

use harness::Backend;
use harness::script::{in_guest, natively};

/// Runs `script` on the host and under both backends; output and status must be equal.
fn same(script: &str) {
    let native = natively(script);
    for backend in Backend::ALL {
        let guest = in_guest(backend, script);
        assert_eq!(guest.output, native.output, "{backend:?}: {script}");
        assert_eq!(guest.status, native.status, "{backend:?}: {script}");
    }
}

/// The beginning of a script that works in a directory of its own. The tests may run niced.
const IN_SCRATCH: &str =
    "renice -n 0 -p $$ >/dev/null 2>&1; dir=$(mktemp -d /tmp/judge-XXXXXX) && cd $dir && trap 'rm -rf $dir' EXIT\n";

fn same_in_scratch(script: &str) {
    same(&format!("{IN_SCRATCH}{script}"));
}

#[test]
fn the_shell_and_the_usual_tools() {
    same_in_scratch(
        "set -e
        seq 1 1000 | sort -rn | awk '{ s += $1 } END { print s, NR }'
        printf 'b 2\\na 1\\n' >f; sort f | sed 's/a/x/' | tee g | grep -c x
        mkdir -p d/e; cp f d/e/; ln -s d/e l; ls -R; find . -name f | sort
        tar czf t.tgz d f g; mkdir u; tar xzf t.tgz -C u; diff -r d u/d && echo same
        head -c 100000 /dev/zero | md5sum; dd if=/dev/zero bs=1k count=10 2>/dev/null | wc -c
        cat <<END | tr a-z A-Z
here document
END
        (exit 7); echo $?; false || echo no; echo $((6 * 7)); test -d d && echo dir
        cut -d: -f1 /etc/passwd | head -3; xargs -n1 echo <f; basename $(readlink -f l)",
    );
}

#[test]
fn bash_with_its_own_features() {
    same_in_scratch(
        "bash -c 'a=(1 2 3); echo ${#a[@]} ${a[@]/2/x}; while read l; do echo \"<$l>\"; done < <(printf \"x\\ny\\n\");
        echo {1..5}; [[ abc =~ b(.) ]] && echo ${BASH_REMATCH[1]}; sleep 0.1 & wait $!; echo $?; (ulimit -n 64; ulimit -n);
        trap \"echo bye\" EXIT; kill -l 15; declare -A m=([k]=v); echo ${m[k]}; set -o pipefail; false | true; echo $?; coproc cat; echo hi >&${COPROC[1]}; read -u ${COPROC[0]} r; echo $r'",
    );
}

#[test]
fn busybox_runs_as_a_static_program() {
    same_in_scratch(
        "busybox sh -c 'echo $((1+1)); busybox seq 3 | busybox wc -l; busybox awk \"BEGIN { print 3 * 4 }\"; busybox ls -a'",
    );
}

#[test]
fn python_with_subprocesses_and_threads() {
    same_in_scratch(
        "python3 - <<'END'
import os, subprocess, threading, socket, sys, json, hashlib, tempfile, multiprocessing, select, signal, time
print(sum(i * i for i in range(10000)))
print(subprocess.run(['echo', 'child'], capture_output=True, text=True).stdout.strip())
print(subprocess.Popen('cat; exit 3', shell=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE).communicate(b'in')[0])
total, lock = [0], threading.Lock()
def work():
    for _ in range(1000):
        with lock: total[0] += 1
threads = [threading.Thread(target=work) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]; print(total)
r, w = os.pipe(); pid = os.fork()
if pid == 0:
    os.write(w, b'from child'); os._exit(5)
print(os.read(r, 100), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
with tempfile.NamedTemporaryFile(dir='.') as f:
    f.write(b'x' * 100000); f.flush(); print(os.stat(f.name).st_size, hashlib.sha256(open(f.name, 'rb').read()).hexdigest())
signal.signal(signal.SIGALRM, lambda *a: print('alarm')); signal.setitimer(signal.ITIMER_REAL, 0.05); time.sleep(0.2)
print(sorted(os.listdir('/'))[:3], os.getcwd() == os.path.realpath('.'))
p = select.poll(); p.register(r); print(p.poll(0))
END",
    );
}

#[test]
fn perl() {
    same_in_scratch(
        "perl -e 'my %h = map { $_ => $_ ** 2 } 1..5; print join(\",\", map { \"$_=$h{$_}\" } sort keys %h), \"\\n\"; print `echo sub`; if (!fork) { exit 3 } wait; print $? >> 8, \"\\n\"; open F, \"|-\", \"sort\"; print F \"b\\na\\n\"; close F'",
    );
}

#[test]
fn git_from_init_to_log() {
    same_in_scratch(
        "export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z' HOME=$dir
        export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
        git init -q -b main r && cd r && for i in $(seq 50); do echo $i >f$i; done
        git add . && git commit -qm first && echo more >>f1 && git commit -qam second
        git log --format='%H %s' && git status --short && git diff HEAD~1 --stat && git gc -q && git fsck && git clone -q . ../c && ls ../c | wc -l",
    );
}

#[test]
fn gcc_and_make_build_a_project_that_runs() {
    same_in_scratch(
        "cat >main.c <<'END'
#include <stdio.h>
int add(int, int);
int main(void) { printf(\"%d\\n\", add(40, 2)); return 0; }
END
        echo 'int add(int a, int b) { return a + b; }' >add.c
        printf 'prog: main.o add.o\\n\\tcc -o $@ $^\\n%%.o: %%.c\\n\\tcc -O2 -c $<\\n' >Makefile
        make -j2 >/dev/null && ./prog && make -q && echo up to date && touch add.c && ! make -q && echo stale",
    );
}

#[test]
fn two_hundred_processes_at_once() {
    same(
        "i=0; while [ $i -lt 200 ]; do (sleep 0.5; exit $((i % 3))) & i=$((i+1)); done; n=0; while wait -n 2>/dev/null; do :; done; wait; echo done",
    );
}

#[test]
fn find_counts_what_the_host_counts() {
    // /usr does not change under the test, as / may.
    same("find /usr -xdev | wc -l; find /etc -xdev -type l | wc -l; find /usr/lib -xdev -newer /etc/passwd | wc -l");
}

#[test]
fn coreutils() {
    same_in_scratch(include_str!("../judges/coreutils.sh"));
}

#[test]
fn find_grep_sed_awk_tar_diff_and_patch() {
    same_in_scratch(include_str!("../judges/files.sh"));
}

#[test]
fn util_linux_and_procps() {
    same_in_scratch(include_str!("../judges/system.sh"));
}

#[test]
fn mounting_and_unmounting() {
    for backend in Backend::ALL {
        let script = format!("{IN_SCRATCH}{}", include_str!("../judges/mounts.sh"));
        assert_eq!(
            in_guest(backend, &script).output,
            include_str!("../judges/mounts.expected"),
            "{backend:?}"
        );
    }
}

#[test]
fn a_shell_as_init_finds_descriptors_shared_memory_and_pseudo_terminals_in_dev() {
    for backend in Backend::ALL {
        let guest = in_guest(
            backend,
            "bash -c 'cat <(echo substituted)'; (echo out >/dev/stdout) | cat; echo shared >/dev/shm/x; cat /dev/shm/x
            script -qec tty /dev/null </dev/null; mount -t devpts none /dev/pts; script -qec 'ls -i $(tty) >/dev/null; echo $?' /dev/null </dev/null",
        );
        assert_eq!(
            guest.output.replace('\r', ""),
            "substituted\nout\nshared\n/dev/pts/0\n0\n",
            "{backend:?}"
        );
    }
}

/// Under seccomp alone: ptrace loses a program with very many short-lived threads now and then (docs/ARCHITECTURE.md, "Known faults").
#[test]
fn five_hundred_threads() {
    let script = "python3 - <<'END'
import threading
start, count, lock = threading.Event(), [0], threading.Lock()
def work():
    start.wait()
    with lock: count[0] += 1
threads = [threading.Thread(target=work) for _ in range(500)]
[t.start() for t in threads]; print(threading.active_count()); start.set(); [t.join() for t in threads]; print(count)
END";
    let native = natively(script);
    for backend in Backend::ALL {
        assert_eq!(in_guest(backend, script), native, "{backend:?}");
    }
}

#[test]
fn deep_directories_and_large_ones() {
    same_in_scratch(
        "python3 - <<'END'
import os
os.mkdir('deep'); fd = os.open('deep', os.O_RDONLY)
for i in range(1000):
    os.mkdir('d%d' % i, dir_fd=fd); below = os.open('d%d' % i, os.O_RDONLY, dir_fd=fd); os.close(fd); fd = below
here = os.open('.', os.O_RDONLY); os.fchdir(fd); print(len(os.getcwd()) > 4096); os.fchdir(here)
os.mkdir('many')
for i in range(10000): open('many/f%d' % i, 'w').close()
print(len(os.listdir('many')), len(set(os.listdir('many'))))
END
        find deep | wc -l; rm -r deep; ls many | md5sum; find many -type f | wc -l; rm -r many; ls",
    );
}

#[test]
fn a_large_file_is_copied_whole() {
    same_in_scratch(
        "head -c 300000000 /dev/zero | openssl enc -aes-128-ctr -K 00 -iv 00 2>/dev/null >big; cp big copy; cat big >cat; dd if=big of=dd bs=1M 2>/dev/null
        for f in big copy cat dd; do sha256sum $f; done; cmp big cat && echo equal",
    );
}

#[test]
fn a_sort_of_many_lines_with_temporary_files() {
    same_in_scratch(
        "seq 2000000 | shuf --random-source=/dev/zero >r; sort -S 8M r | sha256sum; sort -n --parallel=2 r | tail -1",
    );
}

#[test]
fn a_project_of_fifty_files_by_make_j4() {
    same_in_scratch(
        "for i in $(seq 50); do printf '#include <stdio.h>\\nint f%d(void) { return printf(\"%d\\\\n\"); }\\n' $i $i >f$i.c; done
        (echo 'all: prog'; echo 'prog: main.o $(patsubst %.c,%.o,$(wildcard f*.c))'; printf '\\tcc -o $@ $^\\n') >Makefile
        (for i in $(seq 50); do echo \"int f$i(void);\"; done; echo 'int main(void) {'; for i in $(seq 50); do echo \"f$i();\"; done; echo '}') >main.c
        make -j4 >/dev/null && ./prog | sha256sum && ls | wc -l && make -q; echo $?",
    );
}

#[test]
fn a_python_virtual_environment() {
    same_in_scratch(
        "python3 -m venv --without-pip v && v/bin/python -c 'import sys; print(sys.prefix == sys.base_prefix)'; ls v",
    );
}

#[test]
fn tracing_a_program_fails_with_a_sentence() {
    for backend in Backend::ALL {
        let guest = in_guest(
            backend,
            "strace true; echo $?; gdb -batch -ex run /bin/true; echo $?; echo alive",
        );
        assert!(
            guest.output.contains("strace: ") && guest.output.ends_with("alive\n"),
            "{backend:?}: {}",
            guest.output
        );
    }
}

#[test]
fn a_pipe_opened_again_by_its_descriptors_name_does_not_wait_for_its_writer() {
    same("echo gone | (sleep 0.2; cat /dev/stdin); printf 'a\\nb\\n' | (sleep 0.2; wc -l /proc/self/fd/0)");
}

#[test]
fn the_ioctls_of_a_pseudo_terminals_ends() {
    same(
        "python3 - <<'END'
import array, fcntl, os, select, struct, termios
master, slave = os.openpty()
def get(fd, request):
    value = array.array('i', [-1]); fcntl.ioctl(fd, request, value); return value[0]
os.write(slave, b'12345'); select.select([master], [], []); print('FIONREAD', get(master, termios.FIONREAD), get(slave, termios.FIONREAD))
print('TIOCGPTLCK', get(master, 0x80045439), 'TIOCGPKT', get(master, 0x80045438))
fcntl.ioctl(master, termios.TIOCPKT, struct.pack('i', 1)); print('TIOCGPKT', get(master, 0x80045438))
locked = bytearray(36); struct.pack_into('IIII', locked, 0, 0, 0, 0, termios.ECHO)
fcntl.ioctl(slave, 0x5457, bytes(locked)); print(fcntl.ioctl(slave, 0x5456, bytes(36)) == bytes(locked))
modes = termios.tcgetattr(slave); modes[3] &= ~(termios.ECHO | termios.ICANON); termios.tcsetattr(slave, termios.TCSANOW, modes)
now = termios.tcgetattr(slave)[3]; print(bool(now & termios.ECHO), bool(now & termios.ICANON))
END",
    );
}
