// What the fetch process may ask of the kernel, and why.
#include "linux/seccomp_fetch.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cerrno>
#include <initializer_list>

namespace caisson::linux {
namespace {

struct Allowed {
  const char* reason;  // read by people; the filter has no place for it
  std::initializer_list<const char*> names;
  std::initializer_list<SeccompCondition> conditions;
};

const Allowed allowed_calls[] = {
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
    {"Memory, never executable: all libraries are loaded before.",
     {"mmap", "mmap2", "mprotect"},
     {{2, SeccompOperator::masked_equal, PROT_EXEC, 0}}},
    {"The allocator's bookkeeping.", {"munmap", "mremap", "madvise", "brk"}, {}},
    {"A thread per transfer and per lookup; CLONE_THREAD forbids new processes, and namespaces need a process.",
     {"clone"},
     {{0, SeccompOperator::masked_equal, CLONE_THREAD, CLONE_THREAD}}},
    {"What libc does for threads and locks.",
     {"futex", "futex_time64", "futex_wait", "futex_wake", "set_robust_list", "rseq", "set_tid_address", "gettid", "getpid", "sched_yield",
      "sched_getaffinity", "membarrier", "exit", "exit_group", "restart_syscall", "arch_prctl", "set_thread_area"},
     {}},
    {"Handlers and masks of signals; abort() sends one to the own process.",
     {"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigreturn", "sigaltstack", "tgkill"},
     {}},
    {"Waiting for sockets.",
     {"poll", "ppoll", "ppoll_time64", "select", "pselect6", "epoll_wait", "epoll_pwait", "epoll_ctl", "epoll_create1", "eventfd2"},
     {}},
    {"Time stamps where the vDSO cannot answer, and back-off.",
     {"clock_gettime", "clock_gettime64", "clock_getres", "clock_nanosleep", "clock_nanosleep_time64", "nanosleep", "gettimeofday", "time"},
     {}},
    {"Keys of TLS, seeds of hash tables.", {"getrandom"}, {}},
    {"Identity and limits, read only (prlimit64 on others needs ptrace rights that it lacks).",
     {"getuid", "geteuid", "getgid", "getegid", "getuid32", "geteuid32", "getgid32", "getegid32", "uname", "sysinfo", "prlimit64"},
     {}},
};

}  // namespace

SeccompFilterSpec fetch_seccomp_spec() {
  SeccompFilterSpec spec;
  spec.default_action = SeccompAction::error;
  for (const auto& group : allowed_calls) {
    SeccompFilterRule rule;
    rule.names.assign(group.names.begin(), group.names.end());
    rule.action = SeccompAction::allow;
    rule.conditions = group.conditions;
    spec.rules.push_back(std::move(rule));
  }
  // libc tries clone3 first and falls back to clone only on ENOSYS; clone3's flags lie in memory, where no filter can look.
  spec.rules.push_back(SeccompFilterRule{{"clone3"}, SeccompAction::error, ENOSYS, {}});
  return spec;
}

Result<SeccompProgram> fetch_seccomp() {
  auto program = compile_seccomp(fetch_seccomp_spec());
  if (!program) return std::move(program).error().with_kind(ErrorKind::internal).in("filter of the fetch process");
  return program;
}

}  // namespace caisson::linux
