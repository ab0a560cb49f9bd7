// What an unpack worker may ask of the kernel, and why.
#include "linux/seccomp_worker.hpp"

#include <sched.h>
#include <sys/mman.h>

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
    {"Memory of the decompressor, never executable: W^X leaves shell code no place.",
     {"mmap", "mmap2", "mprotect"},
     {{2, SeccompOperator::masked_equal, PROT_EXEC, 0}}},
    {"The allocator's bookkeeping.", {"munmap", "mremap", "madvise", "brk"}, {}},
    {"Threads of a parallel decompressor; CLONE_THREAD forbids new processes, and namespaces need a process.",
     {"clone"},
     {{0, SeccompOperator::masked_equal, CLONE_THREAD, CLONE_THREAD}}},
    {"What libc does for threads and locks.",
     {"futex", "futex_time64", "futex_wait", "futex_wake", "set_robust_list", "rseq", "set_tid_address", "gettid", "getpid",
      "sched_yield", "sched_getaffinity", "membarrier", "exit", "exit_group", "restart_syscall", "arch_prctl", "set_thread_area"},
     {}},
    {"Handlers and masks of signals; abort() sends one to the own process.",
     {"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigreturn", "sigaltstack", "tgkill"},
     {}},
    {"Waiting for the pipe.", {"poll", "ppoll", "ppoll_time64", "epoll_wait", "epoll_pwait", "epoll_ctl", "epoll_create1", "eventfd2"}, {}},
    {"Time stamps where the vDSO cannot answer, and back-off.",
     {"clock_gettime", "clock_gettime64", "clock_getres", "clock_nanosleep", "clock_nanosleep_time64", "nanosleep", "gettimeofday"},
     {}},
    {"Seeds of hash tables.", {"getrandom"}, {}},
    {"Identity and limits, read only (prlimit64 on others needs ptrace rights that a worker lacks).",
     {"getuid", "geteuid", "getgid", "getegid", "getuid32", "geteuid32", "getgid32", "getegid32", "uname", "sysinfo", "prlimit64"},
     {}},
};

}  // namespace

SeccompFilterSpec worker_seccomp_spec() {
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

Result<SeccompProgram> worker_seccomp() {
  auto program = compile_seccomp(worker_seccomp_spec());
  if (!program) return std::move(program).error().with_kind(ErrorKind::internal).in("filter of unpack workers");
  return program;
}

}  // namespace caisson::linux
