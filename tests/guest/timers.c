/* Clocks, sleeping, interval and POSIX timers, timerfd, scheduling parameters. */
#include "claim.h"
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/timex.h>
#include <time.h>

static volatile int hits, overrun, value;

static void on_timer(int signal, siginfo_t *info, void *context) {
    hits++;
    overrun = info->si_overrun;
    value = info->si_value.sival_int;
}

static void on_signal(int signal) { hits++; }

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static void posix_timers(void) {
    struct sigaction action = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGUSR1, &action, 0);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 77};
    timer_t timer;
    CLAIM(timer_create(CLOCK_MONOTONIC, &event, &timer));
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, 0);
    struct itimerspec spec = {{0, 10000000}, {0, 10000000}};
    CLAIM(timer_settime(timer, 0, &spec, 0));
    struct timespec pause = {0, 105000000};
    nanosleep(&pause, 0);
    /* One delivery, and no second one that would have a count of its own. */
    sigset_t none;
    sigemptyset(&none);
    sigsuspend(&none);
    claim("one signal stands for many expirations", "%d %d %d", hits, value, overrun >= 8);
    CLAIM(timer_getoverrun(timer) >= 8);
    struct itimerspec left;
    timer_gettime(timer, &left);
    CLAIM(left.it_value.tv_nsec > 0 && left.it_value.tv_nsec <= 10000000);
    CLAIM(timer_delete(timer));
    /* The C library frees what it hangs on the id: ask the kernel itself. */
    CLAIM(syscall(SYS_timer_delete, 4711));
    event.sigev_signo = 65;
    CLAIM(timer_create(CLOCK_MONOTONIC, &event, &timer));
    event.sigev_signo = SIGUSR1;
    CLAIM(timer_create(CLOCK_MONOTONIC_COARSE, &event, &timer));
}

static void sleeping(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGALRM, &action, 0);
    hits = 0;
    struct itimerval soon = {{0, 0}, {0, 50000}};
    setitimer(ITIMER_REAL, &soon, 0);
    struct timespec time = {0, 400000000}, left = {9, 9};
    CLAIM(nanosleep(&time, &left));
    claim("what is left", "%d %d", hits, left.tv_sec == 0 && left.tv_nsec > 100000000 && left.tv_nsec < 360000000);
    pid_t child = fork();
    if (!child) {
        struct timespec time = {0, 150000000};
        double start = now(CLOCK_MONOTONIC);
        int outcome = nanosleep(&time, 0);
        _exit(outcome == 0 && now(CLOCK_MONOTONIC) - start >= 0.15 ? 0 : 1);
    }
    usleep(30000);
    kill(child, SIGSTOP);
    usleep(30000);
    kill(child, SIGCONT);
    int status;
    waitpid(child, &status, 0);
    claim("a stopped sleeper sleeps on", "%s", ended(status));
    struct timespec moment;
    clock_gettime(CLOCK_REALTIME, &moment);
    moment.tv_sec += 1;
    double start = now(CLOCK_REALTIME);
    CLAIM(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &moment, 0));
    CLAIM(now(CLOCK_REALTIME) - start >= 0.99);
    CLAIM(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &time, 0));
    CLAIM(syscall(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, &time, 0));
    CLAIM(clock_nanosleep(CLOCK_MONOTONIC_RAW, 0, &time, 0));
    CLAIM(clock_nanosleep(42, 0, &time, 0));
    time.tv_nsec = 1000000000;
    CLAIM(nanosleep(&time, 0));
    CLAIM(alarm(10));
    CLAIM(alarm(0));
}

static void descriptors(void) {
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct itimerspec spec = {{0, 5000000}, {0, 20000000}};
    unsigned long long count = 0;
    CLAIM(timerfd_settime(timer, 0, &spec, 0));
    CLAIM(read(timer, &count, 8));
    usleep(100000);
    CLAIM(read(timer, &count, 4));
    CLAIM(read(timer, &count, 8));
    CLAIM(count >= 10);
    CLAIM(timerfd_settime(timer, 4, &spec, 0));
    CLAIM(timerfd_gettime(0, &spec));
    CLAIM(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0));
    CLAIM(lseek(timer, 0, SEEK_SET));
}

static void cpu_time(void) {
    clockid_t own;
    clock_getcpuclockid(getpid(), &own);
    double start = now(own);
    while (now(CLOCK_PROCESS_CPUTIME_ID) < start + 0.03)
        ;
    CLAIM(now(own) >= start + 0.03);
    CLAIM(clock_gettime(-4711 * 8 + 2, &(struct timespec){0}));
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGVTALRM, &action, 0);
    hits = 0;
    struct itimerval often = {{0, 20000}, {0, 20000}};
    setitimer(ITIMER_VIRTUAL, &often, 0);
    volatile unsigned long work = 0;
    while (hits < 3 && now(CLOCK_PROCESS_CPUTIME_ID) - start < 3)
        for (int i = 0; i < 100000; i++)
            work++;
    CLAIM(hits >= 3);
    memset(&often, 0, sizeof often);
    setitimer(ITIMER_VIRTUAL, &often, 0);
    /* A program that only computes makes no call by which anybody would notice. */
    hits = 0;
    often.it_value.tv_usec = 100000;
    start = now(CLOCK_PROCESS_CPUTIME_ID);
    setitimer(ITIMER_VIRTUAL, &often, 0);
    for (work = 0; !hits && work < 3000000000UL; work++)
        ;
    CLAIM(hits == 1);
    CLAIM(now(CLOCK_PROCESS_CPUTIME_ID) < start + 0.5);
}

static void scheduling(void) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CLAIM(syscall(SYS_sched_getaffinity, 0, sizeof cpus, &cpus) >= 8);
    CLAIM(syscall(SYS_sched_getaffinity, 0, 3, &cpus));
    CPU_ZERO(&cpus);
    CLAIM(sched_setaffinity(0, sizeof cpus, &cpus));
    CPU_SET(0, &cpus);
    CLAIM(sched_setaffinity(0, sizeof cpus, &cpus));
    CLAIM(sched_getcpu());
    struct sched_param priority = {3};
    CLAIM(sched_setscheduler(0, SCHED_OTHER, &priority));
    priority.sched_priority = 0;
    CLAIM(sched_setscheduler(0, SCHED_BATCH, &priority));
    CLAIM(sched_getscheduler(0));
    CLAIM(sched_setscheduler(0, 99, &priority));
    CLAIM(sched_get_priority_max(SCHED_FIFO));
    CLAIM(sched_get_priority_min(SCHED_RR));
    CLAIM(sched_get_priority_max(99));
    struct timex timex = {0};
    CLAIM(adjtimex(&timex) >= 0);
    claim("tick", "%ld", timex.tick);
}

static void on_limit(int signal) {
    hits++;
    value = signal;
}

/* RLIMIT_CPU of a program that never enters the kernel by itself: SIGXCPU at the soft limit, SIGKILL at the hard one; a child inherits it. */
static void cpu_limit(void) {
    struct rlimit limit = {1, 2};
    pid_t child = fork();
    if (!child) {
        setrlimit(RLIMIT_CPU, &limit);
        child = fork();
        if (!child) {
            hits = 0;
            signal(SIGXCPU, on_limit);
            while (!hits)
                ;
            claim("over the soft limit", "%s", value == SIGXCPU ? "SIGXCPU" : "another signal");
            for (;;)
                ;
        }
        int status;
        waitpid(child, &status, 0);
        claim("over the hard limit", "%s", ended(status));
        _exit(0);
    }
    waitpid(child, 0, 0);
}

int main(void) {
    posix_timers();
    sleeping();
    descriptors();
    cpu_time();
    scheduling();
    cpu_limit();
    return 0;
}
