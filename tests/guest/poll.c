/* pipe, poll, select, epoll, eventfd, timerfd, signalfd. */
#include "claim.h"
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/uio.h>

/* Chains of instances, built from either end; what can be watched at all. */
static void chains(void) {
    struct epoll_event event = {EPOLLIN, {0}};
    int top = epoll_create1(0), bottom = top, links = 0;
    for (; links < 100; links++) {
        int next = epoll_create1(0);
        if (epoll_ctl(bottom, EPOLL_CTL_ADD, next, &event))
            break;
        bottom = next;
    }
    claim("a chain built downwards", "%d links, then %s", links, strerrorname_np(errno));
    int p[2];
    pipe(p);
    CLAIM(epoll_ctl(bottom, EPOLL_CTL_ADD, p[0], &event));
    write(p[1], "x", 1);
    CLAIM(epoll_wait(top, &event, 1, 1000));
    event.events = EPOLLIN;
    for (bottom = epoll_create1(0), links = 0; links < 100; links++) {
        int next = epoll_create1(0);
        if (epoll_ctl(next, EPOLL_CTL_ADD, bottom, &event))
            break;
        bottom = next;
    }
    claim("a chain built upwards", "%d links", links);
    int e = epoll_create1(0);
    static const char *const names[] = {"/dev/zero", "/dev/null", "/proc/self/maps", "/proc/self/mounts", "/dev/random", "/"};
    for (size_t at = 0; at < sizeof names / sizeof *names; at++) {
        int fd = open(names[at], O_RDONLY);
        event.events = EPOLLPRI;
        claim("watching", "%s: %s", names[at], result(epoll_ctl(e, EPOLL_CTL_ADD, fd, &event)));
        close(fd);
    }
}

/* An edge is a change: a read that leaves the pipe readable, or not yet writable, is none. */
static void edges(void) {
    int p[2], e = epoll_create1(0);
    pipe2(p, O_NONBLOCK);
    CLAIM(fcntl(p[1], F_SETPIPE_SZ, 0) == sysconf(_SC_PAGESIZE));
    char page[4096] = {0};
    struct epoll_event event = {EPOLLIN | EPOLLET, {.u32 = 1}};
    epoll_ctl(e, EPOLL_CTL_ADD, p[0], &event);
    event = (struct epoll_event){EPOLLOUT | EPOLLET, {.u32 = 2}};
    epoll_ctl(e, EPOLL_CTL_ADD, p[1], &event);
    CLAIM(write(p[1], page, sizeof page));
    CLAIM(epoll_wait(e, &event, 1, 0) == 1 && event.data.u32 == 1);
    CLAIM(read(p[0], page, 2048));
    CLAIM(epoll_wait(e, &event, 1, 0));
    CLAIM(read(p[0], page, 2048));
    CLAIM(epoll_wait(e, &event, 1, 0) == 1 && event.data.u32 == 2);
    CLAIM(epoll_wait(e, &event, 1, 0));
    CLAIM(pwrite(p[0], page, 1, 0));
    CLAIM(pread(p[1], page, 1, 0));
}

/* vmsplice waits for room once: a lone thread may fill a pipe with more than fits. */
static void fills(void) {
    static char much[1 << 17] __attribute__((aligned(4096)));
    struct iovec vector = {much, sizeof much};
    int p[2];
    pipe(p);
    CLAIM(vmsplice(p[1], &vector, 1, 0));
    CLAIM(vmsplice(p[1], &vector, 1, SPLICE_F_NONBLOCK));
    CLAIM(read(p[0], much, sizeof much));
}

int main(void) {
    int p[2], count;
    char buffer[70000];
    CLAIM(pipe2(p, O_NONBLOCK));
    CLAIM(pipe2((int *)1, 0));
    CLAIM(pipe2(p, 0x12345));
    CLAIM(read(p[0], buffer, 1));
    long total = 0, got;
    memset(buffer, 1, sizeof buffer);
    while ((got = write(p[1], buffer, 1024)) > 0)
        total += got;
    claim("capacity", "%ld then %s", total, result(got));
    CLAIM(fcntl(p[1], F_GETPIPE_SZ));
    ioctl(p[0], FIONREAD, &count);
    claim("FIONREAD", "%d", count);
    struct pollfd pfd[2] = {{p[0], POLLIN, 0}, {p[1], POLLOUT, 0}};
    CLAIM(poll(pfd, 2, 0));
    claim("full pipe", "%x %x", pfd[0].revents, pfd[1].revents);
    CLAIM(read(p[0], buffer, sizeof buffer));
    CLAIM(poll(pfd, 2, 0));
    claim("empty pipe", "%x %x", pfd[0].revents, pfd[1].revents);
    CLAIM(poll(pfd, 1, 5));
    struct pollfd bad = {99, POLLIN, 0};
    CLAIM(poll(&bad, 1, 0));
    claim("bad descriptor", "%x", bad.revents);

    int e = epoll_create1(0);
    struct epoll_event event = {EPOLLIN, {.u64 = 77}}, events[4];
    CLAIM(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &event));
    CLAIM(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &event));
    CLAIM(epoll_ctl(e, EPOLL_CTL_DEL, p[1], &event));
    CLAIM(epoll_ctl(e, EPOLL_CTL_ADD, e, &event));
    CLAIM(epoll_ctl(e, EPOLL_CTL_ADD, 99, &event));
    CLAIM(epoll_wait(e, events, 4, 0));
    write(p[1], "xy", 2);
    CLAIM(epoll_wait(e, events, 4, 100));
    claim("event", "%x %lu", events[0].events, (unsigned long)events[0].data.u64);
    CLAIM(epoll_wait(e, events, 4, 0));
    event.events = EPOLLIN | EPOLLET;
    CLAIM(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &event));
    CLAIM(epoll_wait(e, events, 4, 0));
    CLAIM(epoll_wait(e, events, 4, 0));
    write(p[1], "z", 1);
    CLAIM(epoll_wait(e, events, 4, 0));
    event.events = EPOLLIN | EPOLLONESHOT;
    epoll_ctl(e, EPOLL_CTL_MOD, p[0], &event);
    CLAIM(epoll_wait(e, events, 4, 0));
    CLAIM(epoll_wait(e, events, 4, 0));
    CLAIM(epoll_wait(e, events, 0, 0));
    CLAIM(epoll_wait(p[0], events, 1, 0));
    read(p[0], buffer, 100);
    event.events = EPOLLIN;
    epoll_ctl(e, EPOLL_CTL_MOD, p[0], &event);
    int status;
    if (!fork()) {
        usleep(20000);
        write(p[1], "w", 1);
        _exit(0);
    }
    CLAIM(epoll_wait(e, events, 4, 5000));
    wait(&status);
    struct pollfd nested = {e, POLLIN, 0};
    CLAIM(poll(&nested, 1, 0));
    close(p[1]);
    read(p[0], buffer, 100);
    CLAIM(epoll_wait(e, events, 4, 100));
    claim("hang-up", "%x", events[0].events);
    CLAIM(read(p[0], buffer, 1));
    CLAIM(poll(pfd, 1, 0));
    claim("poll hang-up", "%x", pfd[0].revents);
    close(p[0]);
    CLAIM(epoll_wait(e, events, 4, 0));

    int ev = eventfd(3, EFD_NONBLOCK);
    uint64_t value = 5;
    CLAIM(write(ev, &value, 8));
    CLAIM(read(ev, &value, 8));
    claim("eventfd", "%lu", (unsigned long)value);
    CLAIM(read(ev, &value, 8));
    CLAIM(read(ev, &value, 4));
    value = -1;
    CLAIM(write(ev, &value, 8));
    ev = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
    CLAIM(read(ev, &value, 8) == 8 && value == 1);
    CLAIM(read(ev, &value, 8) == 8 && value == 1);
    CLAIM(read(ev, &value, 8));

    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct itimerspec spec = {{0, 5000000}, {0, 5000000}};
    CLAIM(timerfd_settime(timer, 0, &spec, 0));
    CLAIM(read(timer, &value, 8));
    struct pollfd t = {timer, POLLIN, 0};
    CLAIM(poll(&t, 1, 1000));
    CLAIM(read(timer, &value, 8) == 8 && value >= 1);
    CLAIM(timerfd_create(99, 0));

    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, 0);
    int sfd = signalfd(-1, &set, SFD_NONBLOCK);
    struct signalfd_siginfo info;
    CLAIM(read(sfd, &info, sizeof info));
    kill(getpid(), SIGUSR1);
    CLAIM(read(sfd, &info, sizeof info));
    claim("signalfd", "%d from self %d", info.ssi_signo, info.ssi_pid == (unsigned)getpid());

    fd_set readable;
    FD_ZERO(&readable);
    pipe(p);
    FD_SET(p[0], &readable);
    struct timeval none = {0, 1000};
    CLAIM(select(p[0] + 1, &readable, 0, 0, &none));
    claim("select wrote the time back", "%ld", (long)none.tv_usec);
    write(p[1], "x", 1);
    FD_SET(p[0], &readable);
    CLAIM(select(p[0] + 1, &readable, 0, 0, 0));
    CLAIM(FD_ISSET(p[0], &readable) != 0);
    CLAIM(select(-1, 0, 0, 0, &none));
    chains();
    edges();
    fills();
    return 0;
}
