/* Wild arguments to every system call: only the caller may come to harm. Says "survived" at the end. Runs in guests only. */
#include "claim.h"
#include <signal.h>

static const long patterns[][6] = {
    {0, 0, 0, 0, 0, 0},
    {1, 1, 1, 1, 1, 1},
    {-1, -1, -1, -1, -1, -1},
    {0x7ffffffff000, 0x7ffffffff000, 0x7ffffffff000, 0x7ffffffff000, 0x7ffffffff000, 0x7ffffffff000},
    {0, 0x10, 0x7fffffffffffffff, 0x10, 0x7fffffffffffffff, 0x10},
    {3, 0xffffffff80000000, 0x8000000000000000, 3, 0xffffffffff600000, 9},
    {2, 0x1000, 0x1000, 2, 0x1000, 0x1000},
    {-100, 0xdeadbeef, 0x80000, 0xdeadbeef, 0xffff, 0xdeadbeef},
};

/* Calls that do what they say with such arguments: end the session's terminal, every process, or the machine. */
static int spared(long number, const long *a) {
    return number == SYS_vhangup || (number == SYS_kill && a[0] <= 1) || (number == SYS_tkill && a[0] == 1);
}

int main(void) {
    int status, calls = 0, killed = 0;
    signal(SIGCHLD, SIG_DFL);
    for (long number = 0; number <= 600; number++) {
        for (unsigned p = 0; p < sizeof patterns / sizeof *patterns; p++) {
            const long *a = patterns[p];
            if (spared(number, a))
                continue;
            pid_t child = fork();
            if (child < 0) {
                perror("fork");
                return 1;
            }
            if (!child) {
                setsid();
                alarm(1);
                syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
                syscall(SYS_exit_group, 0);
            }
            calls++;
            pid_t ended;
            while ((ended = waitpid(child, &status, __WALL)) < 0 && errno == EINTR)
                ;
            if (ended != child) {
                printf("call %ld pattern %u: its process was lost\n", number, p);
                return 1;
            }
            killed += WIFSIGNALED(status) && WTERMSIG(status) != SIGALRM;
        }
        while (waitpid(-1, &status, WNOHANG | __WALL) > 0)
            ;
    }
    printf("survived %d calls\n", calls);
    return 0;
}
