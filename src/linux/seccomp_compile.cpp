// From a seccomp profile to classic BPF.
#include <elf.h>
#include <linux/audit.h>
#include <linux/seccomp.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <map>
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
    {"SCMP_ACT_KILL", SeccompAction::kill_thread},          {"SCMP_ACT_KILL_PROCESS", SeccompAction::kill_process},
    {"SCMP_ACT_KILL_THREAD", SeccompAction::kill_thread},   {"SCMP_ACT_TRAP", SeccompAction::trap},
    {"SCMP_ACT_ERRNO", SeccompAction::error},               {"SCMP_ACT_TRACE", SeccompAction::trace},
    {"SCMP_ACT_ALLOW", SeccompAction::allow},               {"SCMP_ACT_LOG", SeccompAction::log},
    {"SCMP_ACT_NOTIFY", SeccompAction::notify},
};

constexpr Word<SeccompOperator> operator_words[] = {
    {"SCMP_CMP_NE", SeccompOperator::not_equal},     {"SCMP_CMP_LT", SeccompOperator::less},
    {"SCMP_CMP_LE", SeccompOperator::less_equal},    {"SCMP_CMP_EQ", SeccompOperator::equal},
    {"SCMP_CMP_GE", SeccompOperator::greater_equal}, {"SCMP_CMP_GT", SeccompOperator::greater},
    {"SCMP_CMP_MASKED_EQ", SeccompOperator::masked_equal},
};

constexpr Word<std::uint32_t> flag_words[] = {
    {"SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC},
    {"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
    {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
    {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV},
};

constexpr Word<SyscallArch> our_architectures[] = {
    {"SCMP_ARCH_X86_64", SyscallArch::x86_64},
    {"SCMP_ARCH_X32", SyscallArch::x32},
    {"SCMP_ARCH_X86", SyscallArch::i386},
    {"SCMP_ARCH_AARCH64", SyscallArch::aarch64},
};

// Words of the specification whose tables we do not carry. Skipping one is safe: its calls kill the process.
constexpr std::string_view other_architectures[] = {
    "SCMP_ARCH_ARM",         "SCMP_ARCH_MIPS",    "SCMP_ARCH_MIPS64",      "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",    "SCMP_ARCH_PPC",     "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC64",     "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",        "SCMP_ARCH_S390X",   "SCMP_ARCH_PARISC",      "SCMP_ARCH_PARISC64",  "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K",    "SCMP_ARCH_SH",          "SCMP_ARCH_SHEB",
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
  Decision decision;
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
    std::vector<std::string> names;
    std::vector<Clause> clauses;  // one without conditions: unconditional
    std::uint32_t value = 0;
  };
  std::uint32_t default_value = 0;
  bool default_refuses = false;
  std::vector<Rule> rules;
};

Result<Plan> plan_of(const SeccompFilterSpec& spec) {
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
    planned.names = rule.names;
    planned.clauses = clauses_of(rule, planned.value);
    plan.rules.push_back(std::move(planned));
  }
  return plan;
}

/// The decisions of one architecture as sorted runs that cover all numbers.
std::vector<Run> runs_of(const Plan& plan, SyscallArch arch) {
  std::map<std::uint32_t, Decision> decisions;
  std::set<std::uint32_t> decided;  // numbers with an unconditional rule: the first one stands
  for (const auto& rule : plan.rules) {
    for (const auto& name : rule.names) {
      auto number = syscall_number(arch, name);
      if (!number) continue;
      Decision& decision = decisions.try_emplace(*number, Decision{{}, plan.default_value}).first->second;
      if (decided.contains(*number)) continue;
      if (rule.clauses.front().conditions.empty()) {
        decision = Decision{{}, rule.value};
        decided.insert(*number);
      } else {
        decision.clauses.insert(decision.clauses.end(), rule.clauses.begin(), rule.clauses.end());
      }
    }
  }
  std::vector<Run> runs;
  std::uint32_t next = 0;
  auto append = [&runs](std::uint32_t first, const Decision& decision) {
    if (runs.empty() || !(runs.back().decision == decision)) runs.push_back(Run{first, decision});
  };
  const Decision fallback{{}, plan.default_value};
  for (const auto& [number, decision] : decisions) {
    if (number > next) append(next, fallback);
    append(number, decision);
    next = number + 1;
  }
  bool beyond_is_enosys = plan.default_refuses && !decisions.empty();
  append(next, beyond_is_enosys ? Decision{{}, SECCOMP_RET_ERRNO | ENOSYS} : fallback);
  return runs;
}

/// Emits the tree of one architecture; the accumulator holds the system call number on entry.
class ArchitectureEmitter {
 public:
  using Label = BpfAssembler::Label;
  ArchitectureEmitter(BpfAssembler& assembler, bool is_64bit) : assembler_(assembler), is_64bit_(is_64bit) {}

  Label tree(std::span<const Run> runs) {
    if (runs.size() == 1) return leaf(runs.front().decision);
    std::size_t middle = runs.size() / 2;
    Label upper = tree(runs.subspan(middle));
    Label lower = tree(runs.first(middle));
    return assembler_.jump_if(BPF_JGE, runs[middle].first, upper, lower);
  }

 private:
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
  std::vector<std::pair<Decision, Label>> leaves_;  // equal decisions share their code
};

struct Architectures {
  bool x32 = false;
  bool i386 = false;
};

Result<Architectures> architectures_of(const SeccompFilterSpec& spec, std::vector<std::string>& warnings) {
  Architectures wanted;
  for (const auto& word : spec.architectures) {
    if (word == "SCMP_ARCH_NATIVE") continue;
    if (const SyscallArch* arch = find_word(our_architectures, word)) {
      wanted.x32 = wanted.x32 || *arch == SyscallArch::x32;
      wanted.i386 = wanted.i386 || *arch == SyscallArch::i386;
    } else if (std::find(std::begin(other_architectures), std::end(other_architectures), word) != std::end(other_architectures)) {
      warnings.push_back(concat("seccomp: architecture ", word, " is not supported; its system calls kill the process"));
    } else {
      return Error(ErrorKind::invalid, concat("architecture \"", word, "\" is not known"));
    }
  }
  return wanted;
}

BpfAssembler::Label emit_x86(BpfAssembler& assembler, const Plan& plan, const Architectures& wanted) {
  // Built backwards: the 64-bit tree comes last so that it stands first, near the entry.
  BpfAssembler::Label kill = assembler.ret(SECCOMP_RET_KILL_PROCESS);
  BpfAssembler::Label other = kill;
  if (wanted.i386) {
    std::vector<Run> runs = runs_of(plan, SyscallArch::i386);
    BpfAssembler::Label tree = assembler.load(number_offset, ArchitectureEmitter(assembler, false).tree(runs));
    other = assembler.jump_if(BPF_JEQ, AUDIT_ARCH_I386, tree, kill);
  }
  BpfAssembler::Label x32_tree = assembler.ret(SECCOMP_RET_ERRNO | ENOSYS);
  if (wanted.x32) {
    std::vector<Run> runs = runs_of(plan, SyscallArch::x32);
    // x32 passes 64-bit registers, so its arguments compare as 64-bit values. -1 is no x32 call but "skip" of a tracer.
    BpfAssembler::Label calls = ArchitectureEmitter(assembler, true).tree(runs);
    x32_tree = assembler.jump_if(BPF_JEQ, ~std::uint32_t{0}, x32_tree, calls);
  }
  std::vector<Run> runs = runs_of(plan, SyscallArch::x86_64);
  BpfAssembler::Label tree = ArchitectureEmitter(assembler, true).tree(runs);
  bool beyond_is_enosys = runs.back().decision == Decision{{}, SECCOMP_RET_ERRNO | ENOSYS};
  if (wanted.x32 || !beyond_is_enosys) tree = assembler.jump_if(BPF_JGE, x32_bit, x32_tree, tree);
  BpfAssembler::Label native = assembler.load(number_offset, tree);
  return assembler.load(architecture_offset, assembler.jump_if(BPF_JEQ, AUDIT_ARCH_X86_64, native, other));
}

BpfAssembler::Label emit_aarch64(BpfAssembler& assembler, const Plan& plan) {
  BpfAssembler::Label kill = assembler.ret(SECCOMP_RET_KILL_PROCESS);
  std::vector<Run> runs = runs_of(plan, SyscallArch::aarch64);
  BpfAssembler::Label native = assembler.load(number_offset, ArchitectureEmitter(assembler, true).tree(runs));
  return assembler.load(architecture_offset, assembler.jump_if(BPF_JEQ, AUDIT_ARCH_AARCH64, native, kill));
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
#else
#error "add the system call table of this architecture"
#endif
}

Result<SeccompProgram> compile_seccomp(const SeccompFilterSpec& spec, SyscallArch native) {
  SeccompProgram program;
  Architectures wanted = TRY(architectures_of(spec, program.warnings), "seccomp");
  Plan plan = TRY(plan_of(spec), "seccomp");
  TRY(read_flags(spec, program), "seccomp");
  std::set<std::string_view> warned;
  for (const auto& rule : spec.rules)
    for (const auto& name : rule.names)
      if (!is_known_syscall(name) && warned.insert(name).second)
        program.warnings.push_back(concat("seccomp: system call \"", name, "\" is not known and was skipped"));
  BpfAssembler assembler;
  BpfAssembler::Label entry =
      native == SyscallArch::aarch64 ? emit_aarch64(assembler, plan) : emit_x86(assembler, plan, wanted);
  program.filter = TRY(std::move(assembler).finish(entry), "seccomp");
  return program;
}

}  // namespace caisson::linux
