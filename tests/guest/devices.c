/* Memory devices and a process's own directory in /proc. */
#include "claim.h"
#include <sys/mman.h>

static void memory_devices(void) {
    char buffer[16];
    int zero = open("/dev/zero", O_RDWR), full = open("/dev/full", O_RDWR), null = open("/dev/null", O_RDWR);
    memset(buffer, 1, sizeof buffer);
    CLAIM(read(zero, buffer, 16));
    CLAIM(buffer[0] | buffer[15]);
    char *map = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);
    CLAIM(map != MAP_FAILED && map[5] == 0);
    CLAIM(mmap(0, 4096, PROT_READ, MAP_PRIVATE, null, 0) == MAP_FAILED);
    CLAIM(write(full, buffer, 1));
    CLAIM(read(full, buffer, 16));
    CLAIM(write(null, (void *)8, 5));
    CLAIM(read(null, (void *)8, 5));
    CLAIM(read(zero, (void *)8, 5));
    CLAIM(lseek(null, 100, SEEK_SET));
    CLAIM(syscall(SYS_getrandom, buffer, 16, 0));
    CLAIM(syscall(SYS_getrandom, buffer, 16, 0xff));
    CLAIM(syscall(SYS_getrandom, (void *)8, 16, 0));
}

static void own_process(void) {
    int memory = open("/proc/self/mem", O_RDWR), secret = 1234, value = 0;
    CLAIM(pread(memory, &value, 4, (off_t)&secret));
    claim("read", "%d", value);
    value = 99;
    CLAIM(pwrite(memory, &value, 4, (off_t)&secret));
    claim("written", "%d", secret);
    CLAIM(pread(memory, &value, 4, 16));
    char text[64] = "";
    int comm = open("/proc/self/comm", O_RDWR);
    CLAIM(write(comm, "a name that is too long\n", 24));
    CLAIM(lseek(comm, 0, SEEK_SET));
    CLAIM(read(comm, text, 63));
    claim("comm", "%s", strtok(text, "\n"));
    CLAIM(open("/proc/self/nothing", O_RDONLY));
    CLAIM(open("/proc/0", O_RDONLY));
    CLAIM(open("/proc/01", O_RDONLY));
    CLAIM(mkdir("/proc/self/new", 0700));
    CLAIM(unlink("/proc/self/comm"));
    CLAIM(readlink("/proc/self", text, sizeof text) == snprintf(0, 0, "%d", getpid()));
    int pipes[2];
    pipe(pipes);
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", pipes[1]);
    memset(text, 0, sizeof text);
    CLAIM(readlink(name, text, sizeof text) > 0);
    claim("descriptor", "%.6s", text);
    int again = open(name, O_WRONLY);
    CLAIM(write(again, "x", 1));
    CLAIM(read(pipes[0], text, 1));
    struct stat attributes;
    lstat(name, &attributes);
    claim("mode of a descriptor", "%o", attributes.st_mode);
    CLAIM(access("/proc/self/fd/900", F_OK));
    CLAIM(open("/proc/sys/kernel/ostype", O_RDONLY) >= 0);
    CLAIM(open("/proc/self/exe", O_RDWR));
}

int main(void) {
    memory_devices();
    own_process();
    return 0;
}
