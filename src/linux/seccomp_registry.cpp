// What the registry server may ask of the kernel, and why.
#include "linux/seccomp_registry.hpp"

#include "linux/seccomp_groups.hpp"

namespace caisson::linux {
namespace {

const detail::AllowedCalls allowed_calls[] = {
    {"Clients come; nobody is connected to: socket, bind and connect are missing on purpose.",
     {"accept4", "getsockname", "getpeername", "getsockopt", "setsockopt", "shutdown", "sendto", "recvfrom", "sendmsg", "recvmsg", "socketpair"},
     {}},
    {"Blobs and the state file below the registry's folder, which Landlock holds it to.",
     {"openat", "openat2", "open", "read", "readv", "pread64", "write", "writev", "pwrite64", "lseek", "_llseek", "close", "close_range", "sendfile",
      "sendfile64", "ftruncate", "ftruncate64", "fallocate", "fadvise64", "dup", "dup3", "pipe2"},
     {}},
    {"Files appear by rename and go by unlink.",
     {"mkdir", "mkdirat", "unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2", "fchmod", "fchmodat", "umask"},
     {}},
    {"Looking at what lies there.",
     {"fstat", "fstat64", "newfstatat", "fstatat64", "stat", "lstat", "statx", "fstatfs", "fstatfs64", "statfs", "statfs64", "readlink", "readlinkat", "getdents64",
      "access", "faccessat", "faccessat2", "fcntl", "fcntl64", "flock", "getcwd"},
     {}},
    {"A blob is on disk before its digest is promised.", {"fsync", "fdatasync", "sync_file_range"}, {}},
    {"Bytes waiting on a socket.", {"ioctl"}, {{1, SeccompOperator::equal, 0x541B /* FIONREAD */, 0}}},
    {"Waiting for clients and signals.",
     {"poll", "ppoll", "ppoll_time64", "epoll_wait", "epoll_pwait", "epoll_ctl", "epoll_create1", "eventfd2"},
     {}},
    {"Ending the process that speaks to another registry when it does not listen.", {"pidfd_send_signal", "waitid"}, {}},
};

}  // namespace

SeccompFilterSpec registry_seccomp_spec() { return detail::allow_list(allowed_calls); }

Result<SeccompProgram> registry_seccomp() {
  auto program = compile_seccomp(registry_seccomp_spec());
  if (!program) return std::move(program).error().with_kind(ErrorKind::internal).in("filter of the registry server");
  return program;
}

}  // namespace caisson::linux
