// The seccomp compiler against libseccomp: random profiles must decide random calls alike, on every architecture we have a table of.
#include <gtest/gtest.h>

#ifdef CAISSON_TEST_LIBSECCOMP
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <random>

#include "base/strings.hpp"
#include "linux/seccomp_evaluate.hpp"

namespace caisson::linux {
namespace {

scmp_compare operator_of(SeccompOperator op) {
  switch (op) {
    case SeccompOperator::not_equal: return SCMP_CMP_NE;
    case SeccompOperator::less: return SCMP_CMP_LT;
    case SeccompOperator::less_equal: return SCMP_CMP_LE;
    case SeccompOperator::equal: return SCMP_CMP_EQ;
    case SeccompOperator::greater_equal: return SCMP_CMP_GE;
    case SeccompOperator::greater: return SCMP_CMP_GT;
    case SeccompOperator::masked_equal: return SCMP_CMP_MASKED_EQ;
  }
  return SCMP_CMP_EQ;
}

std::uint32_t action_of(SeccompAction action, std::optional<std::uint32_t> data) {
  switch (action) {
    case SeccompAction::kill_process: return SCMP_ACT_KILL_PROCESS;
    case SeccompAction::kill_thread: return SCMP_ACT_KILL_THREAD;
    case SeccompAction::trap: return SCMP_ACT_TRAP;
    case SeccompAction::error: return SCMP_ACT_ERRNO(data.value_or(EPERM));
    case SeccompAction::trace: return SCMP_ACT_TRACE(data.value_or(EPERM));
    case SeccompAction::allow: return SCMP_ACT_ALLOW;
    case SeccompAction::log: return SCMP_ACT_LOG;
    case SeccompAction::notify: return SCMP_ACT_NOTIFY;
  }
  return SCMP_ACT_ALLOW;
}

/// The architectures one kernel runs. x32 stands for itself among `theirs` and shares AUDIT_ARCH_X86_64.
struct Family {
  const char* name;
  SyscallArch native;
  std::vector<std::string> words;
  std::vector<std::uint32_t> theirs;
  std::vector<std::uint32_t> audit;
  bool has_32_bit_side;
};
const Family families[] = {
    {"x86", SyscallArch::x86_64, {"SCMP_ARCH_X86"}, {SCMP_ARCH_X86_64, SCMP_ARCH_X86}, {AUDIT_ARCH_X86_64, AUDIT_ARCH_I386}, true},
    {"x86 with x32",
     SyscallArch::x86_64,
     {"SCMP_ARCH_X86", "SCMP_ARCH_X32"},
     {SCMP_ARCH_X86_64, SCMP_ARCH_X32, SCMP_ARCH_X86},
     {AUDIT_ARCH_X86_64, AUDIT_ARCH_I386},
     true},
    {"arm",
     SyscallArch::aarch64,
     {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"},
     {SCMP_ARCH_AARCH64, SCMP_ARCH_ARM},
     {AUDIT_ARCH_AARCH64, AUDIT_ARCH_ARM},
     true},
    {"riscv", SyscallArch::riscv64, {"SCMP_ARCH_RISCV64"}, {SCMP_ARCH_RISCV64}, {AUDIT_ARCH_RISCV64}, false},
};

std::vector<sock_filter> oracle_program(const SeccompFilterSpec& spec, const Family& family) {
  scmp_filter_ctx context = seccomp_init(action_of(spec.default_action, spec.default_errno));
  EXPECT_EQ(seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS), 0);
  for (auto arch : family.theirs) {
    const int added = seccomp_arch_add(context, arch);
    EXPECT_TRUE(added == 0 || added == -EEXIST) << arch;
  }
  const auto native = seccomp_arch_native();
  const bool keeps_native = std::find(family.theirs.begin(), family.theirs.end(), native) != family.theirs.end();
  EXPECT_TRUE(keeps_native || seccomp_arch_remove(context, native) == 0);
  for (const auto& rule : spec.rules) {
    for (const auto& name : rule.names) {
      const int number = seccomp_syscall_resolve_name(name.c_str());
      EXPECT_NE(number, __NR_SCMP_ERROR) << name;
      std::vector<scmp_arg_cmp> comparisons;
      for (const auto& c : rule.conditions) comparisons.push_back(scmp_arg_cmp{c.index, operator_of(c.op), c.value, c.value_two});
      const int result = seccomp_rule_add_array(context, action_of(rule.action, rule.errno_value), number,
                                                static_cast<unsigned>(comparisons.size()), comparisons.data());
      EXPECT_EQ(result, 0) << name;
    }
  }
  FILE* file = std::tmpfile();
  EXPECT_EQ(seccomp_export_bpf(context, ::fileno(file)), 0);
  seccomp_release(context);
  std::rewind(file);
  std::vector<sock_filter> program;
  sock_filter instruction{};
  while (std::fread(&instruction, sizeof instruction, 1, file) == 1) program.push_back(instruction);
  std::fclose(file);
  return program;
}

std::vector<std::string> names_known_to_both() {
  std::vector<std::string> names;
  for (std::uint32_t number = 0; number <= 449; ++number) {
    auto name = std::string(syscall_name(SyscallArch::x86_64, number));
    // On i386 libseccomp adds socketcall and ipc for these by itself; the specification does not ask for it.
    static const char* const multiplexed[] = {"socket",      "bind",        "connect",    "listen",     "accept",   "accept4",
                                              "getsockname", "getpeername", "socketpair", "sendto",     "recvfrom", "shutdown",
                                              "setsockopt",  "getsockopt",  "sendmsg",    "recvmsg",    "recvmmsg", "sendmmsg",
                                              "semop",       "semget",      "semctl",     "semtimedop", "msgsnd",   "msgrcv",
                                              "msgget",      "msgctl",      "shmat",      "shmdt",      "shmget",   "shmctl"};
    if (name.empty() || std::find(std::begin(multiplexed), std::end(multiplexed), name) != std::end(multiplexed)) continue;
    if (seccomp_syscall_resolve_name(name.c_str()) >= 0) names.push_back(name);
  }
  return names;
}

/// Random profiles of plain and conditional rules; one rule per call, because libseccomp and we order overlaps differently.
class RandomProfile {
 public:
  RandomProfile(std::mt19937_64& random, const Family& family) : random_(random), family_(family) {}

  SeccompFilterSpec make(const std::vector<std::string>& names) {
    SeccompFilterSpec spec;
    spec.architectures = family_.words;
    const std::pair<SeccompAction, std::optional<std::uint32_t>> actions[] = {
        {SeccompAction::error, std::nullopt},        {SeccompAction::allow, std::nullopt},      {SeccompAction::error, 38},
        {SeccompAction::trap, std::nullopt},         {SeccompAction::log, std::nullopt},        {SeccompAction::trace, 7},
        {SeccompAction::kill_process, std::nullopt}, {SeccompAction::kill_thread, std::nullopt}};
    const std::size_t chosen = below(std::size(actions));
    spec.default_action = actions[chosen].first;
    spec.default_errno = actions[chosen].second;
    for (const auto& name : names) {
      const auto kind = below(10);
      if (kind < 4) continue;
      std::size_t action = below(4) == 0 ? below(std::size(actions)) : 1;
      if (action == chosen) action = (chosen + 1) % std::size(actions);  // libseccomp refuses a rule that says what the default says
      SeccompFilterRule rule{{name}, actions[action].first, actions[action].second, {}};
      if (kind == 9) add_conditions(rule);
      spec.rules.push_back(rule);
    }
    // Names 450, the newest number there is to compare, on every architecture.
    spec.rules.push_back({{"set_mempolicy_home_node"},
                          actions[(chosen + 1) % std::size(actions)].first,
                          actions[(chosen + 1) % std::size(actions)].second,
                          {}});
    return spec;
  }
  /// Values near those in conditions. A 32-bit call has 32-bit arguments, and libseccomp takes x32 for one.
  std::uint64_t argument(bool is_32_bit) {
    constexpr std::uint64_t arguments[] = {0,          1,          4,          5,           6,           0x7fffffff,
                                           0x80000000, 0xffffffff, 0x7e020000, 0x100000000, 0x100000005, ~std::uint64_t{0}};
    return arguments[below(std::size(arguments))] & (is_32_bit ? 0xffffffff : ~std::uint64_t{0});
  }
  std::uint64_t below(std::uint64_t n) { return random_() % n; }

 private:
  void add_conditions(SeccompFilterRule& rule) {
    constexpr std::uint64_t values[] = {0, 1, 5, 0x7fffffff, 0x80000000, 0xffffffff, 0x7e020000, 0x100000000, 0x100000005};
    const std::size_t usable = std::size(values) - (family_.has_32_bit_side ? 2 : 0);
    for (std::uint32_t index = 0; index < 6; ++index) {
      if (below(3) != 0) continue;
      SeccompCondition condition{index, static_cast<SeccompOperator>(below(7)), values[below(usable)], 0};
      if (condition.op == SeccompOperator::masked_equal) {
        if (condition.value == 0) condition.value = 0xf0;
        condition.value_two = values[below(usable)] & condition.value;
      }
      rule.conditions.push_back(condition);
    }
  }
  std::mt19937_64& random_;
  const Family& family_;
};

/// uretprobe(2) is a call of the 64-bit table alone (arch/x86/entry/syscalls/syscall_64.tbl); libseccomp 2.6 counts it to x32 too.
constexpr std::uint32_t only_64_bit = 335;

class SeccompOracle : public testing::TestWithParam<Family> {};

TEST_P(SeccompOracle, random_profiles_decide_as_libseccomp_does) {
  const Family& family = GetParam();
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE(concat("seed ", seed));
  std::mt19937_64 random(seed);
  const auto names = names_known_to_both();
  ASSERT_GT(names.size(), 300U);
  const bool has_x32 = std::find(family.theirs.begin(), family.theirs.end(), SCMP_ARCH_X32) != family.theirs.end();
  for (int round = 0; round < 6; ++round) {
    RandomProfile profile(random, family);
    const auto spec = profile.make(names);
    auto ours = compile_seccomp(spec, family.native);
    ASSERT_TRUE(ours.ok()) << ours.error().text();
    ASSERT_TRUE(is_seccomp_program(*ours));
    const auto theirs = oracle_program(spec, family);
    auto expect_same = [&](std::uint32_t arch, std::uint32_t number, bool is_32_bit) {
      seccomp_data data{};
      data.arch = arch;
      data.nr = static_cast<int>(number);
      for (auto& argument : data.args) argument = profile.argument(is_32_bit);
      ASSERT_EQ(run_filter(ours->filter, data), run_filter(theirs, data))
          << "arch " << arch << " call " << number << " arguments " << data.args[0] << " " << data.args[1] << " " << data.args[2]
          << " " << data.args[3] << " " << data.args[4] << " " << data.args[5];
    };
    for (const std::uint32_t arch : family.audit) {
      const bool is_32_bit = (arch & __AUDIT_ARCH_64BIT) == 0;
      const bool try_x32 = has_x32 && arch == AUDIT_ARCH_X86_64;
      for (std::uint32_t number = 0; number <= (try_x32 ? 547U : 450U); ++number) {
        for (int sample = 0; sample < 20; ++sample) {
          if (number <= 450) {
            ASSERT_NO_FATAL_FAILURE(expect_same(arch, number, is_32_bit));
          }
          if (try_x32 && number != only_64_bit && (number <= 450 || number >= 512)) {
            ASSERT_NO_FATAL_FAILURE(expect_same(arch, number | x32_bit, true));
          }
        }
      }
    }
    for (const std::uint32_t foreign : {AUDIT_ARCH_S390X, AUDIT_ARCH_PPC64LE, AUDIT_ARCH_MIPSEL64})
      for (int sample = 0; sample < 20; ++sample)
        ASSERT_NO_FATAL_FAILURE(expect_same(foreign, static_cast<std::uint32_t>(profile.below(500)), false));
  }
}

INSTANTIATE_TEST_SUITE_P(families, SeccompOracle, testing::ValuesIn(families), [](const auto& info) {
  std::string name = info.param.name;
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
});

}  // namespace
}  // namespace caisson::linux
#endif
