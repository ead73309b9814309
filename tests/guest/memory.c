/* mmap and its family. */
#include "claim.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

static sigjmp_buf jump;
static void fault(int signal) { siglongjmp(jump, signal); }

static const char *touch(volatile char *at) {
    int signal = sigsetjmp(jump, 1);
    if (signal)
        return signal == SIGSEGV ? "SIGSEGV" : "SIGBUS";
    *at = *at + 1;
    return "fine";
}

static int depth(int n) {
    volatile char frame[1000];
    frame[0] = n;
    return n ? depth(n - 1) + frame[0] * 0 : 0;
}

int main(void) {
    signal(SIGSEGV, fault);
    signal(SIGBUS, fault);
    const int rw = PROT_READ | PROT_WRITE, anon = MAP_PRIVATE | MAP_ANONYMOUS;
    char *m = mmap(0, 10 * 4096, rw, anon, -1, 0);
    claim("fresh", "%s", touch(m + 8192));
    CLAIM(mprotect(m + 4096, 4096, PROT_READ));
    claim("read-only", "%s", touch(m + 4096));
    claim("its neighbour", "%s", touch(m + 8192));
    CLAIM(mprotect(m + 4096, 4096, PROT_NONE));
    claim("none", "%s", touch(m + 4096));
    CLAIM(mprotect(m, 10 * 4096, rw));
    claim("again", "%s", touch(m + 4096));
    CLAIM(munmap(m + 3 * 4096, 4096));
    claim("hole", "%s", touch(m + 3 * 4096));
    CLAIM(mprotect(m, 10 * 4096, rw));
    CLAIM(munmap(m + 3 * 4096, 4096));
    CLAIM(munmap(m + 1, 4096));
    CLAIM(munmap(m, 0));
    CLAIM(mmap(0, 0, rw, anon, -1, 0) == MAP_FAILED);
    CLAIM((long)mmap(0, 0, rw, anon, -1, 0));
    CLAIM((long)mmap((void *)0x1001, 4096, rw, anon | MAP_FIXED, -1, 0));
    CLAIM((long)mmap(0, 4096, rw, MAP_PRIVATE, 99, 0));
    CLAIM((long)mmap(0, 4096, rw, MAP_ANONYMOUS, -1, 0));
    CLAIM((long)mmap(m, 4096, rw, anon | MAP_FIXED_NOREPLACE, -1, 0));
    CLAIM(mmap(m + 3 * 4096, 4096, rw, anon | MAP_FIXED, -1, 0) == m + 3 * 4096);
    m[0] = 42;
    char *moved = mremap(m, 2 * 4096, 100 * 4096, MREMAP_MAYMOVE);
    claim("mremap keeps contents", "%d, grown part %s", moved[0], touch(moved + 99 * 4096));
    CLAIM(mremap(moved, 100 * 4096, 4096, 0) == moved);
    claim("shrunk", "%s", touch(moved + 4096));
    CLAIM((long)mremap((void *)0x10000, 4096, 8192, MREMAP_MAYMOVE));
    CLAIM((long)mremap(moved, 4096, 8192, 99));

    moved[0] = 7;
    CLAIM(madvise(moved, 4096, MADV_DONTNEED));
    claim("after MADV_DONTNEED", "%d", moved[0]);
    CLAIM(madvise(moved, 4096, 12345));
    CLAIM(madvise(moved + 1, 4096, MADV_DONTNEED));
    CLAIM(msync(moved, 4096, MS_SYNC | MS_ASYNC));
    unsigned char resident[1];
    CLAIM(mincore(moved + 1, 4096, resident));
    CLAIM(mincore(moved, 4096, resident));
    CLAIM(mlock(moved, 4096));
    CLAIM(munlock(moved, 4096));

    char name[] = "/tmp/memory-XXXXXX";
    int fd = mkstemp(name);
    unlink(name);
    ftruncate(fd, 8192);
    pwrite(fd, "file", 4, 0);
    char *private = mmap(0, 4096, rw, MAP_PRIVATE, fd, 0), *shared = mmap(0, 4096, rw, MAP_SHARED, fd, 0);
    private[0] = 'P';
    shared[1] = 'S';
    char text[5] = {0};
    pread(fd, text, 4, 0);
    claim("file after private and shared stores", "%s; private %.4s", text, private);
    int read_only = open("/proc/self/exe", O_RDONLY);
    CLAIM((long)mmap(0, 4096, rw, MAP_SHARED, read_only, 0));
    CLAIM((long)mmap(0, 4096, rw, MAP_SHARED, fd, 100));
    char *ro = mmap(0, 4096, PROT_READ, MAP_SHARED, read_only, 0);
    CLAIM(mprotect(ro, 4096, rw));
    CLAIM(ro[1] == 'E');

    void *before = sbrk(0);
    CLAIM(sbrk(100000) == before);
    claim("heap", "%s", touch((char *)before + 99999));
    CLAIM(brk(before));
    claim("below the program break again", "%d", sbrk(0) == before);

    claim("deep stack", "%d", depth(6000));
    int memfd = memfd_create("name", MFD_ALLOW_SEALING);
    CLAIM(ftruncate(memfd, 4096));
    CLAIM(fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_WRITE));
    CLAIM(write(memfd, "x", 1));
    CLAIM(ftruncate(memfd, 0));
    CLAIM((long)mmap(0, 4096, rw, MAP_SHARED, memfd, 0));
    CLAIM(fcntl(memfd, F_GET_SEALS));

    struct rlimit limit = {64 << 20, RLIM_INFINITY};
    int status;
    pid_t child = fork();
    if (!child) {
        setrlimit(RLIMIT_AS, &limit);
        CLAIM((long)mmap(0, 128 << 20, rw, anon, -1, 0));
        _exit(0);
    }
    waitpid(child, &status, 0);
    child = fork();
    if (!child) {
        signal(SIGSEGV, SIG_DFL);
        depth(100000000);
        _exit(0);
    }
    waitpid(child, &status, 0);
    claim("endless recursion", "%s", ended(status));
    /* Code made at run time. */
    unsigned char *code = mmap(0, 4096, rw, anon, -1, 0);
    memcpy(code, "\xb8\x2a\x00\x00\x00\xc3", 6);
    mprotect(code, 4096, PROT_READ | PROT_EXEC);
    claim("generated code", "%d", ((int (*)(void))code)());
    return 0;
}
