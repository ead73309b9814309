/* Threads: creation, TLS, mutexes, condition variables, exit of a group, exec from a thread, robust mutexes. */
#include "claim.h"
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#define THREADS 16
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static long counter;
static int turn;
static __thread int local = 5;

static void *count_up(void *argument) {
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        pthread_mutex_unlock(&mutex);
    }
    local += (long)argument;
    return (void *)(long)local;
}

static void *take_turns(void *argument) {
    int me = (long)argument;
    for (int i = 0; i < 500; i++) {
        pthread_mutex_lock(&mutex);
        while (turn % 4 != me)
            pthread_cond_wait(&cond, &mutex);
        turn++;
        pthread_cond_broadcast(&cond);
        pthread_mutex_unlock(&mutex);
    }
    pthread_barrier_wait(&barrier);
    return 0;
}

static void *hold_and_die(void *argument) {
    pthread_mutex_lock(argument);
    return 0;
}

static void *spin(void *argument) {
    for (;;)
        asm volatile("pause");
}

static void *exec_self(void *argument) {
    char **argv = argument;
    char word[] = "again";
    char *args[] = {argv[0], word, 0};
    execv("/proc/self/exe", args);
    execv(argv[0], args);
    _exit(1);
}

static void *sleeper(void *argument) {
    sem_t *ready = argument;
    sem_post(ready);
    struct timespec long_time = {100, 0};
    nanosleep(&long_time, 0);
    return 0;
}

static volatile sig_atomic_t handled_in;
static void handler(int signal) { handled_in = syscall(SYS_gettid) != getpid(); }

int main(int argc, char **argv) {
    if (argc > 1) {
        claim("exec from a thread keeps the pid and one thread", "%d", syscall(SYS_gettid) == getpid());
        return 9;
    }
    pthread_t threads[THREADS];
    long sum = 0;
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], 0, count_up, (void *)i);
    for (int i = 0; i < THREADS; i++) {
        void *value;
        pthread_join(threads[i], &value);
        sum += (long)value;
    }
    claim("mutex", "%ld", counter);
    claim("thread-local storage", "%ld, main's %d", sum, local);

    pthread_barrier_init(&barrier, 0, 5);
    for (long i = 0; i < 4; i++)
        pthread_create(&threads[i], 0, take_turns, (void *)i);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], 0);
    claim("condition variable", "%d", turn);

    struct timespec when;
    clock_gettime(CLOCK_REALTIME, &when);
    when.tv_nsec += 10000000;
    if (when.tv_nsec >= 1000000000)
        when.tv_sec++, when.tv_nsec -= 1000000000;
    pthread_mutex_lock(&mutex);
    int error = pthread_cond_timedwait(&cond, &mutex, &when);
    pthread_mutex_unlock(&mutex);
    claim("timed wait", "%s", strerrorname_np(error));

    pthread_mutexattr_t attributes;
    pthread_mutex_t robust;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust, &attributes);
    pthread_create(&threads[0], 0, hold_and_die, &robust);
    pthread_join(threads[0], 0);
    claim("robust mutex of a dead owner", "%s", strerrorname_np(pthread_mutex_lock(&robust)));

    signal(SIGUSR1, handler);
    sem_t ready;
    sem_init(&ready, 0, 0);
    pthread_create(&threads[0], 0, sleeper, &ready);
    sem_wait(&ready);
    usleep(10000);
    pthread_kill(threads[0], SIGUSR1);
    pthread_join(threads[0], 0);
    claim("signal to a thread runs there", "%d", handled_in);

    pthread_create(&threads[0], 0, spin, 0);
    pthread_cancel(threads[0]);
    int status;
    pid_t child = fork();
    if (!child) {
        pthread_create(&threads[1], 0, spin, 0);
        pthread_create(&threads[2], 0, exec_self, argv);
        spin(0);
    }
    waitpid(child, &status, 0);
    claim("exec from a thread", "%s", ended(status));
    child = fork();
    if (!child) {
        pthread_create(&threads[1], 0, spin, 0);
        usleep(10000);
        _exit(4);
    }
    waitpid(child, &status, 0);
    claim("exit ends spinning threads", "%s", ended(status));
    return 0;
}
