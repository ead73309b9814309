/* The frame of a handler byte by byte, nested handlers, restarts of every kind, queues and their limits, signalfd. */
#include "claim.h"
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>

static char alternate[65536];
static volatile unsigned long seen_rsp, seen_flags, seen_fp, seen_magic;
static volatile int depth, deepest, count;
static stack_t seen_stack;
static sigset_t seen_mask;

static void look(int signal, siginfo_t *info, void *pointer) {
    ucontext_t *context = pointer;
    seen_rsp = (unsigned long)pointer - 8;
    seen_flags = context->uc_flags;
    seen_fp = (unsigned long)context->uc_mcontext.fpregs;
    seen_magic = *(unsigned *)(seen_fp + 464);
    seen_stack = context->uc_stack;
    seen_mask = context->uc_sigmask;
    count++;
    /* What is changed here is what the program goes on with. */
    context->uc_mcontext.gregs[REG_R15] = 0x1234567;
}

static void nest(int signal) {
    depth++;
    if (depth > deepest)
        deepest = depth;
    if (depth < 3)
        raise(signal);
    depth--;
}

static void plain(int signal) { count++; }

static void set(int signal, void *handler, int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(signal, &action, 0);
}

/* Runs `call` while a child sends SIGUSR1 after a while. */
#define INTERRUPTED(text, call)                                                                                                            \
    do {                                                                                                                                   \
        pid_t parent = getpid(), child = fork();                                                                                           \
        if (!child) {                                                                                                                      \
            usleep(30000);                                                                                                                 \
            kill(parent, SIGUSR1);                                                                                                         \
            usleep(30000);                                                                                                                 \
            write(pipes[1], "x", 1);                                                                                                       \
            _exit(0);                                                                                                                      \
        }                                                                                                                                  \
        long got = (call);                                                                                                                 \
        claim(text, "%s", result(got));                                                                                                    \
        waitpid(child, 0, 0);                                                                                                              \
        fcntl(pipes[0], F_SETFL, O_NONBLOCK);                                                                                              \
        char rest[8];                                                                                                                      \
        while (read(pipes[0], rest, 8) > 0)                                                                                                \
            ;                                                                                                                              \
        fcntl(pipes[0], F_SETFL, 0);                                                                                                       \
    } while (0)

int main(void) {
    int pipes[2], status;
    char byte;
    sigset_t mask, old;
    pipe(pipes);
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    struct sigaction action = {.sa_sigaction = look, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGUSR1, &action, 0);
    register unsigned long r15 asm("r15") = 1;
    asm volatile("" : "+r"(r15));
    pid_t self = getpid();
    asm volatile("syscall" : "+r"(r15) : "a"(SYS_kill), "D"(self), "S"(SIGUSR1) : "rcx", "r11", "memory");
    claim("frame", "aligned %lu flags %lx fp aligned %lu above %d", seen_rsp % 16, seen_flags, seen_fp % 64, seen_fp > seen_rsp);
    claim("changed register", "%lx", r15);
    claim("fp magic", "%lx", seen_magic);
    CLAIM(sigaltstack(&stack, 0));
    raise(SIGUSR1);
    claim("on the alternate stack", "%d flags %d", seen_rsp > (unsigned long)alternate && seen_rsp < (unsigned long)alternate + sizeof alternate, seen_stack.ss_flags);
    sigaltstack(0, &stack);
    claim("left", "flags %d", stack.ss_flags);
    stack.ss_size = 100;
    CLAIM(sigaltstack(&stack, 0));
    stack.ss_flags = 77;
    CLAIM(sigaltstack(&stack, 0));
    stack.ss_flags = SS_DISABLE;
    CLAIM(sigaltstack(&stack, 0));
    CLAIM(sigaltstack(0, (void *)8));

    set(SIGUSR2, nest, SA_NODEFER);
    raise(SIGUSR2);
    claim("SA_NODEFER nests", "%d", deepest);
    deepest = 0;
    set(SIGUSR2, nest, SA_RESETHAND | SA_NODEFER);
    pid_t child = fork();
    if (!child) {
        raise(SIGUSR2);
        _exit(0);
    }
    waitpid(child, &status, 0);
    claim("SA_RESETHAND", "%s", ended(status));

    set(SIGUSR1, plain, 0);
    INTERRUPTED("read", read(pipes[0], &byte, 1));
    INTERRUPTED("nanosleep", nanosleep(&(struct timespec){0, 90000000}, 0));
    INTERRUPTED("poll", poll(&(struct pollfd){pipes[0], POLLIN, 0}, 1, 1000));
    INTERRUPTED("pause", pause());
    set(SIGUSR1, plain, SA_RESTART);
    INTERRUPTED("read, SA_RESTART", read(pipes[0], &byte, 1));
    INTERRUPTED("nanosleep, SA_RESTART", nanosleep(&(struct timespec){0, 90000000}, 0));
    INTERRUPTED("poll, SA_RESTART", poll(&(struct pollfd){pipes[0], POLLIN, 0}, 1, 1000));
    signal(SIGUSR1, SIG_IGN);
    INTERRUPTED("poll, ignored", poll(&(struct pollfd){pipes[0], POLLIN, 0}, 1, 1000));
    INTERRUPTED("nanosleep, ignored", nanosleep(&(struct timespec){0, 90000000}, 0));
    /* A stop and a continuation are not seen by the calls they interrupt. */
    child = fork();
    if (!child) {
        long got = nanosleep(&(struct timespec){0, 150000000}, 0);
        claim("nanosleep over a stop", "%s", result(got));
        _exit(0);
    }
    usleep(40000);
    kill(child, SIGSTOP);
    waitpid(child, &status, WUNTRACED);
    kill(child, SIGCONT);
    waitpid(child, &status, 0);

    set(SIGUSR1, plain, 0);
    set(SIGRTMIN + 1, plain, 0);
    sigemptyset(&mask);
    sigaddset(&mask, SIGRTMIN + 1);
    sigaddset(&mask, SIGUSR1);
    sigprocmask(SIG_BLOCK, &mask, &old);
    struct rlimit limit = {3, 3};
    child = fork();
    if (!child) {
        setrlimit(RLIMIT_SIGPENDING, &limit);
        setuid(54321);
        for (int i = 0; i < 5; i++)
            claim("queue", "%s", result(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = i})));
        CLAIM(kill(getpid(), SIGUSR1));
        count = 0;
        sigprocmask(SIG_SETMASK, &old, 0);
        claim("delivered", "%d", count);
        _exit(0);
    }
    waitpid(child, &status, 0);

    int fd = signalfd(-1, &mask, SFD_NONBLOCK);
    struct signalfd_siginfo info[3];
    CLAIM(read(fd, info, sizeof info));
    CLAIM(read(fd, info, 10));
    sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 42});
    kill(getpid(), SIGUSR1);
    struct pollfd poller = {fd, POLLIN, 0};
    CLAIM(poll(&poller, 1, 0));
    CLAIM(read(fd, info, sizeof info));
    claim("signalfd", "%d code %d; %d value %d self %d", info[0].ssi_signo, info[0].ssi_code, info[1].ssi_signo - SIGRTMIN, info[1].ssi_int, info[1].ssi_pid == (unsigned)getpid());
    CLAIM(poll(&poller, 1, 0));
    CLAIM(signalfd(0, &mask, 0));
    CLAIM(signalfd(-1, &mask, 0x10));
    CLAIM(syscall(SYS_rt_sigaction, SIGKILL, 0, 0, 8));
    CLAIM(syscall(SYS_rt_sigaction, SIGKILL, &action, 0, 8));
    CLAIM(syscall(SYS_rt_sigaction, SIGUSR1, 0, 0, 4));
    CLAIM(syscall(SYS_rt_sigaction, 0, 0, 0, 8));
    CLAIM(syscall(SYS_rt_sigprocmask, 7, &mask, 0, 8));
    CLAIM(syscall(SYS_rt_sigprocmask, 7, 0, 0, 8));
    CLAIM(syscall(SYS_rt_sigprocmask, 0, 8, 0, 8));
    CLAIM(syscall(SYS_rt_sigpending, &mask, 16));
    CLAIM(syscall(SYS_rt_sigtimedwait, &mask, 0, &(struct timespec){0, 0}, 8));
    CLAIM(syscall(SYS_rt_sigtimedwait, &mask, 0, &(struct timespec){-1, 0}, 8));
    siginfo_t forged = {.si_code = SI_USER};
    CLAIM(syscall(SYS_rt_sigqueueinfo, getppid(), SIGUSR1, &forged));
    CLAIM(syscall(SYS_tgkill, getpid(), getpid(), 0));
    CLAIM(syscall(SYS_tgkill, 1, getpid(), 0));
    CLAIM(syscall(SYS_tgkill, -1, getpid(), 0));
    CLAIM(syscall(SYS_restart_syscall));

    /* A frame that is no frame. */
    child = fork();
    if (!child) {
        asm volatile("mov $8, %%rsp; syscall" ::"a"(SYS_rt_sigreturn));
        _exit(0);
    }
    waitpid(child, &status, 0);
    claim("sigreturn without a frame", "%s", ended(status));
    child = fork();
    if (!child) {
        signal(SIGSEGV, SIG_IGN);
        *(volatile int *)8 = 1;
        _exit(0);
    }
    waitpid(child, &status, 0);
    claim("an ignored fault kills", "%s", ended(status));
    return 0;
}
