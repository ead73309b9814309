/* File calls and their errors, in a directory of our own. */
#include "claim.h"
#include <dirent.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/time.h>
#include <sys/uio.h>

static void list(const char *name) {
    struct dirent **entries;
    int count = scandir(name, &entries, 0, alphasort);
    printf("list %s:", name);
    for (int i = 0; i < count; i++)
        printf(" %s/%d", entries[i]->d_name, entries[i]->d_type);
    printf("\n");
}

/* RESOLVE_NO_MAGICLINKS and its neighbours. */
static void links(void) {
    static const uint64_t resolves[] = {0, 1, 2, 4, 2 | 8};
    for (size_t at = 0; at < sizeof resolves / sizeof *resolves; at++) {
        uint64_t how[3] = {O_RDONLY, 0, resolves[at]};
        int fd = syscall(SYS_openat2, AT_FDCWD, "/proc/self/exe", how, sizeof how);
        claim("openat2", "%d: %s", (int)resolves[at], fd < 0 ? result(fd) : "opened");
    }
}

int main(void) {
    char base[] = "/tmp/files-XXXXXX", buffer[100];
    struct stat st;
    links();
    umask(022);
    if (!mkdtemp(base) || chdir(base))
        return 1;
    int fd = open("a", O_CREAT | O_RDWR | O_EXCL, 0666);
    CLAIM(fd >= 0);
    CLAIM(open("a", O_CREAT | O_EXCL, 0666));
    CLAIM(write(fd, "hello world", 11));
    CLAIM(lseek(fd, 0, SEEK_CUR));
    CLAIM(pread(fd, buffer, 5, 6));
    CLAIM(lseek(fd, -3, SEEK_END));
    CLAIM(read(fd, buffer, 100));
    CLAIM(read(fd, buffer, 100));
    CLAIM(lseek(fd, -1, SEEK_SET));
    CLAIM(lseek(fd, 0, 99));
    CLAIM(pread(fd, buffer, 5, -1));
    CLAIM(read(fd, (void *)1, 5));
    CLAIM(lseek(fd, 0, SEEK_SET));
    CLAIM(read(fd, (void *)1, 5));
    CLAIM(read(-1, buffer, 5));
    struct iovec iov[3] = {{"ab", 2}, {0, 0}, {"cde", 3}};
    CLAIM(pwritev(fd, iov, 3, 20));
    CLAIM(writev(fd, iov, -1));
    CLAIM(writev(fd, iov, 1025));
    fstat(fd, &st);
    claim("fstat", "size %ld mode %o nlink %ld", (long)st.st_size, st.st_mode, (long)st.st_nlink);
    CLAIM(ftruncate(fd, 5));
    CLAIM(ftruncate(fd, -1));
    CLAIM(fallocate(fd, 0, 0, 8192));
    CLAIM(fallocate(fd, 0, -1, 5));
    fstat(fd, &st);
    claim("after fallocate", "size %ld", (long)st.st_size);

    CLAIM(link("a", "b"));
    CLAIM(link("a", "b"));
    CLAIM(symlink("a", "s"));
    CLAIM(symlink("loop", "loop"));
    CLAIM(open("loop", O_RDONLY));
    CLAIM(open("s", O_RDONLY | O_NOFOLLOW));
    CLAIM(readlink("s", buffer, 100));
    CLAIM(readlink("a", buffer, 100));
    CLAIM(mkdir("d", 0777));
    CLAIM(mkdir("d", 0777));
    CLAIM(mkdir("d/e/f", 0777));
    CLAIM(mkdir("a/x", 0777));
    CLAIM(open("d", O_WRONLY));
    CLAIM(open("a", O_RDONLY | O_DIRECTORY));
    CLAIM(rmdir("a"));
    CLAIM(unlink("d"));
    CLAIM(rmdir("d/."));
    CLAIM(rmdir(".."));
    close(open("d/inner", O_CREAT, 0600));
    CLAIM(rmdir("d"));
    CLAIM(rename("a", "d"));
    CLAIM(rename("d", "a"));
    CLAIM(rename("d", "d/sub"));
    CLAIM(rename("missing", "x"));
    CLAIM(rename("b", "d/b"));
    CLAIM(renameat2(AT_FDCWD, "a", AT_FDCWD, "d/b", RENAME_NOREPLACE));
    CLAIM(renameat2(AT_FDCWD, "s", AT_FDCWD, "d/b", RENAME_EXCHANGE));
    CLAIM(unlink("missing"));
    CLAIM(unlink(""));
    CLAIM(access("a", R_OK));
    CLAIM(access("missing", F_OK));
    list(".");
    list("d");
    char name[300];
    memset(name, 'x', sizeof name);
    name[256] = 0;
    CLAIM(open(name, O_CREAT | O_RDWR, 0600));
    name[255] = 0;
    CLAIM(open(name, O_CREAT | O_RDWR, 0600) >= 0);
    CLAIM(chdir("a"));
    CLAIM(chdir("d") || strcmp(strrchr(getcwd(buffer, 100), '/'), "/d"));
    CLAIM(chdir(".."));
    CLAIM(getcwd(buffer, 3) != 0);
    claim("getcwd", "%s", strerrorname_np(errno));

    CLAIM(chmod("a", 04755));
    stat("a", &st);
    claim("mode", "%o", st.st_mode);
    struct timespec times[2] = {{1000000000, 123456789}, {0, UTIME_OMIT}};
    CLAIM(utimensat(AT_FDCWD, "a", times, 0));
    stat("a", &st);
    claim("atime", "%ld.%ld", (long)st.st_atim.tv_sec, st.st_atim.tv_nsec);
    times[0].tv_nsec = 2000000000;
    CLAIM(utimensat(AT_FDCWD, "a", times, 0));
    CLAIM(mkfifo("fifo", 0600));
    CLAIM(open("fifo", O_WRONLY | O_NONBLOCK));
    int reader = open("fifo", O_RDONLY | O_NONBLOCK);
    CLAIM(reader >= 0);
    CLAIM(read(reader, buffer, 1));
    int writer = open("fifo", O_WRONLY | O_NONBLOCK);
    CLAIM(write(writer, "fifo", 4));
    CLAIM(read(reader, buffer, 100));
    CLAIM(read(reader, buffer, 100));

    int copy = dup(fd);
    CLAIM(lseek(fd, 3, SEEK_SET));
    CLAIM(lseek(copy, 0, SEEK_CUR));
    CLAIM(dup2(fd, 50));
    CLAIM(dup3(fd, fd, 0));
    CLAIM(dup2(fd, -1));
    CLAIM(fcntl(50, F_GETFD));
    CLAIM(fcntl(fd, F_DUPFD_CLOEXEC, 60));
    CLAIM(fcntl(60, F_GETFD));
    CLAIM(fcntl(fd, F_SETFL, O_APPEND));
    CLAIM((fcntl(fd, F_GETFL) & (O_APPEND | O_ACCMODE)) == (O_APPEND | O_RDWR));
    CLAIM(lseek(fd, 0, SEEK_SET));
    CLAIM(write(fd, "end", 3));
    CLAIM(lseek(fd, 0, SEEK_CUR));
    CLAIM(syscall(SYS_close_range, 50, 60, 0));
    CLAIM(fcntl(50, F_GETFD));
    CLAIM(close(50));

    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10};
    CLAIM(fcntl(fd, F_SETLK, &lock));
    int status;
    pid_t child = fork();
    if (!child) {
        CLAIM(fcntl(fd, F_SETLK, &lock));
        CLAIM(fcntl(fd, F_GETLK, &lock));
        claim("holder is the parent", "%d", lock.l_pid == getppid());
        _exit(0);
    }
    waitpid(child, &status, 0);
    int other = open("a", O_RDWR);
    CLAIM(flock(fd, LOCK_EX));
    CLAIM(flock(other, LOCK_EX | LOCK_NB));
    CLAIM(flock(fd, LOCK_UN));
    CLAIM(flock(other, LOCK_SH | LOCK_NB));

    int big = open("sparse", O_CREAT | O_RDWR, 0600);
    CLAIM(ftruncate(big, 1 << 20));
    CLAIM(pwrite(big, "data", 4, 65536));
    CLAIM(lseek(big, 0, SEEK_DATA));
    CLAIM(lseek(big, 65536, SEEK_HOLE) > 65536);
    CLAIM(lseek(big, 1 << 20, SEEK_DATA));
    fstat(big, &st);
    claim("sparse", "%d", st.st_blocks * 512 < st.st_size);
    int to = open("copy", O_CREAT | O_RDWR, 0600);
    lseek(fd, 0, SEEK_SET);
    CLAIM(sendfile(to, fd, 0, 5));
    loff_t from = 65536;
    CLAIM(copy_file_range(big, &from, to, 0, 4, 0));
    CLAIM(pread(to, buffer, 100, 0));
    buffer[9] = 0;
    claim("copied", "%s", buffer + 5);
    CLAIM(fsync(fd));
    CLAIM(fdatasync(-1));
    CLAIM(ioctl(fd, 0x5401, buffer));
    int available = -1;
    lseek(to, 2, SEEK_SET);
    CLAIM(ioctl(to, FIONREAD, &available));
    claim("FIONREAD", "%d", available);

    char *map = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, to, 0);
    map[0] = 'M';
    CLAIM(pread(to, buffer, 1, 0));
    claim("a shared mapping reaches the file", "%c", buffer[0]);
    pwrite(to, "W", 1, 1);
    claim("a write reaches a mapping", "%c", map[1]);
    CLAIM(msync(map, 4096, MS_SYNC));

    CLAIM(open("a/", O_RDONLY));
    CLAIM(stat("d/", &st));
    CLAIM(stat("s/", &st));
    CLAIM(open("", O_RDONLY));
    CLAIM(open((char *)1, O_RDONLY));
    CLAIM(openat(-5, "relative", O_RDONLY));
    CLAIM(openat(fd, "relative", O_RDONLY));
    int path = open("a", O_PATH);
    CLAIM(read(path, buffer, 1));
    CLAIM(fstat(path, &st));
    int unnamed = open(".", O_TMPFILE | O_RDWR, 0600);
    CLAIM(unnamed >= 0);
    snprintf(buffer, 100, "/proc/self/fd/%d", unnamed);
    int gone = open("gone", O_CREAT | O_RDWR, 0600);
    unlink("gone");
    write(gone, "still here", 10);
    CLAIM(pread(gone, buffer, 100, 0));
    fstat(gone, &st);
    claim("links of an unlinked file", "%ld", (long)st.st_nlink);
    chdir("/");
    snprintf(buffer, 100, "rm -r %s", base);
    return system(buffer) != 0;
}
