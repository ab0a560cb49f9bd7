// Opens the root of the file system that argv[1] lies on by a file handle, without a path ("shocker", 2014). Prints "errno N" or "open".
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  union {
    struct file_handle handle;
    char space[sizeof(struct file_handle) + 64];
  } file;
  memset(&file, 0, sizeof file);
  const int mount_fd = open(argv[1], O_RDONLY);
  // ext4's root is inode 2 in every file system; type 1 is "inode and generation".
  const unsigned int root[2] = {2, 0};
  file.handle.handle_bytes = 8;
  file.handle.handle_type = 1;
  memcpy(file.handle.f_handle, root, sizeof root);
  const int fd = open_by_handle_at(mount_fd, &file.handle, O_RDONLY);
  if (fd < 0) printf("errno %d\n", errno);
  else printf("open\n");
  return 0;
}
