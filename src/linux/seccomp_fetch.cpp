// What the fetch process may ask of the kernel, and why.
#include "linux/seccomp_fetch.hpp"

#include <fcntl.h>
#include <sys/socket.h>

#include "linux/seccomp_groups.hpp"

namespace caisson::linux {
namespace {

const detail::AllowedCalls allowed_calls[] = {
    {"Talking to registries, proxies and name servers.",
     {"connect", "bind", "getsockname", "getpeername", "getsockopt", "setsockopt", "shutdown", "sendto", "recvfrom", "sendmsg", "sendmmsg",
      "recvmsg", "recvmmsg", "socketpair"},
     {}},
    {"TCP and UDP, version 4.", {"socket"}, {{0, SeccompOperator::equal, AF_INET, 0}}},
    {"The same, version 6.", {"socket"}, {{0, SeccompOperator::equal, AF_INET6, 0}}},
    {"getaddrinfo asks which addresses this host has, to sort what it found.", {"socket"}, {{0, SeccompOperator::equal, AF_NETLINK, 0}}},
    {"A name service daemon, and proxies on a unix socket.", {"socket"}, {{0, SeccompOperator::equal, AF_UNIX, 0}}},
    {"Blobs go to and come from descriptors that the daemon has opened.",
     {"read", "readv", "pread64", "preadv", "write", "writev", "pwrite64", "lseek", "_llseek", "close", "close_range", "ftruncate",
      "ftruncate64", "dup", "dup3", "pipe2"},
     {}},
    {"Certificates, resolv.conf and hosts are read; no file is made or opened for writing.",
     {"openat"},
     {{2, SeccompOperator::masked_equal, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY}}},
    {"The same, as older libraries say it.", {"open"}, {{1, SeccompOperator::masked_equal, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY}}},
    {"Looking at what is read.",
     {"fstat", "fstat64", "newfstatat", "fstatat64", "stat", "lstat", "statx", "readlink", "readlinkat", "getdents64", "access", "faccessat",
      "faccessat2", "fcntl", "fcntl64", "fadvise64", "getcwd"},
     {}},
    {"Bytes waiting on a socket.", {"ioctl"}, {{1, SeccompOperator::equal, 0x541B /* FIONREAD */, 0}}},
    {"Non-blocking sockets, as libcurl sets them.", {"ioctl"}, {{1, SeccompOperator::equal, 0x5421 /* FIONBIO */, 0}}},
    {"Seconds, as older libraries ask for them.", {"time"}, {}},
    {"Waiting for sockets.",
     {"poll", "ppoll", "ppoll_time64", "select", "pselect6", "epoll_wait", "epoll_pwait", "epoll_ctl", "epoll_create1", "eventfd2"},
     {}},
};

}  // namespace

SeccompFilterSpec fetch_seccomp_spec() { return detail::allow_list(allowed_calls); }

Result<SeccompProgram> fetch_seccomp() {
  auto program = compile_seccomp(fetch_seccomp_spec());
  if (!program) return std::move(program).error().with_kind(ErrorKind::internal).in("filter of the fetch process");
  return program;
}

}  // namespace caisson::linux
