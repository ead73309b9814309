/* Users, groups, capabilities, limits: what changes what. Meaningful as root. */
#include "claim.h"
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static void show(const char *what) {
    uid_t r, e, s;
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {0};
    getresuid(&r, &e, &s);
    syscall(SYS_capget, &header, data);
    claim(what, "uids %d %d %d fs %d effective %d permitted %d", r, e, s, setfsuid(-1), (data[0].effective & 1) != 0, (data[0].permitted & 1) != 0);
}

static void apart(void (*what)(void)) {
    int status;
    pid_t child = fork();
    if (!child) {
        what();
        _exit(0);
    }
    waitpid(child, &status, 0);
    claim("part", "%s", ended(status));
}

static void there_and_back(void) {
    show("start");
    CLAIM(seteuid(1000));
    show("effective user away");
    CLAIM(seteuid(0));
    show("and back");
    CLAIM(setfsuid(7));
    CLAIM(setfsuid(-1));
    CLAIM(setresuid(-1, -1, 5));
    CLAIM(setuid(1000));
    show("gone");
    CLAIM(setuid(0));
    CLAIM(setgid(0));
    CLAIM(setgid(5));
}

static void keeping(void) {
    CLAIM(prctl(PR_SET_KEEPCAPS, 1));
    CLAIM(prctl(PR_SET_KEEPCAPS, 2));
    CLAIM(setresuid(1000, 1000, 1000));
    show("kept");
    CLAIM(prctl(PR_GET_KEEPCAPS));
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {0};
    syscall(SYS_capget, &header, data);
    data[0].effective = data[0].permitted;
    CLAIM(syscall(SYS_capset, &header, data));
    show("raised");
    data[0].permitted = 0xff, data[0].effective = 0x1ff, data[1].permitted = data[1].effective = 0;
    CLAIM(syscall(SYS_capset, &header, data));
    data[0].effective = 1;
    CLAIM(syscall(SYS_capset, &header, data));
    data[0].permitted = 0x1ff;
    CLAIM(syscall(SYS_capset, &header, data));
    header.version = 5;
    CLAIM(syscall(SYS_capget, &header, data));
    claim("version", "%x", header.version);
    CLAIM(syscall(SYS_capget, &header, 0));
    header.pid = -5;
    CLAIM(syscall(SYS_capget, &header, data));
}

static void bounding(void) {
    CLAIM(prctl(PR_CAPBSET_READ, CAP_NET_RAW));
    CLAIM(prctl(PR_CAPBSET_DROP, CAP_NET_RAW));
    CLAIM(prctl(PR_CAPBSET_READ, CAP_NET_RAW));
    CLAIM(prctl(PR_CAPBSET_DROP, 99));
    CLAIM(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0));
    CLAIM(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0));
    CLAIM(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
    CLAIM(prctl(PR_CAP_AMBIENT, 9, 0, 0, 0));
    CLAIM(prctl(PR_SET_SECUREBITS, 1 << 5));
    CLAIM(prctl(PR_SET_KEEPCAPS, 1));
    CLAIM(prctl(PR_SET_SECUREBITS, 0));
    CLAIM(prctl(PR_GET_SECUREBITS));
    CLAIM(setresuid(1000, 1000, 1000));
    CLAIM(prctl(PR_CAPBSET_DROP, CAP_CHOWN));
}

static void unprivileged(void) {
    gid_t groups[3] = {9, 3, 7}, back[3];
    CLAIM(setgroups(3, groups));
    CLAIM(getgroups(3, back));
    claim("sorted", "%d %d %d", back[0], back[1], back[2]);
    CLAIM(getgroups(2, back));
    CLAIM(getgroups(-1, back));
    CLAIM(setresgid(20, 21, 22));
    CLAIM(setresuid(1000, 1001, 1002));
    CLAIM(setreuid(1001, -1));
    CLAIM(setreuid(-1, 1002));
    CLAIM(setresuid(-1, 1, -1));
    CLAIM(setregid(22, -1));
    CLAIM(setregid(21, 20));
    CLAIM(setgroups(0, 0));
    struct rlimit limit;
    getrlimit(RLIMIT_CORE, &limit);
    limit.rlim_max = 5, limit.rlim_cur = 6;
    CLAIM(setrlimit(RLIMIT_CORE, &limit));
    limit.rlim_cur = 5;
    CLAIM(setrlimit(RLIMIT_CORE, &limit));
    limit.rlim_max = 6;
    CLAIM(setrlimit(RLIMIT_CORE, &limit));
    CLAIM(prlimit(1, RLIMIT_CORE, 0, &limit));
    CLAIM(prlimit(getpid(), RLIMIT_CORE, 0, &limit));
    CLAIM(prlimit(1 << 22, RLIMIT_CORE, 0, &limit));
    CLAIM(kill(1, 0));
    CLAIM(kill(getppid(), SIGCONT));
    CLAIM(setpriority(PRIO_PROCESS, 0, 3));
    CLAIM(setpriority(PRIO_PROCESS, 0, 1));
    CLAIM(setpriority(PRIO_PROCESS, 1, 1));
    CLAIM(getpriority(7, 0));
    CLAIM(setpriority(PRIO_PROCESS, 1 << 22, 1));
    limit.rlim_cur = limit.rlim_max = 1;
    setrlimit(RLIMIT_NPROC, &limit);
    CLAIM(fork());
}

/* A stranger's file in a set-group-ID directory keeps no set-group-ID bit, whatever the umask takes of the mode; one that no group may run keeps it. */
static void set_group_directory(void) {
    char base[] = "/tmp/identities-XXXXXX", name[100];
    mkdtemp(base);
    chown(base, 65534, 4711);
    chmod(base, 02777);
    pid_t child = fork();
    if (!child) {
        setgroups(0, 0);
        setgid(65534);
        setuid(65534);
        static const mode_t masks[] = {0, 010, 0777}, modes[] = {02770, 02660};
        for (int mask = 0; mask < 3; mask++)
            for (int mode = 0; mode < 2; mode++) {
                struct stat st;
                umask(masks[mask]);
                snprintf(name, sizeof name, "%s/%d-%d", base, mask, mode);
                close(open(name, O_CREAT | O_RDWR, modes[mode]));
                stat(name, &st);
                claim("made in a set-group-ID directory", "%o under %o: %o of %d", modes[mode], masks[mask], st.st_mode & 07777, st.st_gid);
                unlink(name);
            }
        _exit(0);
    }
    waitpid(child, 0, 0);
    rmdir(base);
}

int main(void) {
    if (getuid() != 0)
        return 0;
    setpriority(PRIO_PROCESS, 0, 0); /* the tests may run niced */
    apart(there_and_back);
    apart(keeping);
    apart(bounding);
    apart(unprivileged);
    CLAIM(setuid(-1));
    CLAIM(setgid(-1));
    CLAIM(setgroups(1 << 20, 0));
    set_group_directory();
    return 0;
}
