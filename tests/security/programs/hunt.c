// Looks at every process it can see until one lets itself be traced or shows a descriptor, and writes which to the file argv[1]
// (CVE-2016-9962). Hunted are processes that still bear the runtime's name: argv[2], a prefix; none: everybody.
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static const char* report;
static const char* prefix;

static void tell(const char* what, long pid, const char* detail) {
  int fd = open(report, O_WRONLY | O_CREAT | O_APPEND, 0666);
  dprintf(fd, "%s %ld %s\n", what, pid, detail);
  close(fd);
}

/// One that was entering a moment ago may have become a program of the container, which its equals may trace.
static int is_hunted(long pid) {
  char path[64], name[32] = "";
  snprintf(path, sizeof path, "/proc/%ld/comm", pid);
  int fd = open(path, O_RDONLY);
  if (fd < 0) return 0;
  const ssize_t size = read(fd, name, sizeof name - 1);
  close(fd);
  return size > 0 && strncmp(name, prefix, strlen(prefix)) == 0;
}

static void look_at_files(long pid) {
  char path[512], target[512];
  snprintf(path, sizeof path, "/proc/%ld/exe", pid);
  ssize_t size = readlink(path, target, sizeof target - 1);
  if (size > 0 && is_hunted(pid)) {
    target[size] = 0;
    tell("exe", pid, target);
  }
  snprintf(path, sizeof path, "/proc/%ld/fd", pid);
  DIR* fds = opendir(path);
  if (fds == NULL) return;
  struct dirent* fd;
  while ((fd = readdir(fds)) != NULL) {
    if (fd->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "/proc/%ld/fd/%s", pid, fd->d_name);
    size = readlink(path, target, sizeof target - 1);
    if (size <= 0 || !is_hunted(pid)) continue;
    target[size] = 0;
    tell("fd", pid, target);
  }
  closedir(fds);
}

static void trace(long pid) {
  if (ptrace(PTRACE_SEIZE, pid, 0, 0) != 0) return;
  if (is_hunted(pid)) tell("ptrace", pid, "");
  // A tracee must stand still to be let go, and one that was not let go would never be reaped by its parent.
  ptrace(PTRACE_INTERRUPT, pid, 0, 0);
  waitpid(pid, NULL, __WALL);
  ptrace(PTRACE_DETACH, pid, 0, 0);
}

int main(int argc, char** argv) {
  if (access("/bin/hunt", X_OK) != 0) return 3;  // not in the container it was put into: it would do harm here
  if (argc < 2) return 2;
  report = argv[1];
  prefix = argc > 2 ? argv[2] : "";
  for (;;) {
    DIR* proc = opendir("/proc");
    struct dirent* entry;
    while ((entry = readdir(proc)) != NULL) {
      const long pid = atol(entry->d_name);
      if (pid < 1 || pid == getpid() || !is_hunted(pid)) continue;
      look_at_files(pid);
      trace(pid);
    }
    closedir(proc);
  }
}
