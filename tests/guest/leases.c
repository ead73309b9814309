/* File leases: who may have one, what breaks it, whom the break tells, and how long it waits. */
#include "claim.h"
#include <poll.h>
#include <signal.h>
#include <sys/time.h>
#include <time.h>

static char name[] = "/tmp/leases-XXXXXX";
/* Whose description a breaker must not keep. */
static int held = -1;

static const char *lease(int fd) {
    int kind = fcntl(fd, F_GETLEASE);
    return kind == F_RDLCK ? "read" : kind == F_WRLCK ? "write" : kind == F_UNLCK ? "none" : result(kind);
}

static void break_time(int seconds) {
    FILE *file = fopen("/proc/sys/fs/lease-break-time", "w");
    fprintf(file, "%d\n", seconds);
    fclose(file);
}

static void who(void) {
    int reader = open(name, O_RDONLY), writer, both, pipes[2], dir = open("/tmp", O_RDONLY);
    pipe(pipes);
    claim("no lease", "%s", lease(reader));
    CLAIM(fcntl(reader, F_SETLEASE, F_UNLCK));
    CLAIM(fcntl(reader, F_SETLEASE, 3));
    CLAIM(fcntl(reader, F_SETLEASE, -1));
    CLAIM(fcntl(dir, F_SETLEASE, F_RDLCK));
    CLAIM(fcntl(pipes[0], F_SETLEASE, F_RDLCK));
    claim("of a pipe", "%s", lease(pipes[0]));
    CLAIM(fcntl(reader, F_SETLEASE, F_RDLCK));
    claim("taken", "%s", lease(reader));
    CLAIM(fcntl(reader, F_SETLEASE, F_WRLCK));
    claim("made more", "%s", lease(reader));
    CLAIM(fcntl(reader, F_SETLEASE, F_RDLCK));
    claim("and less", "%s", lease(reader));
    int twin = dup(reader), second = open(name, O_RDONLY);
    claim("of a twin", "%s", lease(twin));
    claim("of another description", "%s", lease(second));
    CLAIM(fcntl(second, F_SETLEASE, F_RDLCK));
    CLAIM(fcntl(second, F_SETLEASE, F_WRLCK));
    CLAIM(fcntl(reader, F_SETLEASE, F_WRLCK));
    CLAIM(fcntl(twin, F_SETLEASE, F_UNLCK));
    claim("given up through the twin", "%s", lease(reader));
    CLAIM(fcntl(second, F_SETLEASE, F_UNLCK));
    CLAIM(fcntl(reader, F_SETLEASE, F_WRLCK));
    close(second);
    CLAIM(fcntl(reader, F_SETLEASE, F_WRLCK));
    close(reader);
    claim("a closed twin", "%s", lease(twin));
    close(twin);
    writer = open(name, O_WRONLY);
    CLAIM(fcntl(writer, F_SETLEASE, F_RDLCK));
    CLAIM(fcntl(writer, F_SETLEASE, F_WRLCK));
    claim("of a writer", "%s", lease(writer));
    close(writer);
    both = open(name, O_RDWR);
    CLAIM(fcntl(both, F_SETLEASE, F_RDLCK));
    CLAIM(fcntl(both, F_SETLEASE, F_WRLCK));
    int path = open(name, O_PATH);
    CLAIM(fcntl(path, F_SETLEASE, F_RDLCK));
    CLAIM(fcntl(path, F_GETLEASE));
    close(path);
    close(both);
    CLAIM(chmod(name, 0666));
    if (fork() == 0) {
        setuid(12345);
        reader = open(name, O_RDONLY);
        CLAIM(fcntl(reader, F_SETLEASE, F_RDLCK));
        CLAIM(fcntl(reader, F_SETLEASE, F_UNLCK));
        _exit(0);
    }
    wait(NULL);
    close(dir);
}

static void told(const char *what, int patience) {
    sigset_t set;
    siginfo_t info = {0};
    sigemptyset(&set);
    sigaddset(&set, SIGIO);
    sigaddset(&set, SIGRTMIN);
    struct timespec limit = {patience, 0};
    int signal = sigtimedwait(&set, &info, &limit);
    if (signal == SIGRTMIN)
        claim(what, "SIGRTMIN code %d band %lx", info.si_code, info.si_band);
    else
        claim(what, "%s code %d", signal == SIGIO ? "SIGIO" : result(signal), info.si_code);
}

/* How the child's open ended, and whether it had to wait. */
static pid_t breaker(int flags, int truncates) {
    fflush(stdout);
    pid_t child = fork();
    if (child)
        return child;
    close(held);
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    int done = truncates ? truncate(name, 0) : open(name, flags);
    int error = errno;
    clock_gettime(CLOCK_MONOTONIC, &end);
    int waited = (end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000 >= 150;
    _exit(done >= 0 ? waited : 10 + error);
}

static void join(const char *what, pid_t child) {
    int status;
    waitpid(child, &status, 0);
    claim(what, "%s", ended(status));
}

static void pause_ms(int ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void breaks(int signal) {
    int fd = held = open(name, O_RDONLY);
    CLAIM(fcntl(fd, F_SETSIG, signal));
    CLAIM(fcntl(fd, F_SETLEASE, F_RDLCK));
    claim("the owner is who took it", "%d", fcntl(fd, F_GETOWN) == getpid());
    join("readers go with a read lease", breaker(O_RDONLY, 0));
    pid_t child = breaker(O_WRONLY, 0);
    told("a writer comes", 5);
    claim("being broken", "%s", lease(fd));
    pause_ms(200);
    CLAIM(fcntl(fd, F_SETLEASE, F_RDLCK));
    claim("a lease that is to go", "%s", lease(fd));
    CLAIM(fcntl(fd, F_SETLEASE, F_UNLCK));
    join("the writer waited", child);
    claim("the owner went with it", "%d signal %d", fcntl(fd, F_GETOWN), fcntl(fd, F_GETSIG));

    CLAIM(fcntl(fd, F_SETSIG, signal));
    CLAIM(fcntl(fd, F_SETLEASE, F_WRLCK));
    child = breaker(O_RDONLY, 0);
    told("a reader comes", 5);
    claim("being broken", "%s", lease(fd));
    pause_ms(200);
    CLAIM(fcntl(fd, F_SETLEASE, F_RDLCK));
    join("the reader waited", child);
    claim("what is left", "%s", lease(fd));

    child = breaker(O_RDWR | O_NONBLOCK, 0);
    join("who cannot wait", child);
    told("the holder hears of him", 5);
    claim("being broken", "%s", lease(fd));
    child = breaker(O_WRONLY, 1);
    told("the second breaker is not told", 0);
    pause_ms(200);
    close(fd);
    join("truncation waited for the close", child);
}

static volatile int handled;

static void handler(int signal) {
    handled = signal;
}

static void interrupted(void) {
    int fd = held = open(name, O_RDONLY);
    CLAIM(fcntl(fd, F_SETLEASE, F_RDLCK));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        close(held);
        struct sigaction action = {.sa_handler = handler};
        struct itimerval timer = {.it_value = {0, 200000}};
        sigaction(SIGALRM, &action, NULL);
        setitimer(ITIMER_REAL, &timer, NULL);
        CLAIM(open(name, O_WRONLY));
        claim("the handler ran", "%d", handled == SIGALRM);
        _exit(0);
    }
    told("a writer comes", 5);
    join("a signal ends the wait", child);
    claim("the break goes on", "%s", lease(fd));
    close(fd);
}

static void executed(void) {
    int fd = open(name, O_RDWR);
    write(fd, "#!/bin/true\n", 12);
    close(fd);
    chmod(name, 0777);
    fd = open(name, O_RDONLY);
    CLAIM(fcntl(fd, F_SETLEASE, F_WRLCK));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        close(fd);
        execl(name, name, NULL);
        _exit(errno);
    }
    told("a program is started", 5);
    CLAIM(fcntl(fd, F_SETLEASE, F_RDLCK));
    join("it ran", child);
    close(fd);
}

static void forced(void) {
    int fd = held = open(name, O_RDONLY);
    break_time(1);
    CLAIM(fcntl(fd, F_SETLEASE, F_WRLCK));
    pid_t child = breaker(O_RDONLY, 0);
    told("a reader comes", 5);
    join("whose patience ends", child);
    claim("forced to", "%s", lease(fd));
    child = breaker(O_RDWR, 0);
    told("a writer comes", 5);
    join("whose patience ends", child);
    claim("forced to", "%s", lease(fd));
    CLAIM(fcntl(fd, F_SETLEASE, F_UNLCK));
    close(fd);
}

static void shown(void) {
    int fd = open(name, O_RDONLY), number, inode;
    char line[256], state[32], kind[32];
    struct stat st;
    fstat(fd, &st);
    CLAIM(fcntl(fd, F_SETLEASE, F_RDLCK));
    for (int round = 0; round < 2; round++) {
        FILE *file = fopen("/proc/locks", "r");
        while (fgets(line, sizeof line, file)) {
            char *at = strstr(line, "LEASE");
            int pid;
            if (at && sscanf(at, "LEASE  %31s %31s %d %*x:%*x:%d 0 EOF", state, kind, &pid, &inode) == 4 && pid == getpid())
                claim("/proc/locks", "%.*s inode %d", (int)(strchr(at + 20, ' ') - at), at, inode == (int)st.st_ino);
        }
        fclose(file);
        number = open(name, O_WRONLY | O_NONBLOCK);
        CLAIM(number);
    }
    close(fd);
}

/* leases: what is the same everywhere; leases forced: changes the system's break time. */
int main(int argc, char **argv) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGIO);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    close(mkstemp(name));
    if (argc > 1) {
        forced();
    } else {
        who();
        breaks(0);
        breaks(SIGRTMIN);
        interrupted();
        executed();
        shown();
    }
    unlink(name);
    return 0;
}
