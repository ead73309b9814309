/* What every guest program prints: one line a claim, the same on any Linux. */
#ifndef CLAIM_H
#define CLAIM_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static inline void claim(const char *what, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("%s: ", what);
    vprintf(format, arguments);
    printf("\n");
    fflush(stdout);
    va_end(arguments);
}

/* The value, or the name of the error. */
static inline const char *result(long value) {
    static char text[8][64];
    static int next;
    char *out = text[next++ % 8];
    if (value < 0)
        snprintf(out, 64, "%s", strerrorname_np(errno));
    else
        snprintf(out, 64, "%ld", value);
    return out;
}

#define CLAIM(expression) claim(#expression, "%s", result((long)(expression)))

/* How a child ended. */
static inline const char *ended(int status) {
    static char text[64];
    if (WIFEXITED(status))
        snprintf(text, sizeof text, "exit %d", WEXITSTATUS(status));
    else if (WIFSIGNALED(status))
        snprintf(text, sizeof text, "signal %d", WTERMSIG(status));
    else if (WIFSTOPPED(status))
        snprintf(text, sizeof text, "stopped %d", WSTOPSIG(status));
    else if (WIFCONTINUED(status))
        snprintf(text, sizeof text, "continued");
    return text;
}
#endif
