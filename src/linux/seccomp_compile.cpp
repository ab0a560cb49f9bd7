// From a seccomp profile to classic BPF.
#include <elf.h>
#include <linux/audit.h>
#include <linux/seccomp.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <optional>
#include <set>
#include <span>

#include "base/strings.hpp"
#include "linux/bpf_classic.hpp"
#include "linux/seccomp.hpp"

namespace caisson::linux {
namespace {

static_assert(std::endian::native == std::endian::little, "the offsets of argument words below are little-endian");
constexpr std::uint32_t number_offset = offsetof(seccomp_data, nr);
constexpr std::uint32_t architecture_offset = offsetof(seccomp_data, arch);
constexpr std::uint32_t arguments_offset = offsetof(seccomp_data, args);

template <typename Value>
struct Word {
  std::string_view word;
  Value value;
};

template <typename Value, std::size_t count>
const Value* find_word(const Word<Value> (&words)[count], std::string_view wanted) {
  for (const auto& candidate : words)
    if (candidate.word == wanted) return &candidate.value;
  return nullptr;
}

constexpr Word<SeccompAction> action_words[] = {
    {"SCMP_ACT_KILL", SeccompAction::kill_thread},
    {"SCMP_ACT_KILL_PROCESS", SeccompAction::kill_process},
    {"SCMP_ACT_KILL_THREAD", SeccompAction::kill_thread},
    {"SCMP_ACT_TRAP", SeccompAction::trap},
    {"SCMP_ACT_ERRNO", SeccompAction::error},
    {"SCMP_ACT_TRACE", SeccompAction::trace},
    {"SCMP_ACT_ALLOW", SeccompAction::allow},
    {"SCMP_ACT_LOG", SeccompAction::log},
    {"SCMP_ACT_NOTIFY", SeccompAction::notify},
};

constexpr Word<SeccompOperator> operator_words[] = {
    {"SCMP_CMP_NE", SeccompOperator::not_equal},           {"SCMP_CMP_LT", SeccompOperator::less},
    {"SCMP_CMP_LE", SeccompOperator::less_equal},          {"SCMP_CMP_EQ", SeccompOperator::equal},
    {"SCMP_CMP_GE", SeccompOperator::greater_equal},       {"SCMP_CMP_GT", SeccompOperator::greater},
    {"SCMP_CMP_MASKED_EQ", SeccompOperator::masked_equal},
};

constexpr Word<std::uint32_t> flag_words[] = {
    {"SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC},
    {"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
    {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
    {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV},
};

constexpr Word<SyscallArch> our_architectures[] = {
    {"SCMP_ARCH_X86_64", SyscallArch::x86_64},   {"SCMP_ARCH_X32", SyscallArch::x32}, {"SCMP_ARCH_X86", SyscallArch::i386},
    {"SCMP_ARCH_AARCH64", SyscallArch::aarch64}, {"SCMP_ARCH_ARM", SyscallArch::arm}, {"SCMP_ARCH_RISCV64", SyscallArch::riscv64},
};

// Words of the specification whose tables we do not carry. Skipping one is safe: its calls kill the process.
constexpr std::string_view other_architectures[] = {
    "SCMP_ARCH_MIPS",  "SCMP_ARCH_MIPS64",      "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL",      "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_PPC",   "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC64",     "SCMP_ARCH_PPC64LE",     "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X", "SCMP_ARCH_PARISC",      "SCMP_ARCH_PARISC64",  "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K",
    "SCMP_ARCH_SH",    "SCMP_ARCH_SHEB",
};

bool is_permissive(SeccompAction action) {
  return action == SeccompAction::allow || action == SeccompAction::log || action == SeccompAction::trace;
}

/// The value a filter returns. Errors: invalid when an errno is given where it has no meaning or is out of range.
Result<std::uint32_t> return_value(SeccompAction action, std::optional<std::uint32_t> errno_value) {
  if (errno_value && action != SeccompAction::error && action != SeccompAction::trace)
    return Error(ErrorKind::invalid, "an errno is only allowed with SCMP_ACT_ERRNO and SCMP_ACT_TRACE");
  constexpr std::uint32_t max_errno = 4095;  // include/linux/err.h; the kernel would silently clamp
  std::uint32_t data = errno_value.value_or(EPERM);
  if (action == SeccompAction::error && data > max_errno)
    return Error(ErrorKind::invalid, concat("errno ", data, " is out of range (0 to ", max_errno, ")"));
  if (data > SECCOMP_RET_DATA) return Error(ErrorKind::invalid, concat("trace message ", data, " is out of range (0 to 65535)"));
  switch (action) {
    case SeccompAction::kill_process: return std::uint32_t{SECCOMP_RET_KILL_PROCESS};
    case SeccompAction::kill_thread: return std::uint32_t{SECCOMP_RET_KILL_THREAD};
    case SeccompAction::trap: return std::uint32_t{SECCOMP_RET_TRAP};
    case SeccompAction::error: return SECCOMP_RET_ERRNO | data;
    case SeccompAction::trace: return SECCOMP_RET_TRACE | data;
    case SeccompAction::allow: return std::uint32_t{SECCOMP_RET_ALLOW};
    case SeccompAction::log: return std::uint32_t{SECCOMP_RET_LOG};
    case SeccompAction::notify: return std::uint32_t{SECCOMP_RET_USER_NOTIF};
  }
  return Error(ErrorKind::internal, "unknown seccomp action");
}

/// Conditions that must all hold, and what is returned then.
struct Clause {
  std::vector<SeccompCondition> conditions;
  std::uint32_t value = 0;
  bool operator==(const Clause&) const = default;
};

/// What is decided for one system call number: the first clause that holds, else `otherwise`.
struct Decision {
  std::vector<Clause> clauses;
  std::uint32_t otherwise = 0;
  bool operator==(const Decision&) const = default;
};

/// From `first` on (until the next run) every number has the same decision.
struct Run {
  std::uint32_t first = 0;
  std::optional<Decision> decision;  ///< nothing: as another tree decides (runs_that_differ)
};

bool has_repeated_index(std::span<const SeccompCondition> conditions) {
  std::set<std::uint32_t> seen;
  for (const auto& condition : conditions)
    if (!seen.insert(condition.index).second) return true;
  return false;
}

std::vector<Clause> clauses_of(const SeccompFilterRule& rule, std::uint32_t value) {
  if (!has_repeated_index(rule.conditions)) return {Clause{rule.conditions, value}};
  std::vector<Clause> clauses;
  for (const auto& condition : rule.conditions) clauses.push_back(Clause{{condition}, value});
  return clauses;
}

/// A profile with all words turned into numbers that do not depend on the architecture.
struct Plan {
  struct Rule {
    std::vector<const SyscallRow*> calls;
    std::vector<Clause> clauses;  // one without conditions: unconditional
    std::uint32_t value = 0;
  };
  std::uint32_t default_value = 0;
  bool default_refuses = false;
  std::vector<Rule> rules;
};

/// The rows of the names. One that no architecture has is worth a warning, once.
std::vector<const SyscallRow*> rows_of(const std::vector<std::string>& names, std::set<std::string_view>& unknown) {
  std::vector<const SyscallRow*> rows;
  rows.reserve(names.size());
  for (const auto& name : names) {
    if (const SyscallRow* row = find_syscall(name)) rows.push_back(row);
    else if (!is_known_syscall(name)) unknown.insert(name);
  }
  return rows;
}

Result<Plan> plan_of(const SeccompFilterSpec& spec, std::set<std::string_view>& unknown) {
  Plan plan;
  plan.default_value = TRY(return_value(spec.default_action, spec.default_errno), "default action");
  plan.default_refuses = !is_permissive(spec.default_action);
  if (spec.default_action == SeccompAction::notify)
    return Error(ErrorKind::invalid, "default action: SCMP_ACT_NOTIFY would stop the process at its first system call");
  for (std::size_t i = 0; i < spec.rules.size(); ++i) {
    const SeccompFilterRule& rule = spec.rules[i];
    std::string where = concat("rule ", i, rule.names.empty() ? std::string() : concat(" (", rule.names.front(), ")"));
    if (rule.names.empty()) return Error(ErrorKind::invalid, concat(where, ": names no system call"));
    for (const auto& condition : rule.conditions)
      if (condition.index > 5) return Error(ErrorKind::invalid, concat(where, ": argument index ", condition.index, " is above 5"));
    Plan::Rule planned;
    planned.value = TRY(return_value(rule.action, rule.errno_value), where);
    planned.calls = rows_of(rule.names, unknown);
    planned.clauses = clauses_of(rule, planned.value);
    plan.rules.push_back(std::move(planned));
  }
  return plan;
}

struct Call {
  std::uint32_t number = 0;
  const Plan::Rule* rule = nullptr;
};

/// What the rules of one number come to. They stand in the profile's order.
Decision decide(std::span<const Call> calls, std::uint32_t default_value) {
  Decision decision{{}, default_value};
  for (const Call& call : calls) {
    const auto& clauses = call.rule->clauses;
    if (clauses.front().conditions.empty()) return Decision{{}, call.rule->value};
    decision.clauses.insert(decision.clauses.end(), clauses.begin(), clauses.end());
  }
  return decision;
}

/// Numbers that say nothing about how new a profile is: arm's private calls stand far above all others, and the calls that x32 has for
/// itself stand in a range that is closed (syscall_64.tbl: "not to be extended").
struct NumberRange {
  std::uint32_t first = 0;
  std::uint32_t end = 0;
  [[nodiscard]] bool contains(std::uint32_t number) const { return number >= first && number < end; }
};
NumberRange ageless_numbers(SyscallArch arch) {
  if (arch == SyscallArch::arm) return {arm_private_base, UINT32_MAX};
  if (arch == SyscallArch::x32) return {x32_bit | 512U, x32_bit | 548U};
  return {};
}

/// The decisions of one architecture as sorted runs that cover all numbers.
std::vector<Run> runs_of(const Plan& plan, SyscallArch arch) {
  std::vector<Call> calls;
  for (const auto& rule : plan.rules)
    for (const SyscallRow* row : rule.calls)
      if (auto number = syscall_number(arch, *row)) calls.push_back({*number, &rule});
  std::stable_sort(calls.begin(), calls.end(), [](const Call& a, const Call& b) { return a.number < b.number; });
  const NumberRange ageless = ageless_numbers(arch);
  std::uint32_t beyond = 0;  // behind the newest call the profile knows
  for (const Call& call : calls)
    if (!ageless.contains(call.number)) beyond = call.number + 1;
  std::vector<Run> runs;
  auto append = [&runs](std::uint32_t first, Decision decision) {
    if (runs.empty() || !(runs.back().decision == decision)) runs.push_back(Run{first, std::move(decision)});
  };
  auto append_gap = [&](std::uint32_t first, std::uint32_t end) {
    for (const std::uint32_t at : {first, ageless.first, ageless.end}) {
      if (at < first || at >= end) continue;
      const bool is_enosys = plan.default_refuses && beyond != 0 && at >= beyond && !(arch == SyscallArch::x32 && ageless.contains(at));
      append(at, Decision{{}, is_enosys ? SECCOMP_RET_ERRNO | ENOSYS : plan.default_value});
    }
  };
  std::uint32_t next = 0;
  for (std::size_t i = 0; i < calls.size();) {
    std::size_t end = i + 1;
    while (end < calls.size() && calls[end].number == calls[i].number) ++end;
    if (calls[i].number > next) append_gap(next, calls[i].number);
    append(calls[i].number, decide(std::span(calls).subspan(i, end - i), plan.default_value));
    next = calls[i].number + 1;
    i = end;
  }
  append_gap(next, UINT32_MAX);
  return runs;
}

/// The runs of `runs` where it decides otherwise than `base`; nothing where both decide alike. `bit` is left out of its numbers.
std::vector<Run> runs_that_differ(std::span<const Run> runs, std::span<const Run> base, std::uint32_t bit) {
  std::vector<Run> out;
  std::size_t at = 0;
  std::size_t base_at = 0;
  auto first_of = [&](std::size_t i) { return i < runs.size() ? std::uint64_t{runs[i].first & ~bit} : UINT64_MAX; };
  auto base_first_of = [&](std::size_t i) { return i < base.size() ? std::uint64_t{base[i].first} : UINT64_MAX; };
  for (std::uint64_t first = 0; first != UINT64_MAX; first = std::min(first_of(at + 1), base_first_of(base_at + 1))) {
    while (first_of(at + 1) <= first) ++at;
    while (base_first_of(base_at + 1) <= first) ++base_at;
    std::optional<Decision> decision;
    if (!(runs[at].decision == base[base_at].decision)) decision = runs[at].decision;
    if (out.empty() || !(out.back().decision == decision)) out.push_back(Run{static_cast<std::uint32_t>(first), decision});
  }
  return out;
}

/// Emits the tree of one architecture; the accumulator holds the system call number on entry.
class ArchitectureEmitter {
 public:
  using Label = BpfAssembler::Label;
  /// `elsewhere`: where runs without a decision go.
  ArchitectureEmitter(BpfAssembler& assembler, bool is_64bit, Label elsewhere = 0)
      : assembler_(assembler), is_64bit_(is_64bit), elsewhere_(elsewhere) {}

  Label tree(std::span<const Run> runs) {
    if (runs.size() == 1) return runs.front().decision ? leaf(*runs.front().decision) : elsewhere_;
    const std::size_t middle = middle_of(runs);
    Label upper = tree(runs.subspan(middle));
    Label lower = tree(runs.first(middle));
    return assembler_.jump_if(BPF_JGE, runs[middle].first, upper, lower);
  }

 private:
  /// Halves the numbers, not the runs. When a filter is loaded, the kernel walks it once for every number (seccomp_cache_prepare),
  /// and that is a third of the load's time: wide runs belong near the root.
  static std::size_t middle_of(std::span<const Run> runs) {
    constexpr std::uint32_t beyond_weight = 8;  // the last run has no end, but few numbers that anybody uses
    const std::uint64_t begin = runs.front().first;
    const std::uint64_t end = std::uint64_t{runs.back().first} + beyond_weight;
    std::size_t middle = 1;
    while (middle + 1 < runs.size() && runs[middle].first - begin < (end - begin) / 2) ++middle;
    const bool earlier_is_nearer =
        middle > 1 && (end - begin) / 2 - (runs[middle - 1].first - begin) < (runs[middle].first - begin) - (end - begin) / 2;
    return earlier_is_nearer ? middle - 1 : middle;
  }

  Label leaf(const Decision& decision) {
    if (decision.clauses.empty()) return assembler_.ret(decision.otherwise);
    for (const auto& [known, label] : leaves_)
      if (known == decision) return label;
    Label next = assembler_.ret(decision.otherwise);
    for (auto clause = decision.clauses.rbegin(); clause != decision.clauses.rend(); ++clause) next = all_of(*clause, next);
    leaves_.emplace_back(decision, next);
    return next;
  }

  Label all_of(const Clause& clause, Label no) {
    Label yes = assembler_.ret(clause.value);
    for (auto condition = clause.conditions.rbegin(); condition != clause.conditions.rend(); ++condition)
      yes = compare(*condition, yes, no);
    return yes;
  }

  Label compare(const SeccompCondition& condition, Label yes, Label no) {
    switch (condition.op) {
      case SeccompOperator::equal: return equal(condition, yes, no);
      case SeccompOperator::not_equal: return equal(condition, no, yes);
      case SeccompOperator::greater: return ordered(condition, BPF_JGT, yes, no);
      case SeccompOperator::greater_equal: return ordered(condition, BPF_JGE, yes, no);
      case SeccompOperator::less: return ordered(condition, BPF_JGE, no, yes);
      case SeccompOperator::less_equal: return ordered(condition, BPF_JGT, no, yes);
      case SeccompOperator::masked_equal: return masked_equal(condition, yes, no);
    }
    return no;
  }

  static std::uint32_t low(std::uint64_t value) { return static_cast<std::uint32_t>(value); }
  static std::uint32_t high(std::uint64_t value) { return static_cast<std::uint32_t>(value >> 32); }
  static std::uint32_t low_offset(const SeccompCondition& c) { return arguments_offset + 8 * c.index; }
  static std::uint32_t high_offset(const SeccompCondition& c) { return low_offset(c) + 4; }

  Label equal(const SeccompCondition& c, Label yes, Label no) {
    Label low_part = assembler_.load(low_offset(c), assembler_.jump_if(BPF_JEQ, low(c.value), yes, no));
    if (!is_64bit_) return low_part;
    return assembler_.load(high_offset(c), assembler_.jump_if(BPF_JEQ, high(c.value), low_part, no));
  }

  /// `comparison` is BPF_JGT or BPF_JGE on the low word; high words that differ decide alone.
  Label ordered(const SeccompCondition& c, std::uint16_t comparison, Label yes, Label no) {
    Label low_part = assembler_.load(low_offset(c), assembler_.jump_if(comparison, low(c.value), yes, no));
    if (!is_64bit_) return low_part;
    Label not_above = assembler_.jump_if(BPF_JEQ, high(c.value), low_part, no);
    return assembler_.load(high_offset(c), assembler_.jump_if(BPF_JGT, high(c.value), yes, not_above));
  }

  Label masked_equal(const SeccompCondition& c, Label yes, Label no) {
    Label low_part = masked_word(low_offset(c), low(c.value), low(c.value_two), yes, no);
    if (!is_64bit_) return low_part;
    return masked_word(high_offset(c), high(c.value), high(c.value_two), low_part, no);
  }

  /// Bits of `wanted` outside the mask are ignored, as libseccomp does.
  Label masked_word(std::uint32_t offset, std::uint32_t mask, std::uint32_t wanted, Label yes, Label no) {
    wanted &= mask;
    if (mask == 0) return yes;
    if (wanted == 0) return assembler_.load(offset, assembler_.jump_if(BPF_JSET, mask, no, yes));
    Label test = assembler_.jump_if(BPF_JEQ, wanted, yes, no);
    if (mask != ~std::uint32_t{0}) test = assembler_.mask(mask, test);
    return assembler_.load(offset, test);
  }

  BpfAssembler& assembler_;
  bool is_64bit_;
  Label elsewhere_;
  std::vector<std::pair<Decision, Label>> leaves_;  // equal decisions share their code
};

struct Architectures {
  bool x32 = false;
  bool i386 = false;
  bool arm = false;
};

Result<Architectures> architectures_of(const SeccompFilterSpec& spec, std::vector<std::string>& warnings) {
  Architectures wanted;
  for (const auto& word : spec.architectures) {
    if (word == "SCMP_ARCH_NATIVE") continue;
    if (const SyscallArch* arch = find_word(our_architectures, word)) {
      wanted.x32 = wanted.x32 || *arch == SyscallArch::x32;
      wanted.i386 = wanted.i386 || *arch == SyscallArch::i386;
      wanted.arm = wanted.arm || *arch == SyscallArch::arm;
    } else if (std::find(std::begin(other_architectures), std::end(other_architectures), word) != std::end(other_architectures)) {
      warnings.push_back(concat("seccomp: architecture ", word, " is not supported; its system calls kill the process"));
    } else {
      return Error(ErrorKind::invalid, concat("architecture \"", word, "\" is not known"));
    }
  }
  return wanted;
}

/// The whole of one architecture behind the look at the architecture word; `other` is for a call of another one.
BpfAssembler::Label emit_architecture(BpfAssembler& assembler, std::uint32_t audit_arch, BpfAssembler::Label tree,
                                      BpfAssembler::Label other) {
  return assembler.jump_if(BPF_JEQ, audit_arch, assembler.load(number_offset, tree), other);
}

BpfAssembler::Label emit_x86(BpfAssembler& assembler, const Plan& plan, const Architectures& wanted) {
  // Built backwards: the 64-bit tree comes late so that it stands near the entry.
  BpfAssembler::Label other = assembler.ret(SECCOMP_RET_KILL_PROCESS);
  if (wanted.i386) {
    const auto tree = ArchitectureEmitter(assembler, false).tree(runs_of(plan, SyscallArch::i386));
    other = emit_architecture(assembler, AUDIT_ARCH_I386, tree, other);
  }
  const BpfAssembler::Label enosys = assembler.ret(SECCOMP_RET_ERRNO | ENOSYS);
  const std::vector<Run> runs = runs_of(plan, SyscallArch::x86_64);
  BpfAssembler::Label tree = ArchitectureEmitter(assembler, true).tree(runs);
  const bool beyond_is_enosys = runs.back().decision == Decision{{}, SECCOMP_RET_ERRNO | ENOSYS};
  if (wanted.x32) {
    // Most x32 calls have the number of their 64-bit twin and the same decision, so only what differs gets a tree. x32 passes 64-bit
    // registers: its arguments compare as 64-bit values. -1 is no x32 call but "skip" of a tracer.
    const auto differing = runs_that_differ(runs_of(plan, SyscallArch::x32), runs, x32_bit);
    const auto calls = assembler.mask(~x32_bit, ArchitectureEmitter(assembler, true, tree).tree(differing));
    const auto x32_tree = assembler.jump_if(BPF_JEQ, ~std::uint32_t{0}, enosys, calls);
    tree = assembler.jump_if(BPF_JGE, x32_bit, x32_tree, tree);
  } else if (!beyond_is_enosys) {
    tree = assembler.jump_if(BPF_JGE, x32_bit, enosys, tree);
  }
  return assembler.load(architecture_offset, emit_architecture(assembler, AUDIT_ARCH_X86_64, tree, other));
}

BpfAssembler::Label emit_aarch64(BpfAssembler& assembler, const Plan& plan, const Architectures& wanted) {
  BpfAssembler::Label other = assembler.ret(SECCOMP_RET_KILL_PROCESS);
  if (wanted.arm) {
    const auto tree = ArchitectureEmitter(assembler, false).tree(runs_of(plan, SyscallArch::arm));
    other = emit_architecture(assembler, AUDIT_ARCH_ARM, tree, other);
  }
  const auto tree = ArchitectureEmitter(assembler, true).tree(runs_of(plan, SyscallArch::aarch64));
  return assembler.load(architecture_offset, emit_architecture(assembler, AUDIT_ARCH_AARCH64, tree, other));
}

BpfAssembler::Label emit_riscv64(BpfAssembler& assembler, const Plan& plan) {
  const BpfAssembler::Label kill = assembler.ret(SECCOMP_RET_KILL_PROCESS);
  const auto tree = ArchitectureEmitter(assembler, true).tree(runs_of(plan, SyscallArch::riscv64));
  return assembler.load(architecture_offset, emit_architecture(assembler, AUDIT_ARCH_RISCV64, tree, kill));
}

/// A kernel of one architecture runs programs of a few; the others of a profile cannot occur and are left out.
BpfAssembler::Label emit_program(BpfAssembler& assembler, const Plan& plan, const Architectures& wanted, SyscallArch native) {
  switch (native) {
    case SyscallArch::aarch64:
    case SyscallArch::arm: return emit_aarch64(assembler, plan, wanted);
    case SyscallArch::riscv64: return emit_riscv64(assembler, plan);
    case SyscallArch::x86_64:
    case SyscallArch::x32:
    case SyscallArch::i386: break;
  }
  return emit_x86(assembler, plan, wanted);
}

Status read_flags(const SeccompFilterSpec& spec, SeccompProgram& program) {
  for (const auto& rule : spec.rules) program.needs_listener = program.needs_listener || rule.action == SeccompAction::notify;
  for (const auto& word : spec.flags) {
    const std::uint32_t* flag = find_word(flag_words, word);
    if (flag == nullptr) return Error(ErrorKind::invalid, concat("flag \"", word, "\" is not known"));
    program.flags |= *flag;
  }
  if (program.needs_listener) {
    program.flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // seccomp(2): TSYNC and NEW_LISTENER together need TSYNC_ESRCH, because both want the return value.
    if ((program.flags & SECCOMP_FILTER_FLAG_TSYNC) != 0) program.flags |= SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
  } else if ((program.flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) != 0) {
    return Error(ErrorKind::invalid, "flag SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule with SCMP_ACT_NOTIFY");
  }
  return {};
}

}  // namespace

Result<SeccompAction> parse_seccomp_action(std::string_view word) {
  const SeccompAction* action = find_word(action_words, word);
  if (action == nullptr) return Error(ErrorKind::invalid, concat("seccomp action \"", word, "\" is not known"));
  return *action;
}

Result<SeccompOperator> parse_seccomp_operator(std::string_view word) {
  const SeccompOperator* found = find_word(operator_words, word);
  if (found == nullptr) return Error(ErrorKind::invalid, concat("seccomp operator \"", word, "\" is not known"));
  return *found;
}

bool is_seccomp_program(const SeccompProgram& program) {
  std::uint32_t known = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
  for (const auto& flag : flag_words) known |= flag.value;
  const bool has_listener = (program.flags & SECCOMP_FILTER_FLAG_NEW_LISTENER) != 0;
  return (program.flags & ~known) == 0 && has_listener == program.needs_listener &&
         is_sound_filter(program.filter, sizeof(seccomp_data));
}

SyscallArch native_architecture() {
#if defined(__x86_64__)
  return SyscallArch::x86_64;
#elif defined(__aarch64__)
  return SyscallArch::aarch64;
#elif defined(__riscv) && __riscv_xlen == 64
  return SyscallArch::riscv64;
#else
#error "add the system call table of this architecture"
#endif
}

Result<SeccompProgram> compile_seccomp(const SeccompFilterSpec& spec, SyscallArch native) {
  SeccompProgram program;
  Architectures wanted = TRY(architectures_of(spec, program.warnings), "seccomp");
  std::set<std::string_view> unknown;
  Plan plan = TRY(plan_of(spec, unknown), "seccomp");
  TRY(read_flags(spec, program), "seccomp");
  for (const auto& name : unknown)
    program.warnings.push_back(concat("seccomp: system call \"", name, "\" is not known and was skipped"));
  BpfAssembler assembler;
  const BpfAssembler::Label entry = emit_program(assembler, plan, wanted, native);
  program.filter = TRY(std::move(assembler).finish(entry), "seccomp");
  return program;
}

}  // namespace caisson::linux
