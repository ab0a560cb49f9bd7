// Tests of the seccomp compiler: against an interpreter, and in the kernel. seccomp_oracle_test.cpp compares it with libseccomp.
#include "linux/seccomp.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "base/codec.hpp"
#include "base/strings.hpp"
#include "linux/bpf_classic.hpp"
#include "linux/seccomp_evaluate.hpp"
#include "linux/seccomp_fetch.hpp"
#include "linux/seccomp_layer_server.hpp"
#include "linux/seccomp_registry.hpp"
#include "linux/seccomp_worker.hpp"

namespace caisson::linux {
namespace {

seccomp_data call(std::uint32_t number, std::initializer_list<std::uint64_t> arguments = {}, std::uint32_t arch = AUDIT_ARCH_X86_64) {
  seccomp_data data{};
  data.nr = static_cast<int>(number);
  data.arch = arch;
  std::size_t i = 0;
  for (auto argument : arguments) data.args[i++] = argument;
  return data;
}

constexpr std::uint32_t allowed = SECCOMP_RET_ALLOW;
constexpr std::uint32_t refused = SECCOMP_RET_ERRNO | EPERM;
constexpr std::uint32_t unimplemented = SECCOMP_RET_ERRNO | ENOSYS;

SeccompFilterRule allow(std::vector<std::string> names, std::vector<SeccompCondition> conditions = {}) {
  return SeccompFilterRule{std::move(names), SeccompAction::allow, std::nullopt, std::move(conditions)};
}

SeccompProgram compiled(const SeccompFilterSpec& spec, SyscallArch native = SyscallArch::x86_64) {
  auto program = compile_seccomp(spec, native);
  EXPECT_TRUE(program.ok()) << program.error().text();
  return program.ok() ? *program : SeccompProgram{};
}

TEST(SyscallTable, numbers_of_all_architectures_are_found_by_name_and_back) {
  EXPECT_EQ(syscall_number(SyscallArch::x86_64, "openat2"), 437U);
  EXPECT_EQ(syscall_number(SyscallArch::x86_64, "open_tree_attr"), 467U);
  EXPECT_EQ(syscall_number(SyscallArch::i386, "socketcall"), 102U);
  EXPECT_EQ(syscall_number(SyscallArch::aarch64, "execve"), 221U);
  EXPECT_EQ(syscall_number(SyscallArch::x32, "execve"), 520U | x32_bit);
  EXPECT_EQ(syscall_number(SyscallArch::x86_64, "socketcall"), std::nullopt);
  EXPECT_EQ(syscall_number(SyscallArch::x86_64, "no_such_call"), std::nullopt);
  EXPECT_EQ(syscall_name(SyscallArch::x86_64, 59), "execve");
  EXPECT_EQ(syscall_name(SyscallArch::x32, 520U | x32_bit), "execve");
  EXPECT_EQ(syscall_name(SyscallArch::x86_64, 9999), "");
}

TEST(SyscallTable, the_table_agrees_with_the_headers_this_was_built_with) {
  EXPECT_EQ(syscall_number(native_architecture(), "read"), static_cast<std::uint32_t>(SYS_read));
  EXPECT_EQ(syscall_number(native_architecture(), "clone3"), static_cast<std::uint32_t>(SYS_clone3));
  EXPECT_EQ(syscall_number(native_architecture(), "futex"), static_cast<std::uint32_t>(SYS_futex));
  EXPECT_EQ(syscall_number(native_architecture(), "mount_setattr"), static_cast<std::uint32_t>(SYS_mount_setattr));
}

TEST(BpfAssembler, targets_beyond_255_instructions_are_reached) {
  BpfAssembler assembler;
  auto far = assembler.load(0, assembler.jump_if(BPF_JEQ, 4711, assembler.ret(1), assembler.ret(2)));
  auto next = assembler.ret(3);
  for (std::uint32_t i = 0; i < 1000; ++i) next = assembler.jump_if(BPF_JEQ, 10 + i, i % 2 == 0 ? far : assembler.ret(4), next);
  auto program = std::move(assembler).finish(next);
  ASSERT_TRUE(program.ok());
  auto load_first = *program;
  load_first.insert(load_first.begin(), sock_filter{BPF_LD | BPF_W | BPF_ABS, 0, 0, 0});
  EXPECT_EQ(run_filter(load_first, call(10)), 2U);
  EXPECT_EQ(run_filter(load_first, call(1008)), 2U);
  EXPECT_EQ(run_filter(load_first, call(11)), 4U);
  EXPECT_EQ(run_filter(load_first, call(5)), 3U);
}

TEST(BpfAssembler, a_program_longer_than_the_kernel_accepts_is_refused) {
  BpfAssembler assembler;
  auto next = assembler.ret(0);
  for (std::uint32_t i = 0; i < 5000; ++i) next = assembler.load(0, next);
  auto program = std::move(assembler).finish(next);
  ASSERT_FALSE(program.ok());
  EXPECT_EQ(program.error().kind(), ErrorKind::unsupported);
  EXPECT_THAT(program.error().text(), testing::HasSubstr("4096"));
}

TEST(Seccomp, an_allow_list_allows_its_calls_and_refuses_the_rest) {
  SeccompFilterSpec spec;
  spec.rules = {allow({"read", "write", "mseal"})};
  auto program = compiled(spec).filter;
  EXPECT_EQ(run_filter(program, call(0)), allowed);
  EXPECT_EQ(run_filter(program, call(1)), allowed);
  EXPECT_EQ(run_filter(program, call(2)), refused);
  EXPECT_EQ(run_filter(program, call(462)), allowed);
}

TEST(Seccomp, numbers_above_the_newest_named_call_are_unimplemented_not_refused) {
  SeccompFilterSpec spec;
  spec.rules = {allow({"read", "openat2"})};
  auto program = compiled(spec).filter;
  EXPECT_EQ(run_filter(program, call(436)), refused);
  EXPECT_EQ(run_filter(program, call(438)), unimplemented);
  EXPECT_EQ(run_filter(program, call(0xffffffff)), unimplemented);
  spec.default_action = SeccompAction::allow;
  spec.rules.front().action = SeccompAction::error;
  EXPECT_EQ(run_filter(compiled(spec).filter, call(438)), allowed);
}

TEST(Seccomp, x32_numbers_cannot_go_around_a_deny_list) {
  SeccompFilterSpec spec;
  spec.default_action = SeccompAction::allow;
  spec.rules = {SeccompFilterRule{{"mount"}, SeccompAction::error, std::nullopt, {}}};
  auto program = compiled(spec).filter;
  EXPECT_EQ(run_filter(program, call(165)), refused);
  EXPECT_EQ(run_filter(program, call(165 | x32_bit)), unimplemented);
  spec.architectures = {"SCMP_ARCH_X32"};
  program = compiled(spec).filter;
  EXPECT_EQ(run_filter(program, call(165 | x32_bit)), refused);
  EXPECT_EQ(run_filter(program, call(166 | x32_bit)), allowed);
}

TEST(Seccomp, a_foreign_architecture_kills_the_process_unless_the_profile_names_it) {
  SeccompFilterSpec spec;
  spec.rules = {allow({"read"})};
  EXPECT_EQ(run_filter(compiled(spec).filter, call(3, {}, AUDIT_ARCH_I386)), std::uint32_t{SECCOMP_RET_KILL_PROCESS});
  spec.architectures = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86"};
  auto program = compiled(spec).filter;
  EXPECT_EQ(run_filter(program, call(3, {}, AUDIT_ARCH_I386)), allowed);
  EXPECT_EQ(run_filter(program, call(0, {}, AUDIT_ARCH_I386)), refused);
  EXPECT_EQ(run_filter(program, call(3, {}, AUDIT_ARCH_ARM)), std::uint32_t{SECCOMP_RET_KILL_PROCESS});
}

TEST(Seccomp, aarch64_has_its_own_numbers) {
  SeccompFilterSpec spec;
  spec.rules = {allow({"read", "open"})};
  auto program = compiled(spec, SyscallArch::aarch64).filter;
  EXPECT_EQ(run_filter(program, call(63, {}, AUDIT_ARCH_AARCH64)), allowed);
  EXPECT_EQ(run_filter(program, call(2, {}, AUDIT_ARCH_AARCH64)), refused);
  EXPECT_EQ(run_filter(program, call(0)), std::uint32_t{SECCOMP_RET_KILL_PROCESS});
}

TEST(Seccomp, arm_is_the_32_bit_side_of_aarch64_and_its_private_calls_do_not_make_a_profile_new) {
  SeccompFilterSpec spec;
  spec.architectures = {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"};
  spec.rules = {allow({"read", "openat2", "cacheflush"})};
  auto program = compiled(spec, SyscallArch::aarch64).filter;
  EXPECT_EQ(run_filter(program, call(3, {}, AUDIT_ARCH_ARM)), allowed);
  EXPECT_EQ(run_filter(program, call(63, {}, AUDIT_ARCH_ARM)), refused);
  EXPECT_EQ(run_filter(program, call(63, {}, AUDIT_ARCH_AARCH64)), allowed);
  EXPECT_EQ(run_filter(program, call(0x0f0002, {}, AUDIT_ARCH_ARM)), allowed);
  EXPECT_EQ(run_filter(program, call(436, {}, AUDIT_ARCH_ARM)), refused);
  EXPECT_EQ(run_filter(program, call(438, {}, AUDIT_ARCH_ARM)), unimplemented);
  spec.architectures.clear();
  EXPECT_EQ(run_filter(compiled(spec, SyscallArch::aarch64).filter, call(3, {}, AUDIT_ARCH_ARM)),
            std::uint32_t{SECCOMP_RET_KILL_PROCESS});
}

TEST(Seccomp, riscv64_has_its_own_numbers) {
  SeccompFilterSpec spec;
  spec.rules = {allow({"read", "riscv_hwprobe", "openat2"}),
                allow({"futex"}, {{1, SeccompOperator::equal, std::uint64_t{1} << 40, 0}})};
  auto program = compiled(spec, SyscallArch::riscv64).filter;
  EXPECT_EQ(run_filter(program, call(63, {}, AUDIT_ARCH_RISCV64)), allowed);
  EXPECT_EQ(run_filter(program, call(258, {}, AUDIT_ARCH_RISCV64)), allowed);
  EXPECT_EQ(run_filter(program, call(259, {}, AUDIT_ARCH_RISCV64)), refused);
  EXPECT_EQ(run_filter(program, call(98, {0, std::uint64_t{1} << 40}, AUDIT_ARCH_RISCV64)), allowed);
  EXPECT_EQ(run_filter(program, call(98, {0, 0}, AUDIT_ARCH_RISCV64)), refused);
  EXPECT_EQ(run_filter(program, call(0)), std::uint32_t{SECCOMP_RET_KILL_PROCESS});
}

struct OperatorCase {
  SeccompOperator op;
  std::uint64_t value;
  std::uint64_t value_two;
  std::uint64_t argument;
  bool holds;
};

TEST(Seccomp, arguments_compare_as_unsigned_64_bit_values) {
  constexpr std::uint64_t high = std::uint64_t{1} << 32;
  const OperatorCase cases[] = {
      {SeccompOperator::equal, high + 5, 0, high + 5, true},
      {SeccompOperator::equal, 5, 0, high + 5, false},
      {SeccompOperator::not_equal, 5, 0, high + 5, true},
      {SeccompOperator::not_equal, 5, 0, 5, false},
      {SeccompOperator::greater, 5, 0, high, true},
      {SeccompOperator::greater, high + 5, 0, 6, false},
      {SeccompOperator::greater, high + 5, 0, high + 5, false},
      {SeccompOperator::greater, high + 5, 0, high + 6, true},
      {SeccompOperator::greater_equal, high + 5, 0, high + 5, true},
      {SeccompOperator::greater_equal, high + 5, 0, high + 4, false},
      {SeccompOperator::less, high, 0, 0xffffffff, true},
      {SeccompOperator::less, high, 0, high, false},
      {SeccompOperator::less_equal, high, 0, high, true},
      {SeccompOperator::less_equal, high, 0, high + 1, false},
      {SeccompOperator::less_equal, 0xffffffff, 0, ~std::uint64_t{0}, false},
      {SeccompOperator::masked_equal, 0x7e020000, 0, 0x11, true},
      {SeccompOperator::masked_equal, 0x7e020000, 0, 0x10000011, false},
      {SeccompOperator::masked_equal, high | 0xf0, high | 0x50, high | 0x5f, true},
      {SeccompOperator::masked_equal, high | 0xf0, high | 0x50, 0x5f, false},
      {SeccompOperator::masked_equal, high | 0xf0, high | 0x50, high | 0x6f, false},
  };
  for (const auto& c : cases) {
    SeccompFilterSpec spec;
    spec.rules = {allow({"read"}, {{2, c.op, c.value, c.value_two}})};
    auto program = compiled(spec).filter;
    EXPECT_EQ(run_filter(program, call(0, {0, 0, c.argument})), c.holds ? allowed : refused)
        << "operator " << static_cast<int>(c.op) << " value " << c.value << " argument " << c.argument;
  }
}

TEST(Seccomp, conditions_on_different_arguments_must_all_hold_and_on_the_same_one_any) {
  SeccompFilterSpec spec;
  spec.rules = {allow({"read"}, {{0, SeccompOperator::equal, 1, 0}, {1, SeccompOperator::equal, 2, 0}}),
                allow({"write"}, {{0, SeccompOperator::equal, 1, 0}, {0, SeccompOperator::equal, 2, 0}})};
  auto program = compiled(spec).filter;
  EXPECT_EQ(run_filter(program, call(0, {1, 2})), allowed);
  EXPECT_EQ(run_filter(program, call(0, {1, 3})), refused);
  EXPECT_EQ(run_filter(program, call(1, {1})), allowed);
  EXPECT_EQ(run_filter(program, call(1, {2})), allowed);
  EXPECT_EQ(run_filter(program, call(1, {3})), refused);
}

TEST(Seccomp, an_unconditional_rule_wins_over_conditional_ones) {
  SeccompFilterSpec spec;
  spec.rules = {allow({"read"}, {{0, SeccompOperator::equal, 1, 0}}), allow({"read"})};
  EXPECT_EQ(run_filter(compiled(spec).filter, call(0, {7})), allowed);
}

TEST(Seccomp, broken_profiles_are_refused_with_the_place_named) {
  SeccompFilterSpec spec;
  spec.rules = {allow({"read"}, {{6, SeccompOperator::equal, 1, 0}})};
  EXPECT_THAT(compile_seccomp(spec).error().text(), testing::HasSubstr("rule 0 (read): argument index 6"));
  spec.rules = {SeccompFilterRule{{"read"}, SeccompAction::allow, 5, {}}};
  EXPECT_THAT(compile_seccomp(spec).error().text(), testing::HasSubstr("errno is only allowed"));
  spec.rules = {SeccompFilterRule{{"read"}, SeccompAction::error, 5000, {}}};
  EXPECT_THAT(compile_seccomp(spec).error().text(), testing::HasSubstr("out of range"));
  spec.rules = {SeccompFilterRule{{}, SeccompAction::allow, std::nullopt, {}}};
  EXPECT_THAT(compile_seccomp(spec).error().text(), testing::HasSubstr("names no system call"));
  spec.rules.clear();
  spec.flags = {"SECCOMP_FILTER_FLAG_WARP"};
  EXPECT_THAT(compile_seccomp(spec).error().text(), testing::HasSubstr("SECCOMP_FILTER_FLAG_WARP"));
  spec.flags = {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};
  EXPECT_THAT(compile_seccomp(spec).error().text(), testing::HasSubstr("SCMP_ACT_NOTIFY"));
  spec.flags.clear();
  spec.architectures = {"SCMP_ARCH_PDP11"};
  EXPECT_THAT(compile_seccomp(spec).error().text(), testing::HasSubstr("SCMP_ARCH_PDP11"));
  EXPECT_FALSE(parse_seccomp_action("ALLOW").ok());
  EXPECT_FALSE(parse_seccomp_operator("SCMP_CMP_ALMOST").ok());
}

TEST(Seccomp, unknown_calls_and_foreign_architectures_are_skipped_with_a_warning) {
  SeccompFilterSpec spec;
  spec.architectures = {"SCMP_ARCH_S390X"};
  spec.rules = {allow({"read", "call_of_the_future"})};
  auto program = compiled(spec);
  ASSERT_EQ(program.warnings.size(), 2U);
  EXPECT_THAT(program.warnings[0], testing::HasSubstr("S390X"));
  EXPECT_THAT(program.warnings[1], testing::HasSubstr("call_of_the_future"));
  EXPECT_EQ(run_filter(program.filter, call(0)), allowed);
}

TEST(Seccomp, notify_rules_ask_for_a_listener) {
  SeccompFilterSpec spec;
  spec.default_action = SeccompAction::allow;
  spec.rules = {SeccompFilterRule{{"mkdir"}, SeccompAction::notify, std::nullopt, {}}};
  auto program = compiled(spec);
  EXPECT_TRUE(program.needs_listener);
  EXPECT_NE(program.flags & SECCOMP_FILTER_FLAG_NEW_LISTENER, 0U);
  EXPECT_EQ(run_filter(program.filter, call(SYS_mkdir)), std::uint32_t{SECCOMP_RET_USER_NOTIF});
}

TEST(Seccomp, a_listener_and_tsync_go_together_only_by_esrch) {
  SeccompFilterSpec spec;
  spec.default_action = SeccompAction::allow;
  spec.flags = {"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"};
  EXPECT_EQ(compiled(spec).flags, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG);
  spec.flags.emplace_back("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV");
  spec.rules = {SeccompFilterRule{{"mkdir"}, SeccompAction::notify, std::nullopt, {}}};
  EXPECT_EQ(compiled(spec).flags, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH | SECCOMP_FILTER_FLAG_LOG |
                                      SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | SECCOMP_FILTER_FLAG_NEW_LISTENER);
}

TEST(Seccomp, every_program_it_makes_is_sound_and_a_changed_one_is_not) {
  SeccompFilterSpec spec;
  spec.architectures = {"SCMP_ARCH_X86", "SCMP_ARCH_X32"};
  spec.rules = {allow({"read", "write", "execve"}), allow({"socket"}, {{0, SeccompOperator::masked_equal, 0xf0, 0x10}})};
  const auto program = compiled(spec);
  EXPECT_TRUE(is_seccomp_program(program));
  for (std::size_t i = 0; i < program.filter.size(); ++i) {
    auto changed = program;
    changed.filter.resize(i);
    EXPECT_TRUE(i > 0 && changed.filter.back().code == (BPF_RET | BPF_K) ? true : !is_seccomp_program(changed)) << "cut to " << i;
    changed = program;
    changed.filter[i].code = BPF_STX;
    EXPECT_FALSE(is_seccomp_program(changed)) << i;
  }
}

TEST(Seccomp, programs_survive_the_codec) {
  SeccompFilterSpec spec;
  spec.rules = {allow({"read", "write"})};
  auto program = compiled(spec);
  auto copy = decode<SeccompProgram>(encode(program), "program");
  ASSERT_TRUE(copy.ok());
  ASSERT_EQ(copy->filter.size(), program.filter.size());
  EXPECT_EQ(std::memcmp(copy->filter.data(), program.filter.data(), program.filter.size() * sizeof(sock_filter)), 0);
}

TEST(SeccompWorker, the_filter_of_unpack_workers_lets_files_pass_and_nothing_executable_or_networked) {
  auto program = worker_seccomp();
  ASSERT_TRUE(program.ok()) << program.error().text();
  EXPECT_TRUE(program->warnings.empty()) << program->warnings.front();
  auto native = [](const char* name) { return *syscall_number(SyscallArch::x86_64, name); };
  EXPECT_EQ(run_filter(program->filter, call(native("openat2"))), allowed);
  EXPECT_EQ(run_filter(program->filter, call(native("mmap"), {0, 4096, 3})), allowed);
  EXPECT_EQ(run_filter(program->filter, call(native("mmap"), {0, 4096, 7})), refused);
  EXPECT_EQ(run_filter(program->filter, call(native("mprotect"), {0, 4096, 4})), refused);
  EXPECT_EQ(run_filter(program->filter, call(native("clone"), {0x3d0f00})), allowed);
  EXPECT_EQ(run_filter(program->filter, call(native("clone"), {17})), refused);
  EXPECT_EQ(run_filter(program->filter, call(native("clone3"))), unimplemented);
  for (const char* name : {"socket", "execve", "execveat", "ptrace", "mount", "unshare", "setns", "kill", "io_uring_setup", "fork"})
    EXPECT_EQ(run_filter(program->filter, call(native(name))), refused) << name;
}

TEST(SeccompRegistry, the_filter_of_the_registry_server_lets_clients_in_and_nobody_out) {
  auto program = registry_seccomp();
  ASSERT_TRUE(program.ok()) << program.error().text();
  EXPECT_TRUE(program->warnings.empty()) << program->warnings.front();
  auto native = [](const char* name) { return *syscall_number(SyscallArch::x86_64, name); };
  for (const char* name : {"accept4", "sendfile", "recvfrom", "openat", "renameat2", "fsync", "epoll_wait"})
    EXPECT_EQ(run_filter(program->filter, call(native(name))), allowed) << name;
  EXPECT_EQ(run_filter(program->filter, call(native("mmap"), {0, 4096, 7})), refused);
  for (const char* name : {"socket", "connect", "bind", "listen", "execve", "execveat", "ptrace", "mount", "unshare", "setns", "kill", "setresuid", "chown", "io_uring_setup", "fork"})
    EXPECT_EQ(run_filter(program->filter, call(native(name))), refused) << name;
}

TEST(SeccompFetch, the_filter_of_the_fetch_process_lets_it_talk_and_read_and_nothing_else) {
  auto program = fetch_seccomp();
  ASSERT_TRUE(program.ok()) << program.error().text();
  EXPECT_TRUE(program->warnings.empty()) << program->warnings.front();
  auto native = [](const char* name) { return *syscall_number(SyscallArch::x86_64, name); };
  for (int family : {AF_INET, AF_INET6, AF_UNIX, AF_NETLINK})
    EXPECT_EQ(run_filter(program->filter, call(native("socket"), {static_cast<std::uint64_t>(family)})), allowed) << family;
  for (int family : {AF_PACKET, AF_VSOCK, AF_ALG, AF_XDP})
    EXPECT_EQ(run_filter(program->filter, call(native("socket"), {static_cast<std::uint64_t>(family)})), refused) << family;
  EXPECT_EQ(run_filter(program->filter, call(native("openat"), {0, 0, O_RDONLY | O_CLOEXEC})), allowed);
  for (int flags : {O_WRONLY, O_RDWR, O_RDONLY | O_CREAT, O_RDONLY | O_TRUNC})
    EXPECT_EQ(run_filter(program->filter, call(native("openat"), {0, 0, static_cast<std::uint64_t>(flags)})), refused) << flags;
  EXPECT_EQ(run_filter(program->filter, call(native("mmap"), {0, 4096, 7})), refused);
  EXPECT_EQ(run_filter(program->filter, call(native("clone"), {17})), refused);
  EXPECT_EQ(run_filter(program->filter, call(native("clone3"))), unimplemented);
  for (const char* name : {"execve", "execveat", "ptrace", "mount", "unshare", "setns", "kill", "io_uring_setup", "fork", "listen", "accept4", "unlinkat", "mkdirat", "renameat2",
                           "openat2", "pidfd_getfd", "process_vm_readv", "bpf", "keyctl"})
    EXPECT_EQ(run_filter(program->filter, call(native(name))), refused) << name;
}

TEST(SeccompLayerServer, the_filter_of_layer_servers_lets_open_descriptors_be_used_and_opens_none) {
  auto program = layer_server_seccomp();
  ASSERT_TRUE(program.ok()) << program.error().text();
  EXPECT_TRUE(program->warnings.empty()) << program->warnings.front();
  auto native = [](const char* name) { return *syscall_number(SyscallArch::x86_64, name); };
  for (const char* name : {"read", "pread64", "pwrite64", "writev", "memfd_create", "sendmsg", "recvmsg", "poll", "eventfd2"}) EXPECT_EQ(run_filter(program->filter, call(native(name))), allowed) << name;
  EXPECT_EQ(run_filter(program->filter, call(native("mmap"), {0, 4096, 7})), refused);
  EXPECT_EQ(run_filter(program->filter, call(native("clone"), {17})), refused);
  for (const char* name : {"openat", "openat2", "open", "socket", "connect", "bind", "execve", "execveat", "ptrace", "mount", "unshare", "setns", "kill", "io_uring_setup", "fork", "unlinkat", "fchmod",
                           "ioctl", "pidfd_getfd", "process_vm_readv", "bpf", "keyctl", "userfaultfd"})
    EXPECT_EQ(run_filter(program->filter, call(native(name))), refused) << name;
}

/// Runs `body` in a child under `program`; returns the child's exit status as wait(2) gives it.
template <typename Body>
int under_filter(const SeccompProgram& program, Body body) {
  pid_t child = ::fork();
  if (child == 0) {
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) ::_exit(100);
    if (load_seccomp_raw(program.filter.data(), program.filter.size(), program.flags) != 0) ::_exit(101);
    ::_exit(body());
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return status;
}

TEST(SeccompInKernel, a_loaded_filter_refuses_what_it_should) {
  SeccompFilterSpec spec;
  spec.default_action = SeccompAction::allow;
  spec.rules = {SeccompFilterRule{{"mkdirat", "mkdir"}, SeccompAction::error, EDOM, {}},
                SeccompFilterRule{{"socket"}, SeccompAction::error, EPERM, {{0, SeccompOperator::equal, AF_INET6, 0}}},
                SeccompFilterRule{{"clone3"}, SeccompAction::error, ENOSYS, {}}};
  int status = under_filter(compiled(spec, native_architecture()), [] {
    if (::syscall(SYS_mkdirat, -1, "x", 0) != -1 || errno != EDOM) return 1;
    if (::socket(AF_INET6, SOCK_STREAM, 0) != -1 || errno != EPERM) return 2;
    if (::socket(AF_UNIX, SOCK_STREAM, 0) < 0) return 3;
    if (::syscall(SYS_clone3, nullptr, 0) != -1 || errno != ENOSYS) return 4;
    return 0;
  });
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(SeccompInKernel, a_kill_rule_ends_the_process_with_sigsys) {
  SeccompFilterSpec spec;
  spec.default_action = SeccompAction::allow;
  spec.rules = {SeccompFilterRule{{"getppid"}, SeccompAction::kill_process, std::nullopt, {}}};
  int status = under_filter(compiled(spec, native_architecture()), [] { return static_cast<int>(::syscall(SYS_getppid)) & 0; });
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGSYS);
}

TEST(SeccompInKernel, a_notify_filter_gives_a_listener_also_with_tsync) {
  SeccompFilterSpec spec;
  spec.default_action = SeccompAction::allow;
  spec.flags = {"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};
  spec.rules = {SeccompFilterRule{{"mkdirat", "mkdir"}, SeccompAction::notify, std::nullopt, {}}};
  const auto program = compiled(spec, native_architecture());
  const pid_t child = ::fork();
  if (child == 0) {
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) ::_exit(100);
    const int listener = load_seccomp_raw(program.filter.data(), program.filter.size(), program.flags);
    if (listener < 0) ::_exit(101);
    ::close(listener);  // with nobody listening the call is ENOSYS (seccomp_unotify(2))
    ::_exit(::syscall(SYS_mkdirat, -1, "x", 0) == -1 && errno == ENOSYS ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(SeccompInKernel, flags_are_asked_for_one_by_one) {
  EXPECT_THAT(seccomp_flags_unknown_here(SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_TSYNC), testing::IsEmpty());
  EXPECT_THAT(seccomp_flags_unknown_here(SECCOMP_FILTER_FLAG_LOG | 1U << 20U), testing::ElementsAre("flag 1048576"));
}

TEST(SeccompInKernel, the_worker_filter_allows_a_file_to_be_written) {
  auto program = worker_seccomp();
  ASSERT_TRUE(program.ok());
  int status = under_filter(*program, [] {
    int fd = static_cast<int>(::syscall(SYS_openat, AT_FDCWD, "/dev/null", O_WRONLY));
    if (fd < 0 || ::write(fd, "x", 1) != 1) return 1;
    if (::socket(AF_INET, SOCK_STREAM, 0) != -1) return 2;
    if (::fork() != -1) return 3;
    return 0;
  });
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(SeccompInKernel, a_failing_load_names_the_call) {
  SeccompProgram empty;
  auto result = load_seccomp(empty);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind(), ErrorKind::invalid);
  EXPECT_THAT(result.error().text(), testing::HasSubstr("seccomp"));
}

}  // namespace
}  // namespace caisson::linux
