// The part of a plan that describes one process: ids, capabilities, limits, seccomp.
#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "base/digest.hpp"
#include "linux/capabilities.hpp"
#include "linux/process.hpp"
#include "linux/seccomp_evaluate.hpp"
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

PlanCapabilities plan_capabilities(const std::optional<CapabilitySets>& sets, const HostFacts& facts,
                                   std::vector<std::string>& warnings) {
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

/// Without CAP_SYS_RESOURCE the score can only rise. podman does the same before it asks a runtime.
void plan_oom_score(const Process& process, const HostFacts& facts, ProcessPlan& out, std::vector<std::string>& warnings) {
  out.set_oom_score = process.oom_score_adj.has_value();
  out.oom_score_adj = process.oom_score_adj.value_or(0);
  if (!out.set_oom_score || !facts.is_rootless || facts.may_raise_rlimits || out.oom_score_adj >= facts.oom_score_adj) return;
  warnings.push_back(concat("process.oomScoreAdj: ", out.oom_score_adj, " raised to our own ", facts.oom_score_adj,
                            ": lowering it needs CAP_SYS_RESOURCE"));
  out.oom_score_adj = facts.oom_score_adj;
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
  profile_cache().put(key, program);
  return program;
}

namespace {

const std::string* annotation(const SharedSettings& shared, std::string_view name) {
  auto found = shared.annotations.find(concat("run.oci.", name));
  return found == shared.annotations.end() ? nullptr : &found->second;
}

/// crun's way to bring a program of one's own: base64 of struct sock_filter's eight bytes each.
Result<std::vector<sock_filter>> given_program(std::string_view text) {
  const std::string at = "annotations[\"run.oci.seccomp_bpf_data\"]";
  const std::string bytes = TRY(base64_decode(text), at);
  constexpr std::size_t instruction_limit = 4096;  // BPF_MAXINSNS, linux/bpf_common.h
  if (bytes.empty() || bytes.size() % sizeof(sock_filter) != 0 || bytes.size() / sizeof(sock_filter) > instruction_limit)
    return Error(ErrorKind::invalid, concat(at, ": ", bytes.size(), " bytes are no BPF program"));
  std::vector<sock_filter> out(bytes.size() / sizeof(sock_filter));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

Status refuse_unknown_calls(const SeccompProfile& profile) {
  for (std::size_t i = 0; i < profile.syscalls.size(); ++i)
    for (const auto& name : profile.syscalls[i].names)
      if (!linux::is_known_syscall(name))
        return Error(ErrorKind::invalid, concat("linux.seccomp.syscalls[", i, "].names: \"", name,
                                                "\" is unknown, and run.oci.seccomp_fail_unknown_syscall is set"));
  return {};
}

/// The filter is on when the process hands its listener over, with the one call that can carry a descriptor.
Status check_listener_leaves(const std::vector<sock_filter>& filter) {
  const auto arch = linux::native_architecture();
  const auto number = linux::syscall_number(arch, "sendmsg");
  if (!number) return Error(ErrorKind::internal, "the number of sendmsg is unknown");
  const auto action = linux::evaluate_seccomp(filter, arch, *number).action;
  if (action == linux::SeccompAction::allow || action == linux::SeccompAction::log) return {};
  return Error(ErrorKind::unsupported,
               "linux.seccomp: a profile with SCMP_ACT_NOTIFY must allow sendmsg, by which the listener leaves the process");
}

Status plan_listener(const SeccompProfile& profile, const SharedSettings& shared, ProcessPlan& out) {
  out.policy.listener_path = profile.listener_path;
  if (const auto* receiver = annotation(shared, "seccomp.receiver"); receiver != nullptr && profile.listener_path.empty())
    out.policy.listener_path = *receiver;
  if (out.policy.listener_path.empty())
    return Error(ErrorKind::invalid, "linux.seccomp.listenerPath: SCMP_ACT_NOTIFY needs a socket that takes the listener");
  if (out.policy.listener_path[0] != '/') return Error(ErrorKind::invalid, "linux.seccomp.listenerPath: is not an absolute path");
  out.policy.listener_metadata = profile.listener_metadata;
  return check_listener_leaves(out.seccomp);
}

void take_filter(linux::SeccompProgram program, ProcessPlan& out, std::vector<std::string>& warnings) {
  out.seccomp = std::move(program.filter);
  out.seccomp_flags = program.flags;
  // A name that no architecture knows is worth a word; one that only another architecture has is the rule in shared profiles.
  warnings.insert(warnings.end(), program.warnings.begin(), program.warnings.end());
}

Status plan_seccomp(const SharedSettings& shared, const PlanOptions& options, ProcessPlan& out, std::vector<std::string>& warnings) {
  if (const auto* data = annotation(shared, "seccomp_bpf_data")) {
    out.seccomp = TRY_PLAIN(given_program(*data));
    return {};
  }
  if (!shared.seccomp) {
    if (options.filter != nullptr) take_filter(*options.filter, out, warnings);
    return {};
  }
  const SeccompProfile& profile = *shared.seccomp;
  if (profile.listener_path.empty() && !profile.listener_metadata.empty())
    return Error(ErrorKind::invalid, "linux.seccomp.listenerMetadata: is for a listener, but listenerPath is missing");
  if (annotation(shared, "seccomp_fail_unknown_syscall") != nullptr) TRY_PLAIN(refuse_unknown_calls(profile));
  auto program = options.filter != nullptr ? *options.filter : TRY_PLAIN(compile_profile(profile));
  const bool needs_listener = program.needs_listener;
  take_filter(std::move(program), out, warnings);
  return needs_listener ? plan_listener(profile, shared, out) : Status{};
}

}  // namespace

Result<ProcessPlan> compute_process_plan(const Process& process, const SharedSettings& shared, const HostFacts& facts,
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
  plan_oom_score(process, facts, out, warnings);
  // Where AppArmor is off, everything is unconfined: docker ignores a profile there, and to be confined by none is no wish that fails.
  const bool is_unconfined = process.apparmor_profile == "unconfined" && !facts.has_apparmor;
  if (!process.apparmor_profile.empty() && !is_unconfined && !facts.has_apparmor)
    return Error(ErrorKind::unsupported,
                 concat("process.apparmorProfile: \"", process.apparmor_profile, "\" is wanted, but AppArmor is off"));
  if (!process.selinux_label.empty() && !facts.has_selinux)
    return Error(ErrorKind::unsupported,
                 concat("process.selinuxLabel: \"", process.selinux_label, "\" is wanted, but SELinux is off"));
  if (!is_unconfined) out.apparmor_profile = process.apparmor_profile;
  out.selinux_label = process.selinux_label;
  out.policy = TRY_PLAIN(plan_policy(process, shared));
  if (out.policy.keep_groups) out.set_groups = false;
  if (facts.is_rootless && !facts.may_set_groups) {
    if (!out.groups.empty()) warnings.emplace_back("process.user.additionalGids: this user namespace denies setgroups, so they were left out");
    out.groups.clear();
    out.set_groups = false;
  }
  TRY_PLAIN(plan_seccomp(shared, options, out, warnings));
  out.use_init = options.use_init;
  out.check_program_early = options.check_program_early;
  out.find_home = !has_variable(process.env, "HOME");
  out.new_session_keyring = options.new_session_keyring;
  return out;
}

}  // namespace caisson::runtime
