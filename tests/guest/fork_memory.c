/* fork copies private memory and shares shared memory; vfork and exec; many children. */
#include "claim.h"
#include <sys/mman.h>

int main(int argc, char **argv) {
    if (argc > 1)
        return atoi(argv[1]);
    int *private = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    static int data = 1;
    *private = *shared = 1;
    int status;
    pid_t child = fork();
    if (!child) {
        claim("child sees parent's values", "%d %d %d", *private, *shared, data);
        *private = *shared = data = 2;
        pid_t grandchild = fork();
        if (!grandchild) {
            *shared += 1;
            _exit(*private + 5);
        }
        waitpid(grandchild, &status, 0);
        claim("grandchild", "%s", ended(status));
        _exit(3);
    }
    CLAIM(waitpid(child, &status, 0) == child);
    claim("child", "%s", ended(status));
    claim("after the child", "private %d shared %d data %d", *private, *shared, data);

    int failures = 0;
    pid_t children[100];
    for (int i = 0; i < 100; i++) {
        children[i] = fork();
        if (!children[i])
            _exit(i);
    }
    for (int i = 0; i < 100; i++)
        if (waitpid(children[i], &status, 0) != children[i] || WEXITSTATUS(status) != i)
            failures++;
    claim("100 children, failures", "%d", failures);

    volatile int local = 1;
    child = vfork();
    if (!child) {
        local = 2;
        char number[] = "42";
        char *args[] = {argv[0], number, 0};
        execv("/proc/self/exe", args);
        execv(argv[0], args);
        _exit(127);
    }
    waitpid(child, &status, 0);
    claim("vfork shares memory until exec", "%d, %s", local, ended(status));

    CLAIM(waitpid(-1, &status, 0));
    CLAIM(waitpid(getpid(), &status, WNOHANG));
    CLAIM(execv("/nonexistent", argv));
    CLAIM(execv("/", argv));
    CLAIM(execv("/etc/passwd", argv));
    child = fork();
    if (!child) {
        *(volatile int *)16 = 1;
        _exit(0);
    }
    waitpid(child, &status, 0);
    claim("a wild store", "%s", ended(status));
    child = fork();
    if (!child)
        abort();
    waitpid(child, &status, 0);
    claim("abort", "signal %d", WTERMSIG(status));
    return 0;
}
