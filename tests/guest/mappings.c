/* The corners of mmap, mremap, madvise, mlock, msync, mincore, memfd_create and brk. */
#include "claim.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#define PAGE 4096
static const int rw = PROT_READ | PROT_WRITE, anon = MAP_PRIVATE | MAP_ANONYMOUS, shared = MAP_SHARED | MAP_ANONYMOUS;
static sigjmp_buf jump;
static siginfo_t last;
static void fault(int signal, siginfo_t *info, void *context) {
    (void)context;
    last = *info;
    siglongjmp(jump, signal);
}

static const char *touch(volatile char *at, int write) {
    static char text[64];
    int signal = sigsetjmp(jump, 1);
    if (signal) {
        snprintf(text, 64, "%s code %d at %ld", signal == SIGSEGV ? "SIGSEGV" : "SIGBUS", last.si_code,
                 (long)((char *)last.si_addr - (char *)at));
        return text;
    }
    if (write)
        *at = 1;
    else
        (void)*at;
    return "fine";
}

static long map(void *at, size_t length, int prot, int flags, int fd, off_t offset) {
    char *made = mmap(at, length, prot, flags, fd, offset);
    return made == MAP_FAILED ? -1 : 0;
}

static void flags(void) {
    CLAIM(map(0, PAGE, rw, 0, -1, 0));
    CLAIM(map(0, PAGE, rw, MAP_SHARED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    CLAIM(map(0, PAGE, rw, MAP_ANONYMOUS | 4, -1, 0));
    CLAIM(map((void *)-PAGE, PAGE, rw, anon | MAP_FIXED, -1, 0));
    CLAIM(map(0, -PAGE, rw, anon, -1, 0));
    CLAIM(map(0, -1, rw, anon, -1, 0));
    CLAIM(map(0, PAGE, rw, anon, -1, 1));
    CLAIM(map(0, 1ul << 47, rw, anon | MAP_NORESERVE, -1, 0));
    char *low = mmap(0, 3 * PAGE, rw, anon | MAP_32BIT, -1, 0);
    claim("MAP_32BIT", "%d", (uintptr_t)low + 3 * PAGE <= 1ul << 31);
    char *reserved = mmap(0, 1ul << 40, PROT_NONE, anon | MAP_NORESERVE, -1, 0);
    claim("a terabyte of nothing", "%d", reserved != MAP_FAILED);
    CLAIM(mprotect(reserved + (1ul << 39), PAGE, rw));
    claim("a page in it", "%s", touch(reserved + (1ul << 39), 1));
    claim("beside it", "%s", touch(reserved + (1ul << 39) + PAGE, 1));
    CLAIM(munmap(reserved, 1ul << 40));
    char *hint = mmap(0, 2 * PAGE, rw, anon, -1, 0);
    munmap(hint, 2 * PAGE);
    CLAIM(mmap(hint, PAGE, rw, anon, -1, 0) == hint);
    CLAIM(mmap(hint, PAGE, rw, anon, -1, 0) == hint);
    CLAIM(map(hint, PAGE, rw, anon | MAP_FIXED_NOREPLACE, -1, 0));
    CLAIM(mmap(hint + PAGE, PAGE, rw, anon | MAP_FIXED_NOREPLACE, -1, 0) == hint + PAGE);
    CLAIM(map(0, PAGE, rw, shared | MAP_GROWSDOWN, -1, 0));
    CLAIM(map(0, PAGE, rw, MAP_SHARED_VALIDATE | MAP_ANONYMOUS, -1, 0));
    CLAIM(map(0, PAGE, rw, anon | MAP_POPULATE | MAP_STACK | MAP_LOCKED, -1, 0));
    char *exec = mmap(0, PAGE, PROT_READ | PROT_EXEC, anon, -1, 0);
    claim("writing code", "%s", touch(exec, 1));
    CLAIM(mprotect(exec, PAGE, PROT_WRITE));
    claim("reading what can be written", "%s", touch(exec, 0));
    CLAIM(mprotect(exec + 1, PAGE, rw));
    CLAIM(mprotect(exec, 0, rw));
    CLAIM(mprotect(exec, PAGE, 0x1000));
    CLAIM(mprotect(exec, PAGE, rw | PROT_GROWSDOWN));
    CLAIM(mprotect(exec, PAGE, rw | PROT_GROWSDOWN | PROT_GROWSUP));
    CLAIM(mprotect((void *)PAGE, PAGE, rw));
}

static void moves(void) {
    char *at = mmap(0, 16 * PAGE, rw, anon, -1, 0), *other = mmap(0, 32 * PAGE, rw, anon, -1, 0);
    for (int i = 0; i < 16; i++)
        at[i * PAGE] = i + 1;
    CLAIM(mremap(at, 16 * PAGE, 16 * PAGE, MREMAP_FIXED, other) == MAP_FAILED ? -1l : 0l);
    CLAIM((long)mremap(at, 16 * PAGE, 16 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at + PAGE));
    CLAIM((long)mremap(at, 16 * PAGE, 16 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other + 1));
    CLAIM((long)mremap(at + 1, PAGE, PAGE, MREMAP_MAYMOVE));
    CLAIM((long)mremap(at, PAGE, 0, MREMAP_MAYMOVE));
    CLAIM((long)mremap(at, 0, PAGE, MREMAP_MAYMOVE));
    CLAIM((long)mremap(at, 2 * PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP));
    CLAIM(mremap(at, 16 * PAGE, 24 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other) == other);
    claim("moved", "%d %d %d", other[0], other[15 * PAGE], other[16 * PAGE]);
    claim("the old place", "%s", touch(at, 0));
    claim("what stands behind it", "%s", touch(other + 31 * PAGE, 1));
    CLAIM(mprotect(other + 4 * PAGE, PAGE, PROT_READ));
    CLAIM((long)mremap(other, 24 * PAGE, 48 * PAGE, MREMAP_MAYMOVE));
    CLAIM(mremap(other, 2 * PAGE, PAGE, 0) == other);
    claim("shrunk", "%s", touch(other + PAGE, 0));
    char *kept = mremap(other + 8 * PAGE, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
    claim("moved and kept", "%d %d", kept[0], other[8 * PAGE]);
    char *pair = mmap(0, 4096, rw, shared, -1, 0);
    pair[0] = 9;
    char *twin = mremap(pair, 0, PAGE, MREMAP_MAYMOVE);
    claim("a second mapping of shared memory", "%d", twin[0]);
    twin[0] = 8;
    claim("they are one", "%d", pair[0]);
    /* Mappings that became neighbours are one to mremap. */
    char *area = mmap(0, 8 * PAGE, PROT_NONE, anon, -1, 0);
    for (int i = 7; i >= 0; i--) {
        mmap(area + i * PAGE, PAGE, rw, anon | MAP_FIXED, -1, 0);
        area[i * PAGE] = i;
    }
    char *all = mremap(area, 8 * PAGE, 16 * PAGE, MREMAP_MAYMOVE);
    claim("pages mapped one by one move together", "%d %d", all != MAP_FAILED, all != MAP_FAILED ? all[7 * PAGE] : 0);
}

static void advice(void) {
    char *at = mmap(0, 8 * PAGE, rw, anon, -1, 0), *common = mmap(0, 4 * PAGE, rw, shared, -1, 0);
    at[0] = 1;
    CLAIM(madvise(at, PAGE, MADV_WIPEONFORK));
    CLAIM(madvise(common, PAGE, MADV_WIPEONFORK));
    CLAIM(madvise(at + PAGE, PAGE, MADV_DONTFORK));
    CLAIM(madvise(at, PAGE, MADV_FREE));
    CLAIM(madvise(common, PAGE, MADV_FREE));
    at[0] = 1;
    at[2 * PAGE] = 3;
    common[0] = 4;
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        claim("child: wiped", "%d", at[0]);
        claim("child: not forked", "%s", touch(at + PAGE, 0));
        claim("child: kept", "%d", at[2 * PAGE]);
        common[0] = 5;
        _exit(0);
    }
    waitpid(child, 0, 0);
    claim("parent", "%d %d %d", at[0], at[2 * PAGE], common[0]);
    CLAIM(madvise(common, PAGE, MADV_REMOVE));
    claim("removed", "%d", common[0]);
    CLAIM(madvise(at, PAGE, MADV_REMOVE));
    common[0] = 6;
    CLAIM(madvise(common, PAGE, MADV_DONTNEED));
    claim("shared memory is not forgotten", "%d", common[0]);
    munmap(at + 4 * PAGE, PAGE);
    at[5 * PAGE] = 7;
    CLAIM(madvise(at + 3 * PAGE, 3 * PAGE, MADV_DONTNEED));
    claim("behind the hole it is done", "%d", at[5 * PAGE]);
    CLAIM(madvise(at, 0, MADV_DONTNEED));
    CLAIM(madvise(at, -PAGE, MADV_DONTNEED));
    CLAIM(madvise(at, PAGE, MADV_WILLNEED));
    CLAIM(madvise(at, PAGE, MADV_COLD));
    CLAIM(madvise(at, PAGE, 22 /* MADV_POPULATE_READ */));
    CLAIM(madvise(at + 3 * PAGE, 3 * PAGE, 23 /* MADV_POPULATE_WRITE */));
    unsigned char resident[4] = {9, 9, 9, 9};
    char *fresh = mmap(0, 4 * PAGE, rw, anon, -1, 0);
    fresh[PAGE] = 1;
    CLAIM(mincore(fresh, 4 * PAGE, resident));
    claim("resident", "%d %d", resident[0] & 1, resident[1] & 1);
    CLAIM(mincore(at + 3 * PAGE, 3 * PAGE, resident));
    CLAIM(mincore(fresh, PAGE, (void *)8));
}

static void locks(void) {
    char *at = mmap(0, 64 * PAGE, rw, anon, -1, 0);
    CLAIM(mlock(at + 100, PAGE));
    /* No bytes, in the middle of a mapping. */
    CLAIM(mlock(at + PAGE, 0));
    CLAIM(munlock(at + PAGE, 0));
    CLAIM(mprotect(at + PAGE, 0, PROT_NONE));
    CLAIM(madvise(at + PAGE, 0, MADV_DONTNEED));
    CLAIM(msync(at + PAGE, 0, MS_SYNC));
    CLAIM(munmap(at + PAGE, 0));
    CLAIM(madvise(at, PAGE, MADV_DONTNEED));
    CLAIM(msync(at, PAGE, MS_INVALIDATE));
    CLAIM(munlock(at, 2 * PAGE));
    CLAIM(syscall(SYS_mlock2, at, PAGE, 2));
    CLAIM(syscall(SYS_mlock2, at, PAGE, 1));
    CLAIM(mlockall(0));
    CLAIM(mlockall(4));
    CLAIM(mlockall(8));
    CLAIM(munlockall());
    munmap(at + PAGE, PAGE);
    CLAIM(mlock(at, 3 * PAGE));
    CLAIM(munlock(at, 3 * PAGE));
    CLAIM(msync(at, 3 * PAGE, MS_SYNC));
    CLAIM(msync(at, PAGE, MS_SYNC | MS_ASYNC));
    CLAIM(msync(at, PAGE, 8));
    CLAIM(msync(at + 1, PAGE, MS_SYNC));
}

static void limits(void) {
    struct rlimit old, limit;
    getrlimit(RLIMIT_AS, &old);
    limit = (struct rlimit){1 << 30, old.rlim_max};
    setrlimit(RLIMIT_AS, &limit);
    CLAIM(map(0, 2ul << 30, rw, anon, -1, 0));
    CLAIM(map(0, 2ul << 30, PROT_NONE, anon, -1, 0));
    CLAIM(map(0, 1 << 20, rw, anon, -1, 0));
    setrlimit(RLIMIT_AS, &old);
    getrlimit(RLIMIT_DATA, &old);
    limit = (struct rlimit){64 << 20, old.rlim_max};
    setrlimit(RLIMIT_DATA, &limit);
    CLAIM(map(0, 128 << 20, rw, anon, -1, 0));
    CLAIM(map(0, 128 << 20, PROT_READ, anon, -1, 0));
    CLAIM((long)sbrk(128 << 20));
    setrlimit(RLIMIT_DATA, &old);
    char *start = sbrk(0);
    CLAIM(brk(start + 3 * PAGE + 5));
    claim("heap", "%s", touch(start + 3 * PAGE, 1));
    claim("end of heap", "%ld", (long)((char *)sbrk(0) - start));
    CLAIM(brk(start));
    CLAIM(brk((void *)8) == 0 ? 0l : -1l);
}

static void files(void) {
    char name[] = "/tmp/mappings-XXXXXX";
    int fd = mkstemp(name), reader = open(name, O_RDONLY), writer = open(name, O_WRONLY), dir = open("/tmp", O_RDONLY);
    unlink(name);
    ftruncate(fd, PAGE + 100);
    char *at = mmap(0, 4 * PAGE, rw, MAP_SHARED, fd, 0);
    claim("in the file", "%s", touch(at + PAGE + 99, 1));
    claim("in the last page behind the end", "%s", touch(at + 2 * PAGE - 1, 1));
    claim("behind the last page", "%s", touch(at + 2 * PAGE, 1));
    CLAIM(ftruncate(fd, 4 * PAGE));
    claim("after growing", "%s", touch(at + 2 * PAGE, 1));
    CLAIM(ftruncate(fd, 0));
    claim("after truncation", "%s", touch(at, 0));
    CLAIM(map(0, PAGE, PROT_READ, MAP_SHARED, writer, 0));
    CLAIM(map(0, PAGE, rw, MAP_SHARED, reader, 0));
    CLAIM(map(0, PAGE, rw, MAP_PRIVATE, reader, 0));
    CLAIM(map(0, PAGE, PROT_READ, MAP_PRIVATE, dir, 0));
    CLAIM(map(0, PAGE, PROT_READ, MAP_PRIVATE | MAP_GROWSDOWN, fd, 0));
    CLAIM(map(0, PAGE, PROT_READ, MAP_SHARED_VALIDATE | 0x02000000, fd, 0));
    CLAIM(map(0, PAGE, PROT_READ, MAP_SHARED_VALIDATE, fd, 0));
    CLAIM(map(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0x7ffffffffffff000));
    char *read_only = mmap(0, PAGE, PROT_READ, MAP_SHARED, reader, 0);
    CLAIM(mprotect(read_only, PAGE, rw));
    int zero = open("/dev/zero", O_RDWR);
    char *zeros = mmap(0, PAGE, rw, MAP_PRIVATE, zero, 0), *common = mmap(0, PAGE, rw, MAP_SHARED, zero, 0);
    claim("/dev/zero", "%s, %s", touch(zeros, 1), touch(common, 1));
    int pipes[2];
    pipe(pipes);
    CLAIM(map(0, PAGE, PROT_READ, MAP_PRIVATE, pipes[0], 0));
}

static void memfds(void) {
    CLAIM(memfd_create("x", 0x100));
    CLAIM(memfd_create((char *)8, 0));
    char long_name[300];
    memset(long_name, 'x', sizeof long_name);
    long_name[250] = 0;
    CLAIM(memfd_create(long_name, 0));
    long_name[249] = 0;
    CLAIM(memfd_create(long_name, 0) >= 0);
    int fd = memfd_create("sealed", MFD_ALLOW_SEALING), plain = memfd_create("plain", MFD_CLOEXEC);
    CLAIM(fcntl(plain, F_GETFD));
    CLAIM(fcntl(plain, F_GET_SEALS));
    CLAIM(fcntl(plain, F_ADD_SEALS, F_SEAL_WRITE));
    CLAIM(fcntl(fd, F_GET_SEALS));
    ftruncate(fd, 2 * PAGE);
    char *at = mmap(0, PAGE, rw, MAP_SHARED, fd, 0);
    at[0] = 'm';
    CLAIM(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    CLAIM(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
    CLAIM(ftruncate(fd, PAGE));
    munmap(at, PAGE);
    CLAIM(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    CLAIM(map(0, PAGE, rw, MAP_SHARED, fd, 0));
    CLAIM(map(0, PAGE, rw, MAP_PRIVATE, fd, 0));
    char *view = mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    claim("sealed contents", "%c", view == MAP_FAILED ? '?' : view[0]);
    CLAIM(mprotect(view, PAGE, rw));
    CLAIM(pwrite(fd, "x", 1, 0));
}

static int deep(int n) {
    volatile char frame[4000];
    frame[0] = n;
    return n ? deep(n - 1) + frame[0] * 0 : 0;
}

static void stacks(void) {
    char *stack = mmap(0, 16 * PAGE, rw, anon | MAP_GROWSDOWN | MAP_STACK, -1, 0);
    claim("a growing mapping", "%s", touch(stack, 1));
    static char ground[65536];
    stack_t other = {.ss_sp = ground, .ss_size = sizeof ground};
    sigaltstack(&other, 0);
    claim("a deep stack", "%d", deep(1000));
    char big[100000];
    int null = open("/dev/zero", O_RDONLY);
    CLAIM(read(null, big, sizeof big));
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        signal(SIGSEGV, SIG_DFL);
        deep(1 << 20);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    claim("a stack without end", "%s", ended(status & ~0x80));
}

/* Memory of /dev/zero keeps the descriptor's rights; flags that nobody knows; locking brings in what cannot be read. */
static void rights(void) {
    int zero = open("/dev/zero", O_RDONLY);
    char *at = mmap(0, PAGE, PROT_READ, MAP_SHARED, zero, 0);
    CLAIM(mprotect(at, PAGE, rw));
    munmap(at, PAGE);
    CLAIM(mmap(0, PAGE, rw, MAP_SHARED, zero, 0) == MAP_FAILED ? -1 : 0);
    close(zero);
    int fd = memfd_create("flags", 0);
    ftruncate(fd, PAGE);
    CLAIM(mmap(0, PAGE, rw, MAP_SHARED_VALIDATE | 1 << 10, fd, 0) == MAP_FAILED ? -1 : 0);
    at = mmap(0, 4 * PAGE, PROT_WRITE, shared, -1, 0);
    unsigned char there[4];
    mlock(at, 3 * PAGE);
    mincore(at, 4 * PAGE, there);
    claim("locked", "%d %d %d %d", there[0] & 1, there[1] & 1, there[2] & 1, there[3] & 1);
    munmap(at, 4 * PAGE);
}

int main(void) {
    struct sigaction action = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGSEGV, &action, 0);
    sigaction(SIGBUS, &action, 0);
    flags();
    moves();
    advice();
    locks();
    limits();
    files();
    memfds();
    stacks();
    rights();
    return 0;
}
