/* execve and execveat: scripts, odd arguments, files that are no programs, descriptors, what is handed over. */
#include "claim.h"
#include <elf.h>
#include <stddef.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>

extern char **environ;
static char self[256], dir[] = "/tmp/exec-forms-XXXXXX";

/* Runs in a child, prints how it ended or why it did not start. */
static void run(const char *what, const char *path, char *const argv[], char *const envp[]) {
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        execve(path, argv, envp);
        claim(what, "%s", strerrorname_np(errno));
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    claim(what, "%s", ended(status));
}

static char *in_dir(const char *name) {
    static char text[8][300];
    static int next;
    char *out = text[next++ % 8];
    snprintf(out, 300, "%s/%s", dir, name);
    return out;
}

static char *file(const char *name, const void *bytes, size_t length, int mode) {
    char *path = in_dir(name);
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0755);
    write(fd, bytes, length);
    fchmod(fd, mode);
    close(fd);
    return path;
}

static char *script(const char *name, const char *text) { return file(name, text, strlen(text), 0755); }

static int show(int argc, char **argv) {
    for (int i = 0; i < argc; i++) {
        char *at = argv[i];
        if (!strncmp(at, dir, 11))
            at = strrchr(at, '/') + 1;
        if (!strncmp(at, "/dev/fd/", 8))
            at = "/dev/fd/N";
        claim("  arg", "%.60s", at);
    }
    claim("  environment", "%s", environ[0] ? environ[0] : "none");
    return argc;
}

static int show_auxv(void) {
    claim("  page size, ticks, phent", "%lu %lu %lu", getauxval(AT_PAGESZ), getauxval(AT_CLKTCK), getauxval(AT_PHENT));
    claim("  ids", "%lu %lu %lu %lu, secure %lu", getauxval(AT_UID), getauxval(AT_EUID), getauxval(AT_GID),
          getauxval(AT_EGID), getauxval(AT_SECURE));
    claim("  platform", "%s", (char *)getauxval(AT_PLATFORM));
    Elf64_Phdr *headers = (void *)getauxval(AT_PHDR);
    claim("  first header is PT_PHDR at itself", "%d", headers[0].p_type == PT_PHDR);
    claim("  base, entry, random, name", "%d %d %d %d", getauxval(AT_BASE) != 0, getauxval(AT_ENTRY) != 0,
          getauxval(AT_RANDOM) != 0, getauxval(AT_EXECFN) != 0);
    claim("  hardware", "%d", getauxval(AT_HWCAP) != 0);
    claim("  stack is aligned", "%d", ((uintptr_t)(environ - 1) & 7) == 0);
    return 0;
}

static void scripts(void) {
    char line[600];
    char *args[] = {"zero", "one", 0}, *env[] = {"A=1", 0};
    snprintf(line, sizeof line, "#!%s show\n", self);
    run("script", script("s1", line), args, env);
    snprintf(line, sizeof line, "#! \t%s   show two words\t \nrest", self);
    run("script with blanks", script("s2", line), args, env);
    snprintf(line, sizeof line, "#!%s\n", in_dir("s1"));
    run("script of a script", script("s3", line), args, env);
    for (int i = 4; i < 10; i++) {
        char name[8];
        snprintf(line, sizeof line, "#!%s\n", in_dir((snprintf(name, 8, "s%d", i - 1), name)));
        snprintf(name, 8, "s%d", i);
        script(name, line);
    }
    run("five interpreters", in_dir("s5"), args, env);
    run("six interpreters", in_dir("s6"), args, env);
    run("nine interpreters", in_dir("s9"), args, env);
    run("no interpreter", script("n1", "#!\n"), args, env);
    run("interpreter that is not there", script("n2", "#!/nonexistent/interpreter\n"), args, env);
    run("interpreter that is a directory", script("n3", "#!/tmp\n"), args, env);
    run("plain text", script("n4", "echo hello\n"), args, env);
    memset(line, 'x', sizeof line);
    memcpy(line, "#!/", 3);
    line[500] = '\n';
    line[501] = 0;
    run("line that is too long", script("n5", line), args, env);
}

static void arguments(void) {
    char *none[] = {0}, *show_args[] = {self, "show", "", "three", 0};
    run("empty strings", self, show_args, none);
    run("null environment", self, show_args, 0);
    char *long_string = malloc(200000), *args[] = {self, long_string, 0};
    memset(long_string, 'x', 199999);
    long_string[131071] = 0;
    run("longest string", self, args, none);
    long_string[131071] = 'x';
    long_string[131072] = 0;
    run("longer string", self, args, none);
    long_string[100000] = 0;
    char **many = calloc(102, sizeof *many);
    for (int i = 0; i < 101; i++)
        many[i] = long_string;
    run("10 MB of strings", self, many, none);
    char *nowhere = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    run("unreadable list", self, (char **)nowhere, none);
    char *bad[] = {self, nowhere, 0};
    run("unreadable string", self, bad, none);
    run("unreadable path", nowhere, show_args, none);
}

static void no_programs(void) {
    char *args[] = {"x", 0}, *env[] = {0};
    run("absent", "/nonexistent", args, env);
    run("directory", "/tmp", args, env);
    run("not executable", file("p1", "\177ELF", 4, 0644), args, env);
    run("empty file", script("p2", ""), args, env);
    run("half a header", file("p3", "\177ELF\2\1\1", 7, 0755), args, env);
    struct {
        Elf64_Ehdr head;
        Elf64_Phdr segment[2];
    } image = {.head = {.e_ident = "\177ELF\2\1\1", .e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = 1,
                        .e_phoff = sizeof(Elf64_Ehdr), .e_ehsize = sizeof(Elf64_Ehdr), .e_phentsize = sizeof(Elf64_Phdr),
                        .e_phnum = 2}};
    run("no segments", file("p4", &image, sizeof image, 0755), args, env);
    image.head.e_machine = EM_AARCH64;
    run("another machine", file("p5", &image, sizeof image, 0755), args, env);
    image.head.e_machine = EM_X86_64;
    image.head.e_phentsize = 32;
    run("headers of another size", file("p6", &image, sizeof image, 0755), args, env);
    image.head.e_phentsize = sizeof(Elf64_Phdr);
    image.segment[0].p_type = PT_INTERP;
    image.segment[0].p_filesz = 5000;
    run("interpreter without end", file("p7", &image, sizeof image, 0755), args, env);
    image.segment[0].p_filesz = 4;
    run("interpreter that is no string", file("p8", &image, sizeof image, 0755), args, env);
    int fd = open(script("p9", "#!/bin/sh\n"), O_WRONLY);
    run("open for writing", in_dir("p9"), args, env);
    close(fd);
    run("closed again", in_dir("p9"), args, env);
}

static void descriptors(void) {
    char *args[] = {"zero", "show", 0}, *env[] = {0};
    int fd = open(self, O_RDONLY), path = open(self, O_PATH), at = open(dir, O_RDONLY | O_DIRECTORY);
    char line[300];
    snprintf(line, sizeof line, "#!%s show\n", self);
    script("script", line);
    symlink("script", in_dir("link"));
    struct {
        const char *what;
        int fd;
        const char *name;
        int flags;
    } cases[] = {{"by descriptor", fd, "", AT_EMPTY_PATH},
                 {"by path descriptor", path, "", AT_EMPTY_PATH},
                 {"empty path without the flag", fd, "", 0},
                 {"in a directory", at, "script", 0},
                 {"through a link", at, "link", 0},
                 {"not through a link", at, "link", AT_SYMLINK_NOFOLLOW},
                 {"unknown flags", at, "script", 1},
                 {"bad descriptor", 99, "script", 0},
                 {"not a directory", fd, "script", 0},
                 {"the directory itself", at, "", AT_EMPTY_PATH}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pid_t child = fork();
        if (!child) {
            syscall(SYS_execveat, cases[i].fd, cases[i].name, args, env, cases[i].flags);
            claim(cases[i].what, "%s", strerrorname_np(errno));
            _exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        claim(cases[i].what, "%s", ended(status));
    }
    fcntl(at, F_SETFD, FD_CLOEXEC);
    pid_t child = fork();
    if (!child) {
        CLAIM(syscall(SYS_execveat, at, "script", args, env, 0));
        _exit(0);
    }
    waitpid(child, 0, 0);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strncmp(argv[1], "show", 4))
        return show(argc, argv);
    if (argc > 1 && !strcmp(argv[1], "auxv"))
        return show_auxv();
    if (argc > 1)
        return 77;
    self[readlink("/proc/self/exe", self, sizeof self - 1)] = 0;
    mkdtemp(dir);
    char *args[] = {self, "auxv", 0};
    run("auxiliary vector", self, args, environ);
    scripts();
    arguments();
    no_programs();
    descriptors();
    char command[300];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}
