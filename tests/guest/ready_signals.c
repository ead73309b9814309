/* SIGIO: pipes, terminals, sockets; whom it goes to and what it tells. EPOLLEXCLUSIVE: how many hear of a change. */
#include "claim.h"
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Waits up to a while for one of the two signals and says what it is; nothing else arrives. */
static void next(const char *what, long milliseconds) {
    sigset_t set;
    siginfo_t info = {0};
    sigemptyset(&set);
    sigaddset(&set, SIGIO);
    sigaddset(&set, SIGRTMIN);
    struct timespec patience = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    int signal = sigtimedwait(&set, &info, &patience);
    if (signal < 0)
        claim(what, "%s", result(signal));
    else if (signal == SIGIO)
        claim(what, "SIGIO code %d", info.si_code);
    else
        claim(what, "SIGRTMIN code %d fd %d in %d out %d", info.si_code, info.si_fd, !!(info.si_band & POLLIN), !!(info.si_band & POLLOUT));
    /* One change may be told several times. */
    struct timespec little = {0, 20000000};
    while (sigtimedwait(&set, &info, &little) > 0)
        ;
}

static void watch(int fd, int signal) {
    CLAIM(fcntl(fd, F_SETOWN, getpid()));
    CLAIM(fcntl(fd, F_SETSIG, signal));
    CLAIM(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC));
}

static void *own_thread(void *fds) {
    int *p = fds;
    struct f_owner_ex owner = {F_OWNER_TID, gettid()};
    CLAIM(fcntl(p[0], F_SETOWN_EX, &owner));
    write(p[1], "x", 1);
    next("the thread that owns", 5000);
    return NULL;
}

static void owners(void) {
    int p[2];
    char byte;
    struct f_owner_ex owner;
    pipe(p);
    CLAIM(fcntl(p[0], F_SETOWN, 999999));
    CLAIM(fcntl(p[0], F_SETOWN, -999999));
    CLAIM(fcntl(p[0], F_GETOWN));
    CLAIM(fcntl(p[0], F_SETSIG, 65));
    owner = (struct f_owner_ex){7, getpid()};
    CLAIM(fcntl(p[0], F_SETOWN_EX, &owner));
    write(p[1], "x", 1);
    next("without O_ASYNC", 50);
    read(p[0], &byte, 1);
    watch(p[0], 0);
    claim("F_GETOWN", "%d", fcntl(p[0], F_GETOWN) == getpid());
    write(p[1], "x", 1);
    next("a pipe", 5000);
    read(p[0], &byte, 1);
    fcntl(p[0], F_SETSIG, SIGRTMIN);
    write(p[1], "x", 1);
    next("a pipe, with details", 5000);
    read(p[0], &byte, 1);
    pthread_t thread;
    pthread_create(&thread, NULL, own_thread, p);
    pthread_join(thread, NULL);
    CLAIM(fcntl(p[0], F_GETOWN_EX, &owner));
    claim("F_GETOWN_EX", "%d", owner.type);
    read(p[0], &byte, 1);
    owner = (struct f_owner_ex){F_OWNER_PGRP, getpgrp()};
    CLAIM(fcntl(p[0], F_SETOWN_EX, &owner));
    claim("F_GETOWN", "%d", fcntl(p[0], F_GETOWN) == -getpgrp());
    write(p[1], "x", 1);
    next("a group", 5000);
    read(p[0], &byte, 1);
    fcntl(p[0], F_SETFL, 0);
    write(p[1], "x", 1);
    next("after O_ASYNC", 50);
    int off = 1;
    CLAIM(ioctl(p[0], FIOASYNC, &off));
    claim("FIOASYNC", "%d", !!(fcntl(p[0], F_GETFL) & O_ASYNC));
    read(p[0], &byte, 1);
    if (fork() == 0) {
        write(p[1], "x", 1);
        _exit(0);
    }
    next("written by a child", 5000);
    wait(NULL);
    close(p[1]);
    next("the end", 5000);
    close(p[0]);
}

static void kinds(void) {
    int s[2], master, slave;
    char text[100];
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    watch(s[0], SIGRTMIN);
    write(s[1], "x", 1);
    next("a socket", 5000);
    close(s[1]);
    next("its peer closes", 5000);
    openpty(&master, &slave, NULL, NULL, NULL);
    watch(slave, SIGRTMIN);
    write(master, "line\n", 5);
    next("a terminal", 5000);
    read(slave, text, sizeof text);
    struct sockaddr_un name = {AF_UNIX};
    snprintf(name.sun_path + 1, 50, "ready_signals %d", getpid());
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(listener, (void *)&name, sizeof name);
    listen(listener, 5);
    watch(listener, SIGRTMIN);
    connect(client, (void *)&name, sizeof name);
    next("a listener", 5000);
    int file = open("/dev/null", O_RDWR);
    CLAIM(fcntl(file, F_SETFL, O_ASYNC));
}

/* Someone else's process is not signalled on behalf of one who may not. */
static void rights(void) {
    if (geteuid() != 0) {
        claim("rights", "%s", "as root only");
        return;
    }
    int p[2], ready[2];
    pipe(p);
    pipe(ready);
    pid_t child = fork();
    if (child == 0) {
        setresuid(1234, 1234, 1234);
        fcntl(p[0], F_SETOWN, getppid());
        fcntl(p[0], F_SETFL, O_ASYNC);
        write(p[1], "x", 1);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    next("of a stranger", 100);
}

static int woken[2];

static void *wait_for(void *epoll) {
    struct epoll_event event;
    int n = epoll_wait((int)(intptr_t)epoll, &event, 1, 400);
    if (n > 0)
        write(woken[1], "x", 1);
    return NULL;
}

static void exclusive(unsigned how) {
    int p[2], waiters = 4;
    pthread_t threads[4];
    pipe(p);
    pipe2(woken, O_NONBLOCK);
    for (int at = 0; at < waiters; at++) {
        int epoll = epoll_create1(0);
        struct epoll_event event = {EPOLLIN | how, {0}};
        epoll_ctl(epoll, EPOLL_CTL_ADD, p[0], &event);
        pthread_create(&threads[at], NULL, wait_for, (void *)(intptr_t)epoll);
    }
    usleep(150000);
    write(p[1], "x", 1);
    for (int at = 0; at < waiters; at++)
        pthread_join(threads[at], NULL);
    char bytes[10];
    claim(how ? "instances woken, exclusively" : "instances woken", "%s", result(read(woken[0], bytes, sizeof bytes)));
}

int main(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGIO);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    setpgid(0, 0);
    owners();
    kinds();
    rights();
    exclusive(0);
    exclusive(EPOLLEXCLUSIVE);
    return 0;
}
