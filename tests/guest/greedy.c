/* Takes of one thing as much as it gets, and says where it ended. The argument names the thing. Runs in guests only. */
#include "claim.h"
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

static void *sleeper(void *unused) {
    pause();
    return 0;
}

static void threads(void) {
    int made = 0, error;
    pthread_attr_t small;
    pthread_t thread, next;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 16384);
    while (made < 100000 && !(error = pthread_create(&next, &small, sleeper, 0)))
        made++, thread = next;
    printf("threads: %s after %s\n", strerrorname_np(error), made > 50 ? "many" : "few");
    fprintf(stderr, "%d threads\n", made);
    /* One fewer, one more; its number is free a little after it was joined. */
    pthread_cancel(thread);
    pthread_join(thread, 0);
    usleep(100000);
    printf("one more: %d\n", pthread_create(&thread, &small, sleeper, 0));
}

static void memory(void) {
    for (size_t taken = 0;; taken += 1 << 20) {
        char *piece = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (piece == MAP_FAILED) {
            perror("memory");
            return;
        }
        memset(piece, 1, 1 << 20);
    }
}

static void files(void) {
    struct rlimit limit = {100010, 100010};
    int fd, count = 0;
    printf("limit: %s\n", result(setrlimit(RLIMIT_NOFILE, &limit)));
    while ((fd = open("/dev/null", O_RDONLY)) >= 0)
        count++;
    fprintf(stderr, "%d files\n", count);
    printf("files: %s, %s\n", strerrorname_np(errno), count > 100000 ? "all" : "fewer");
    for (fd = 3; fd < 100010; fd++)
        close(fd);
    int pipes[2], pairs = 0;
    while (!pipe(pipes))
        pairs++;
    fprintf(stderr, "%d pipes\n", pairs);
    printf("pipes: %s\n", strerrorname_np(errno));
    for (fd = 3; fd < 100010; fd++)
        close(fd);
    char name[] = "/tmp/greedy-XXXXXX";
    close(mkstemp(name));
    count = 0;
    while ((fd = open(name, O_RDWR)) >= 0 && count < 30000)
        count++;
    fprintf(stderr, "%d of one host file\n", count);
    for (fd = 3; fd < 100010; fd++)
        close(fd);
    unlink(name);
    count = 0;
    while ((fd = memfd_create("x", 0)) >= 0 && count < 30000) {
        ftruncate(fd, 4096);
        count++;
    }
    fprintf(stderr, "%d memory files: %s\n", count, fd < 0 ? strerrorname_np(errno) : "all");
    printf("after: %s\n", fork() ? "forks" : "child");
}

static void arguments(void) {
    size_t sizes[] = {100000, 131071, 131072, 1 << 20};
    for (unsigned i = 0; i < 4; i++) {
        char *word = malloc(sizes[i] + 1);
        memset(word, 'a', sizes[i]);
        word[sizes[i]] = 0;
        char *argv[] = {"true", word, 0}, *env[] = {0};
        if (!fork()) {
            execve("/bin/true", argv, env);
            printf("%zu: %s\n", sizes[i], strerrorname_np(errno));
            fflush(stdout);
            _exit(1);
        }
        int status;
        wait(&status);
        printf("one argument of %zu: %s\n", sizes[i], ended(status));
        fflush(stdout);
    }
    for (int count = 1000; count <= 10000000; count *= 10) {
        char **argv = calloc(count + 1, sizeof *argv), *env[] = {0};
        for (int i = 0; i < count; i++)
            argv[i] = "a";
        fflush(stdout);
        if (!fork()) {
            execve("/bin/true", argv, env);
            printf("%d: %s\n", count, strerrorname_np(errno));
            fflush(stdout);
            _exit(1);
        }
        int status;
        wait(&status);
        printf("%d arguments: %s\n", count, ended(status));
        free(argv);
    }
    char **endless = mmap(0, 1 << 28, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    printf("%s\n", result(syscall(SYS_execve, "/bin/true", (char **)8, 0)));
    printf("%s\n", result(syscall(SYS_execve, "/bin/true", 0, (char **)-8L)));
}

static int depth;
static void recurse(void) {
    volatile char frame[1000];
    frame[0] = depth++;
    recurse();
    frame[1] = 0;
}

static void recursion(void) {
    int status;
    if (!fork())
        recurse();
    wait(&status);
    printf("recursion: %s\n", ended(status));
}

static void paths(void) {
    char dir[] = "/tmp/greedy-XXXXXX";
    mkdtemp(dir);
    chdir(dir);
    symlink("b", "a");
    symlink("a", "b");
    CLAIM(open("a", O_RDONLY));
    CLAIM(chdir("a/x"));
    symlink("self/self/self/self/self/self/self", "self");
    CLAIM(open("self", O_RDONLY));
    symlink(".", "here");
    char name[8192];
    for (int n = 38; n <= 42; n++) {
        *name = 0;
        for (int i = 0; i < n; i++)
            strcat(name, "here/");
        claim("links in a row", "%d: %s", n, result(access(name, F_OK)));
    }
    char target[4096];
    memset(target, 'x', 4095);
    for (int n = 254; n <= 257; n++) {
        target[n] = 0;
        claim("name", "%d: %s", n, result(mkdir(target, 0777)));
        rmdir(target);
        target[n] = 'x';
    }
    for (int n = 4093; n <= 4097; n++) {
        memset(name, '/', n);
        name[0] = '.';
        name[n] = 0;
        claim("path", "%d: %s", n, result(access(name, F_OK)));
        name[n] = '/';
    }
    for (int n = 4094; n <= 4096; n++) {
        memset(name, 'y', n);
        name[n] = 0;
        claim("link", "%d: %s", n, result(symlink(name, "long")));
        unlink("long");
    }
    int level = 0;
    while (level < 3000 && !mkdir("deep", 0777) && !chdir("deep"))
        level++;
    claim("levels", "%d", level);
    claim("getcwd", "%s", getcwd(name, sizeof name) ? "a path" : strerrorname_np(errno));
    while (level-- > 0 && !chdir("..") && !rmdir("deep"))
        ;
    chdir("/");
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    system(command);
}

int main(int argc, char **argv) {
    struct { const char *name; void (*run)(void); } things[] = {
        {"threads", threads}, {"memory", memory}, {"files", files}, {"arguments", arguments}, {"recursion", recursion}, {"paths", paths},
    };
    for (unsigned i = 0; i < sizeof things / sizeof *things; i++)
        if (argc > 1 && !strcmp(argv[1], things[i].name))
            things[i].run();
    return 0;
}
