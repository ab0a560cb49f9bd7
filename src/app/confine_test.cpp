#include "app/confine.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "linux/seccomp_evaluate.hpp"

namespace caisson::app {
namespace {

TEST(Confine, the_daemon_keeps_half_of_roots_capabilities_and_none_that_changes_the_kernel_or_the_clock) {
  const auto kept = kept_capabilities();
  EXPECT_LE(kept.size(), 21U);
  for (const char* name : {"CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_BOOT", "CAP_SYS_TIME", "CAP_SYS_PACCT", "CAP_MAC_OVERRIDE", "CAP_BPF", "CAP_PERFMON", "CAP_AUDIT_CONTROL", "CAP_CHECKPOINT_RESTORE",
                           "CAP_LINUX_IMMUTABLE", "CAP_SYS_NICE"})
    EXPECT_EQ(std::count(kept.begin(), kept.end(), name), 0) << name;
}

TEST(Confine, the_daemons_filter_lets_it_mount_and_start_workers_and_refuses_what_only_attackers_want) {
  auto program = daemon_seccomp();
  ASSERT_TRUE(program.ok()) << program.error().text();
  EXPECT_TRUE(program->warnings.empty()) << program->warnings.front();
  const auto native = linux::native_architecture();
  const auto answer = [&](const char* name, std::uint64_t first = 0) {
    return linux::evaluate_seccomp(program->filter, native, *linux::syscall_number(native, name), {first});
  };
  const linux::SeccompVerdict allowed{linux::SeccompAction::allow, 0};
  const linux::SeccompVerdict refused{linux::SeccompAction::error, EPERM};
  for (const char* name : {"mount", "move_mount", "open_tree", "mount_setattr", "setns", "unshare", "clone", "clone3", "execve",
                           "quotactl_fd", "umount2", "openat2", "fsconfig", "setresuid", "mknodat"})
    EXPECT_TRUE(answer(name) == allowed) << name;
  for (const char* name : {"ptrace",
                           "process_vm_readv",
                           "process_vm_writev",
                           "kcmp",
                           "pidfd_getfd",
                           "bpf",
                           "perf_event_open",
                           "open_by_handle_at",
                           "init_module",
                           "finit_module",
                           "delete_module",
                           "kexec_load",
                           "kexec_file_load",
                           "reboot",
                           "io_uring_setup",
                           "userfaultfd",
                           "add_key",
                           "keyctl",
                           "request_key",
                           "swapon",
                           "acct",
                           "settimeofday",
                           "clock_settime",
                           "iopl"})
    EXPECT_TRUE(answer(name) == refused) << name;
  for (int family : {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET})
    EXPECT_TRUE(answer("socket", static_cast<std::uint64_t>(family)) == allowed) << family;
  for (int family : {AF_VSOCK, AF_ALG, AF_XDP}) EXPECT_TRUE(answer("socket", static_cast<std::uint64_t>(family)) == refused) << family;
}

}  // namespace
}  // namespace caisson::app
