// HostConfig → the engine's specification.
#include "api/host_config.hpp"

#include <algorithm>

#include "api/create_body.hpp"
#include "base/strings.hpp"
#include "engine/size_limit.hpp"

namespace caisson::api {

namespace {

Error unsupported(const JsonView& host, std::string_view field, std::string_view why) {
  return {ErrorKind::unsupported, concat(host.path(), ".", field, ": ", why)};
}

/// Fields that are known to Docker but not to us yet: silence would let somebody believe in what is not there.
Status refuse_unsupported(const JsonView& host) {
  struct Refused {
    std::string_view field;
    std::string_view why;
  };
  static constexpr Refused numbers[] = {
      {"KernelMemory", "kernel memory limits are not supported"},
      {"KernelMemoryTCP", "kernel TCP memory limits are not supported"},
      {"CpuCount", "this is a setting of Windows"},
      {"CpuPercent", "this is a setting of Windows"},
      {"IOMaximumIOps", "this is a setting of Windows"},
      {"IOMaximumBandwidth", "this is a setting of Windows"},
  };
  for (const auto& [field, why] : numbers) {
    std::int64_t value = 0;
    TRY_PLAIN(host.read(field, value));
    if (value != 0) return unsupported(host, field, why);
  }
  std::string text;
  TRY_PLAIN(host.read("Cgroup", text));
  if (!text.empty()) return unsupported(host, "Cgroup", "joining another container's cgroup is not supported");
  text.clear();
  TRY_PLAIN(host.read("Isolation", text));
  if (!text.empty() && text != "default") return Error(ErrorKind::invalid, concat("invalid isolation (", text, "): only 'default' exists on Linux"));
  text.clear();
  TRY_PLAIN(host.read("VolumeDriver", text));
  if (!text.empty() && text != "local") return unsupported(host, "VolumeDriver", concat("volume driver \"", text, "\": only \"local\" is known"));
  return {};
}

/// "8080", or "8000-8010" for any free one of these.
Status read_host_port(const std::string& text, network::PortBinding& binding) {
  if (text.empty()) return {};
  const Halves ends = split_once(text, '-');
  auto first = parse_integer<std::uint16_t>(ends.before);
  auto last = ends.found ? parse_integer<std::uint16_t>(ends.after) : first;
  if (!first.ok() || !last.ok() || *last < *first) return Error(ErrorKind::invalid, concat("invalid port specification: \"", text, "\""));
  binding.host_port = *first;
  if (*last != *first) binding.host_port_last = *last;
  return {};
}

/// One entry of PortBindings.
Status read_port(std::string_view key, const JsonView& list, std::vector<network::PortBinding>& ports) {
  const PortKey target = TRY(parse_port_key(key), list.path());
  return list.for_each_element([&](const JsonView& entry) -> Status {
    network::PortBinding binding;
    binding.protocol = target.protocol;
    binding.container_port = target.port;
    TRY_PLAIN(entry.read("HostIp", binding.host_ip));
    std::string host_port;
    TRY_PLAIN(entry.read("HostPort", host_port));
    TRY_PLAIN(read_host_port(host_port, binding));
    ports.push_back(std::move(binding));
    return {};
  });
}

Status read_network(const JsonView& host, engine::ContainerSpec& spec) {
  std::string mode;
  TRY_PLAIN(host.read("NetworkMode", mode));
  if (!mode.empty() && mode != "default") spec.network.mode = mode;
  TRY_PLAIN(host.read("PublishAllPorts", spec.publish_all_ports));
  TRY_PLAIN(TRY_PLAIN(host.at("PortBindings")).for_each_member([&](std::string_view key, const JsonView& list) {
    return read_port(key, list, spec.ports);
  }));
  TRY_PLAIN(host.read("Dns", spec.dns));
  TRY_PLAIN(host.read("DnsSearch", spec.dns_search));
  TRY_PLAIN(host.read("DnsOptions", spec.dns_options));
  TRY_PLAIN(host.read("Links", spec.links));
  return host.read("ExtraHosts", spec.extra_hosts);
}

Status read_rights(const JsonView& host, engine::ContainerSpec& spec) {
  TRY_PLAIN(host.read("CapAdd", spec.cap_add));
  TRY_PLAIN(host.read("CapDrop", spec.cap_drop));
  TRY_PLAIN(host.read("Privileged", spec.privileged));
  TRY_PLAIN(host.read("ReadonlyRootfs", spec.read_only_rootfs));
  TRY_PLAIN(host.read("MaskedPaths", spec.masked_paths));
  TRY_PLAIN(host.read("ReadonlyPaths", spec.readonly_paths));
  TRY_PLAIN(host.read("GroupAdd", spec.groups));
  TRY_PLAIN(host.read("SecurityOpt", spec.security_options));
  for (const auto& option : spec.security_options) TRY_PLAIN(apply_security_option(option, spec));
  TRY_PLAIN(host.read("UsernsMode", spec.userns_mode));
  TRY_PLAIN(host.read("PidMode", spec.pid_mode));
  TRY_PLAIN(host.read("IpcMode", spec.ipc_mode));
  TRY_PLAIN(host.read("UTSMode", spec.uts_mode));
  TRY_PLAIN(host.read("CgroupnsMode", spec.cgroupns_mode));
  TRY_PLAIN(host.read("CgroupParent", spec.cgroup_parent));
  return host.read("Sysctls", spec.sysctls);
}

Status read_storage_options(const JsonView& host, engine::ContainerSpec& spec) {
  std::map<std::string, std::string> options;
  TRY_PLAIN(host.read("StorageOpt", options));
  for (const auto& [key, value] : options) {
    if (lower(key) != "size") return Error(ErrorKind::invalid, concat(host.path(), ".StorageOpt: unknown option ", key));
    spec.storage_size_bytes = TRY(engine::parse_size_limit(value), concat(host.path(), ".StorageOpt"));
  }
  return {};
}

Status read_limits(const JsonView& host, engine::ContainerSpec& spec) {
  TRY_PLAIN(read_storage_options(host, spec));
  TRY_PLAIN(read_resources(host, spec.resources));
  TRY_PLAIN(host.read("OomScoreAdj", spec.oom_score_adj));
  TRY_PLAIN(host.read("ShmSize", spec.shm_size_bytes));
  TRY_PLAIN(TRY_PLAIN(host.at("Ulimits")).for_each_element([&](const JsonView& entry) -> Status {
    engine::Ulimit limit;
    TRY_PLAIN(entry.read("Name", limit.name));
    TRY_PLAIN(entry.read("Soft", limit.soft));
    TRY_PLAIN(entry.read("Hard", limit.hard));
    spec.ulimits.push_back(std::move(limit));
    return {};
  }));
  TRY_PLAIN(TRY_PLAIN(host.at("Devices")).for_each_element([&](const JsonView& entry) -> Status {
    engine::DeviceSpec device;
    TRY_PLAIN(entry.read("PathOnHost", device.path_on_host));
    TRY_PLAIN(entry.read("PathInContainer", device.path_in_container));
    std::string permissions;
    TRY_PLAIN(entry.read("CgroupPermissions", permissions));
    if (!permissions.empty()) device.permissions = permissions;
    spec.devices.push_back(std::move(device));
    return {};
  }));
  TRY_PLAIN(TRY_PLAIN(host.at("DeviceRequests")).for_each_element([&](const JsonView& entry) -> Status {
    engine::DeviceRequest request;
    TRY_PLAIN(entry.read("Driver", request.driver));
    TRY_PLAIN(entry.read("Count", request.count));
    TRY_PLAIN(entry.read("DeviceIDs", request.device_ids));
    TRY_PLAIN(TRY_PLAIN(entry.at("Capabilities")).for_each_element([&](const JsonView& list) { return list.read(request.capabilities.emplace_back()); }));
    if (request.count != 0 && !request.device_ids.empty()) return Error(ErrorKind::invalid, "cannot set both Count and DeviceIDs on device request");
    spec.device_requests.push_back(std::move(request));
    return {};
  }));
  return host.read("DeviceCgroupRules", spec.device_cgroup_rules);
}

Status read_logging(const JsonView& host, engine::ContainerSpec& spec) {
  JsonView log = TRY_PLAIN(host.at("LogConfig"));
  TRY_PLAIN(log.read("Type", spec.log_driver));
  return log.read("Config", spec.log_options);
}

Status read_runtime(const JsonView& host, engine::ContainerSpec& spec) {
  TRY_PLAIN(host.read("Runtime", spec.runtime_name));
  static constexpr std::string_view known[] = {"", "caisson", "runc", "io.containerd.runc.v2"};
  if (std::find(std::begin(known), std::end(known), spec.runtime_name) == std::end(known))
    return Error(ErrorKind::invalid, concat("unknown or invalid runtime name: ", spec.runtime_name));
  return {};
}

/// [height, width]; [0, 0] and [] mean unset.
Status read_console_size(const JsonView& host, runtime::ConsoleSize& size) {
  std::vector<std::uint16_t> numbers;
  JsonView view = TRY_PLAIN(host.at("ConsoleSize"));
  TRY_PLAIN(view.read(numbers));
  if (numbers.empty()) return {};
  if (numbers.size() != 2) return view.error("want [height, width]");
  size.height = numbers[0];
  size.width = numbers[1];
  return {};
}

}  // namespace

Status read_host_config(const JsonView& host, engine::ContainerSpec& spec) {
  TRY_PLAIN(refuse_unsupported(host));
  TRY_PLAIN(read_mounts(host, spec.mounts));
  TRY_PLAIN(host.read("VolumesFrom", spec.volumes_from));
  TRY_PLAIN(read_network(host, spec));
  TRY_PLAIN(read_rights(host, spec));
  TRY_PLAIN(read_limits(host, spec));
  TRY_PLAIN(read_logging(host, spec));
  TRY_PLAIN(read_runtime(host, spec));
  TRY_PLAIN(read_console_size(host, spec.console_size));
  TRY_PLAIN(host.read("Init", spec.init));
  TRY_PLAIN(host.read("AutoRemove", spec.auto_remove));
  TRY_PLAIN(host.read("Annotations", spec.annotations));
  TRY_PLAIN(read_restart_policy(TRY_PLAIN(host.at("RestartPolicy")), spec.restart));
  return {};
}

Status read_resources(const JsonView& view, engine::ResourceSpec& out) {
  TRY_PLAIN(view.read("Memory", out.memory_bytes));
  TRY_PLAIN(view.read("MemorySwap", out.memory_swap_bytes));
  TRY_PLAIN(view.read("MemoryReservation", out.memory_reservation_bytes));
  TRY_PLAIN(view.read("MemorySwappiness", out.memory_swappiness));
  if (out.memory_swappiness && *out.memory_swappiness == -1) out.memory_swappiness.reset();  // how the CLI says unset
  TRY_PLAIN(view.read("OomKillDisable", out.oom_kill_disable));
  TRY_PLAIN(view.read("NanoCpus", out.nano_cpus));
  TRY_PLAIN(view.read("CpuQuota", out.cpu_quota_us));
  TRY_PLAIN(view.read("CpuPeriod", out.cpu_period_us));
  TRY_PLAIN(view.read("CpuShares", out.cpu_shares));
  TRY_PLAIN(view.read("CpuRealtimePeriod", out.cpu_realtime_period_us));
  TRY_PLAIN(view.read("CpuRealtimeRuntime", out.cpu_realtime_runtime_us));
  TRY_PLAIN(view.read("CpusetCpus", out.cpuset_cpus));
  TRY_PLAIN(view.read("CpusetMems", out.cpuset_mems));
  TRY_PLAIN(view.read("PidsLimit", out.pids_limit));
  TRY_PLAIN(view.read("BlkioWeight", out.blkio_weight));
  TRY_PLAIN(TRY_PLAIN(view.at("BlkioWeightDevice")).for_each_element([&](const JsonView& entry) -> Status {
    engine::WeightDevice device;
    TRY_PLAIN(entry.read("Path", device.path));
    TRY_PLAIN(entry.read("Weight", device.weight));
    out.blkio_weight_devices.push_back(std::move(device));
    return {};
  }));
  struct Throttle {
    std::string_view field;
    std::vector<engine::ThrottleDevice>& devices;
  };
  for (const auto& throttle : {Throttle{"BlkioDeviceReadBps", out.blkio_read_bps}, Throttle{"BlkioDeviceWriteBps", out.blkio_write_bps},
                               Throttle{"BlkioDeviceReadIOps", out.blkio_read_iops}, Throttle{"BlkioDeviceWriteIOps", out.blkio_write_iops}}) {
    TRY_PLAIN(TRY_PLAIN(view.at(throttle.field)).for_each_element([&](const JsonView& entry) -> Status {
      engine::ThrottleDevice device;
      TRY_PLAIN(entry.read("Path", device.path));
      TRY_PLAIN(entry.read("Rate", device.rate));
      throttle.devices.push_back(std::move(device));
      return {};
    }));
  }
  return {};
}

Result<bool> read_restart_policy(const JsonView& view, engine::RestartPolicy& policy) {
  std::string name;
  TRY_PLAIN(view.read("Name", name));
  TRY_PLAIN(view.read("MaximumRetryCount", policy.maximum_retry_count));
  if (name.empty() || name == "no")
    policy.condition = engine::RestartCondition::no;
  else if (name == "always")
    policy.condition = engine::RestartCondition::always;
  else if (name == "on-failure")
    policy.condition = engine::RestartCondition::on_failure;
  else if (name == "unless-stopped")
    policy.condition = engine::RestartCondition::unless_stopped;
  else
    return Error(ErrorKind::invalid, concat("invalid restart policy: unknown policy '", name, "'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"));
  return !name.empty();
}

Status apply_security_option(std::string_view option, engine::ContainerSpec& spec) {
  // Old clients write "label:disable".
  const char separator = option.find('=') == std::string_view::npos ? ':' : '=';
  auto halves = split_once(option, separator);
  const auto key = halves.before;
  const auto value = halves.after;
  if (key == "no-new-privileges" || key == "log-refusals" || key == "nesting") {
    bool& is_wanted = key == "log-refusals" ? spec.log_refusals : key == "nesting" ? spec.nesting : spec.no_new_privileges;
    if (!halves.found || value == "true")
      is_wanted = true;
    else if (value == "false")
      is_wanted = false;
    else
      return Error(ErrorKind::invalid, concat("invalid --security-opt 2: \"", option, "\""));
    return {};
  }
  if (!halves.found) return Error(ErrorKind::invalid, concat("invalid --security-opt 1: \"", option, "\""));
  if (key == "seccomp") {
    // The client reads a profile's file itself and sends its content.
    spec.seccomp = value == "builtin" ? "" : std::string(value);
    return {};
  }
  if (key == "apparmor") {
    spec.apparmor_profile = value;
    return {};
  }
  if (key == "label") {
    if (value == "disable") return {};
    return Error(ErrorKind::unsupported, concat("security option \"", option, "\": SELinux labels are not supported yet"));
  }
  if (key == "systempaths") {
    if (value != "unconfined") return Error(ErrorKind::invalid, concat("invalid --security-opt 2: \"", option, "\""));
    spec.masked_paths.emplace();
    spec.readonly_paths.emplace();
    return {};
  }
  return Error(ErrorKind::invalid, concat("invalid --security-opt 2: \"", option, "\""));
}

}  // namespace caisson::api
