/* clone, clone3, vfork, pidfds, waiting: which combinations make sense, and what they share. */
#include "claim.h"
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static char stack[65536] __attribute__((aligned(16)));
static volatile int shared;

static long raw_clone(unsigned long flags, void *top) { return syscall(SYS_clone, flags, top, 0, 0, 0); }

static long clone3(struct clone_args *args, size_t size) { return syscall(SYS_clone3, args, size); }

static int child_writes(void *argument) {
    shared = 7;
    close((int)(long)argument);
    chdir("/usr");
    return 9;
}

static void combinations(void) {
    struct clone_args args = {0};
    CLAIM(raw_clone(CLONE_THREAD | SIGCHLD, 0));
    CLAIM(raw_clone(CLONE_SIGHAND | SIGCHLD, 0));
    CLAIM(raw_clone(CLONE_THREAD | CLONE_SIGHAND, 0));
    CLAIM(raw_clone(CLONE_FS | CLONE_NEWNS | SIGCHLD, 0));
    CLAIM(raw_clone(CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD, 0));
    CLAIM(raw_clone(CLONE_PIDFD | CLONE_DETACHED | SIGCHLD, 0));
    CLAIM(clone3(&args, 8));
    CLAIM(clone3(&args, 5000));
    args.exit_signal = 65;
    CLAIM(clone3(&args, sizeof args));
    args.exit_signal = 256;
    CLAIM(clone3(&args, sizeof args));
    args = (struct clone_args){.flags = SIGCHLD};
    CLAIM(clone3(&args, sizeof args));
    args = (struct clone_args){.exit_signal = SIGCHLD, .stack = (long)stack};
    CLAIM(clone3(&args, sizeof args));
    args = (struct clone_args){.exit_signal = SIGCHLD, .stack_size = 4096};
    CLAIM(clone3(&args, sizeof args));
    args = (struct clone_args){.flags = CLONE_PARENT, .exit_signal = SIGCHLD};
    CLAIM(clone3(&args, sizeof args));
    args = (struct clone_args){.flags = CLONE_SIGHAND | CLONE_VM | 0x100000000ull, .exit_signal = SIGCHLD};
    CLAIM(clone3(&args, sizeof args));
    args = (struct clone_args){.exit_signal = SIGCHLD, .set_tid_size = 1};
    CLAIM(clone3(&args, sizeof args));
    pid_t wanted[2] = {0, 0};
    args = (struct clone_args){.exit_signal = SIGCHLD, .set_tid_size = 1, .set_tid = (long)wanted};
    CLAIM(clone3(&args, sizeof args));
    char longer[sizeof args + 16] = {0};
    longer[sizeof args + 3] = 1;
    CLAIM(clone3((void *)longer, sizeof longer));
    CLAIM(clone3((void *)8, sizeof args));
    CLAIM(unshare(CLONE_FILES | CLONE_FS));
    CLAIM(unshare(0x1));
    CLAIM(setns(0, 0));
}

static void sharing(void) {
    int status, fd = dup(0);
    pid_t child = clone(child_writes, stack + sizeof stack, CLONE_VM | CLONE_FILES | CLONE_FS | SIGCHLD, (void *)(long)fd);
    waitpid(child, &status, 0);
    char directory[64];
    claim("shared all", "%s memory %d file %s directory %s", ended(status), shared, result(fcntl(fd, F_GETFD)), getcwd(directory, 64));
    chdir("/");
    shared = 0;
    fd = dup(0);
    child = clone(child_writes, stack + sizeof stack, SIGCHLD, (void *)(long)fd);
    waitpid(child, &status, 0);
    claim("shared nothing", "%s memory %d file %s directory %s", ended(status), shared, result(fcntl(fd, F_GETFD)), getcwd(directory, 64));
    child = clone(child_writes, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, (void *)(long)fd);
    claim("vfork waits", "memory %d", shared);
    waitpid(child, &status, 0);
}

static void tids(void) {
    pid_t parent_side = 0, *shared_page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct clone_args args = {
        .flags = CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID,
        .exit_signal = SIGCHLD,
        .parent_tid = (long)&parent_side,
        .child_tid = (long)shared_page,
    };
    pid_t child = clone3(&args, sizeof args);
    if (!child) {
        shared_page[1] = shared_page[0] == syscall(SYS_gettid);
        _exit(0);
    }
    waitpid(child, 0, 0);
    claim("tids", "parent %d child %d", parent_side == child, shared_page[1]);
    child = clone3(&args, 64);
    if (!child)
        _exit(0);
    claim("first size", "%d", waitpid(child, 0, 0) == child);
}

static void exit_signals(void) {
    int status;
    pid_t child = raw_clone(0, 0);
    if (!child)
        _exit(3);
    CLAIM(waitpid(child, &status, 0));
    CLAIM(waitpid(child, &status, __WCLONE) == child);
    signal(SIGUSR1, SIG_IGN);
    child = raw_clone(SIGUSR1, 0);
    if (!child)
        _exit(4);
    CLAIM(waitpid(child, &status, __WALL) == child);
    claim("other exit signal", "%s", ended(status));
    signal(SIGCHLD, SIG_IGN);
    child = fork();
    if (!child)
        _exit(5);
    CLAIM(waitpid(child, &status, 0));
    signal(SIGCHLD, SIG_DFL);
    struct sigaction action = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};
    sigaction(SIGCHLD, &action, 0);
    child = fork();
    if (!child)
        _exit(6);
    CLAIM(waitpid(child, &status, 0));
    signal(SIGCHLD, SIG_DFL);
}

static void pidfds(void) {
    siginfo_t info;
    pid_t child = fork();
    if (!child) {
        pause();
        _exit(0);
    }
    int fd = syscall(SYS_pidfd_open, child, 0);
    claim("pidfd_open", "%d cloexec %d", fd >= 0, fcntl(fd, F_GETFD));
    struct pollfd poller = {fd, POLLIN, 0};
    CLAIM(poll(&poller, 1, 0));
    CLAIM(syscall(SYS_pidfd_send_signal, fd, 0, 0, 0));
    CLAIM(syscall(SYS_pidfd_send_signal, fd, 99, 0, 0));
    CLAIM(syscall(SYS_pidfd_send_signal, 0, SIGTERM, 0, 0));
    CLAIM(syscall(SYS_pidfd_open, child, 1));
    CLAIM(syscall(SYS_pidfd_open, 0, 0));
    CLAIM(syscall(SYS_pidfd_open, 1 << 22, 0));
    CLAIM(syscall(SYS_pidfd_send_signal, fd, SIGTERM, 0, 0));
    CLAIM(poll(&poller, 1, -1));
    claim("readable", "%x", poller.revents);
    char byte;
    CLAIM(read(fd, &byte, 1));
    memset(&info, 0, sizeof info);
    CLAIM(waitid(P_PIDFD, fd, &info, WEXITED));
    claim("ended", "code %d status %d", info.si_code, info.si_status);
    CLAIM(waitid(P_PIDFD, fd, &info, WEXITED));
    CLAIM(syscall(SYS_pidfd_send_signal, fd, 0, 0, 0));
    int from_clone = -1;
    struct clone_args args = {.flags = CLONE_PIDFD, .exit_signal = SIGCHLD, .pidfd = (long)&from_clone};
    child = clone3(&args, sizeof args);
    if (!child)
        _exit(0);
    claim("from clone", "%d", from_clone >= 0 && fcntl(from_clone, F_GETFD) == FD_CLOEXEC);
    CLAIM(waitid(P_PIDFD, from_clone, &info, WEXITED));
}

static void death_signals(void) {
    int status, pipes[2];
    pipe(pipes);
    pid_t child = fork();
    if (!child) {
        if (!fork()) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            int set = 0;
            prctl(PR_GET_PDEATHSIG, &set);
            dprintf(pipes[1], "%d", set);
            pause();
        }
        char got;
        read(pipes[0], &got, 1);
        _exit(0);
    }
    waitpid(child, &status, 0);
    close(pipes[1]);
    char rest[8];
    claim("the grandchild died with its parent", "%d", read(pipes[0], rest, 8) >= 0);
    CLAIM(prctl(PR_SET_PDEATHSIG, 65));
    CLAIM(prctl(PR_SET_DUMPABLE, 2));
    CLAIM(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
    CLAIM(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    CLAIM(prctl(PR_CAPBSET_READ, 99));
    CLAIM(prctl(PR_SET_TIMERSLACK, 1234));
    CLAIM(prctl(PR_GET_TIMERSLACK));
    CLAIM(prctl(PR_SET_TIMERSLACK, 0));
    CLAIM(prctl(PR_GET_TIMERSLACK));
}

int main(void) {
    combinations();
    sharing();
    tids();
    exit_signals();
    pidfds();
    death_signals();
    struct rusage usage;
    CLAIM(getrusage(RUSAGE_CHILDREN, &usage));
    CLAIM(getrusage(5, &usage));
    return 0;
}
