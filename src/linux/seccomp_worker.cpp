// What an unpack worker may ask of the kernel, and why.
#include "linux/seccomp_worker.hpp"

#include "linux/seccomp_groups.hpp"

namespace caisson::linux {
namespace {

const detail::AllowedCalls allowed_calls[] = {
    {"The archive arrives on a pipe or a file; members are written and read back for digests.",
     {"read", "readv", "pread64", "write", "writev", "pwrite64", "lseek", "_llseek", "close", "close_range", "copy_file_range",
      "sendfile", "sendfile64", "splice", "fadvise64", "fallocate", "ftruncate", "ftruncate64", "dup", "dup3", "pipe2"},
     {}},
    {"Members are made beneath the target's descriptor; openat2 keeps the path inside.",
     {"openat", "openat2", "mkdirat", "mknodat", "symlinkat", "linkat", "unlinkat", "renameat", "renameat2", "readlinkat",
      "getdents64", "fchdir", "umask"},
     {}},
    {"Owner, mode, time and attributes of members.",
     {"fchown", "fchownat", "fchmod", "fchmodat", "fchmodat2", "utimensat", "utimensat_time64", "fsetxattr", "lsetxattr",
      "fgetxattr", "lgetxattr", "flistxattr", "fremovexattr", "setxattrat"},
     {}},
    {"Looking at what already lies there (a member may replace or extend an older one).",
     {"fstat", "fstat64", "newfstatat", "fstatat64", "statx", "fstatfs", "fstatfs64", "faccessat", "faccessat2", "fcntl", "fcntl64", "flock"},
     {}},
    {"The layer must be on disk before its digest is recorded.", {"fsync", "fdatasync", "syncfs", "sync_file_range"}, {}},
    {"Waiting for the pipe.", {"poll", "ppoll", "ppoll_time64", "epoll_wait", "epoll_pwait", "epoll_ctl", "epoll_create1", "eventfd2"}, {}},
};

}  // namespace

SeccompFilterSpec worker_seccomp_spec() { return detail::allow_list(allowed_calls); }

Result<SeccompProgram> worker_seccomp() {
  auto program = compile_seccomp(worker_seccomp_spec());
  if (!program) return std::move(program).error().with_kind(ErrorKind::internal).in("filter of unpack workers");
  return program;
}

}  // namespace caisson::linux
