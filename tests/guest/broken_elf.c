/* Executes programs whose headers are damaged: an errno or a signal each, whatever is in them. The argument is the number of variants; the
 * program itself is what gets damaged. Runs in guests only. */
#include "claim.h"
#include <elf.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>

static unsigned long noise(void) {
    static unsigned long state = 88172645463325252UL;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

static const unsigned long interesting[] = {0, 1, -1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff,
                                            0x8000000000000000, 0x7ffcfffff000, 0x7ffd00000000, 0x7fff00000000, 0x1000, 0xfff, 0xfffffffffffff000};

int main(int argc, char **argv) {
    if (argc > 2)
        return 42;
    int variants = argc > 1 ? atoi(argv[1]) : 2000, errors = 0, signals = 0, ran = 0, other = 0;
    int self = open("/proc/self/exe", O_RDONLY);
    struct stat st;
    fstat(self, &st);
    unsigned char *whole = mmap(0, st.st_size, PROT_READ, MAP_PRIVATE, self, 0);
    char path[] = "/tmp/broken-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0 || whole == MAP_FAILED || write(fd, whole, st.st_size) != st.st_size) {
        perror(path);
        return 1;
    }
    fchmod(fd, 0755);
    Elf64_Ehdr *header = (void *)whole;
    unsigned interest = header->e_phoff + header->e_phnum * sizeof(Elf64_Phdr);
    close(fd);
    for (int variant = 0; variant < variants; variant++) {
        unsigned char bytes[4096];
        memcpy(bytes, whole, sizeof bytes);
        for (int changes = 1 + noise() % 3; changes; changes--) {
            unsigned at = noise() % interest;
            switch (noise() % 4) {
            case 0: bytes[at] = noise(); break;
            case 1: bytes[at] ^= 1 << (noise() & 7); break;
            case 2: memcpy(bytes + (at & ~7), &interesting[noise() % (sizeof interesting / 8)], 8); break;
            case 3: memcpy(bytes + (at & ~3), &interesting[noise() % (sizeof interesting / 8)], 4); break;
            }
        }
        fd = open(path, O_WRONLY);
        if (fd < 0 || pwrite(fd, bytes, sizeof bytes, 0) != sizeof bytes || ftruncate(fd, noise() % 8 ? st.st_size : noise() % 5000)) {
            perror("damage");
            return 1;
        }
        close(fd);
        pid_t child = fork();
        if (!child) {
            char *args[] = {"x", "1", "2", 0};
            struct rlimit none = {0, 0};
            setrlimit(RLIMIT_CORE, &none);
            struct itimerval limit = {.it_value = {0, 300000}};
            setitimer(ITIMER_REAL, &limit, 0);
            execv(path, args);
            _exit(7);
        }
        int status;
        waitpid(child, &status, 0);
        if (WIFSIGNALED(status))
            signals++;
        else if (WEXITSTATUS(status) == 7)
            errors++;
        else if (WEXITSTATUS(status) == 42)
            ran++;
        else
            other++;
        fd = open(path, O_WRONLY);
        ftruncate(fd, 0);
        pwrite(fd, whole, st.st_size, 0);
        close(fd);
    }
    unlink(path);
    fprintf(stderr, "%d errors, %d signals, %d ran, %d other\n", errors, signals, ran, other);
    printf("survived %d\n", errors + signals + ran + other);
    return 0;
}
