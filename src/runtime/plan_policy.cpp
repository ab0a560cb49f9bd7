// Scheduling, personality and memory policy: the configuration's words as the kernel's numbers.
#include <algorithm>
#include <array>

#include "runtime/plan.hpp"

namespace caisson::runtime {

namespace {

struct Number {
  std::string_view word;
  std::uint64_t value;
};

// linux/sched.h: SCHED_*, SCHED_FLAG_*.
constexpr std::uint32_t sched_other = 0;
constexpr std::uint32_t sched_fifo = 1;
constexpr std::uint32_t sched_rr = 2;
constexpr std::uint32_t sched_deadline = 6;
constexpr std::array scheduler_policies{Number{"SCHED_OTHER", sched_other},
                                        Number{"SCHED_FIFO", sched_fifo},
                                        Number{"SCHED_RR", sched_rr},
                                        Number{"SCHED_BATCH", 3},
                                        Number{"SCHED_ISO", 4},
                                        Number{"SCHED_IDLE", 5},
                                        Number{"SCHED_DEADLINE", sched_deadline}};
constexpr std::array scheduler_flags{Number{"SCHED_FLAG_RESET_ON_FORK", 0x01}, Number{"SCHED_FLAG_RECLAIM", 0x02},
                                     Number{"SCHED_FLAG_DL_OVERRUN", 0x04},    Number{"SCHED_FLAG_KEEP_POLICY", 0x08},
                                     Number{"SCHED_FLAG_KEEP_PARAMS", 0x10},   Number{"SCHED_FLAG_UTIL_CLAMP_MIN", 0x20},
                                     Number{"SCHED_FLAG_UTIL_CLAMP_MAX", 0x40}};
constexpr std::array io_classes{Number{"IOPRIO_CLASS_RT", 1}, Number{"IOPRIO_CLASS_BE", 2}, Number{"IOPRIO_CLASS_IDLE", 3}};
// linux/personality.h.
constexpr std::array personalities{Number{"LINUX", 0}, Number{"LINUX32", 8}};
// linux/mempolicy.h.
constexpr std::uint64_t mpol_default = 0;
constexpr std::uint64_t mpol_preferred = 1;
constexpr std::uint64_t mpol_local = 4;
constexpr std::array memory_modes{
    Number{"MPOL_DEFAULT", mpol_default}, Number{"MPOL_PREFERRED", mpol_preferred}, Number{"MPOL_BIND", 2},
    Number{"MPOL_INTERLEAVE", 3},         Number{"MPOL_LOCAL", mpol_local},         Number{"MPOL_PREFERRED_MANY", 5},
    Number{"MPOL_WEIGHTED_INTERLEAVE", 6}};
constexpr std::uint64_t static_nodes = 1U << 15U;
constexpr std::uint64_t relative_nodes = 1U << 14U;
constexpr std::array memory_flags{Number{"MPOL_F_STATIC_NODES", static_nodes}, Number{"MPOL_F_RELATIVE_NODES", relative_nodes},
                                  Number{"MPOL_F_NUMA_BALANCING", 1U << 13U}};

Error bad(std::string_view path, std::string_view text) { return {ErrorKind::invalid, concat(path, ": ", text)}; }

template <std::size_t size>
Result<std::uint64_t> number_of(const std::array<Number, size>& table, std::string_view word, std::string_view path) {
  if (word.empty()) return bad(path, "missing");
  const auto* found = std::find_if(table.begin(), table.end(), [&](const Number& entry) { return entry.word == word; });
  if (found == table.end()) return bad(path, concat("\"", word, "\" is not known"));
  return found->value;
}

template <std::size_t size>
Result<std::uint64_t> flags_of(const std::array<Number, size>& table, const std::vector<std::string>& words, std::string_view path) {
  std::uint64_t out = 0;
  for (std::size_t i = 0; i < words.size(); ++i) out |= TRY_PLAIN(number_of(table, words[i], concat(path, "[", i, "]")));
  return out;
}

/// "0-3,7" as a bit mask. The kernel's masks are as long as they must be; so are ours.
Result<std::vector<std::uint64_t>> mask_of(std::string_view list, std::string_view path) {
  constexpr std::uint32_t largest = 65535;  // far beyond any kernel's NR_CPUS and MAX_NUMNODES; bounds what a wrong number costs
  std::vector<std::uint64_t> out;
  for (std::string_view piece : split(list, ',')) {
    piece = trim(piece);
    if (piece.empty()) continue;
    const auto halves = split_once(piece, '-');
    const auto first = parse_integer<std::uint32_t>(halves.before);
    const auto last = halves.found ? parse_integer<std::uint32_t>(halves.after) : first;
    if (!first || !last || *first > *last || *last > largest)
      return bad(path, concat("\"", piece, "\" is no number or range (as in 0-3,7)"));
    if (out.size() <= *last / 64) out.resize(*last / 64 + 1, 0);
    for (std::uint32_t bit = *first; bit <= *last; ++bit) out[bit / 64] |= 1ULL << (bit % 64);
  }
  return out;
}

Result<PlanScheduler> plan_scheduler(const Scheduler& wanted) {
  const std::string path = "process.scheduler";
  PlanScheduler out;
  out.policy = static_cast<std::uint32_t>(TRY_PLAIN(number_of(scheduler_policies, wanted.policy, concat(path, ".policy"))));
  out.flags = TRY_PLAIN(flags_of(scheduler_flags, wanted.flags, concat(path, ".flags")));
  if (wanted.nice < -20 || wanted.nice > 19) return bad(concat(path, ".nice"), "must be from -20 to 19");
  const bool realtime = out.policy == sched_fifo || out.policy == sched_rr;
  if (wanted.priority != 0 && !realtime) return bad(concat(path, ".priority"), "only SCHED_FIFO and SCHED_RR have priorities");
  if (realtime && (wanted.priority < 1 || wanted.priority > 99)) return bad(concat(path, ".priority"), "must be from 1 to 99");
  const bool timed = wanted.runtime_ns != 0 || wanted.deadline_ns != 0 || wanted.period_ns != 0;
  if (timed && out.policy != sched_deadline) return bad(path, "runtime, deadline and period belong to SCHED_DEADLINE only");
  if (out.policy == sched_deadline && (wanted.runtime_ns == 0 || wanted.deadline_ns == 0))
    return bad(path, "SCHED_DEADLINE needs runtime and deadline");
  out.nice = wanted.nice;
  out.priority = static_cast<std::uint32_t>(wanted.priority);
  out.runtime_ns = wanted.runtime_ns;
  out.deadline_ns = wanted.deadline_ns;
  out.period_ns = wanted.period_ns;
  return out;
}

Result<PlanIoPriority> plan_io_priority(const IoPriority& wanted) {
  PlanIoPriority out;
  out.io_class = static_cast<std::int32_t>(TRY_PLAIN(number_of(io_classes, wanted.io_class, "process.ioPriority.class")));
  if (wanted.priority < 0 || wanted.priority > 7) return bad("process.ioPriority.priority", "must be from 0 to 7");
  out.level = wanted.priority;
  return out;
}

Result<PlanMemoryPolicy> plan_memory_policy(const MemoryPolicy& wanted) {
  const std::string path = "linux.memoryPolicy";
  const std::uint64_t mode = TRY_PLAIN(number_of(memory_modes, wanted.mode, concat(path, ".mode")));
  const std::uint64_t flags = TRY_PLAIN(flags_of(memory_flags, wanted.flags, concat(path, ".flags")));
  PlanMemoryPolicy out;
  out.mode = static_cast<std::int32_t>(mode | flags);
  out.nodes = TRY_PLAIN(mask_of(wanted.nodes, concat(path, ".nodes")));
  const bool takes_none = mode == mpol_default || mode == mpol_local;
  if (takes_none && !out.nodes.empty()) return bad(concat(path, ".nodes"), concat(wanted.mode, " takes no nodes"));
  if (!takes_none && mode != mpol_preferred && out.nodes.empty())
    return bad(concat(path, ".nodes"), concat(wanted.mode, " needs nodes"));
  if ((flags & static_nodes) != 0 && (flags & relative_nodes) != 0)
    return bad(concat(path, ".flags"), "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other");
  return out;
}

}  // namespace

SharedSettings SharedSettings::of(const Spec& spec) { return {spec.seccomp, spec.personality, spec.memory_policy, spec.annotations}; }

Result<ProcessPolicy> plan_policy(const Process& process, const SharedSettings& shared) {
  ProcessPolicy out;
  if (process.scheduler) out.scheduler = TRY_PLAIN(plan_scheduler(*process.scheduler));
  if (process.io_priority) out.io_priority = TRY_PLAIN(plan_io_priority(*process.io_priority));
  if (process.exec_cpu_affinity) {
    out.initial_cpus = TRY_PLAIN(mask_of(process.exec_cpu_affinity->initial, "process.execCPUAffinity.initial"));
    out.final_cpus = TRY_PLAIN(mask_of(process.exec_cpu_affinity->final, "process.execCPUAffinity.final"));
  }
  if (shared.personality) {
    out.personality = TRY_PLAIN(number_of(personalities, shared.personality->domain, "linux.personality.domain"));
    if (!shared.personality->flags.empty()) return bad("linux.personality.flags", "no flag is defined");
  }
  if (shared.memory_policy) out.memory_policy = TRY_PLAIN(plan_memory_policy(*shared.memory_policy));
  if (auto found = shared.annotations.find("run.oci.keep_original_groups"); found != shared.annotations.end())
    out.keep_groups = found->second != "0";
  return out;
}

}  // namespace caisson::runtime
