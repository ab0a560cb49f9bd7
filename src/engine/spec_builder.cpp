// The plan without mounts and limits: process, namespaces, devices, masks, sysctls.
#include "engine/spec_builder.hpp"

#include <algorithm>

#include "base/strings.hpp"
#include "engine/capabilities.hpp"

namespace caisson::engine {

namespace {
constexpr std::string_view default_path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// From 0 on, of a container's map, which is one line.
std::uint32_t ids_in(const linux::IdMap& map) { return map.empty() ? 0 : std::min(map.uids.front().count, map.gids.front().count); }

std::string_view key_of(std::string_view setting) { return split_once(setting, '=').before; }

bool is_container_mode(const std::string& mode) { return mode.starts_with("container:"); }

Result<std::vector<runtime::Rlimit>> build_rlimits(const std::vector<Ulimit>& ulimits) {
  std::vector<runtime::Rlimit> limits;
  for (const auto& ulimit : ulimits) {
    std::string type = "RLIMIT_";
    for (char c : ulimit.name) type += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    // -1 becomes RLIM_INFINITY by the conversion, as setrlimit(2) defines it.
    limits.push_back({type, static_cast<std::uint64_t>(ulimit.soft), static_cast<std::uint64_t>(ulimit.hard)});
  }
  return limits;
}

Result<runtime::CapabilitySets> build_capabilities(const ContainerSpec& spec, const ResolvedUser& user) {
  runtime::CapabilitySets sets;
  sets.bounding = TRY_PLAIN(resolve_capabilities(spec.cap_add, spec.cap_drop, spec.privileged));
  // A user other than root starts with none: execve(2) would clear them anyway, and nothing is inheritable or ambient, so that a
  // file capability cannot bring back more than the bounding set (CVE-2022-24769).
  if (user.uid == 0) {
    sets.permitted = sets.bounding;
    sets.effective = sets.bounding;
  }
  return sets;
}

Status check_ids_are_mapped(const ResolvedUser& user, const linux::IdMap& id_map) {
  if (id_map.empty()) return {};
  auto mapped = [count = ids_in(id_map)](std::uint32_t id) { return id < count; };
  bool good = mapped(user.uid) && mapped(user.gid) && std::all_of(user.additional_gids.begin(), user.additional_gids.end(), mapped);
  if (good) return {};
  return Error(ErrorKind::invalid, concat("user ", user.uid, ":", user.gid, ": a container has the ids 0 to ", ids_in(id_map) - 1, " only"))
      .with_hint("run it with --userns=host if it really needs larger ids");
}

std::vector<runtime::Namespace> build_namespaces(const SpecInput& input) {
  using runtime::NamespaceType;
  const auto& spec = input.info.spec;
  std::vector<runtime::Namespace> namespaces;
  if (!input.id_map.empty()) namespaces.push_back({NamespaceType::user, ""});
  namespaces.push_back({NamespaceType::mount, ""});
  if (spec.pid_mode != "host") namespaces.push_back({NamespaceType::pid, input.pid_namespace_path});
  if (spec.ipc_mode != "host") namespaces.push_back({NamespaceType::ipc, input.ipc_namespace_path});
  if (spec.uts_mode != "host") namespaces.push_back({NamespaceType::uts, ""});
  if (spec.network.mode != "host") namespaces.push_back({NamespaceType::network, ""});
  if (spec.cgroupns_mode != "host") namespaces.push_back({NamespaceType::cgroup, ""});
  return namespaces;
}

std::map<std::string, std::string> build_sysctls(const SpecInput& input) {
  const auto& spec = input.info.spec;
  std::map<std::string, std::string> sysctls;
  if (spec.network.mode != "host" && !is_container_mode(spec.network.mode)) {
    // Echo sockets for everybody inside, so that ping needs neither NET_RAW nor a setuid bit (icmp(7)). The range must be mapped.
    sysctls["net.ipv4.ping_group_range"] = input.id_map.empty() ? "0 2147483647" : concat("0 ", ids_in(input.id_map) - 1);
    // Low ports of the own network namespace protect nobody: any user inside may bind them, as in docker since 20.10.
    sysctls["net.ipv4.ip_unprivileged_port_start"] = "0";
  }
  for (const auto& [key, value] : spec.sysctls) sysctls[key] = value;
  return sysctls;
}

std::string process_cwd(const ContainerSpec& spec) { return spec.working_dir.empty() ? "/" : spec.working_dir; }
}  // namespace

std::vector<std::string> merge_environment(std::vector<std::string> base, const std::vector<std::string>& changes) {
  for (const auto& change : changes) {
    auto same_key = [&](const std::string& setting) { return key_of(setting) == key_of(change); };
    auto found = std::find_if(base.begin(), base.end(), same_key);
    if (change.find('=') == std::string::npos) {
      std::erase_if(base, same_key);
    } else if (found != base.end()) {
      *found = change;
    } else {
      base.push_back(change);
    }
  }
  return base;
}

std::vector<std::string> build_environment(const ContainerSpec& spec, const std::string& id, const ResolvedUser& user, const std::vector<std::string>& link_env) {
  std::vector<std::string> env = {std::string(default_path),
                                  "HOSTNAME=" + (spec.hostname.empty() ? id.substr(0, 12) : spec.hostname)};
  if (spec.tty) env.emplace_back("TERM=xterm");
  env = merge_environment(merge_environment(std::move(env), link_env), spec.env);
  bool has_home = std::any_of(env.begin(), env.end(), [](const auto& setting) { return key_of(setting) == "HOME"; });
  if (!has_home) env.push_back("HOME=" + user.home);
  return env;
}

std::vector<std::string> default_masked_paths() {
  return {
      "/proc/acpi",           // hardware control and details of the host
      "/proc/asound",         // tells what somebody plays (docker's CVE-2018-10892 was about acpi and scsi beside it)
      "/proc/interrupts",     // timing of the host's devices: keystroke side channels
      "/proc/kcore",          // the host's memory
      "/proc/keys",           // keys of every user namespace with the same uid
      "/proc/latency_stats",  // kernel addresses and what the host waits for
      "/proc/sched_debug",    // processes of the whole host
      "/proc/scsi",           // may remove disks of the host (CVE-2017-16539)
      "/proc/timer_list",     // timers of the whole host, with kernel addresses on old kernels
      "/proc/timer_stats",
      "/sys/devices/virtual/powercap",  // energy counters: side channel on secrets (CVE-2020-8694)
      "/sys/firmware",        // firmware tables and EFI variables
  };
}

std::vector<std::string> default_readonly_paths() {
  return {
      "/proc/bus",            // configuration space of PCI devices
      "/proc/fs",             // controls of file systems of the host
      "/proc/irq",            // affinities of the host's interrupts
      "/proc/sys",            // sysctls that no namespace contains: core_pattern, modprobe
      "/proc/sysrq-trigger",  // reboot, crash, kill of the host
  };
}

std::vector<std::string> masked_paths_of(const ContainerSpec& spec) {
  if (spec.privileged) return {};
  return spec.masked_paths.value_or(spec.nesting ? std::vector<std::string>{} : default_masked_paths());
}

std::vector<std::string> readonly_paths_of(const ContainerSpec& spec) {
  if (spec.privileged) return {};
  return spec.readonly_paths.value_or(spec.nesting ? std::vector<std::string>{} : default_readonly_paths());
}

namespace {
/// The default profile denies mounts, which an engine inside makes.
std::string apparmor_of(const SpecInput& input) {
  const auto& spec = input.info.spec;
  return spec.apparmor_profile.empty() && !spec.privileged && !spec.nesting ? input.default_apparmor : spec.apparmor_profile;
}
}  // namespace

Result<runtime::Spec> build_spec(const SpecInput& input) {
  const auto& spec = input.info.spec;
  TRY_PLAIN(check_ids_are_mapped(input.user, input.id_map));
  runtime::Spec plan;
  plan.root.readonly = spec.read_only_rootfs;
  if (spec.uts_mode != "host") {
    plan.hostname = spec.hostname.empty() ? input.info.id.substr(0, 12) : spec.hostname;
    plan.domainname = spec.domainname;
  }

  auto& process = plan.process;
  process.terminal = spec.tty;
  if (spec.tty && spec.console_size.height != 0) process.console_size = spec.console_size;
  process.user.uid = input.user.uid;
  process.user.gid = input.user.gid;
  process.user.additional_gids = input.user.additional_gids;
  process.args = input.info.args;
  process.env = merge_environment(build_environment(spec, input.info.id, input.user, input.link_env), spec.secret_env);
  process.cwd = process_cwd(spec);
  process.capabilities = TRY_PLAIN(build_capabilities(spec, input.user));
  process.rlimits = TRY_PLAIN(build_rlimits(spec.ulimits));
  process.no_new_privileges = spec.no_new_privileges;
  process.apparmor_profile = apparmor_of(input);
  process.oom_score_adj = spec.oom_score_adj;

  plan.mounts = TRY_PLAIN(detail::build_mounts(input));
  plan.annotations = spec.annotations;
  plan.namespaces = build_namespaces(input);
  plan.id_map = input.id_map;
  plan.devices = input.devices.nodes;
  plan.cgroups_path = input.cgroups_path;
  plan.resources = build_resources(spec.resources);
  plan.resources.devices = input.devices.rules;
  plan.resources.block_io = input.devices.block_io;
  if (spec.resources.blkio_weight != 0) plan.resources.block_io.weight = spec.resources.blkio_weight;
  if (!plan.resources.pids_limit && !spec.privileged) plan.resources.pids_limit = input.default_pids_limit;
  plan.sysctl = build_sysctls(input);
  if (!spec.privileged) plan.seccomp = input.seccomp;
  plan.masked_paths = masked_paths_of(spec);
  plan.readonly_paths = readonly_paths_of(spec);
  return plan;
}

Result<runtime::Process> build_exec_process(const SpecInput& input, const ExecSpec& exec) {
  TRY_PLAIN(check_ids_are_mapped(input.user, input.id_map));
  const auto& spec = input.info.spec;
  runtime::Process process;
  process.terminal = exec.tty;
  if (exec.tty && exec.console_size.height != 0) process.console_size = exec.console_size;
  process.user.uid = input.user.uid;
  process.user.gid = input.user.gid;
  process.user.additional_gids = input.user.additional_gids;
  process.args = exec.cmd;
  ContainerSpec terminal_choice = spec;  // TERM follows the exec's terminal, not the container's
  terminal_choice.tty = exec.tty;
  terminal_choice.env = merge_environment(spec.env, exec.env);
  process.env = build_environment(terminal_choice, input.info.id, input.user, input.link_env);
  process.cwd = exec.working_dir.empty() ? process_cwd(spec) : exec.working_dir;
  ContainerSpec rights = spec;
  rights.privileged = spec.privileged || exec.privileged;
  process.capabilities = TRY_PLAIN(build_capabilities(rights, input.user));
  process.rlimits = TRY_PLAIN(build_rlimits(spec.ulimits));
  process.no_new_privileges = spec.no_new_privileges;
  process.apparmor_profile = exec.privileged ? "" : apparmor_of(input);
  process.oom_score_adj = spec.oom_score_adj;
  return process;
}

}  // namespace caisson::engine
