/* Stops and continuations, orphaned groups, SIGCHLD, sessions without a terminal. */
#include "claim.h"
#include <signal.h>
#include <sys/prctl.h>

static volatile int chld, code, detail;
static void on_child(int signal, siginfo_t *info, void *context) {
    chld++;
    code = info->si_code;
    detail = info->si_status;
}

static volatile int hups, conts;
static void on_hup(int signal) { hups++; }
static void on_cont(int signal) { conts++; }

static pid_t sleeper(void) {
    pid_t child = fork();
    if (!child)
        for (;;)
            pause();
    return child;
}

static int tests(void) {
    int status;
    siginfo_t info;
    sigset_t set, old;
    struct sigaction action = {.sa_sigaction = on_child, .sa_flags = SA_SIGINFO};
    sigaction(SIGCHLD, &action, 0);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, &old);

    pid_t child = sleeper();
    kill(child, SIGTSTP);
    CLAIM(waitpid(child, &status, WUNTRACED) == child);
    claim("stop", "%s", ended(status));
    sigsuspend(&old);
    claim("SIGCHLD of the stop", "count %d code %d status %d", chld, code, detail);
    CLAIM(waitpid(child, &status, WUNTRACED | WNOHANG));
    kill(child, SIGTERM);
    CLAIM(waitpid(child, &status, WUNTRACED | WNOHANG));
    CLAIM(kill(child, SIGCONT));
    CLAIM(waitpid(child, &status, 0) == child);
    claim("the signal came after the stop", "%s", ended(status));

    child = sleeper();
    kill(child, SIGSTOP);
    memset(&info, 0, sizeof info);
    CLAIM(waitid(P_PID, child, &info, WSTOPPED | WNOWAIT));
    claim("seen", "code %d status %d", info.si_code, info.si_status);
    CLAIM(waitid(P_PID, child, &info, WSTOPPED));
    CLAIM(waitid(P_PID, child, &info, WSTOPPED | WNOHANG));
    claim("nothing left", "pid %d", info.si_pid);
    kill(child, SIGCONT);
    CLAIM(waitid(P_PID, child, &info, WCONTINUED));
    claim("continued", "code %d status %d", info.si_code, info.si_status);
    kill(child, SIGSTOP);
    waitpid(child, &status, WUNTRACED);
    kill(child, SIGKILL);
    CLAIM(waitpid(child, &status, 0) == child);
    claim("KILL ends a stopped one", "%s", ended(status));

    action.sa_flags |= SA_NOCLDSTOP;
    sigaction(SIGCHLD, &action, 0);
    while (sigpending(&set), sigismember(&set, SIGCHLD))
        sigsuspend(&old);
    chld = 0;
    child = sleeper();
    kill(child, SIGSTOP);
    waitpid(child, &status, WUNTRACED);
    sigpending(&set);
    claim("no SIGCHLD for stops", "%d", sigismember(&set, SIGCHLD));
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    sigpending(&set);
    claim("but for the end", "%d", sigismember(&set, SIGCHLD));
    sigprocmask(SIG_SETMASK, &old, 0);

    /* A group whose last tie to its session goes while a member is stopped hears of it. */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    int pipes[2];
    pipe(pipes);
    child = fork();
    if (!child) {
        setsid();
        pid_t middle = fork();
        if (!middle) {
            pid_t leaf = fork();
            if (!leaf) {
                setpgid(0, 0);
                signal(SIGHUP, on_hup);
                signal(SIGCONT, on_cont);
                write(pipes[1], "r", 1);
                raise(SIGSTOP);
                while (!hups || !conts)
                    usleep(1000);
                write(pipes[1], "b", 1);
                /* Orphaned: terminal stops have no effect, STOP has. */
                raise(SIGTSTP);
                write(pipes[1], "s", 1);
                _exit(0);
            }
            waitpid(leaf, &status, WUNTRACED);
            _exit(0);
        }
        waitpid(middle, 0, 0);
        _exit(0);
    }
    waitpid(child, &status, 0);
    char text[4] = {0};
    for (int i = 0; i < 3; i++)
        read(pipes[0], text + i, 1);
    claim("orphaned group", "%s", text);
    while (wait(&status) > 0)
        ;
    claim("last", "%s", ended(status));

    child = fork();
    if (!child) {
        signal(SIGCONT, on_cont);
        sigemptyset(&set);
        sigaddset(&set, SIGCONT);
        sigprocmask(SIG_BLOCK, &set, &old);
        kill(getpid(), SIGCONT);
        kill(getpid(), SIGSTOP);
        sigpending(&set);
        claim("a blocked continue goes on all the same and stays pending", "%d", sigismember(&set, SIGCONT));
        _exit(0);
    }
    waitpid(child, &status, WUNTRACED);
    kill(child, SIGCONT);
    waitpid(child, &status, 0);
    CLAIM(kill(-12345678, 0));
    CLAIM(kill(1 << 22, 0));
    CLAIM(kill(getpid(), 65));
    return 0;
}

/* In a group of its own whose parent is in the session: it is not orphaned, whoever started us. */
int main(void) {
    int status;
    pid_t child = fork();
    if (!child) {
        setpgid(0, 0);
        _exit(tests());
    }
    waitpid(child, &status, 0);
    claim("tests", "%s", ended(status));
    return 0;
}
