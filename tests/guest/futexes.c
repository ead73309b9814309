/* futex and its family, by the raw call. */
#include "claim.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>

static uint32_t *word;
static long futex(uint32_t *at, int op, uint32_t value, const void *time, uint32_t *other, uint32_t value3) {
    return syscall(SYS_futex, at, op, value, time, other, value3);
}

static int slept(void) { /* Lets the others come to sleep. */
    usleep(100000);
    return 0;
}

static void *waiter(void *at) {
    uint32_t value = *(uint32_t *)at;
    return (void *)futex(at, FUTEX_WAIT_PRIVATE, value, 0, 0, 0);
}
static void *bit_waiter(void *bits) {
    return (void *)futex(word, FUTEX_WAIT_BITSET_PRIVATE, *word, 0, 0, (uint32_t)(long)bits);
}

static void values(void) {
    struct timespec soon = {0, 20000000}, bad = {0, 1000000000}, negative = {-1, 0}, past = {1, 0};
    *word = 5;
    CLAIM(futex(word, FUTEX_WAIT, 4, 0, 0, 0));
    CLAIM(futex(word, FUTEX_WAIT, 5, &soon, 0, 0));
    CLAIM(futex(word, FUTEX_WAIT, 5, &bad, 0, 0));
    CLAIM(futex(word, FUTEX_WAIT, 5, &negative, 0, 0));
    CLAIM(futex(word, FUTEX_WAIT_BITSET, 5, &past, 0, -1));
    CLAIM(futex(word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 5, &past, 0, -1));
    CLAIM(futex(word, FUTEX_WAIT_BITSET, 5, &past, 0, 0));
    CLAIM(futex(word, FUTEX_WAKE_BITSET, 1, 0, 0, 0));
    CLAIM(futex((uint32_t *)((char *)word + 1), FUTEX_WAIT, 5, 0, 0, 0));
    CLAIM(futex((uint32_t *)8, FUTEX_WAIT, 5, 0, 0, 0));
    CLAIM(futex((uint32_t *)8, FUTEX_WAKE, 1, 0, 0, 0));
    CLAIM(futex((uint32_t *)8, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0));
    CLAIM(futex(word, FUTEX_WAKE, 1, 0, 0, 0));
    CLAIM(futex(word, 99, 1, 0, 0, 0));
    CLAIM(futex(word, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 1, 0, 0, 0));
    CLAIM(futex(word, FUTEX_CMP_REQUEUE, 1, (void *)1, word + 1, 4));
    CLAIM(futex(word, FUTEX_REQUEUE, -1, (void *)1, word + 1, 0));
    CLAIM(futex(word, FUTEX_WAKE_OP, 1, (void *)1, word + 1, 6 << 28));
}

static void wakes(void) {
    pthread_t threads[4];
    *word = 1;
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], 0, waiter, word);
    slept();
    CLAIM(futex(word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0));
    CLAIM(futex(word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)1, word + 1, 1));
    CLAIM(futex(word, FUTEX_WAKE_PRIVATE, 9, 0, 0, 0));
    CLAIM(futex(word + 1, FUTEX_WAKE_PRIVATE, 9, 0, 0, 0));
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], 0);
    for (long i = 0; i < 3; i++)
        pthread_create(&threads[i], 0, bit_waiter, (void *)(1l << i));
    slept();
    CLAIM(futex(word, FUTEX_WAKE_BITSET_PRIVATE, 9, 0, 0, 8));
    CLAIM(futex(word, FUTEX_WAKE_BITSET_PRIVATE, 9, 0, 0, 5));
    CLAIM(futex(word, FUTEX_WAKE_PRIVATE, 9, 0, 0, 0));
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], 0);
    word[1] = 10;
    pthread_create(&threads[0], 0, waiter, word);
    pthread_create(&threads[1], 0, waiter, word + 1);
    slept();
    CLAIM(futex(word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, word + 1, FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 10)));
    claim("wake-op has added", "%u", word[1]);
    pthread_join(threads[0], 0);
    pthread_join(threads[1], 0);
}

static void processes(void) {
    uint32_t *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        uint32_t *again = mremap(shared, 0, 4096, MREMAP_MAYMOVE);
        _exit(futex(again, FUTEX_WAIT, 0, 0, 0, 0) == 0 ? 3 : 4);
    }
    slept();
    CLAIM(futex(shared, FUTEX_WAKE, 1, 0, 0, 0));
    int status;
    waitpid(child, &status, 0);
    claim("woken through another address", "%s", ended(status));
    int fd = memfd_create("words", 0);
    ftruncate(fd, 8192);
    uint32_t *file = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    child = fork();
    if (!child) {
        uint32_t *second = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 4096);
        _exit(futex(second + 1, FUTEX_WAIT, 0, 0, 0, 0) == 0 ? 5 : 6);
    }
    slept();
    CLAIM(futex(file + 1, FUTEX_WAKE, 1, 0, 0, 0));
    CLAIM(futex(file + 1025, FUTEX_WAKE, 1, 0, 0, 0));
    waitpid(child, &status, 0);
    claim("woken through a file", "%s", ended(status));
    *word = 0;
    child = fork();
    if (!child) {
        struct timespec soon = {0, 300000000};
        futex(word, FUTEX_WAIT, 0, &soon, 0, 0);
        _exit(errno == ETIMEDOUT ? 7 : 8);
    }
    slept();
    CLAIM(futex(word, FUTEX_WAKE, 1, 0, 0, 0));
    waitpid(child, &status, 0);
    claim("private memory is another word in a child", "%s", ended(status));
}

static void handler(int signal) { (void)signal; }

static void signals(void) {
    struct sigaction action = {.sa_handler = handler};
    struct timespec second = {1, 0};
    sigaction(SIGALRM, &action, 0);
    *word = 0;
    ualarm(50000, 0);
    CLAIM(futex(word, FUTEX_WAIT, 0, 0, 0, 0));
    ualarm(50000, 0);
    CLAIM(futex(word, FUTEX_WAIT, 0, &second, 0, 0));
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, 0);
    ualarm(50000, 0);
    second = (struct timespec){0, 200000000};
    CLAIM(futex(word, FUTEX_WAIT, 0, &second, 0, 0));
}

static pthread_mutex_t mutex;
static void *dies_with_it(void *unused) {
    pthread_mutex_lock(&mutex);
    return unused;
}
static void *locks_it(void *unused) {
    (void)unused;
    long locked = pthread_mutex_lock(&mutex);
    if (locked == EOWNERDEAD)
        pthread_mutex_consistent(&mutex);
    pthread_mutex_unlock(&mutex);
    return (void *)locked;
}

static void owners(int protocol, int robust) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setprotocol(&attributes, protocol);
    pthread_mutexattr_setrobust(&attributes, robust);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&mutex, &attributes);
    claim("protocol, robust", "%d %d", protocol, robust);
    CLAIM(pthread_mutex_lock(&mutex));
    CLAIM(pthread_mutex_lock(&mutex));
    pthread_t thread;
    pthread_create(&thread, 0, locks_it, 0);
    slept();
    CLAIM(pthread_mutex_unlock(&mutex));
    void *value;
    pthread_join(thread, &value);
    claim("the waiter got", "%ld", (long)value);
    CLAIM(pthread_mutex_unlock(&mutex));
    struct timespec past = {1, 0};
    CLAIM(pthread_mutex_lock(&mutex));
    CLAIM(pthread_mutex_timedlock(&mutex, &past));
    CLAIM(pthread_mutex_unlock(&mutex));
    if (!robust)
        return;
    pthread_create(&thread, 0, dies_with_it, 0);
    pthread_join(thread, 0);
    CLAIM(pthread_mutex_lock(&mutex));
    CLAIM(pthread_mutex_consistent(&mutex));
    pthread_create(&thread, 0, locks_it, 0);
    slept();
    CLAIM(pthread_mutex_unlock(&mutex));
    pthread_join(thread, &value);
    claim("the waiter got", "%ld", (long)value);
}

static void *wake_second(void *unused) {
    slept();
    futex(word + 1, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
    return unused;
}

static void several(void) {
#ifdef SYS_futex_waitv
    struct futex_waitv waits[3] = {{1, (uintptr_t)word, FUTEX_32 | FUTEX_PRIVATE_FLAG, 0},
                                   {2, (uintptr_t)(word + 1), FUTEX_32 | FUTEX_PRIVATE_FLAG, 0},
                                   {3, (uintptr_t)(word + 2), FUTEX_32, 0}};
    struct timespec past = {1, 0};
    word[0] = 1, word[1] = 2, word[2] = 3;
    pthread_t thread;
    pthread_create(&thread, 0, wake_second, 0);
    CLAIM(syscall(SYS_futex_waitv, waits, 3, 0, 0, 0));
    pthread_join(thread, 0);
    CLAIM(syscall(SYS_futex_waitv, waits, 3, 0, &past, CLOCK_MONOTONIC));
    CLAIM(syscall(SYS_futex_waitv, waits, 3, 1, 0, 0));
    CLAIM(syscall(SYS_futex_waitv, waits, 0, 0, 0, 0));
    CLAIM(syscall(SYS_futex_waitv, waits, 129, 0, 0, 0));
    word[2] = 4;
    CLAIM(syscall(SYS_futex_waitv, waits, 3, 0, 0, 0));
    waits[1].flags = 0;
    CLAIM(syscall(SYS_futex_waitv, waits, 3, 0, 0, 0));
#endif
}

/* What may be shared must be there, even where its value does not matter. */
static void absent(void) {
    int *none = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CLAIM(syscall(SYS_futex, none, FUTEX_WAKE, 1, 0, 0, 0));
    CLAIM(syscall(SYS_futex, none, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, 0, 0, 0));
    CLAIM(syscall(SYS_futex, word, FUTEX_REQUEUE, 1, 1, none, 0));
    CLAIM(syscall(SYS_futex, none, FUTEX_WAKE_OP, 1, 1, word, 0));
    munmap(none, 4096);
    CLAIM(syscall(SYS_futex, none, FUTEX_WAKE, 1, 0, 0, 0));
}

int main(void) {
    word = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    values();
    wakes();
    processes();
    signals();
    for (int protocol = PTHREAD_PRIO_NONE; protocol <= PTHREAD_PRIO_INHERIT; protocol++)
        for (int robust = 0; robust < 2; robust++)
            owners(protocol, robust);
    several();
    absent();
    return 0;
}
