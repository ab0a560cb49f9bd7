// From configuration to LaunchPlan: namespaces, root, devices, cgroup, sysctls.
#include "runtime/plan.hpp"

#include <algorithm>
#include <cerrno>

#include "linux/capabilities.hpp"
#include "linux/file.hpp"
#include "linux/idmap.hpp"
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
  // Without one of its own, building the root would rearrange the host's mounts.
  if (spec.find_namespace(NamespaceType::mount) == nullptr)
    return Error(ErrorKind::unsupported, "linux.namespaces: a new mount namespace is required");
  for (std::size_t i = 0; i < spec.namespaces.size(); ++i) {
    const auto& entry = spec.namespaces[i];
    const std::uint64_t flag = clone_flag(entry.type);
    const bool given = (entry.type == NamespaceType::user && options.has_user_namespace) ||
                       (entry.type == NamespaceType::network && options.has_network_namespace);
    if (given) continue;
    if (!entry.path.empty()) {
      plan.joins.push_back({flag, entry.path, static_cast<std::uint32_t>(i)});
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
  if (options.has_network_namespace) plan.joins.push_back({CLONE_NEWNET, "", 0});
  if (options.has_user_namespace) {
    plan.joins.push_back({CLONE_NEWUSER, "", 0});
    plan.in_user_namespace = true;
  }
  plan.id_map = spec.id_map;
  for (const auto& [clock, offset] : spec.time_offsets) plan.time_offsets.push_back({clock, offset.seconds, offset.nanoseconds});
  return {};
}

Status plan_net_devices(LaunchPlan& plan, const Spec& spec, const HostFacts& facts) {
  if (spec.net_devices.empty()) return {};
  if (!facts.is_privileged) return Error(ErrorKind::unsupported, "linux.netDevices: moving a device of the host needs its root");
  for (const auto& device : spec.net_devices)
    plan.net_devices.push_back({device.host_name, device.name.empty() ? device.host_name : device.name});
  return {};
}

/// Lines in the order the specification asks for: L3, then MB, then schemata as they are.
Status plan_intel_rdt(LaunchPlan& plan, const Spec& spec, const PlanOptions& options) {
  if (!spec.intel_rdt) return {};
  const IntelRdt& rdt = *spec.intel_rdt;
  PlanIntelRdt out;
  out.group = rdt.clos_id.empty() ? options.container_id : rdt.clos_id;
  if (out.group.empty()) return Error(ErrorKind::invalid, "linux.intelRdt.closID: missing, and the container has no id");
  for (const auto* text : {&rdt.l3_cache_schema, &rdt.memory_bandwidth_schema})
    for (std::string_view line : split(*text, '\n'))
      if (!trim(line).empty()) out.schemata.emplace_back(trim(line));
  for (const auto& line : rdt.schemata) out.schemata.emplace_back(trim(line));
  if (rdt.enable_monitoring) out.monitor = options.container_id.empty() ? "container" : options.container_id;
  plan.intel_rdt = std::move(out);
  return {};
}

/// SELinux's label for new file systems. proc and sysfs cannot have one (their files are labelled by the policy), mqueue only since
/// its superblock took the option; all others take it as a mount option.
Status plan_mount_label(LaunchPlan& plan, const Spec& spec, const HostFacts& facts) {
  if (spec.mount_label.empty()) return {};
  if (!facts.has_selinux) return Error(ErrorKind::unsupported, "linux.mountLabel: SELinux is off");
  std::string key = "context";
  if (auto found = spec.annotations.find("run.oci.mount_context_type"); found != spec.annotations.end()) {
    key = found->second;
    if (key != "context" && key != "fscontext" && key != "defcontext" && key != "rootcontext")
      return Error(ErrorKind::invalid, concat("annotations[\"run.oci.mount_context_type\"]: \"", key, "\" is not a kind of context"));
  }
  for (auto& mount : plan.mounts) {
    const bool is_new = mount.kind == MountKind::filesystem || mount.kind == MountKind::device_folder;
    const bool unlabelled = mount.type == "proc" || mount.type == "sysfs" || mount.type == "cgroup2" || mount.type == "mqueue";
    if (is_new && !unlabelled) mount.options.push_back({key, spec.mount_label, false});
  }
  return {};
}

Status plan_delegation(LaunchPlan& plan, const Spec& spec, const HostFacts& facts) {
  auto found = spec.annotations.find("run.oci.delegate-cgroup");
  if (found == spec.annotations.end()) return {};
  const std::string at = "annotations[\"run.oci.delegate-cgroup\"]";
  // A name, not a path: ".." would lead out of the container's group (found in crun before 1.29).
  if (found->second.empty() || found->second[0] == '.' || found->second.find('/') != std::string::npos)
    return Error(ErrorKind::invalid, concat(at, ": \"", found->second, "\" is not the name of a group"));
  if (!facts.cgroup_unified) return Error(ErrorKind::unsupported, concat(at, ": delegation is safe on cgroup v2 only"));
  plan.delegated_cgroup = found->second;
  return {};
}

/// The hierarchies are in the facts, which were read from CgroupLayout::with_named; elsewhere v1 is what the mount shows anyway.
void plan_forced_v1(LaunchPlan& plan, const Spec& spec, const HostFacts& facts) {
  const auto found = spec.annotations.find(force_cgroup_v1);
  if (found == spec.annotations.end() || !facts.cgroup_unified) return;
  bool applied = false;
  for (auto& mount : plan.mounts) {
    if (mount.destination != found->second || (mount.type != "cgroup" && mount.type != "cgroup2")) continue;
    mount.kind = MountKind::cgroup_v1;
    mount.type = "cgroup";
    mount.folders = facts.cgroup_v1_mounts;
    mount.options.clear();
    applied = true;
  }
  if (!applied) plan.warnings.push_back(concat("annotations[\"", force_cgroup_v1, "\"]: no cgroup mount at ", found->second));
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
    plan.root_path =
        spec.root.path.starts_with("/") || options.bundle.empty() ? spec.root.path : concat(options.bundle, "/", spec.root.path);
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
    auto same =
        std::find_if(plan.devices.begin(), plan.devices.end(), [&](const PlanDevice& other) { return other.path == device.path; });
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
    add({device.path, type | mode, static_cast<std::uint32_t>(device.major), static_cast<std::uint32_t>(device.minor), device.uid,
         device.gid});
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
  out.memory_check_before_update = resources.memory.check_before_update.value_or(false);
  out.net_cls_classid = resources.network.class_id;
  for (const auto& item : resources.network.priorities) out.net_prio.push_back({item.interface, item.priority});
  for (const auto& [device, limit] : resources.rdma) out.rdma.push_back({device, limit.handles, limit.objects});
  out.unified = resources.unified;
  if (resources.memory.swap_bytes && resources.memory.limit_bytes && *resources.memory.swap_bytes >= 0 &&
      *resources.memory.limit_bytes > *resources.memory.swap_bytes)
    return Error(ErrorKind::invalid, "linux.resources.memory.swap: is memory plus swap, so it cannot be below the memory limit");
  return out;
}

namespace {

/// A cgroup mount without "ro": the container means to make cgroups of its own (systemd inside, nested engines).
bool has_writable_cgroup_mount(const Spec& spec) {
  return std::any_of(spec.mounts.begin(), spec.mounts.end(), [](const Mount& mount) {
    return (mount.type == "cgroup" || mount.type == "cgroup2") &&
           std::find(mount.options.begin(), mount.options.end(), "ro") == mount.options.end();
  });
}

}  // namespace

HostFacts HostFacts::behind(const linux::IdMap& map) const {
  HostFacts out = *this;
  // A denial is inherited.
  if (is_rootless) out.may_set_groups = may_set_groups && (may_mount || map.gids.size() != 1 || map.gids[0].count != 1);
  return out;
}

Result<LaunchPlan> compute_plan(const Spec& spec, const HostFacts& facts, const PlanOptions& options) {
  TRY_PLAIN(check_spec(spec));
  LaunchPlan plan;
  TRY_PLAIN(plan_namespaces(plan, spec, options));
  TRY_PLAIN(plan_net_devices(plan, spec, facts));
  TRY_PLAIN(plan_intel_rdt(plan, spec, options));
  TRY_PLAIN(plan_delegation(plan, spec, facts));
  if (!facts.may_mount && !plan.in_user_namespace)
    return Error(ErrorKind::denied, "linux.namespaces: an ordinary user needs a user namespace (EPERM)", EPERM);
  plan_root(plan, spec, options);
  for (std::size_t i = 0; i < spec.mounts.size(); ++i)
    plan.mounts.push_back(TRY_PLAIN(plan_mount(spec.mounts[i], i, plan, facts, options)));
  plan_forced_v1(plan, spec, facts);
  const HostFacts inside = plan.new_user_namespace ? facts.behind(plan.id_map) : facts;
  plan.process = TRY_PLAIN(compute_process_plan(spec.process, SharedSettings::of(spec), inside, options, plan.warnings));
  plan_devices(plan, spec);
  plan_device_folders(plan);
  plan.masked_paths = spec.masked_paths;
  plan.readonly_paths = spec.readonly_paths;
  for (const auto& [key, value] : spec.sysctl) plan.sysctls.push_back({sysctl_path(key), value});
  plan.hostname = spec.hostname;
  plan.domainname = spec.domainname;
  plan.cgroups_path = spec.cgroups_path;
  TRY_PLAIN(plan_mount_label(plan, spec, facts));
  if (spec.resources.memory.kernel_bytes || spec.resources.memory.kernel_tcp_bytes)
    plan.warnings.emplace_back(
        "linux.resources.memory.kernel and kernelTCP have no counterpart in the kernel any more and were left out");
  constexpr std::string_view property = "org.systemd.property.";
  for (const auto& [key, value] : spec.annotations)
    if (key.starts_with(property)) plan.systemd_properties[key.substr(property.size())] = value;
  plan.hand_over_cgroup =
      facts.cgroup_unified && plan.in_user_namespace && plan.new_cgroup_namespace && has_writable_cgroup_mount(spec);
  plan.limits = TRY_PLAIN(plan_limits(spec.resources));
  // A device filter needs the host's root (CAP_BPF, or v1's devices.allow); but without it nobody makes a device node either.
  if (!facts.is_rootless) plan.limits.devices = plan_device_rules(spec.resources.devices);
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

Result<HostFacts> facts_for_every_plan(const linux::CgroupLayout& layout) {
  HostFacts facts;
  auto state = TRY(linux::capget(), "reading our capabilities");
  constexpr int cap_mknod = 27;
  constexpr int cap_sys_admin = 21;
  constexpr int cap_sys_resource = 24;
  // In a user namespace (rootless, or nested) a process may have CAP_MKNOD, but the kernel still refuses devices.
  const bool initial = linux::in_initial_user_namespace();
  facts.may_mount = state.effective.contains(cap_sys_admin);
  facts.is_rootless = !initial || !facts.may_mount;
  facts.is_privileged = !facts.is_rootless && state.effective.contains(cap_mknod);
  facts.may_raise_rlimits = initial && state.effective.contains(cap_sys_resource);
  facts.cgroup_unified = layout.mode == linux::CgroupMode::unified;
  for (const auto& hierarchy : layout.hierarchies)
    if (!hierarchy.is_v2) facts.cgroup_v1_mounts.push_back(std::string(split_last(hierarchy.mount_point, '/').after));
  return facts;
}

void read_label_facts(HostFacts& facts) {
  facts.has_apparmor = linux::exists("/sys/kernel/security/apparmor").value_or(false);
  facts.has_selinux = linux::exists("/sys/fs/selinux/enforce").value_or(false);
}

/// Asks for each capability that is named; what the kernel does not know (EINVAL, prctl(2)) counts as above its last one.
Status read_named_capabilities(HostFacts& facts, const CapabilitySets& sets) {
  facts.our_bounding_set = 0;
  std::uint64_t asked = 0;
  for (const auto* set : {&sets.bounding, &sets.effective, &sets.permitted, &sets.inheritable, &sets.ambient})
    for (const auto& name : *set) {
      auto number = linux::capability_by_name(name);
      if (!number) continue;  // the plan warns of it
      const std::uint64_t bit = 1ULL << static_cast<unsigned>(*number);
      if ((asked & bit) != 0) continue;
      asked |= bit;
      auto held = linux::in_bounding_set(*number);
      if (held && *held) facts.our_bounding_set |= bit;
      if (held) continue;
      if (held.error().error_number() != EINVAL) return std::move(held).error();
      facts.last_capability = std::min(facts.last_capability, static_cast<std::uint32_t>(*number) - 1);
    }
  return {};
}

}  // namespace

FactsNeeded FactsNeeded::of(const Process& process) {
  FactsNeeded out;
  out.rlimits = process.rlimits;
  out.labels = !process.apparmor_profile.empty() || !process.selinux_label.empty();
  out.oom_score = process.oom_score_adj.has_value();
  out.capabilities = process.capabilities.has_value();
  out.named = process.capabilities;
  return out;
}

FactsNeeded FactsNeeded::of(const Spec& spec) {
  FactsNeeded out = of(spec.process);
  out.labels = out.labels || !spec.mount_label.empty();
  return out;
}

namespace {

/// Our hard limits by resource number; those nobody asks for count as unlimited.
Result<std::vector<std::uint64_t>> read_hard_limits(const FactsNeeded& needed) {
  std::vector<std::uint64_t> out(RLIM_NLIMITS, RLIM_INFINITY);
  for (int resource = 0; resource < RLIM_NLIMITS; ++resource) {
    auto names = [&](const Rlimit& limit) { return linux::limit_by_name(limit.type).value_or(-1) == resource; };
    if (needed.rlimits && std::none_of(needed.rlimits->begin(), needed.rlimits->end(), names)) continue;
    out[static_cast<std::size_t>(resource)] = TRY(linux::get_limit(0, resource), "reading our resource limits").hard;
  }
  return out;
}

}  // namespace

namespace {

/// What only those need to know who are not the host's root.
Status read_rootless_facts(HostFacts& facts, const FactsNeeded& needed) {
  // Missing where the kernel has no user namespaces, and then nothing is denied by one (user_namespaces(7)).
  if (auto rule = linux::read_file("/proc/self/setgroups")) facts.may_set_groups = !rule->starts_with("deny");
  if (!needed.oom_score) return {};
  const std::string text = TRY_PLAIN(linux::read_file("/proc/self/oom_score_adj"));
  facts.oom_score_adj = TRY(parse_integer<std::int32_t>(trim(text)), "/proc/self/oom_score_adj");
  return {};
}

}  // namespace

Result<HostFacts> read_host_facts() {
  auto layout = TRY(linux::detect_cgroup_layout(), "reading the cgroup mounts");
  return read_host_facts(layout);
}

Result<HostFacts> read_host_facts(const linux::CgroupLayout& layout, const FactsNeeded& needed) {
  auto facts = TRY_PLAIN(facts_for_every_plan(layout));
  facts.hard_rlimits = TRY_PLAIN(read_hard_limits(needed));
  if (needed.capabilities && needed.named) {
    TRY(read_named_capabilities(facts, *needed.named), "reading our bounding set");
  } else if (needed.capabilities) {
    facts.last_capability = static_cast<std::uint32_t>(TRY(linux::last_capability(), "reading the kernel's capabilities"));
    facts.our_bounding_set = TRY(read_bounding_set(), "reading our bounding set");
  }
  if (needed.labels) read_label_facts(facts);
  if (facts.is_rootless) TRY_PLAIN(read_rootless_facts(facts, needed));
  return facts;
}

}  // namespace caisson::runtime
