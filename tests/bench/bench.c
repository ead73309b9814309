/*
 * The benchmark of `cargo xtask bench`: one static program, the same natively, in our guests and in UML's.
 *
 *     bench OUTPUT DIRECTORY [ROW]     writes "name<TAB>nanoseconds per operation" lines to OUTPUT; only rows whose name holds ROW
 *
 *     bench boot                      says that it runs: its caller measures how long that took
 *
 * As process 1 it powers the machine off at the end. Each row is the best of several rounds, for what disturbs only ever adds.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 5
#define PAGE 4096

static FILE *output;
static const char *directory, *self, *only = "";
static char path[4096];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void measure(const char *name, void (*run)(int), int count) {
    double best = 1e18;
    if (!strstr(name, only))
        return;
    run(count / 10 + 1);
    for (int round = 0; round < ROUNDS; round++) {
        double start = now();
        run(count);
        double each = (now() - start) / count;
        if (each < best)
            best = each;
    }
    fprintf(output, "%s\t%.1f\n", name, best);
    fflush(output);
}

static void compute(int count) {
    volatile unsigned value = 1;
    for (int i = 0; i < count * 1000; i++)
        value = value * 1664525 + 1013904223;
}

static void getppid_(int count) {
    while (count--)
        syscall(SYS_getppid);
}

static void clock_(int count) {
    struct timespec t;
    while (count--)
        clock_gettime(CLOCK_MONOTONIC, &t);
}

static int file;
static void pread_(int count) {
    static char buffer[PAGE];
    while (count--)
        if (pread(file, buffer, PAGE, 0) != PAGE)
            die("pread");
}

static void pwrite_(int count) {
    static char buffer[PAGE];
    while (count--)
        if (pwrite(file, buffer, PAGE, 0) != PAGE)
            die("pwrite");
}

static void stat_(int count) {
    struct stat s;
    while (count--)
        if (stat(path, &s))
            die("stat");
}

static void open_close(int count) {
    while (count--) {
        int fd = open(path, O_RDONLY);
        if (fd < 0)
            die("open");
        close(fd);
    }
}

static void create_unlink(int count) {
    char name[4200];
    snprintf(name, sizeof name, "%s/bench-new", directory);
    while (count--) {
        close(open(name, O_CREAT | O_RDWR, 0600));
        unlink(name);
    }
}

static void anonymous_fault(int count) {
    char *memory = mmap(0, (size_t)count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        die("mmap");
    madvise(memory, (size_t)count * PAGE, MADV_NOHUGEPAGE);
    for (int i = 0; i < count; i++)
        memory[(size_t)i * PAGE] = 1;
    munmap(memory, (size_t)count * PAGE);
}

static void file_fault(int count) {
    char *memory = mmap(0, (size_t)count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    if (memory == MAP_FAILED)
        die("mmap");
    for (int i = 0; i < count; i++)
        memory[(size_t)i * PAGE] = 1;
    munmap(memory, (size_t)count * PAGE);
}

static void map_unmap(int count) {
    while (count--) {
        void *memory = mmap(0, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            die("mmap");
        munmap(memory, 16 * PAGE);
    }
}

static void fork_wait(int count) {
    while (count--) {
        pid_t child = fork();
        if (child < 0)
            die("fork");
        if (!child)
            _exit(0);
        waitpid(child, 0, 0);
    }
}

static void spawn(char *const args[]) {
    pid_t child = vfork();
    if (child < 0)
        die("vfork");
    if (!child) {
        execv(args[0], args);
        _exit(127);
    }
    int status;
    waitpid(child, &status, 0);
    if (status)
        die("exec");
}

static void vfork_exec(int count) {
    char *args[] = {(char *)self, "exit", 0};
    while (count--)
        spawn(args);
}

static void shell(int count) {
    char *args[] = {"/bin/sh", "-c", ":", 0};
    while (count--)
        spawn(args);
}

static void *nothing(void *argument) { return argument; }

static void thread_(int count) {
    while (count--) {
        pthread_t thread;
        if (pthread_create(&thread, 0, nothing, 0))
            die("pthread_create");
        pthread_join(thread, 0);
    }
}

static void pipe_pingpong(int count) {
    int there[2], back[2];
    char byte = 0;
    if (pipe(there) || pipe(back))
        die("pipe");
    pid_t child = fork();
    if (!child) {
        close(there[1]);
        while (read(there[0], &byte, 1) == 1)
            write(back[1], &byte, 1);
        _exit(0);
    }
    while (count--) {
        write(there[1], &byte, 1);
        if (read(back[0], &byte, 1) != 1)
            die("read");
    }
    close(there[0]), close(there[1]), close(back[0]), close(back[1]);
    waitpid(child, 0, 0);
}

static void sequential_write(int count) {
    static char buffer[65536];
    char name[4200];
    snprintf(name, sizeof name, "%s/bench-big", directory);
    int fd = open(name, O_CREAT | O_TRUNC | O_RDWR, 0600);
    while (count--)
        if (write(fd, buffer, sizeof buffer) != sizeof buffer)
            die("write");
    close(fd);
    unlink(name);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "boot") == 0) {
        write(1, "init runs\n", 10);
        if (getpid() == 1)
            reboot(RB_POWER_OFF);
        return 0;
    }
    if (argc == 2)
        return 0; /* the program that vfork_exec runs */
    if (argc < 3) {
        fprintf(stderr, "usage: %s OUTPUT DIRECTORY\n", argv[0]);
        return 2;
    }
    output = fopen(argv[1], "w");
    if (!output)
        die(argv[1]);
    if (argc > 3)
        only = argv[3];
    self = argv[0];
    directory = argv[2];
    snprintf(path, sizeof path, "%s/bench-file", directory);
    file = open(path, O_CREAT | O_RDWR, 0600);
    if (file < 0 || ftruncate(file, 0))
        die(path);
    static char page[PAGE];
    for (int i = 0; i < 2048; i++)
        write(file, page, PAGE);

    measure("compute (validator)", compute, 2000);
    measure("getppid", getppid_, 20000);
    measure("clock_gettime", clock_, 20000);
    measure("pread 4 KiB", pread_, 10000);
    measure("pwrite 4 KiB", pwrite_, 10000);
    measure("stat", stat_, 10000);
    measure("open+close", open_close, 5000);
    measure("create+unlink", create_unlink, 1000);
    measure("write 64 KiB", sequential_write, 500);
    measure("anonymous fault", anonymous_fault, 4096);
    measure("file fault (private write)", file_fault, 2048);
    measure("mmap+munmap", map_unmap, 5000);
    measure("pipe ping-pong", pipe_pingpong, 5000);
    measure("thread create+join", thread_, 500);
    measure("fork+wait", fork_wait, 200);
    measure("vfork+exec+wait", vfork_exec, 200);
    measure("vfork+exec sh -c :", shell, 100);
    unlink(path);
    fclose(output);
    if (getpid() == 1) {
        sync();
        reboot(RB_POWER_OFF);
    }
    return 0;
}
