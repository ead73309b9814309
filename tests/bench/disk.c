/*
 * The benchmark of `cargo xtask bench disk`: an ext4 disk under the work of a day, the same natively, in our guests and in UML's.
 *
 *     disk OUTPUT DEVICE     mounts DEVICE on a directory of its own and writes "name<TAB>nanoseconds per operation" lines to OUTPUT
 *
 * As process 1 it powers the machine off at the end. What is read was never in memory: the disk is mounted anew before.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MIB (1 << 20)
#define FILE_MIB 128
#define READS 4000
#define FOLDERS 100
#define FILES 100
#define CREATES 10000
#define FSYNCS 300

static FILE *output;
static const char *device;
static char place[] = "/dev/shm/bench-disk-XXXXXX", buffer[MIB];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static void check(int result, const char *what) {
    if (result < 0) {
        perror(what);
        exit(1);
    }
}

static void row(const char *name, double start, int count) {
    fprintf(output, "%s\t%.1f\n", name, (now() - start) / count);
    fflush(output);
}

static void mount_disk(const char *options) {
    check(mount(device, place, "ext4", 0, options), "mount");
    check(chdir(place), place);
}

static void mount_anew(const char *options) {
    check(chdir("/"), "/");
    check(umount(place), "umount");
    mount_disk(options);
}

static void create(const char *name, int size) {
    int fd = open(name, O_CREAT | O_WRONLY | O_EXCL, 0644);
    check(fd, name);
    check(write(fd, buffer, size), name);
    close(fd);
}

static void write_and_fsync(int fd, const char *name) {
    double start = now();
    for (int i = 0; i < FSYNCS; i++) {
        check(pwrite(fd, buffer, 4096, i * 4096), "pwrite");
        check(fsync(fd), "fsync");
    }
    row(name, start, FSYNCS);
}

static void write_large(const char *file, const char *name) {
    int fd = open(file, O_CREAT | O_RDWR, 0644);
    check(fd, file);
    double start = now();
    for (int i = 0; i < FILE_MIB; i++)
        check(write(fd, buffer, MIB), "write");
    check(fsync(fd), "fsync");
    row(name, start, FILE_MIB);
    close(fd);
}

static void one_file(void) {
    write_large("large", "sequential write, MiB");
    mount_anew("");
    int fd = open("large", O_RDWR);
    check(fd, "large");
    double start = now();
    while (read(fd, buffer, MIB) > 0)
        ;
    row("sequential read, MiB", start, FILE_MIB);
    close(fd);
    mount_anew("");
    fd = open("large", O_RDWR);
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    unsigned seed = 1;
    start = now();
    for (int i = 0; i < READS; i++) {
        seed = seed * 1664525 + 1013904223;
        check(pread(fd, buffer, 4096, (off_t)(seed % (FILE_MIB * 256)) * 4096), "pread");
    }
    row("random read, 4 KiB", start, READS);
    write_and_fsync(fd, "write and fsync, 4 KiB");
    close(fd);
    /* Nobody flushes: what the calls cost, with a disk that cannot lose what it has, and in UML always. */
    mount_anew("barrier=0");
    fd = open("large", O_RDWR);
    write_and_fsync(fd, "the same, barrier=0");
    close(fd);
    write_large("larger", "sequential write, barrier=0");
    mount_anew("");
}

static int found;
static int visit(const char *name, const struct stat *info, int kind, struct FTW *ftw) {
    found++;
    return 0;
}
static int erase(const char *name, const struct stat *info, int kind, struct FTW *ftw) {
    return ftw->level ? remove(name) : 0;
}

static void many_files(void) {
    char name[64];
    double start = now();
    for (int i = 0; i < FOLDERS; i++) {
        sprintf(name, "tree/%03d", i);
        check(i ? 0 : mkdir("tree", 0755), "tree");
        check(mkdir(name, 0755), name);
        for (int j = 0; j < FILES; j++) {
            sprintf(name, "tree/%03d/%03d", i, j);
            create(name, 5000);
            struct timespec times[2] = {{1600000000, 0}, {1600000000, 0}};
            check(utimensat(AT_FDCWD, name, times, 0), name);
        }
    }
    sync();
    row("unpack a tree, file", start, FOLDERS * FILES);
    mount_anew("");
    start = now();
    check(nftw("tree", visit, 20, FTW_PHYS), "tree");
    row("find in it, file", start, found);
    start = now();
    check(nftw("tree", erase, 20, FTW_PHYS | FTW_DEPTH), "tree");
    sync();
    row("remove it, file", start, found);
    check(mkdir("flat", 0755), "flat");
    start = now();
    for (int i = 0; i < CREATES; i++) {
        sprintf(name, "flat/file-%05d", i);
        create(name, 0);
    }
    sync();
    row("create in one directory", start, CREATES);
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: %s OUTPUT DEVICE\n", argv[0]);
        return 2;
    }
    device = argv[2];
    mkdir("/dev/shm", 01777);
    // A guest has nothing there yet; the host has, and keeps it.
    if (getpid() == 1)
        mount("tmpfs", "/dev/shm", "tmpfs", 0, "");
    if (!mkdtemp(place))
        check(-1, place);
    char partial[4096];
    snprintf(partial, sizeof partial, "%s.part", argv[1]);
    output = fopen(partial, "w");
    if (!output)
        check(-1, partial);
    mount_disk("");
    one_file();
    many_files();
    check(chdir("/"), "/");
    check(umount(place), "umount");
    rmdir(place);
    fclose(output);
    check(rename(partial, argv[1]), argv[1]);
    sync();
    if (getpid() == 1)
        reboot(RB_POWER_OFF);
    return 0;
}
