// The floor: asks the kernel for the same container as the OCI runtimes do, and nothing else. No configuration is parsed,
// nothing is checked, no error is explained. Usage:
//   floor run   ROOTFS CGROUP-NAME PROGRAM [ARGS…]   one container, waited for; the cgroup is created, joined and removed
//   floor exec  PID PROGRAM [ARGS…]                  a process inside a running container
//   floor join  CGROUP-NAME PID PROGRAM [ARGS…]      the same, which is first moved into the container's cgroup
//   floor peak  PROGRAM [ARGS…]                      runs it and prints the peak resident size of any of its processes in KiB to stderr
// Prints nothing; exit status of the program, 125 on a failed step.
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(expr) ({ long result_ = (expr); if (result_ < 0) fail(#expr); result_; })
static void fail(const char* step) {
  dprintf(2, "floor: %s: %s\n", step, strerror(errno));
  _exit(125);
}

static int fs_open(const char* type) { return (int)CHECK(syscall(SYS_fsopen, type, 1 /* FSOPEN_CLOEXEC */)); }
static void fs_set(int fs, const char* key, const char* value) { CHECK(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0)); }
static int fs_mount(int fs, unsigned attributes) {
  CHECK(syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
  int mount_fd = (int)CHECK(syscall(SYS_fsmount, fs, 1 /* FSMOUNT_CLOEXEC */, attributes));
  close(fs);
  return mount_fd;
}
static void put(int mount_fd, const char* path) {
  CHECK(syscall(SYS_move_mount, mount_fd, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH));
  close(mount_fd);
}
static int clone_tree(const char* path) { return (int)CHECK(syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)); }

// One directory per hierarchy: every v1 mount of /proc/self/mountinfo that a container joins, or the one v2 hierarchy.
static const char* const v1_names[] = {"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd"};
static char cgroups[16][192];
static int cgroup_count;
static int is_v2;

static void cgroups_find(const char* name) {
  struct statfs info;
  CHECK(statfs("/sys/fs/cgroup", &info));
  is_v2 = info.f_type == 0x63677270;
  if (is_v2) snprintf(cgroups[cgroup_count++], sizeof *cgroups, "/sys/fs/cgroup/%s", name);
  else
    for (size_t i = 0; i < sizeof v1_names / sizeof *v1_names; ++i) {
      char root[64];
      snprintf(root, sizeof root, "/sys/fs/cgroup/%s/tasks", v1_names[i]);
      if (access(root, F_OK) == 0) snprintf(cgroups[cgroup_count++], sizeof *cgroups, "/sys/fs/cgroup/%s/%s", v1_names[i], name);
    }
}
static void cgroups_create(const char* name) {
  cgroups_find(name);
  for (int i = 0; i < cgroup_count; ++i) {
    CHECK(mkdir(cgroups[i], 0755));
    if (strncmp(cgroups[i], "/sys/fs/cgroup/cpuset/", 22) == 0)
      for (int k = 0; k < 2; ++k) {
        const char* file = k ? "cpuset.mems" : "cpuset.cpus";
        char path[320], value[128];
        snprintf(path, sizeof path, "/sys/fs/cgroup/cpuset/%s", file);
        int fd = (int)CHECK(open(path, O_RDONLY | O_CLOEXEC));
        ssize_t size = CHECK(read(fd, value, sizeof value));
        close(fd);
        snprintf(path, sizeof path, "%s/%s", cgroups[i], file);
        fd = (int)CHECK(open(path, O_WRONLY | O_CLOEXEC));
        CHECK(write(fd, value, (size_t)size));
        close(fd);
      }
  }
}
static void cgroups_join(int pid) {
  for (int i = 0; i < cgroup_count; ++i) {
    char path[320], text[16];
    snprintf(path, sizeof path, "%s/cgroup.procs", cgroups[i]);
    int fd = (int)CHECK(open(path, O_WRONLY | O_CLOEXEC));
    CHECK(write(fd, text, (size_t)snprintf(text, sizeof text, "%d", pid)));
    close(fd);
  }
}
static void cgroups_remove(void) {
  for (int i = 0; i < cgroup_count; ++i)
    while (rmdir(cgroups[i]) != 0 && errno == EBUSY) sched_yield();
}

static int overlay(const char* root) {  // ROOTFS/{lower,upper,work}
  char path[256];
  int fs = fs_open("overlay");
  snprintf(path, sizeof path, "%s/lower", root);
  fs_set(fs, "lowerdir", path);
  snprintf(path, sizeof path, "%s/upper", root);
  fs_set(fs, "upperdir", path);
  snprintf(path, sizeof path, "%s/work", root);
  fs_set(fs, "workdir", path);
  return fs_mount(fs, 0);
}

static void become_container(int root_fd, const char* where, char** argv, int ready_fd) {
  char byte;
  if (ready_fd >= 0) CHECK(read(ready_fd, &byte, 1));
  struct mount_attr slave = {.propagation = MS_SLAVE};
  CHECK(syscall(SYS_mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, &slave, sizeof slave));
  put(root_fd, where);
  CHECK(chdir(where));
  put(fs_mount(fs_open("proc"), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC), "proc");
  int fs = fs_open("tmpfs");
  fs_set(fs, "mode", "755");
  fs_set(fs, "size", "65536k");
  put(fs_mount(fs, MOUNT_ATTR_NOSUID), "dev");
  CHECK(mkdir("dev/pts", 0755));
  CHECK(mkdir("dev/shm", 01777));
  CHECK(mkdir("dev/mqueue", 01777));
  fs = fs_open("devpts");
  CHECK(syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "newinstance", NULL, 0));
  fs_set(fs, "ptmxmode", "0666");
  fs_set(fs, "mode", "0620");
  put(fs_mount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC), "dev/pts");
  fs = fs_open("tmpfs");
  fs_set(fs, "mode", "1777");
  fs_set(fs, "size", "65536k");
  put(fs_mount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC), "dev/shm");
  put(fs_mount(fs_open("mqueue"), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC), "dev/mqueue");
  put(fs_mount(fs_open("sysfs"), MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC), "sys");
  static const struct { const char* path; int major, minor; } nodes[] = {{"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7},
      {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0}};
  umask(0);
  for (size_t i = 0; i < sizeof nodes / sizeof *nodes; ++i)
    CHECK(mknod(nodes[i].path, S_IFCHR | 0666, makedev((unsigned)nodes[i].major, (unsigned)nodes[i].minor)));
  umask(022);
  CHECK(symlink("/proc/self/fd", "dev/fd"));
  CHECK(symlink("pts/ptmx", "dev/ptmx"));
  static const char* const masks[] = {"proc/kcore", "proc/keys", "proc/timer_list", "proc/sched_debug"};
  for (size_t i = 0; i < sizeof masks / sizeof *masks; ++i)
    if (access(masks[i], F_OK) == 0) put(clone_tree("dev/null"), masks[i]);
  static const char* const read_only[] = {"proc/sys", "proc/bus", "proc/fs", "proc/irq"};
  for (size_t i = 0; i < sizeof read_only / sizeof *read_only; ++i)
    if (access(read_only[i], F_OK) == 0) {
      int tree = clone_tree(read_only[i]);
      struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};
      CHECK(syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &ro, sizeof ro));
      put(tree, read_only[i]);
    }
  CHECK(sethostname("floor", 5));
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  CHECK(syscall(SYS_pivot_root, ".", "."));
  CHECK(umount2(".", MNT_DETACH));
  CHECK(chdir("/"));
  char* env[] = {"PATH=/bin", NULL};
  execve(argv[0], argv, env);
  fail("execve");
}

static int wait_for(int pid) {
  int status;
  CHECK(waitpid(pid, &status, 0));
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char** argv) {
  if (argc >= 5 && strcmp(argv[1], "run") == 0) {
    cgroups_create(argv[3]);
    CHECK(unshare(CLONE_NEWNS));
    struct mount_attr slave = {.propagation = MS_SLAVE};
    CHECK(syscall(SYS_mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, &slave, sizeof slave));
    int root_fd = overlay(argv[2]);
    int barrier[2];
    CHECK(pipe2(barrier, O_CLOEXEC));
    char where[256];
    snprintf(where, sizeof where, "%s/merged", argv[2]);
    struct clone_args args = {.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP,
                              .exit_signal = SIGCHLD};
    int cgroup_fd = -1;
    if (is_v2) {
      cgroup_fd = (int)CHECK(open(cgroups[0], O_PATH | O_CLOEXEC));
      args.flags |= CLONE_INTO_CGROUP;
      args.cgroup = (uint64_t)cgroup_fd;
    }
    int pid = (int)CHECK(syscall(SYS_clone3, &args, sizeof args));
    if (pid == 0) become_container(root_fd, where, argv + 4, is_v2 ? -1 : barrier[0]);
    if (!is_v2) {
      cgroups_join(pid);
      CHECK(write(barrier[1], "x", 1));
    }
    int code = wait_for(pid);
    cgroups_remove();
    return code;
  }
  if (argc >= 5 && strcmp(argv[1], "join") == 0) {
    cgroups_find(argv[2]);
    cgroups_join(0);  // 0: who writes it (cgroups(7))
    argv[2] = argv[1] = "exec";
    ++argv;
    --argc;
  }
  if (argc >= 4 && strcmp(argv[1], "exec") == 0) {
    int pidfd = (int)CHECK(syscall(SYS_pidfd_open, atoi(argv[2]), 0));
    CHECK(setns(pidfd, CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP));
    int pid = (int)CHECK(vfork());
    if (pid == 0) {
      execv(argv[3], argv + 3);
      _exit(125);
    }
    return wait_for(pid);
  }
  if (argc >= 3 && strcmp(argv[1], "peak") == 0) {
    int pid = (int)CHECK(fork());
    if (pid == 0) {
      execvp(argv[2], argv + 2);
      _exit(125);
    }
    int status;
    struct rusage usage;
    CHECK(wait4(pid, &status, 0, &usage));
    dprintf(2, "\n%ld\n", usage.ru_maxrss);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  dprintf(2, "usage: floor run ROOTFS CGROUP PROGRAM… | floor exec PID PROGRAM… | floor join CGROUP PID PROGRAM…\n");
  return 125;
}
