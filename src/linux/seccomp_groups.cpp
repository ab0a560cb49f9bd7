// The allow-list of a process of ours as a filter; the part that all of them share.
#include "linux/seccomp_groups.hpp"

#include <sched.h>
#include <sys/mman.h>

#include <cerrno>

namespace caisson::linux::detail {
namespace {

const AllowedCalls common_calls[] = {
    {"Memory, never executable: W^X leaves shell code no place, and all libraries are loaded before.",
     {"mmap", "mmap2", "mprotect"},
     {{2, SeccompOperator::masked_equal, PROT_EXEC, 0}}},
    {"The allocator's bookkeeping.", {"munmap", "mremap", "madvise", "brk"}, {}},
    {"Threads; CLONE_THREAD forbids new processes, and namespaces need a process.",
     {"clone"},
     {{0, SeccompOperator::masked_equal, CLONE_THREAD, CLONE_THREAD}}},
    {"What libc does for threads and locks.",
     {"futex", "futex_time64", "futex_wait", "futex_wake", "set_robust_list", "rseq", "set_tid_address", "gettid", "getpid",
      "sched_yield", "sched_getaffinity", "membarrier", "exit", "exit_group", "restart_syscall", "arch_prctl", "set_thread_area"},
     {}},
    {"Handlers and masks of signals; abort() sends one to the own process.",
     {"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigreturn", "sigaltstack", "tgkill"},
     {}},
    {"Time stamps where the vDSO cannot answer, and back-off.",
     {"clock_gettime", "clock_gettime64", "clock_getres", "clock_nanosleep", "clock_nanosleep_time64", "nanosleep", "gettimeofday"},
     {}},
    {"Seeds of hash tables, keys of TLS.", {"getrandom"}, {}},
    {"Identity and limits, read only (prlimit64 on others needs ptrace rights that these lack).",
     {"getuid", "geteuid", "getgid", "getegid", "getuid32", "geteuid32", "getgid32", "getegid32", "uname", "sysinfo", "prlimit64"},
     {}},
};

void allow(SeccompFilterSpec& spec, std::span<const AllowedCalls> groups) {
  for (const auto& group : groups) {
    SeccompFilterRule rule;
    rule.names.assign(group.names.begin(), group.names.end());
    rule.action = SeccompAction::allow;
    rule.conditions = group.conditions;
    spec.rules.push_back(std::move(rule));
  }
}

}  // namespace

SeccompFilterSpec allow_list(std::span<const AllowedCalls> own) {
  SeccompFilterSpec spec;
  spec.default_action = SeccompAction::error;
  allow(spec, own);
  allow(spec, common_calls);
  // libc tries clone3 first and falls back to clone only on ENOSYS; clone3's flags lie in memory, where no filter can look.
  spec.rules.push_back(SeccompFilterRule{{"clone3"}, SeccompAction::error, ENOSYS, {}});
  return spec;
}

}  // namespace caisson::linux::detail
