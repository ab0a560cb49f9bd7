// From configuration to LaunchPlan: namespaces, root, devices, cgroup, sysctls.
#include "runtime/plan.hpp"

#include <algorithm>

#include "linux/capabilities.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"

namespace caisson::runtime {

namespace {

std::uint64_t clone_flag(NamespaceType type) {
  switch (type) {
    case NamespaceType::pid: return CLONE_NEWPID;
    case NamespaceType::network: return CLONE_NEWNET;
    case NamespaceType::mount: return CLONE_NEWNS;
    case NamespaceType::ipc: return CLONE_NEWIPC;
    case NamespaceType::uts: return CLONE_NEWUTS;
    case NamespaceType::user: return CLONE_NEWUSER;
    case NamespaceType::cgroup: return CLONE_NEWCGROUP;
    case NamespaceType::time: return CLONE_NEWTIME;
  }
  return 0;
}

Status plan_namespaces(LaunchPlan& plan, const Spec& spec, const PlanOptions& options) {
  const auto* mount = spec.find_namespace(NamespaceType::mount);
  // Without one of its own, building the root would rearrange the host's mounts.
  if (mount == nullptr || !mount->path.empty())
    return Error(ErrorKind::unsupported, "linux.namespaces: a new mount namespace is required");
  for (const auto& entry : spec.namespaces) {
    const std::uint64_t flag = clone_flag(entry.type);
    const bool given = (entry.type == NamespaceType::user && options.has_user_namespace) ||
                       (entry.type == NamespaceType::network && options.has_network_namespace);
    if (given) continue;
    if (!entry.path.empty()) {
      plan.joins.push_back({flag, entry.path});
      if (entry.type == NamespaceType::user) plan.in_user_namespace = true;
      continue;
    }
    if (entry.type == NamespaceType::user) {
      if (spec.id_map.empty()) return Error(ErrorKind::invalid, "linux.uidMappings: a new user namespace needs mappings");
      plan.new_user_namespace = true;
      plan.in_user_namespace = true;
    } else if (entry.type == NamespaceType::cgroup) {
      plan.new_cgroup_namespace = true;
    } else {
      plan.clone_flags |= flag;
    }
  }
  if (options.has_network_namespace) plan.joins.push_back({CLONE_NEWNET, ""});
  if (options.has_user_namespace) {
    plan.joins.push_back({CLONE_NEWUSER, ""});
    plan.in_user_namespace = true;
  }
  plan.id_map = spec.id_map;
  return {};
}

std::uint64_t propagation_of(std::string_view word) {
  if (word.ends_with("shared")) return MS_SHARED;
  if (word.ends_with("slave")) return MS_SLAVE;
  if (word.ends_with("unbindable")) return MS_UNBINDABLE;
  return MS_PRIVATE;
}

void plan_root(LaunchPlan& plan, const Spec& spec, const PlanOptions& options) {
  plan.overlay = options.rootfs;
  if (!plan.overlay)
    plan.root_path = spec.root.path.starts_with("/") || options.bundle.empty() ? spec.root.path : concat(options.bundle, "/", spec.root.path);
  plan.root_readonly = spec.root.readonly;
  plan.root_propagation = propagation_of(spec.rootfs_propagation);
  plan.root_propagation_recursive = spec.rootfs_propagation.empty() || spec.rootfs_propagation[0] == 'r';
  plan.no_pivot = options.no_pivot;
}

constexpr std::uint32_t character = 0020000;
constexpr std::uint32_t block = 0060000;
constexpr std::uint32_t fifo = 0010000;

/// The devices every container must have (runtime-spec config-linux.md, "Default Devices"); tty, ptmx and console follow.
constexpr struct {
  std::string_view path;
  std::uint32_t minor;
} default_devices[] = {{"/dev/null", 3}, {"/dev/zero", 5}, {"/dev/full", 7}, {"/dev/random", 8}, {"/dev/urandom", 9}};

void plan_devices(LaunchPlan& plan, const Spec& spec) {
  // A /dev bound from the host has its nodes already; making ours in it would change the host.
  const bool host_dev = std::any_of(plan.mounts.begin(), plan.mounts.end(), [](const PlanMount& mount) {
    return mount.destination == "/dev" && mount.kind == MountKind::bind;
  });
  auto add = [&](PlanDevice device) {
    auto same = std::find_if(plan.devices.begin(), plan.devices.end(), [&](const PlanDevice& other) { return other.path == device.path; });
    if (same == plan.devices.end()) plan.devices.push_back(std::move(device));
    else *same = std::move(device);
  };
  if (!host_dev) {
    for (const auto& entry : default_devices) add({std::string(entry.path), character | 0666, 1, entry.minor, 0, 0});
    add({"/dev/tty", character | 0666, 5, 0, 0, 0});
  }
  for (const auto& device : spec.devices) {
    // ptmx and the console are those of the container's own devpts, never the host's: podman --privileged lists them all.
    if (device.path == "/dev/ptmx" || (device.path == "/dev/console" && plan.process.terminal)) continue;
    const std::uint32_t type = device.type == 'b' ? block : device.type == 'p' ? fifo : character;
    const std::uint32_t mode = device.file_mode.value_or(0666) & 07777;
    add({device.path, type | mode, static_cast<std::uint32_t>(device.major), static_cast<std::uint32_t>(device.minor), device.uid, device.gid});
  }
}

/// Folders of later mounts that can be made while /dev is still ours alone, so that the child need not.
void plan_device_folders(LaunchPlan& plan) {
  for (auto& folder : plan.mounts) {
    if (folder.kind != MountKind::device_folder) continue;
    for (const auto& mount : plan.mounts) {
      const bool is_folder = mount.kind == MountKind::filesystem || mount.source == "/dev/mqueue";
      if (!is_folder || !mount.destination.starts_with("/dev/")) continue;
      std::string name = mount.destination.substr(5);
      if (name.find('/') == std::string::npos && name != "..") folder.folders.push_back(std::move(name));
    }
  }
}

/// procps's rule (sysctl.d(5)): whichever of "/" and "." comes first is the separator; with "." first the two swap.
std::string sysctl_path(std::string_view key) {
  std::string out(key);
  const auto first = out.find_first_of("./");
  if (first == std::string::npos || out[first] == '/') return out;
  for (char& c : out) c = c == '.' ? '/' : c == '/' ? '.' : c;
  return out;
}

bool allows_all(const DeviceRule& rule) {
  return rule.type == 'a' && !rule.major && !rule.minor && (rule.access.empty() || rule.access == "rwm");
}

linux::CgroupDeviceRule device_rule(bool allow, char type, std::optional<std::int64_t> major, std::optional<std::int64_t> minor,
                                    std::string access) {
  linux::CgroupDeviceRule out;
  out.allow = allow;
  out.type = type;
  out.major = major;
  out.minor = minor;
  out.access = std::move(access);
  return out;
}

/// Deny all, then what the configuration says, then what no container can do without (the kernel's defaults plus ptys).
std::vector<linux::CgroupDeviceRule> plan_device_rules(const std::vector<DeviceRule>& rules) {
  std::vector<linux::CgroupDeviceRule> out;
  out.push_back(device_rule(false, 'a', std::nullopt, std::nullopt, "rwm"));
  for (const auto& rule : rules) {
    if (allows_all(rule)) out.clear();  // all or nothing makes what came before it void
    out.push_back(device_rule(rule.allow, rule.type, rule.major, rule.minor, rule.access.empty() ? "rwm" : rule.access));
  }
  if (out.back().allow && out.back().type == 'a' && out.size() == 1) return out;
  out.push_back(device_rule(true, 'c', std::nullopt, std::nullopt, "m"));
  out.push_back(device_rule(true, 'b', std::nullopt, std::nullopt, "m"));
  for (const auto& entry : default_devices) out.push_back(device_rule(true, 'c', 1, entry.minor, "rwm"));
  out.push_back(device_rule(true, 'c', 5, 0, "rwm"));
  out.push_back(device_rule(true, 'c', 5, 2, "rwm"));
  out.push_back(device_rule(true, 'c', 136, std::nullopt, "rwm"));
  return out;
}

std::vector<linux::CgroupDevice> throttles(const std::vector<ThrottleDevice>& items) {
  std::vector<linux::CgroupDevice> out;
  for (const auto& item : items) out.push_back({item.major, item.minor, item.rate});
  return out;
}

}  // namespace

Result<linux::CgroupLimits> plan_limits(const Resources& resources) {
  linux::CgroupLimits out;
  out.memory_limit_bytes = resources.memory.limit_bytes;
  out.memory_reservation_bytes = resources.memory.reservation_bytes;
  out.memory_swap_bytes = resources.memory.swap_bytes;
  out.memory_swappiness = resources.memory.swappiness;
  out.memory_disable_oom_killer = resources.memory.disable_oom_killer;
  out.cpu_shares = resources.cpu.shares;
  out.cpu_quota_us = resources.cpu.quota_us;
  out.cpu_period_us = resources.cpu.period_us;
  out.cpu_burst_us = resources.cpu.burst_us;
  out.cpu_rt_runtime_us = resources.cpu.realtime_runtime_us;
  out.cpu_rt_period_us = resources.cpu.realtime_period_us;
  out.cpu_idle = resources.cpu.idle;
  out.cpuset_cpus = resources.cpu.cpus;
  out.cpuset_mems = resources.cpu.mems;
  out.pids_limit = resources.pids_limit;
  out.blkio_weight = resources.block_io.weight;
  for (const auto& item : resources.block_io.weight_devices) out.blkio_weight_devices.push_back({item.major, item.minor, item.weight});
  out.blkio_read_bps = throttles(resources.block_io.read_bps);
  out.blkio_write_bps = throttles(resources.block_io.write_bps);
  out.blkio_read_iops = throttles(resources.block_io.read_iops);
  out.blkio_write_iops = throttles(resources.block_io.write_iops);
  for (const auto& item : resources.hugepages) out.hugepages.push_back({item.page_size, item.limit_bytes});
  out.unified = resources.unified;
  if (resources.memory.swap_bytes && resources.memory.limit_bytes && *resources.memory.swap_bytes >= 0 &&
      *resources.memory.limit_bytes > *resources.memory.swap_bytes)
    return Error(ErrorKind::invalid, "linux.resources.memory.swap: is memory plus swap, so it cannot be below the memory limit");
  return out;
}

Result<LaunchPlan> compute_plan(const Spec& spec, const HostFacts& facts, const PlanOptions& options) {
  TRY_PLAIN(check_spec(spec));
  LaunchPlan plan;
  TRY_PLAIN(plan_namespaces(plan, spec, options));
  plan_root(plan, spec, options);
  for (std::size_t i = 0; i < spec.mounts.size(); ++i)
    plan.mounts.push_back(TRY_PLAIN(plan_mount(spec.mounts[i], i, plan, facts, options)));
  plan.process = TRY_PLAIN(compute_process_plan(spec.process, spec.seccomp, facts, options, plan.warnings));
  plan_devices(plan, spec);
  plan_device_folders(plan);
  plan.masked_paths = spec.masked_paths;
  plan.readonly_paths = spec.readonly_paths;
  for (const auto& [key, value] : spec.sysctl) plan.sysctls.push_back({sysctl_path(key), value});
  plan.hostname = spec.hostname;
  plan.domainname = spec.domainname;
  plan.cgroups_path = spec.cgroups_path;
  if (!spec.mount_label.empty() && !facts.has_selinux)
    return Error(ErrorKind::unsupported, "linux.mountLabel: SELinux is off");
  plan.limits = TRY_PLAIN(plan_limits(spec.resources));
  plan.limits.devices = plan_device_rules(spec.resources.devices);
  return plan;
}

namespace {

/// "CapBnd:\t000001ffffffffff" of /proc/self/status: one read instead of a prctl for each capability.
Result<std::uint64_t> read_bounding_set() {
  const std::string status = TRY_PLAIN(linux::read_file("/proc/thread-self/status"));
  constexpr std::string_view name = "CapBnd:\t";
  const auto at = status.find(name);
  if (at == std::string::npos) return Error(ErrorKind::corrupt, "/proc/thread-self/status has no CapBnd");
  const std::string_view rest = std::string_view(status).substr(at + name.size());
  return parse_integer<std::uint64_t>(rest.substr(0, rest.find('\n')), 16);
}

}  // namespace

Result<HostFacts> read_host_facts() {
  auto layout = TRY(linux::detect_cgroup_layout(), "reading the cgroup mounts");
  return read_host_facts(layout);
}

Result<HostFacts> read_host_facts(const linux::CgroupLayout& layout) {
  HostFacts facts;
  auto state = TRY(linux::capget(), "reading our capabilities");
  constexpr int cap_mknod = 27;
  constexpr int cap_sys_admin = 21;
  constexpr int cap_sys_resource = 24;
  // In a user namespace of its own (rootless, or nested) a process has CAP_MKNOD but the kernel still refuses devices.
  auto uid_map = linux::read_file("/proc/self/uid_map");
  const bool initial = uid_map.ok() && uid_map->find("4294967295") != std::string::npos;
  facts.is_privileged = initial && state.effective.contains(cap_sys_admin) && state.effective.contains(cap_mknod);
  facts.may_raise_rlimits = initial && state.effective.contains(cap_sys_resource);
  for (int resource = 0; resource < RLIM_NLIMITS; ++resource)
    facts.hard_rlimits.push_back(TRY(linux::get_limit(0, resource), "reading our resource limits").hard);
  facts.last_capability = static_cast<std::uint32_t>(TRY(linux::last_capability(), "reading the kernel's capabilities"));
  facts.our_bounding_set = TRY(read_bounding_set(), "reading our bounding set");
  facts.cgroup_unified = layout.mode == linux::CgroupMode::unified;
  for (const auto& hierarchy : layout.hierarchies)
    if (!hierarchy.is_v2) facts.cgroup_v1_mounts.push_back(std::string(split_last(hierarchy.mount_point, '/').after));
  facts.has_apparmor = linux::exists("/sys/kernel/security/apparmor").value_or(false);
  facts.has_selinux = linux::exists("/sys/fs/selinux/enforce").value_or(false);
  return facts;
}

}  // namespace caisson::runtime
