/* Handlers, masks, restarts, alternate stacks, siginfo, FP state, stops. */
#include "claim.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>

static volatile int count, code;
static void *volatile where;
static volatile pid_t sender;

static void note(int signal, siginfo_t *info, void *context) {
    count++;
    code = info->si_code;
    where = info->si_addr;
    sender = info->si_pid;
    /* Use vector registers, so that the interrupted ones must be restored. */
    double junk[8];
    for (int i = 0; i < 8; i++)
        junk[i] = signal * i * 1.5;
    asm volatile("" ::"m"(junk));
    asm volatile("vpxor %%ymm0,%%ymm0,%%ymm0; vpxor %%ymm7,%%ymm7,%%ymm7" ::: "xmm0", "xmm7");
}

static void on(int signal, int flags) {
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | flags};
    sigaction(signal, &action, 0);
}

static sigjmp_buf jump;
static void leave(int signal, siginfo_t *info, void *context) {
    code = info->si_code;
    where = info->si_addr;
    siglongjmp(jump, 1);
}

static void *stack_seen;
static void on_stack(int signal) {
    int local;
    stack_seen = &local;
}

int main(void) {
    int status;
    on(SIGUSR1, 0);
    raise(SIGUSR1);
    claim("raise", "count %d code %d from self %d", count, code, sender == getpid());
    kill(getpid(), SIGUSR1);
    claim("kill", "count %d code %d", count, code);

    sigset_t set, old, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &old);
    kill(getpid(), SIGUSR1);
    kill(getpid(), SIGUSR1);
    sigpending(&pending);
    claim("blocked", "count %d pending %d", count, sigismember(&pending, SIGUSR1));
    sigprocmask(SIG_SETMASK, &old, 0);
    claim("unblocked, coalesced", "count %d", count);

    on(SIGRTMIN, 0);
    sigset_t rt;
    sigemptyset(&rt);
    sigaddset(&rt, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &rt, 0);
    count = 0;
    for (int i = 0; i < 3; i++)
        sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i});
    siginfo_t info;
    int got = sigwaitinfo(&rt, &info);
    claim("sigwaitinfo", "%d value %d code %d", got == SIGRTMIN, info.si_value.sival_int, info.si_code);
    sigprocmask(SIG_UNBLOCK, &rt, 0);
    claim("real-time signals queue", "count %d", count);
    struct timespec none = {0, 1000000};
    CLAIM(sigtimedwait(&rt, &info, &none));

    /* Vector registers survive a handler. */
    unsigned char before[32], after[32];
    for (int i = 0; i < 32; i++)
        before[i] = i * 7 + 1;
    asm volatile("vmovdqu %1,%%ymm7\n"
                 "mov %2,%%eax\n mov %3,%%edi\n mov %4,%%esi\n syscall\n"
                 "vmovdqu %%ymm7,%0"
                 : "=m"(after)
                 : "m"(before), "i"(SYS_kill), "r"(getpid()), "i"(SIGUSR1)
                 : "rax", "rdi", "rsi", "rcx", "r11", "xmm0", "xmm7", "memory");
    claim("vector registers over a handler", "%s", memcmp(before, after, 32) ? "lost" : "kept");

    /* Restart and EINTR. */
    int pipes[2];
    pipe(pipes);
    for (int restart = 0; restart < 2; restart++) {
        on(SIGUSR2, restart ? SA_RESTART : 0);
        pid_t parent = getpid(), child = fork();
        if (!child) {
            usleep(50000);
            kill(parent, SIGUSR2);
            usleep(50000);
            if (restart)
                write(pipes[1], "x", 1);
            _exit(0);
        }
        char byte;
        errno = 0;
        long got = read(pipes[0], &byte, 1);
        claim(restart ? "read with SA_RESTART" : "read without SA_RESTART", "%s", result(got));
        waitpid(child, &status, 0);
    }

    /* Alternate stack. */
    char *alternate = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t ss = {.ss_sp = alternate, .ss_size = 65536};
    CLAIM(sigaltstack(&ss, 0));
    struct sigaction action = {.sa_handler = on_stack, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR1, &action, 0);
    raise(SIGUSR1);
    claim("handler ran on the alternate stack", "%d", (char *)stack_seen >= alternate && (char *)stack_seen < alternate + 65536);
    stack_t bad = {.ss_sp = alternate, .ss_size = 100};
    CLAIM(sigaltstack(&bad, 0));

    /* Faults. */
    struct sigaction fault = {.sa_sigaction = leave, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &fault, 0);
    sigaction(SIGFPE, &fault, 0);
    sigaction(SIGILL, &fault, 0);
    sigaction(SIGBUS, &fault, 0);
    sigaction(SIGTRAP, &fault, 0);
    if (!sigsetjmp(jump, 1))
        *(volatile int *)0x1234 = 1;
    claim("unmapped store", "code %d at %p", code, where);
    char *page = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!sigsetjmp(jump, 1))
        *(volatile char *)(page + 5) = 1;
    claim("store to read-only", "code %d right place %d", code, (char *)where == page + 5);
    volatile int zero = 0;
    if (!sigsetjmp(jump, 1))
        zero = 1 / zero;
    claim("division by zero", "code %d", code);
    if (!sigsetjmp(jump, 1))
        asm volatile("ud2");
    claim("illegal instruction", "code %d", code);
    if (!sigsetjmp(jump, 1))
        asm volatile("hlt");
    claim("privileged instruction", "code %d", code);
    char name[] = "/tmp/signals-XXXXXX";
    int fd = mkstemp(name);
    unlink(name);
    ftruncate(fd, 100);
    char *map = mmap(0, 8192, PROT_READ, MAP_SHARED, fd, 0);
    if (!sigsetjmp(jump, 1))
        claim("within the file's page", "%d", map[200]);
    if (!sigsetjmp(jump, 1))
        code = map[5000];
    claim("behind the end of file", "code %d right place %d", code, (char *)where == map + 5000);
    signal(SIGSEGV, SIG_DFL);

    /* SIGPIPE, ignored signals, default actions. */
    close(pipes[0]);
    pid_t child = fork();
    if (!child) {
        write(pipes[1], "x", 1);
        _exit(0);
    }
    waitpid(child, &status, 0);
    claim("write to a pipe nobody reads", "%s", ended(status));
    signal(SIGPIPE, SIG_IGN);
    CLAIM(write(pipes[1], "x", 1));

    /* Stops. */
    child = fork();
    if (!child) {
        raise(SIGSTOP);
        usleep(100000);
        _exit(7);
    }
    waitpid(child, &status, WUNTRACED);
    claim("stop", "%s", ended(status));
    kill(child, SIGCONT);
    waitpid(child, &status, WCONTINUED);
    claim("continue", "%s", ended(status));
    waitpid(child, &status, 0);
    claim("end", "%s", ended(status));

    /* Errors. */
    CLAIM(kill(getpid(), 65));
    CLAIM(kill(1 << 22, 0));
    CLAIM(sigaction(SIGKILL, &fault, 0));
    CLAIM(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, 0, 4));
    CLAIM(syscall(SYS_rt_sigprocmask, 77, &set, 0, 8));
    CLAIM(syscall(SYS_tgkill, getpid(), 0, SIGUSR1));

    /* Timers. */
    count = 0;
    on(SIGALRM, 0);
    struct itimerval timer = {.it_value = {0, 20000}};
    setitimer(ITIMER_REAL, &timer, 0);
    CLAIM(pause());
    claim("interval timer", "count %d code %d", count, code);
    alarm(100);
    claim("alarm left", "%u", alarm(0));
    struct timespec nap = {0, 30000000}, left;
    timer.it_value.tv_usec = 10000;
    setitimer(ITIMER_REAL, &timer, 0);
    CLAIM(nanosleep(&nap, &left));
    claim("something left", "%d", left.tv_nsec > 0 && left.tv_nsec < 30000000);
    return 0;
}
