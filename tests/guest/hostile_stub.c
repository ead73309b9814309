/* Attacks on the code and data that stand between a guest process and the kernel: only the attacker may come to harm. Says "survived" at the
 * end. Runs in guests only. The argument names one attack; without it all run. */
#include "claim.h"
#include <signal.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>

/* skas/src/layout.rs */
static unsigned long code, regions, task_size;
enum { CODE_LENGTH = 1536, REGION = 1 << 16 };

static unsigned long noise(void) {
    static unsigned long state = 88172645463325252UL;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

static int harmed;
static void race(long, long);

/* Runs an attack in a process of its own, which must end: by itself, by a signal, or by its alarm. */
static void attack(void (*body)(long, long), long a, long b) {
    int status;
    pid_t child = fork();
    if (child < 0) {
        perror("fork");
        exit(1);
    }
    if (!child) {
        struct itimerval limit = {.it_value = {body == race ? 5 : 0, 300000}};
        setitimer(ITIMER_REAL, &limit, 0);
        body(a, b);
        _exit(0);
    }
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) {
            perror("its process was lost");
            exit(1);
        }
    harmed += WIFSIGNALED(status);
}

static unsigned char own[1 << 17] __attribute__((aligned(1 << 16)));

static void jump(long offset, long pattern) {
    unsigned long target = code + offset;
    unsigned long rbx = pattern == 0 ? regions : pattern == 1 ? (unsigned long)own : 0;
    unsigned long r15 = rbx + 0x4000, rest = pattern == 2 ? -1UL : 0;
    if (pattern == 1)
        for (unsigned i = 0; i < sizeof own / 8; i++)
            ((unsigned long *)own)[i] = noise() & 0x3ff;
    unsigned long all[] = {target, rbx, r15, rest};
    asm volatile("mov 8(%%rcx), %%rbx; mov 16(%%rcx), %%r15; mov 24(%%rcx), %%rax; mov %%rax, %%rdi; mov %%rax, %%rsi; mov %%rax, %%rdx;"
                 "mov %%rax, %%r10; mov %%rax, %%r8; mov %%rax, %%r9; mov %%rax, %%r12; mov %%rax, %%r13; mov %%rax, %%r14; jmp *(%%rcx)"
                 :: "c"(all) : "memory");
}

static void jumps(void) {
    for (long offset = 0; offset < CODE_LENGTH; offset++)
        attack(jump, offset, offset % 3);
}

/* A jump to each instruction that the filter knows, with every call number and wild arguments. */
static void call_from_stub(long offset, long number) {
    unsigned long target = code + offset;
    asm volatile("jmp *%%rcx" :: "c"(target), "a"(number), "D"(noise() & 0xfff), "S"(regions), "d"(7), "b"(own));
}

static void calls_from_stub(void) {
    static const long numbers[] = {0, 1, 2, 9, 10, 11, 15, 56, 57, 59, 60, 62, 101, 157, 202, 231, 310, 435};
    for (long offset = 0; offset < CODE_LENGTH; offset += 1 + (noise() & 7))
        attack(call_from_stub, offset, numbers[noise() % (sizeof numbers / sizeof *numbers)]);
}

static void store(long offset, long value) {
    *(volatile unsigned long *)(regions + offset) = value;
    getppid();
    *(volatile char *)own = 1;
    char *fresh = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh != MAP_FAILED)
        *fresh = 1;
    if (!fork())
        _exit(0);
}

static void stores(void) {
    static const long values[] = {0, -1, 1, 2, 3, 0x7fffffff, 0x80000000, 0x7fff10000000, 0x7ffcfffff000, 56};
    for (long offset = 0; offset < 0x400; offset += 8)
        for (unsigned i = 0; i < sizeof values / sizeof *values; i += 1 + (noise() & 3))
            attack(store, offset, values[i]);
    for (int i = 0; i < 300; i++)
        attack(store, noise() & (REGION - 8), noise() >> (noise() & 63));
}

static void fill(long from, long value) {
    memset((void *)(regions + from), value, REGION - from);
    getppid();
    fork();
}

static void fills(void) {
    for (long from = 0; from < REGION; from += 1024)
        attack(fill, from, noise());
}

/* One thread makes calls while another scribbles over both regions. */
static void *scribble(void *unused) {
    for (;;)
        *(volatile unsigned *)(regions + (noise() & 0x3ffff & ~3)) = noise() >> (noise() & 63);
}

static volatile int beat;
static void *toggle(void *unused) {
    for (;;) {
        *(volatile unsigned *)regions = beat++ & 3;
        *(volatile unsigned *)(regions + REGION) = beat++ & 3;
    }
}

static void race(long which, long unused) {
    pthread_t thread;
    pthread_create(&thread, 0, which ? toggle : scribble, 0);
    for (int i = 0; i < 2000; i++) {
        getppid();
        void *fresh = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        munmap(fresh, 4096);
        if (i % 200 == 0 && !fork())
            _exit(0);
    }
}

static void races(void) {
    for (int i = 0; i < 8; i++)
        attack(race, i & 1, 0);
}

static void stack_pointer(long at, long how) {
    if (how == 0)
        asm volatile("mov %0, %%rsp; mov $110, %%eax; syscall; push %%rax; mov (0), %%rax" :: "r"(at) : "rax", "rcx", "r11", "memory");
    else
        asm volatile("mov %0, %%rsp; mov $15, %%eax; syscall; ud2" :: "r"(at) : "rax", "memory");
}

static void stack_pointers(void) {
    for (long at = 0; at < REGION; at += 512)
        attack(stack_pointer, regions + at, at / 512 & 1);
    static const unsigned long wild[] = {0, 8, -1UL, -8UL, 0x800000000000, 0xffff800000000000, 0x7ffffffff000};
    for (unsigned i = 0; i < sizeof wild / sizeof *wild; i++)
        for (int how = 0; how < 2; how++)
            attack(stack_pointer, wild[i], how);
}

static long forged;
static void forge(int signal, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    greg_t *r = uc->uc_mcontext.gregs;
    char *fp = (char *)uc->uc_mcontext.fpregs;
    switch (forged) {
    case 0: uc->uc_mcontext.fpregs = (void *)1; break;
    case 1: uc->uc_mcontext.fpregs = (void *)0x7ffffffff000; break;
    case 2: uc->uc_mcontext.fpregs = (void *)-64; break;
    case 3: uc->uc_mcontext.fpregs = 0; break;
    case 4: uc->uc_mcontext.fpregs = (void *)regions; break;
    case 5: r[REG_RIP] = 0x800000000000; break;
    case 6: r[REG_RIP] = -1; break;
    case 7: r[REG_RIP] = code; break;
    case 8: r[REG_RSP] = -1; break;
    case 9: r[REG_RSP] = 0x8000000000000000; break;
    case 10: r[REG_CSGSFS] = 0; break;
    case 11: r[REG_CSGSFS] = -1; break;
    case 12: r[REG_CSGSFS] = 0x002b000000000010; break;
    case 13: r[REG_EFL] = -1; break;
    case 14: r[REG_EFL] = 0x100; break;
    case 15: *(unsigned *)(fp + 464 + 4) = -1; break;
    case 16: *(unsigned *)(fp + 464 + 16) = -1; break;
    case 17: *(unsigned *)(fp + 464 + 16) = 0; break;
    case 18: *(unsigned long *)(fp + 464 + 8) = -1; break;
    case 19: *(unsigned long *)(fp + 512) = -1; break;
    case 20: *(unsigned long *)(fp + 520) = -1; break;
    case 21: memset(fp + 512, -1, 64); break;
    case 22: memset(fp, -1, 832); break;
    case 23: *(unsigned *)(fp + 24) = -1; break;
    case 24: uc->uc_flags = -1; break;
    case 25: uc->uc_stack.ss_sp = (void *)-1, uc->uc_stack.ss_size = -1, uc->uc_stack.ss_flags = -1; break;
    case 26: memset(&uc->uc_sigmask, -1, 8); break;
    case 27: memset(uc, -1, sizeof *uc); break;
    case 28: memset(uc, 0, sizeof *uc); break;
    case 29: *(unsigned *)(fp + 464) = 0; break;
    default:
        for (int i = 0; i < 20; i++)
            ((unsigned char *)uc)[noise() % 0x1b0] = noise();
        for (int i = 0; i < 20; i++)
            fp[noise() % 832] = noise();
    }
}

static void frame(long number, long unused) {
    struct sigaction action = {.sa_sigaction = forge, .sa_flags = SA_SIGINFO};
    forged = number;
    for (long i = 0; i < number; i++)
        noise();
    sigaction(SIGUSR1, &action, 0);
    raise(SIGUSR1);
    getppid();
    volatile double x = 1.5;
    x *= x;
}

static void frames(void) {
    for (long number = 0; number < 300; number++)
        attack(frame, number, 0);
}

static void maps(void) {
    const unsigned long at[] = {task_size - 4096, task_size, task_size - 8192, code, code - 4096, code + 4096, regions, regions + REGION, regions - 4096,
                                0x7ffffffff000, 0x7fffffffe000, 0x800000000000, -4096UL, 0, 4096, 65536 - 4096};
    const unsigned long length[] = {4096, 8192, 0x10000, 1UL << 30, 1UL << 46, -4096UL, 1UL << 63, code, task_size, 0};
    void *good = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < sizeof at / sizeof *at; i++)
        for (unsigned j = 0; j < sizeof length / sizeof *length; j++) {
            char *a = (void *)at[i];
            unsigned long n = length[j];
            int touches = at[i] + n > task_size || at[i] + n < at[i];
            /* Only what reaches beyond the guest's part: it must be refused, whole. */
            if (!touches || !n)
                continue;
            if (mmap(a, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED)
                printf("mmap %lx+%lx succeeded\n", at[i], n);
            if (!munmap(a, n))
                printf("munmap %lx+%lx succeeded\n", at[i], n);
            if (!mprotect(a, n, PROT_READ | PROT_WRITE | PROT_EXEC))
                printf("mprotect %lx+%lx succeeded\n", at[i], n);
            /* It works on what is mapped before it fails. */
            if (at[i] >= task_size - 4096 && !madvise(a, n, MADV_DONTNEED))
                printf("madvise %lx+%lx succeeded\n", at[i], n);
            if (mremap(good, 4096, n, MREMAP_MAYMOVE | MREMAP_FIXED, a) != MAP_FAILED)
                printf("mremap to %lx+%lx succeeded\n", at[i], n);
            if (mremap(a, n, 4096, MREMAP_MAYMOVE) != MAP_FAILED)
                printf("mremap from %lx+%lx succeeded\n", at[i], n);
            if (!mlock(a, n))
                printf("mlock %lx+%lx succeeded\n", at[i], n);
            if (write(1, a < (char *)task_size ? (char *)task_size : a, n) >= 0)
                printf("write from %lx+%lx succeeded\n", at[i], n);
            if (pread(3, a < (char *)task_size ? (char *)task_size : a, n, 0) > 0)
                printf("read to %lx+%lx succeeded\n", at[i], n);
        }
    mmap((void *)(task_size - 65536), 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static void descriptors(long unused, long unused2) {
    for (int fd = 0; fd < 1024; fd++)
        close(fd);
    mmap(0, 4096, PROT_READ, MAP_PRIVATE, open("/proc/self/exe", O_RDONLY), 0);
    if (!fork())
        _exit(0);
    syscall(SYS_close_range, 0, -1, 0);
}

static void recurse(long depth, long unused) {
    volatile char page[4096];
    page[0] = depth;
    recurse(depth + 1, page[0]);
    page[1] = 0;
}

static void unmap_all(long unused, long unused2) {
    munmap(0, task_size);
    munmap((void *)65536, task_size - 65536);
}

int main(int argc, char **argv) {
    int low = (unsigned long)&argc < 1UL << 31;
    code = low ? 0x7f000000 : 0x7fff00000000;
    regions = low ? 0x7f400000 : 0x7fff10000000;
    task_size = low ? 0x7e000000 : 0x7ffd00000000;
    setbuf(stdout, 0);
    struct { const char *name; void (*run)(void); } attacks[] = {
        {"maps", maps}, {"frames", frames}, {"stack_pointers", stack_pointers}, {"jumps", jumps}, {"calls_from_stub", calls_from_stub},
        {"stores", stores}, {"fills", fills}, {"races", races},
    };
    for (unsigned i = 0; i < sizeof attacks / sizeof *attacks; i++) {
        if (argc > 1 && strcmp(argv[1], attacks[i].name))
            continue;
        harmed = 0;
        attacks[i].run();
        fprintf(stderr, "%s: %d attackers killed\n", attacks[i].name, harmed);
    }
    attack(descriptors, 0, 0);
    attack(recurse, 0, 0);
    attack(unmap_all, 0, 0);
    puts("survived");
    return 0;
}
