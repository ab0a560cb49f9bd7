// The part of a plan that describes one process: ids, capabilities, limits, seccomp.
#include <algorithm>
#include <map>
#include <mutex>

#include "base/digest.hpp"
#include "linux/capabilities.hpp"
#include "linux/process.hpp"
#include "runtime/plan.hpp"

namespace caisson::runtime {

namespace {

/// Unknown names and capabilities that nobody here can grant are warned about, as both peers do: configs outlive kernels.
std::uint64_t capability_mask(const std::vector<std::string>& names, const HostFacts& facts, std::string_view set,
                              std::vector<std::string>& warnings) {
  std::uint64_t mask = 0;
  for (const auto& name : names) {
    auto number = linux::capability_by_name(name);
    if (!number || static_cast<std::uint32_t>(*number) > facts.last_capability) {
      warnings.push_back(concat("process.capabilities.", set, ": ", name, " is unknown to this kernel and was left out"));
      continue;
    }
    const std::uint64_t bit = 1ULL << static_cast<unsigned>(*number);
    if ((facts.our_bounding_set & bit) == 0) {
      warnings.push_back(concat("process.capabilities.", set, ": ", name, " cannot be granted by this host and was left out"));
      continue;
    }
    mask |= bit;
  }
  return mask;
}

PlanCapabilities plan_capabilities(const std::optional<CapabilitySets>& sets, const HostFacts& facts, std::vector<std::string>& warnings) {
  PlanCapabilities out;
  if (!sets) return out;  // an absent object means none at all
  out.bounding = capability_mask(sets->bounding, facts, "bounding", warnings);
  // The same name in five sets is one warning, not five.
  std::vector<std::string> repeated;
  out.permitted = capability_mask(sets->permitted, facts, "permitted", repeated);
  out.effective = capability_mask(sets->effective, facts, "effective", repeated) & out.permitted;
  out.inheritable = capability_mask(sets->inheritable, facts, "inheritable", repeated);
  // The kernel raises an ambient capability only where it is permitted and inheritable (capabilities(7)).
  out.ambient = capability_mask(sets->ambient, facts, "ambient", repeated) & out.permitted & out.inheritable;
  return out;
}

Result<std::vector<PlanRlimit>> plan_rlimits(const std::vector<Rlimit>& limits, const HostFacts& facts, bool clamp,
                                             std::vector<std::string>& warnings) {
  std::vector<PlanRlimit> out;
  for (std::size_t i = 0; i < limits.size(); ++i) {
    auto resource = linux::limit_by_name(limits[i].type);
    if (!resource || !limits[i].type.starts_with("RLIMIT_"))
      return Error(ErrorKind::invalid, concat("process.rlimits[", i, "].type: \"", limits[i].type, "\" is not a limit"));
    PlanRlimit limit{static_cast<std::uint32_t>(*resource), limits[i].soft, limits[i].hard, false};
    const auto slot = static_cast<std::size_t>(*resource);
    if (slot < facts.hard_rlimits.size() && limit.hard > facts.hard_rlimits[slot]) {
      limit.raises_hard = true;
      if (!facts.may_raise_rlimits && clamp) {
        const std::uint64_t most = facts.hard_rlimits[slot];
        warnings.push_back(concat(limits[i].type, " clamped to ", most, ": raising a hard limit needs CAP_SYS_RESOURCE"));
        limit.hard = most;
        limit.soft = std::min(limit.soft, most);
        limit.raises_hard = false;
      }
    }
    out.push_back(limit);
  }
  return out;
}

bool has_variable(const std::vector<std::string>& env, std::string_view name) {
  return std::any_of(env.begin(), env.end(), [&](const std::string& entry) {
    return entry.size() > name.size() && entry.starts_with(name) && entry[name.size()] == '=';
  });
}

/// A process that keeps several compiled filters for the profiles its containers use; a profile is compiled once.
class ProfileCache {
 public:
  std::optional<linux::SeccompProgram> find(const std::string& key) {
    std::lock_guard lock(mutex_);
    auto found = programs_.find(key);
    if (found == programs_.end()) return std::nullopt;
    return found->second;
  }
  void put(const std::string& key, const linux::SeccompProgram& program) {
    std::lock_guard lock(mutex_);
    if (programs_.size() >= 64) programs_.clear();  // hostile variety must not grow the daemon without bound
    programs_.insert_or_assign(key, program);
  }

 private:
  std::mutex mutex_;
  std::map<std::string, linux::SeccompProgram> programs_;
};

ProfileCache& profile_cache() {
  static ProfileCache cache;  // holds results of a pure function only, so sharing it changes nothing but time
  return cache;
}

/// Everything the compiler's output depends on, as one text.
std::string profile_key(const SeccompProfile& profile) {
  Encoder encoder;
  encoder(linux::seccomp_compiler_version);
  encoder(profile.default_action);
  encoder(profile.default_errno_ret);
  encoder(profile.architectures);
  encoder(profile.flags);
  encoder(static_cast<std::uint32_t>(profile.syscalls.size()));
  for (const auto& rule : profile.syscalls) {
    encoder(rule.names);
    encoder(rule.action);
    encoder(rule.errno_ret);
    encoder(static_cast<std::uint32_t>(rule.args.size()));
    for (const auto& arg : rule.args) {
      encoder(arg.index);
      encoder(arg.value);
      encoder(arg.value_two);
      encoder(arg.op);
    }
  }
  return encoder.take();
}

Result<linux::SeccompFilterSpec> filter_spec(const SeccompProfile& profile) {
  linux::SeccompFilterSpec out;
  out.default_action = TRY(linux::parse_seccomp_action(profile.default_action), "linux.seccomp.defaultAction");
  out.default_errno = profile.default_errno_ret;
  out.architectures = profile.architectures;
  out.flags = profile.flags;
  for (std::size_t i = 0; i < profile.syscalls.size(); ++i) {
    const auto& rule = profile.syscalls[i];
    std::string at = concat("linux.seccomp.syscalls[", i, "]");
    linux::SeccompFilterRule item;
    item.names = rule.names;
    item.action = TRY(linux::parse_seccomp_action(rule.action), concat(at, ".action"));
    item.errno_value = rule.errno_ret;
    for (std::size_t k = 0; k < rule.args.size(); ++k) {
      linux::SeccompCondition condition;
      condition.index = rule.args[k].index;
      condition.value = rule.args[k].value;
      condition.value_two = rule.args[k].value_two;
      condition.op = TRY(linux::parse_seccomp_operator(rule.args[k].op), concat(at, ".args[", k, "].op"));
      item.conditions.push_back(condition);
    }
    out.rules.push_back(std::move(item));
  }
  return out;
}

}  // namespace

Result<linux::SeccompProgram> compile_profile(const SeccompProfile& profile) {
  const std::string key = profile_key(profile);
  if (auto known = profile_cache().find(key)) return std::move(*known);
  auto spec = TRY_PLAIN(filter_spec(profile));
  auto program = TRY(linux::compile_seccomp(spec), "linux.seccomp");
  if (program.needs_listener)
    return Error(ErrorKind::unsupported, "linux.seccomp: SCMP_ACT_NOTIFY is not supported by this runtime yet");
  profile_cache().put(key, program);
  return program;
}

Result<ProcessPlan> compute_process_plan(const Process& process, const std::optional<SeccompProfile>& seccomp, const HostFacts& facts,
                                         const PlanOptions& options, std::vector<std::string>& warnings) {
  TRY_PLAIN(check_process(process, "process"));
  ProcessPlan out;
  out.args = process.args;
  out.env = process.env;
  out.cwd = process.cwd;
  out.terminal = process.terminal;
  if (process.terminal && process.console_size) {
    out.rows = process.console_size->height;
    out.columns = process.console_size->width;
  }
  out.uid = process.user.uid;
  out.gid = process.user.gid;
  out.groups = process.user.additional_gids;
  out.umask = process.user.umask.value_or(0022);
  out.capabilities = plan_capabilities(process.capabilities, facts, warnings);
  out.rlimits = TRY_PLAIN(plan_rlimits(process.rlimits, facts, options.clamp_rlimits, warnings));
  out.no_new_privileges = process.no_new_privileges;
  out.set_oom_score = process.oom_score_adj.has_value();
  out.oom_score_adj = process.oom_score_adj.value_or(0);
  if (!process.apparmor_profile.empty() && !facts.has_apparmor)
    return Error(ErrorKind::unsupported, concat("process.apparmorProfile: \"", process.apparmor_profile, "\" is wanted, but AppArmor is off"));
  if (!process.selinux_label.empty() && !facts.has_selinux)
    return Error(ErrorKind::unsupported, concat("process.selinuxLabel: \"", process.selinux_label, "\" is wanted, but SELinux is off"));
  out.apparmor_profile = process.apparmor_profile;
  out.selinux_label = process.selinux_label;
  if (seccomp || options.filter != nullptr) {
    auto program = options.filter != nullptr ? *options.filter : TRY_PLAIN(compile_profile(*seccomp));
    out.seccomp = std::move(program.filter);
    out.seccomp_flags = program.flags;
    // A name that no architecture knows is worth a word; one that only another architecture has is the rule in shared profiles.
    warnings.insert(warnings.end(), program.warnings.begin(), program.warnings.end());
  }
  out.use_init = options.use_init;
  out.check_program_early = options.check_program_early;
  out.find_home = !has_variable(process.env, "HOME");
  out.new_session_keyring = options.new_session_keyring;
  return out;
}

}  // namespace caisson::runtime
