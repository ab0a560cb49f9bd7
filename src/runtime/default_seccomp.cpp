// The built-in seccomp profile: every group of calls with the reason why a container may make them.
#include "runtime/default_seccomp.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <utility>

#include "base/strings.hpp"

namespace caisson::runtime {
namespace {

struct Comparison {
  std::uint32_t index;
  const char* op;
  std::uint64_t value;
  std::uint64_t value_two = 0;
};

/// One group. With `capabilities`, it is allowed only to containers that hold one of them; with `unless`, only to those
/// that do not (a stricter form of a rule that the capability lifts). Comparisons are alternatives: any may hold.
/// What CAP_SYS_ADMIN opens and an engine needs, nesting opens as well: `is_for_engines`.
struct Group {
  const char* reason;
  std::initializer_list<const char*> names;
  std::initializer_list<Comparison> any_of = {};
  std::initializer_list<std::string_view> capabilities = {};
  std::string_view unless = {};
  bool is_for_engines = false;
};

// Flags of clone(2), unshare(2): NEWNS NEWCGROUP NEWUTS NEWIPC NEWUSER NEWPID NEWNET. NEWTIME is only a flag of unshare and
// clone3 (in clone its bit belongs to the exit signal).
constexpr std::uint64_t clone_namespaces = 0x7e020000;
constexpr std::uint64_t unshare_namespaces = clone_namespaces | 0x80;

const Group allowed[] = {
    {"Reading and writing through descriptors one holds.",
     {"read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev", "pwritev2", "lseek", "_llseek",
      "sendfile", "sendfile64", "splice", "tee", "vmsplice", "copy_file_range", "readahead", "fadvise64", "fadvise64_64",
      "fallocate", "truncate", "truncate64", "ftruncate", "ftruncate64", "cachestat", "ioctl", "fcntl", "fcntl64", "flock",
      "close", "close_range", "dup", "dup2", "dup3", "pipe", "pipe2"}},
    {"Native asynchronous I/O of databases and nginx. io_uring is not here: its calls bypass this filter and were the "
     "larger part of kernel exploits paid for in 2022.",
     {"io_setup", "io_submit", "io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_pgetevents_time64"}},
    {"Names in the container's own mount namespace; the kernel checks owner and mode.",
     {"open", "openat", "openat2", "creat", "access", "faccessat", "faccessat2", "stat", "stat64", "oldstat", "lstat", "lstat64",
      "oldlstat", "fstat", "fstat64", "oldfstat", "newfstatat", "fstatat64", "statx", "statfs", "statfs64", "fstatfs", "fstatfs64",
      "statmount", "listmount", "getdents", "getdents64", "readdir", "readlink", "readlinkat", "chdir", "fchdir", "getcwd", "mkdir",
      "mkdirat", "rmdir", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat",
      "name_to_handle_at"}},
    {"Making FIFOs, sockets and, within the device rules of the cgroup, nodes.", {"mknod", "mknodat"}},
    {"Owner, mode, time and attributes of files.",
     {"chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "chown32", "fchown", "fchown32", "lchown", "lchown32", "fchownat", "umask",
      "utime", "utimes", "futimesat", "utimensat", "utimensat_time64", "getxattr", "lgetxattr", "fgetxattr", "setxattr", "lsetxattr",
      "fsetxattr", "listxattr", "llistxattr", "flistxattr", "removexattr", "lremovexattr", "fremovexattr", "getxattrat", "setxattrat",
      "listxattrat", "removexattrat", "file_getattr", "file_setattr"}},
    {"Durability.", {"sync", "syncfs", "fsync", "fdatasync", "sync_file_range", "msync"}},
    {"Being told of changes. fanotify_mark works only on a descriptor from fanotify_init, which is below.",
     {"inotify_init", "inotify_init1", "inotify_add_watch", "inotify_rm_watch", "fanotify_mark"}},
    {"Memory of one's own.",
     {"mmap", "mmap2", "munmap", "mremap", "mprotect", "brk", "madvise", "process_madvise", "process_mrelease", "mincore", "mlock",
      "mlock2", "mlockall", "munlock", "munlockall", "remap_file_pages", "memfd_create", "memfd_secret", "mseal", "map_shadow_stack",
      "pkey_alloc", "pkey_free", "pkey_mprotect", "membarrier"}},
    {"Shared memory, semaphores and queues of the container's own IPC namespace.",
     {"shmget", "shmat", "shmdt", "shmctl", "semget", "semop", "semctl", "semtimedop", "semtimedop_time64", "msgget", "msgsnd",
      "msgrcv", "msgctl", "ipc", "mq_open", "mq_unlink", "mq_timedsend", "mq_timedsend_time64", "mq_timedreceive",
      "mq_timedreceive_time64", "mq_notify", "mq_getsetattr"}},
    {"Starting, ending and waiting for processes.",
     {"fork", "vfork", "execve", "execveat", "exit", "exit_group", "wait4", "waitid", "waitpid", "kill", "tkill", "tgkill", "getpid",
      "getppid", "gettid", "getpgid", "setpgid", "getpgrp", "getsid", "setsid", "pidfd_open", "pidfd_send_signal", "pidfd_getfd",
      "prctl", "arch_prctl", "set_tid_address", "set_thread_area", "get_thread_area", "modify_ldt", "set_robust_list",
      "get_robust_list", "rseq", "restart_syscall"}},
    {"New processes and threads in the same namespaces. Namespaces open the kernel's least tested code to attackers "
     "(CVE-2022-0185, CVE-2022-0492, CVE-2024-1086).",
     {"clone"},
     {{0, "SCMP_CMP_MASKED_EQ", clone_namespaces, 0}},
     {},
     "CAP_SYS_ADMIN"},
    {"unshare of descriptors, working directory and semaphore undo, as threads libraries do it; no new namespaces.",
     {"unshare"},
     {{0, "SCMP_CMP_MASKED_EQ", unshare_namespaces, 0}},
     {},
     "CAP_SYS_ADMIN"},
    {"Debuggers and tracers inside the container; since Linux 4.8 a tracer cannot change a call after this filter saw it.",
     {"ptrace", "process_vm_readv", "process_vm_writev"}},
    {"Identity; the kernel allows only what the capabilities and the user namespace do.",
     {"getuid", "getuid32", "geteuid", "geteuid32", "getgid", "getgid32", "getegid", "getegid32", "getresuid", "getresuid32",
      "getresgid", "getresgid32", "getgroups", "getgroups32", "setuid", "setuid32", "setgid", "setgid32", "setreuid", "setreuid32",
      "setregid", "setregid32", "setresuid", "setresuid32", "setresgid", "setresgid32", "setfsuid", "setfsuid32", "setfsgid",
      "setfsgid32", "setgroups", "setgroups32", "capget", "capset"}},
    {"Restricting oneself further.",
     {"seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "lsm_get_self_attr", "lsm_set_self_attr",
      "lsm_list_modules"}},
    {"Scheduling and limits; raising them is checked by the kernel.",
     {"sched_yield", "sched_getaffinity", "sched_setaffinity", "sched_getattr", "sched_setattr", "sched_getparam", "sched_setparam",
      "sched_getscheduler", "sched_setscheduler", "sched_get_priority_max", "sched_get_priority_min", "sched_rr_get_interval",
      "sched_rr_get_interval_time64", "getpriority", "setpriority", "nice", "ioprio_get", "ioprio_set", "getrlimit", "ugetrlimit",
      "setrlimit", "prlimit64", "getrusage", "times", "getcpu"}},
    {"Signals.",
     {"rt_sigaction", "rt_sigprocmask", "rt_sigpending", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "rt_sigreturn", "rt_sigsuspend",
      "rt_sigtimedwait", "rt_sigtimedwait_time64", "sigaction", "signal", "sigpending", "sigprocmask", "sigreturn", "sigsuspend",
      "sgetmask", "ssetmask", "sigaltstack", "signalfd", "signalfd4", "pause", "alarm"}},
    {"Locks.",
     {"futex", "futex_time64", "futex_waitv", "futex_wake", "futex_wait", "futex_requeue"}},
    {"Waiting for several descriptors.",
     {"poll", "ppoll", "ppoll_time64", "select", "_newselect", "pselect6", "pselect6_time64", "epoll_create", "epoll_create1",
      "epoll_ctl", "epoll_ctl_old", "epoll_wait", "epoll_wait_old", "epoll_pwait", "epoll_pwait2", "eventfd", "eventfd2"}},
    {"Clocks and timers. adjtimex and clock_adjtime read the state of the clock; setting it is refused by the kernel.",
     {"time", "gettimeofday", "clock_gettime", "clock_gettime64", "clock_getres", "clock_getres_time64", "clock_nanosleep",
      "clock_nanosleep_time64", "nanosleep", "adjtimex", "clock_adjtime", "clock_adjtime64", "getitimer", "setitimer", "timer_create",
      "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime", "timer_settime64", "timerfd_create",
      "timerfd_gettime", "timerfd_gettime64", "timerfd_settime", "timerfd_settime64"}},
    {"Sockets of the families that services use: unspecified, unix, IPv4 (0 to 2), IPv6, netlink, packet (needs CAP_NET_RAW). "
     "vsock would reach the hypervisor past the network namespace; AF_ALG and the rarely used families are a long list of "
     "kernel CVEs.",
     {"socket"},
     {{0, "SCMP_CMP_LE", 2}, {0, "SCMP_CMP_EQ", 10}, {0, "SCMP_CMP_EQ", 16}, {0, "SCMP_CMP_EQ", 17}}},
    {"Using sockets one has. socketcall of i386 is missing on purpose: it would make the family above invisible.",
     {"socketpair", "bind", "listen", "accept", "accept4", "connect", "getsockname", "getpeername", "getsockopt", "setsockopt",
      "sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg", "recvmmsg_time64", "shutdown"}},
    {"Facts about the system.", {"uname", "olduname", "oldolduname", "sysinfo", "getrandom"}},
    {"Execution domains: Linux, its 32-bit form, the old version number (UNAME26), and asking. Others switch off address "
     "space randomisation or map page zero.",
     {"personality"},
     {{0, "SCMP_CMP_EQ", 0x0},
      {0, "SCMP_CMP_EQ", 0x8},
      {0, "SCMP_CMP_EQ", 0x20000},
      {0, "SCMP_CMP_EQ", 0x20008},
      {0, "SCMP_CMP_EQ", 0xffffffff}}},
    {"Entered only by the kernel's own trampolines when the host traces a container by uprobes; refusing them kills the "
     "traced process.",
     {"uretprobe", "uprobe"}},

    {"Namespaces, mounts and names of the container, for containers trusted with them.",
     {"clone", "clone3", "unshare", "setns", "mount", "umount", "umount2", "pivot_root", "mount_setattr", "move_mount", "open_tree",
      "open_tree_attr", "fsopen", "fspick", "fsconfig", "fsmount", "sethostname", "setdomainname"},
     {},
     {"CAP_SYS_ADMIN"},
     {},
     true},
    {"Quotas, watching whole mounts, names of the profiler, and all namespaces, for containers trusted with them.",
     {"quotactl", "quotactl_fd", "fanotify_init", "lookup_dcookie", "listns"},
     {},
     {"CAP_SYS_ADMIN"}},
    {"BPF programs and maps.", {"bpf"}, {}, {"CAP_SYS_ADMIN", "CAP_BPF"}},
    {"Performance counters; they leak timing of the whole host otherwise.", {"perf_event_open"}, {}, {"CAP_SYS_ADMIN", "CAP_PERFMON"}},
    {"The kernel's log shows addresses and other tenants' names.", {"syslog"}, {}, {"CAP_SYS_ADMIN", "CAP_SYSLOG"}},
    {"Another root folder (sshd, postfix, bind).", {"chroot"}, {}, {"CAP_SYS_CHROOT"}},
    {"Opening by handle reaches files outside the root (\"shocker\").", {"open_by_handle_at"}, {}, {"CAP_DAC_READ_SEARCH"}},
    {"Reboot of the container's pid namespace; kexec.", {"reboot", "kexec_load", "kexec_file_load"}, {}, {"CAP_SYS_BOOT"}},
    {"Kernel modules.", {"init_module", "finit_module", "delete_module"}, {}, {"CAP_SYS_MODULE"}},
    {"Process accounting.", {"acct"}, {}, {"CAP_SYS_PACCT"}},
    {"Comparing kernel objects of two processes, as checkpoint tools do.", {"kcmp"}, {}, {"CAP_SYS_PTRACE"}},
    {"I/O ports.", {"iopl", "ioperm"}, {}, {"CAP_SYS_RAWIO"}},
    {"Setting the host's clock.", {"settimeofday", "stime", "clock_settime", "clock_settime64"}, {}, {"CAP_SYS_TIME"}},
    {"Hanging up a terminal.", {"vhangup"}, {}, {"CAP_SYS_TTY_CONFIG"}},
    {"Placement of memory on nodes; moving pages was a source of kernel bugs.",
     {"get_mempolicy", "set_mempolicy", "set_mempolicy_home_node", "mbind", "migrate_pages", "move_pages"},
     {},
     {"CAP_SYS_NICE"}},
};

bool holds_any(const std::vector<std::string>& held, std::initializer_list<std::string_view> wanted) {
  return std::any_of(wanted.begin(), wanted.end(),
                     [&](std::string_view name) { return std::find(held.begin(), held.end(), name) != held.end(); });
}

/// Both "may make namespaces and mounts", as far as the filter goes.
bool makes_namespaces(const std::vector<std::string>& capabilities, Nesting nesting) { return nesting == Nesting::yes || holds_any(capabilities, {"CAP_SYS_ADMIN"}); }

bool applies(const Group& group, const std::vector<std::string>& capabilities, Nesting nesting) {
  if (group.is_for_engines && nesting == Nesting::yes) return true;
  if (group.capabilities.size() > 0) return holds_any(capabilities, group.capabilities);
  if (group.unless == "CAP_SYS_ADMIN") return !makes_namespaces(capabilities, nesting);
  return group.unless.empty() || !holds_any(capabilities, {group.unless});
}

void add_rules(const Group& group, SeccompProfile& profile) {
  SeccompRule rule;
  rule.names.assign(group.names.begin(), group.names.end());
  rule.action = "SCMP_ACT_ALLOW";
  if (group.any_of.size() == 0) {
    profile.syscalls.push_back(std::move(rule));
    return;
  }
  for (const auto& comparison : group.any_of) {
    rule.args = {SeccompArg{comparison.index, comparison.value, comparison.value_two, comparison.op}};
    profile.syscalls.push_back(rule);
  }
}

}  // namespace

SeccompProfile default_seccomp(const std::vector<std::string>& capabilities, Nesting nesting) {
  SeccompProfile profile;
  profile.default_action = "SCMP_ACT_ERRNO";
  profile.default_errno_ret = EPERM;
  if (linux::native_architecture() == linux::SyscallArch::x86_64) profile.architectures = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86"};
  else profile.architectures = {"SCMP_ARCH_AARCH64"};
  for (const auto& group : allowed)
    if (applies(group, capabilities, nesting)) add_rules(group, profile);
  if (!makes_namespaces(capabilities, nesting)) {
    SeccompRule rule;
    rule.names = {"clone3"};
    rule.action = "SCMP_ACT_ERRNO";
    rule.errno_ret = ENOSYS;
    profile.syscalls.push_back(std::move(rule));
  }
  return profile;
}

Result<linux::SeccompFilterSpec> to_filter_spec(const SeccompProfile& profile) {
  linux::SeccompFilterSpec spec;
  spec.default_action = TRY(linux::parse_seccomp_action(profile.default_action), "linux.seccomp.defaultAction");
  spec.default_errno = profile.default_errno_ret;
  spec.architectures = profile.architectures;
  spec.flags = profile.flags;
  for (std::size_t i = 0; i < profile.syscalls.size(); ++i) {
    const SeccompRule& written = profile.syscalls[i];
    linux::SeccompFilterRule rule;
    rule.names = written.names;
    rule.action = TRY(linux::parse_seccomp_action(written.action), concat("linux.seccomp.syscalls[", i, "].action"));
    rule.errno_value = written.errno_ret;
    for (const auto& argument : written.args) {
      linux::SeccompCondition condition;
      condition.index = argument.index;
      condition.op = TRY(linux::parse_seccomp_operator(argument.op), concat("linux.seccomp.syscalls[", i, "].args"));
      condition.value = argument.value;
      condition.value_two = argument.value_two;
      rule.conditions.push_back(condition);
    }
    spec.rules.push_back(std::move(rule));
  }
  return spec;
}

}  // namespace caisson::runtime
