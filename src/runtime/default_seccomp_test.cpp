// Tests of the built-in seccomp profile: what it allows, what it refuses, what a capability opens, and its size.
#include "runtime/default_seccomp.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <initializer_list>

#include "linux/seccomp_evaluate.hpp"
#include "linux/syscall_table.hpp"

namespace caisson::runtime {
namespace {

using linux::SeccompAction;
using linux::SeccompVerdict;
using linux::SyscallArch;

constexpr SeccompVerdict allowed{SeccompAction::allow, 0};
constexpr SeccompVerdict refused{SeccompAction::error, EPERM};
constexpr SeccompVerdict unimplemented{SeccompAction::error, ENOSYS};

// Docker's default capabilities, which are also ours.
const std::vector<std::string> usual_capabilities = {
    "CAP_CHOWN",  "CAP_DAC_OVERRIDE", "CAP_FSETID",  "CAP_FOWNER",           "CAP_MKNOD",      "CAP_NET_RAW",   "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP",      "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",      "CAP_AUDIT_WRITE"};

class DefaultSeccomp : public testing::Test {
 protected:
  void compile(const std::vector<std::string>& capabilities, Nesting nesting = Nesting::no) {
    auto spec = to_filter_spec(default_seccomp(capabilities, nesting));
    ASSERT_TRUE(spec.ok()) << spec.error().text();
    auto compiled = linux::compile_seccomp(*spec, SyscallArch::x86_64);
    ASSERT_TRUE(compiled.ok()) << compiled.error().text();
    EXPECT_THAT(compiled->warnings, testing::IsEmpty());
    program_ = compiled->filter;
  }
  void SetUp() override {
    if (linux::native_architecture() != SyscallArch::x86_64) GTEST_SKIP() << "the profile is examined with x86_64 numbers";
    compile(usual_capabilities);
  }
  [[nodiscard]] SeccompVerdict decide(const char* name, std::initializer_list<std::uint64_t> arguments = {},
                                      SyscallArch arch = SyscallArch::x86_64) const {
    auto number = linux::syscall_number(arch, name);
    EXPECT_TRUE(number.has_value()) << name;
    return linux::evaluate_seccomp(program_, arch, number.value_or(0), arguments);
  }
  std::vector<sock_filter> program_;
};

TEST_F(DefaultSeccomp, what_servers_and_language_runtimes_call_is_allowed) {
  for (const char* name :
       {"read", "writev", "openat", "openat2", "mmap", "mprotect", "brk", "execve", "exit_group", "futex", "epoll_pwait2", "accept4",
        "sendfile", "io_submit", "prctl", "arch_prctl", "rseq", "set_robust_list", "getrandom", "statx", "membarrier", "sched_setaffinity",
        "timer_create", "memfd_create", "mlock2", "pidfd_open", "ptrace", "process_vm_readv", "setresuid", "capset", "seccomp",
        "landlock_restrict_self", "sysinfo", "prlimit64", "shmget", "semtimedop", "mq_open", "inotify_add_watch", "copy_file_range",
        "close_range", "faccessat2", "fchmodat2", "cachestat", "mseal", "futex_waitv", "setxattrat", "mknodat", "chroot", "rt_tgsigqueueinfo",
        "statmount", "uretprobe"})
    EXPECT_EQ(decide(name), allowed) << name;
}

TEST_F(DefaultSeccomp, doors_into_the_host_kernel_are_closed) {
  for (const char* name :
       {"mount", "umount2", "pivot_root", "fsopen", "fsmount", "fsconfig", "fspick", "move_mount", "open_tree", "open_tree_attr",
        "mount_setattr", "setns", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register",
        "keyctl", "add_key", "request_key", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module",
        "open_by_handle_at", "reboot", "swapon", "swapoff", "syslog", "acct", "quotactl", "quotactl_fd", "settimeofday", "clock_settime",
        "iopl", "ioperm", "kcmp", "sethostname", "setdomainname", "lookup_dcookie", "vhangup", "mbind", "move_pages", "migrate_pages",
        "uselib", "ustat", "sysfs", "nfsservctl", "fanotify_init"})
    EXPECT_EQ(decide(name), refused) << name;
  EXPECT_EQ(decide("listns"), unimplemented);  // above the newest call of the profile
}

TEST_F(DefaultSeccomp, processes_and_threads_start_but_namespaces_do_not) {
  EXPECT_EQ(decide("clone", {0x01200011}), allowed);
  EXPECT_EQ(decide("clone", {0x003d0f00}), allowed);
  for (std::uint64_t flag : {0x00020000U, 0x02000000U, 0x04000000U, 0x08000000U, 0x10000000U, 0x20000000U, 0x40000000U}) {
    EXPECT_EQ(decide("clone", {flag | 17}), refused) << flag;
    EXPECT_EQ(decide("unshare", {flag}), refused) << flag;
  }
  EXPECT_EQ(decide("unshare", {0x80}), refused);   // CLONE_NEWTIME
  EXPECT_EQ(decide("unshare", {0x400}), allowed);  // CLONE_FILES
  EXPECT_EQ(decide("clone3"), unimplemented);
}

TEST_F(DefaultSeccomp, only_usual_socket_families_are_allowed) {
  for (std::uint64_t family : {1U, 2U, 10U, 16U, 17U}) EXPECT_EQ(decide("socket", {family, 1, 0}), allowed) << family;
  for (std::uint64_t family : {38U, 40U, 15U, 21U, 30U, 9U, 44U}) EXPECT_EQ(decide("socket", {family, 1, 0}), refused) << family;
  EXPECT_EQ(decide("socketcall", {1}, SyscallArch::i386), refused);
}

TEST_F(DefaultSeccomp, only_harmless_execution_domains_are_allowed) {
  for (std::uint64_t domain : {0x0U, 0x8U, 0x20000U, 0x20008U, 0xffffffffU}) EXPECT_EQ(decide("personality", {domain}), allowed) << domain;
  EXPECT_EQ(decide("personality", {0x0040000}), refused);  // ADDR_NO_RANDOMIZE
  EXPECT_EQ(decide("personality", {0x0100000}), refused);  // MMAP_PAGE_ZERO
}

TEST_F(DefaultSeccomp, programs_of_i386_run_and_those_of_x32_do_not) {
  EXPECT_EQ(decide("read", {}, SyscallArch::i386), allowed);
  EXPECT_EQ(decide("mmap2", {}, SyscallArch::i386), allowed);
  EXPECT_EQ(decide("clock_gettime64", {}, SyscallArch::i386), allowed);
  EXPECT_EQ(decide("mount", {}, SyscallArch::i386), refused);
  EXPECT_EQ(decide("clone", {0x10000000}, SyscallArch::i386), refused);
  EXPECT_EQ(decide("read", {}, SyscallArch::x32), unimplemented);
}

TEST_F(DefaultSeccomp, a_capability_opens_its_calls_and_no_others) {
  struct Row {
    const char* capability;
    const char* name;
  };
  const Row rows[] = {{"CAP_SYS_ADMIN", "mount"},           {"CAP_SYS_ADMIN", "setns"},       {"CAP_SYS_ADMIN", "clone3"},
                      {"CAP_BPF", "bpf"},                   {"CAP_PERFMON", "perf_event_open"}, {"CAP_SYSLOG", "syslog"},
                      {"CAP_DAC_READ_SEARCH", "open_by_handle_at"}, {"CAP_SYS_BOOT", "reboot"}, {"CAP_SYS_MODULE", "finit_module"},
                      {"CAP_SYS_PACCT", "acct"},            {"CAP_SYS_PTRACE", "kcmp"},       {"CAP_SYS_RAWIO", "iopl"},
                      {"CAP_SYS_TIME", "clock_settime"},    {"CAP_SYS_TTY_CONFIG", "vhangup"}, {"CAP_SYS_NICE", "mbind"}};
  for (const auto& row : rows) {
    compile({row.capability});
    EXPECT_EQ(decide(row.name), allowed) << row.capability;
    EXPECT_EQ(decide("userfaultfd"), refused) << row.capability;
    EXPECT_EQ(decide("io_uring_setup"), refused) << row.capability;
    if (std::string(row.capability) != "CAP_SYS_ADMIN") {
      EXPECT_EQ(decide("mount"), refused) << row.capability;
    }
  }
  compile({"CAP_SYS_ADMIN"});
  EXPECT_EQ(decide("clone", {0x10000000}), allowed);
  compile({});
  EXPECT_EQ(decide("chroot"), refused);
}

TEST_F(DefaultSeccomp, the_filter_stays_small_because_loading_costs_per_instruction) {
  RecordProperty("instructions", static_cast<int>(program_.size()));
  SeccompProfile native_only = default_seccomp(usual_capabilities);
  native_only.architectures = {"SCMP_ARCH_X86_64"};
  auto spec = to_filter_spec(native_only);
  ASSERT_TRUE(spec.ok());
  auto compiled = linux::compile_seccomp(*spec, SyscallArch::x86_64);
  ASSERT_TRUE(compiled.ok());
  EXPECT_LE(compiled->filter.size(), 160U);
  EXPECT_LE(program_.size(), 330U);
}

TEST_F(DefaultSeccomp, an_engine_may_make_namespaces_and_mounts_and_nothing_else) {
  compile(usual_capabilities, Nesting::yes);
  for (const char* name : {"clone3", "unshare", "setns", "mount", "umount2", "pivot_root", "mount_setattr", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount", "sethostname"})
    EXPECT_EQ(decide(name), allowed) << name;
  EXPECT_EQ(decide("clone", {0x7e020000U | 17}), allowed);
  EXPECT_EQ(decide("unshare", {0x10000000U}), allowed);
  for (const char* name : {"bpf", "perf_event_open", "quotactl", "fanotify_init", "syslog", "keyctl", "open_by_handle_at", "init_module", "kexec_load", "reboot", "io_uring_setup", "userfaultfd", "settimeofday"})
    EXPECT_EQ(decide(name), refused) << name;
}

TEST_F(DefaultSeccomp, an_unknown_word_is_refused_with_its_place) {
  SeccompProfile profile = default_seccomp({});
  profile.syscalls[3].action = "SCMP_ACT_MAYBE";
  auto spec = to_filter_spec(profile);
  ASSERT_FALSE(spec.ok());
  EXPECT_THAT(spec.error().text(), testing::HasSubstr("linux.seccomp.syscalls[3].action"));
}

}  // namespace
}  // namespace caisson::runtime
