/* Random system calls with arguments that are nearly right. The first argument is the seed, the second the number of processes, each of which
 * makes 300 calls. Says "survived" at the end. Runs in guests only, with a root that the guest cannot write: every second process is root. */
#include "claim.h"
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>

static unsigned long state;
static unsigned long noise(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

static unsigned char *area;
enum { AREA = 1 << 20 };
static const char *paths[] = {"/proc/self/maps", "/proc/self/status", "/proc/self/mem", "/dev/null", "/dev/zero", "/dev/ptmx", "/dev/tty", "/tmp", "/", ".",
                              "x", "y", "dir", "dir/z", "/proc", "/sys", "/proc/self/fd", "/proc/sys/kernel/hostname", "/dev/full", "/dev/random", "", "link",
                              "/proc/self/exe", "/dev/kmsg", "/dev/console", "/proc/self/task", "../..", "tmpfs", "hostfs", "proc", "sysfs", "devpts"};

static unsigned long value(void) {
    static const unsigned long edges[] = {0, 1, 2, 3, 4, 8, 16, 64, 255, 256, 1000, 4095, 4096, 4097, 8192, 65535, 65536, 1 << 20, 1 << 30, 0x7fffffff, 0x80000000,
                                          0xffffffff, 1UL << 32, 1UL << 40, 0x7ffcfffff000, 0x7ffd00000000, 0x7fffffffffffffff, 0x8000000000000000, -1, -2, -100, -4096,
                                          -4095, 0xffff800000000000};
    switch (noise() % 12) {
    case 0: case 1: return edges[noise() % (sizeof edges / sizeof *edges)];
    case 2: case 3: return noise() % 24;
    case 4: return 1UL << (noise() & 63);
    case 5: return (unsigned long)area + (noise() % AREA & ~7);
    case 6: return (unsigned long)area + noise() % AREA;
    case 7: return (unsigned long)area + (noise() % AREA & ~4095);
    case 8: return (unsigned long)paths[noise() % (sizeof paths / sizeof *paths)];
    case 9: return noise() % 4096;
    case 10: return noise() >> (noise() & 63);
    default: return (unsigned long)area + AREA - (noise() & 31);
    }
}

static void fill(void) {
    unsigned long *words = (unsigned long *)area;
    for (int i = 0; i < 2000; i++) {
        unsigned long at = noise() % (AREA / 8);
        words[at] = noise() & 1 ? value() : noise();
    }
    for (int i = 0; i < 200; i++)
        strcpy((char *)area + (noise() % (AREA - 64) & ~7), paths[noise() % (sizeof paths / sizeof *paths)]);
}

static int spared(long nr, unsigned long *a) {
    switch (nr) {
    case SYS_exit: case SYS_exit_group: case SYS_pause: case SYS_rt_sigsuspend: case SYS_vhangup: case SYS_reboot: case SYS_fork: case SYS_vfork: case SYS_clone:
    case SYS_clone3: case SYS_rt_sigreturn: case SYS_setitimer: case SYS_alarm: case SYS_chroot: case SYS_pivot_root: case SYS_umount2: case SYS_restart_syscall:
    case SYS_unlink: case SYS_rmdir: case SYS_syslog: case SYS_settimeofday: case SYS_clock_settime: case SYS_adjtimex: case SYS_clock_adjtime:
        return 1;
    case SYS_kill: case SYS_tkill: return (int)a[0] <= 2 || (int)a[0] == getppid();
    case SYS_tgkill: case SYS_rt_sigqueueinfo: case SYS_rt_tgsigqueueinfo: return (int)a[0] <= 2 || (int)a[1] <= 2;
    case SYS_ioctl: return a[1] == 0x5437;
    case SYS_rt_sigprocmask: case SYS_prctl: return noise() & 7;
    }
    return 0;
}

static void child(int root) {
    char dir[] = "fuzz-XXXXXX";
    area = mmap(0, AREA + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(area + AREA, 4096);
    if (!mkdtemp(dir) || chdir(dir))
        _exit(3);
    setsid();
    chmod(dir, 0777);
    if (!root)
        setgid(1000), setuid(1000);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int pair[2], pipes[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    pipe(pipes);
    open("x", O_RDWR | O_CREAT, 0666);
    open(".", O_RDONLY);
    epoll_create1(0);
    eventfd(1, 0);
    timerfd_create(CLOCK_MONOTONIC, 0);
    open("/proc/self/status", O_RDONLY);
    open("/dev/ptmx", O_RDWR | O_NOCTTY);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    signalfd(-1, &set, 0);
    memfd_create("m", MFD_ALLOW_SEALING);
    symlink("link", "link");
    mkdir("dir", 0777);
    for (int i = 1; i < 65; i++)
        if (noise() & 3 && i != SIGALRM)
            signal(i, SIG_IGN);
    signal(SIGALRM, SIG_DFL);
    fill();
    for (int call = 0; call < 300; call++) {
        long nr = noise() % 473;
        /* 335 is uretprobe: newer hosts answer it themselves, with SIGILL. */
        if (nr >= 335 && nr < 424)
            nr = noise() % 335;
        unsigned long a[6];
        for (int i = 0; i < 6; i++)
            a[i] = value();
        if (spared(nr, a))
            continue;
        struct itimerval soon = {{0, 20000}, {0, 20000}};
        setitimer(ITIMER_REAL, &soon, 0);
        signal(SIGALRM, call & 1 ? SIG_IGN : (void (*)(int))getppid);
        syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
        if (call % 50 == 0)
            fill();
    }
    _exit(0);
}

int main(int argc, char **argv) {
    unsigned long seed = argc > 1 ? strtoul(argv[1], 0, 0) : 1, count = argc > 2 ? atoi(argv[2]) : 100;
    int ended = 0, killed = 0, signals[65] = {0};
    for (unsigned long run = 0; run < count; run++) {
        int status, waited = 0;
        pid_t pid = fork();
        if (pid < 0) {
            perror("fork");
            return 1;
        }
        if (!pid) {
            state = (seed * 1000003 + run + 1) * 0x9e3779b97f4a7c15;
            child(run & 1 && !getuid());
        }
        /* A child that waits for nothing is ended after five seconds. */
        while (waitpid(pid, &status, WNOHANG | __WALL) == 0) {
            usleep(5000);
            if (++waited > 1000)
                kill(pid, SIGKILL);
        }
        WIFSIGNALED(status) ? killed++, signals[WTERMSIG(status)]++ : ended++;
        while (waitpid(-1, &status, WNOHANG | __WALL) > 0)
            ;
    }
    for (int i = 1; i < 65; i++)
        if (signals[i])
            fprintf(stderr, "signal %d: %d\n", i, signals[i]);
    printf("survived: %d ended, %d were killed\n", ended, killed);
    return 0;
}
