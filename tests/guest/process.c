/* Processes: wait, groups, sessions, limits, identities, exec. */
#include "claim.h"
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/times.h>
#include <sys/utsname.h>

int main(int argc, char **argv, char **envp) {
    int status;
    siginfo_t info;
    if (argc > 1 && !strcmp(argv[1], "show")) {
        for (int i = 1; i < argc; i++)
            printf("arg %s\n", argv[i]);
        for (int i = 0; envp[i]; i++)
            printf("env %s\n", envp[i]);
        claim("close-on-exec", "%s and %s", result(fcntl(30, F_GETFD)), result(fcntl(31, F_GETFD)));
        sigset_t mask;
        sigprocmask(SIG_BLOCK, 0, &mask);
        struct sigaction action;
        sigaction(SIGUSR1, 0, &action);
        claim("handlers reset, ignored kept, mask kept", "%d %d", action.sa_handler == SIG_DFL, sigismember(&mask, SIGUSR2));
        return 11;
    }
    pid_t child = fork();
    if (!child)
        _exit(300);
    memset(&info, 0, sizeof info);
    CLAIM(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
    claim("waitid", "code %d status %d the child %d", info.si_code, info.si_status, info.si_pid == child);
    CLAIM(waitpid(child, &status, WNOHANG) == child);
    claim("waitpid", "%s", ended(status));
    CLAIM(waitid(P_PID, child, &info, WEXITED));
    CLAIM(waitid(P_ALL, 0, &info, 0));
    CLAIM(wait4(-1, &status, 0x10000, 0));

    child = fork();
    if (!child) {
        claim("setsid", "%d", setsid() == getpid());
        CLAIM(setsid());
        claim("leader of its own group and session", "%d %d", getpgrp() == getpid(), getsid(0) == getpid());
        CLAIM(setpgid(0, 0));
        pid_t grandchild = fork();
        if (!grandchild) {
            CLAIM(setpgid(0, 0));
            claim("own group", "%d", getpgrp() == getpid());
            CLAIM(setpgid(getppid(), 0));
            CLAIM(setpgid(0, 1 << 20));
            CLAIM(kill(0, 0));
            _exit(0);
        }
        wait(&status);
        CLAIM(getpgid(1 << 22));
        CLAIM(open("/dev/tty", O_RDWR));
        _exit(0);
    }
    wait(&status);

    CLAIM(prctl(PR_SET_NAME, "a new name too long"));
    char name[16];
    prctl(PR_GET_NAME, name);
    claim("name", "%s", name);
    CLAIM(prctl(12345));
    CLAIM(prctl(PR_SET_CHILD_SUBREAPER, 1));
    child = fork();
    if (!child) {
        if (!fork()) {
            usleep(20000);
            _exit(5);
        }
        _exit(0);
    }
    waitpid(child, &status, 0);
    CLAIM(wait(&status) > 0);
    claim("an orphan came to the subreaper", "%s", ended(status));

    struct rlimit limit = {100, 200};
    CLAIM(setrlimit(RLIMIT_NOFILE, &limit));
    CLAIM(dup2(0, 100));
    CLAIM(dup2(0, 99));
    getrlimit(RLIMIT_NOFILE, &limit);
    claim("limit", "%ld %ld", (long)limit.rlim_cur, (long)limit.rlim_max);
    limit.rlim_cur = 300;
    CLAIM(setrlimit(RLIMIT_NOFILE, &limit));
    CLAIM(getrlimit(99, &limit));
    setpriority(PRIO_PROCESS, 0, 0); /* the tests may run niced */
    CLAIM(getpriority(PRIO_PROCESS, 0));
    CLAIM(setpriority(PRIO_PROCESS, 0, 5));
    CLAIM(getpriority(PRIO_PROCESS, 0));
    CLAIM(sched_getscheduler(0));
    CLAIM(sched_yield());
    cpu_set_t cpus;
    CLAIM(sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) >= 1);

    if (getuid() == 0) {
        child = fork();
        if (!child) {
            gid_t groups[2] = {5, 7};
            CLAIM(setgroups(2, groups));
            CLAIM(getgroups(0, 0));
            CLAIM(setresuid(1000, 1001, 1002));
            uid_t r, e, s;
            getresuid(&r, &e, &s);
            claim("uids", "%d %d %d", r, e, s);
            CLAIM(setuid(0));
            CLAIM(seteuid(1002));
            CLAIM(setreuid(-1, 1000));
            CLAIM(setgroups(0, 0));
            CLAIM(open("/etc/shadow", O_RDONLY));
            CLAIM(kill(1, 0));
            CLAIM(chown("/", 0, 0));
            _exit(0);
        }
        wait(&status);
    }
    struct utsname names;
    CLAIM(uname(&names));
    claim("sysname", "%s %s", names.sysname, names.machine);
    CLAIM(uname((void *)1));
    dup2(0, 30);
    fcntl(30, F_SETFD, FD_CLOEXEC);
    dup2(0, 31);
    signal(SIGUSR1, (void (*)(int))main);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    sigprocmask(SIG_BLOCK, &mask, 0);
    child = fork();
    if (!child) {
        char *args[] = {"name", "show", "", "with blank", 0}, *env[] = {"A=1", "B=", 0};
        execve("/proc/self/exe", args, env);
        execve(argv[0], args, env);
        perror("exec");
        _exit(127);
    }
    wait(&status);
    claim("exec", "%s", ended(status));
    char script[] = "/tmp/process-XXXXXX";
    int fd = mkstemp(script);
    dprintf(fd, "#!/bin/echo an argument\n");
    fchmod(fd, 0755);
    close(fd);
    fflush(stdout);
    child = fork();
    if (!child) {
        char *args[] = {"zero", "one", 0};
        int null = dup(1);
        (void)null;
        char command[100];
        snprintf(command, sizeof command, "%s one | sed 's/process-.*/script one/'", script);
        execl("/bin/sh", "sh", "-c", command, (char *)0);
        execv(script, args);
        _exit(127);
    }
    wait(&status);
    claim("script", "%s", ended(status));
    chmod(script, 0644);
    CLAIM(execv(script, argv));
    unlink(script);
    char *huge = malloc(200000);
    memset(huge, 'x', 200000);
    huge[199999] = 0;
    char *args[] = {"true", huge, 0};
    CLAIM(execv("/bin/true", args));
    return 0;
}
