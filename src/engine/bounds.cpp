// Bounds of roles, field by field of a specification.
#include "engine/bounds.hpp"

#include <algorithm>
#include <array>

#include "base/reference.hpp"
#include "base/strings.hpp"
#include "engine/capabilities.hpp"
#include "engine/check_spec.hpp"

namespace caisson::engine {

namespace {

using policy::Bounds;
using policy::Role;

Error beyond(const Role& role, std::string_view what) { return {ErrorKind::denied, concat(role.text(), " does not allow ", what)}; }

bool has(const std::vector<std::string>& list, std::string_view wanted) { return std::find(list.begin(), list.end(), wanted) != list.end(); }

/// Harmless where they are: they bound what the container does to itself. The others take from the host (real-time time slices, pinned memory).
constexpr std::array<std::string_view, 9> own_ulimits = {"as", "core", "cpu", "data", "fsize", "nofile", "nproc", "rss", "stack"};

Status check_capabilities(const Role& role, const ContainerSpec& spec) {
  const auto& allowed = role.bounds->capabilities;
  if (has(allowed, "ALL")) return {};
  const auto usual = default_capabilities();
  for (const auto& name : spec.cap_add) {
    const std::string full = TRY_PLAIN(normalize_capability(name));
    const bool is_usual = std::find(usual.begin(), usual.end(), full) != usual.end();
    if (!is_usual && (full == "ALL" || !has(allowed, full.substr(4)))) return beyond(role, concat("the capability ", name));
  }
  return {};
}

Status check_host_namespaces(const Role& role, const ContainerSpec& spec) {
  const std::pair<std::string_view, const std::string&> modes[] = {{"network", spec.network.mode}, {"pid", spec.pid_mode},         {"ipc", spec.ipc_mode},
                                                                   {"uts", spec.uts_mode},         {"cgroup", spec.cgroupns_mode}, {"user", spec.userns_mode}};
  for (const auto& [name, mode] : modes)
    if (mode == "host" && !has(role.bounds->host_namespaces, name)) return beyond(role, concat("the host's ", name, " namespace"));
  for (const auto& endpoint : spec.network.endpoints)
    if (endpoint.network == "host" && !has(role.bounds->host_namespaces, "network")) return beyond(role, "the host's network namespace");
  return {};
}

Status check_devices(const Role& role, const ContainerSpec& spec) {
  const auto& allowed = role.bounds->devices;
  for (const auto& device : spec.devices)
    if (!policy::matches_any(allowed, clean_path(device.path_on_host))) return beyond(role, concat("the device ", device.path_on_host));
  for (const auto& request : spec.device_requests) {
    for (const auto& id : request.device_ids)
      if (!policy::matches_any(allowed, request.driver == "cdi" ? id : "gpus")) return beyond(role, concat("the device ", id));
    if (request.device_ids.empty() && !policy::matches_any(allowed, "gpus")) return beyond(role, "GPUs");
  }
  // A rule names numbers, and what stands behind a number no pattern of paths can say.
  if (!spec.device_cgroup_rules.empty() && !has(allowed, "*")) return beyond(role, concat("the device rule \"", spec.device_cgroup_rules.front(), "\""));
  return {};
}

Status check_profiles(const Role& role, const ContainerSpec& spec) {
  if (role.bounds->unconfined) return {};
  if (spec.nesting) return beyond(role, "container engines inside (nesting)");
  if (!spec.seccomp.empty()) return beyond(role, "another seccomp profile than the default");
  if (!spec.apparmor_profile.empty()) return beyond(role, concat("the AppArmor profile ", spec.apparmor_profile));
  if (spec.masked_paths || spec.readonly_paths) return beyond(role, "uncovered paths of /proc and /sys");
  return {};
}

Status check_mounts(const Role& role, const ContainerSpec& spec, Passing passing) {
  for (const auto& mount : spec.mounts) {
    if (mount.of_step && passing.step_mounts) continue;
    if (mount.of_step) return beyond(role, concat("the mount ", mount.target, " of somebody's build"));
    if (mount.type == MountType::volume && !mount.driver_options.empty()) TRY_PLAIN(check_volume(role, mount.driver_options));
    if (mount.type != MountType::bind || (passing.grants && !mount.within.empty())) continue;
    const auto* grant = policy::grant_for(*role.bounds, clean_path(mount.source));
    if (grant == nullptr) return beyond(role, concat("the bind mount of ", mount.source));
    const bool is_read_only = mount.read_only || has(mount.options, "ro");
    if (grant->read_only && !is_read_only) return beyond(role, concat("writing to the bind mount of ", mount.source));
    if (mount.propagation == "shared" || mount.propagation == "rshared") return beyond(role, concat("mounts of the container on the host (", mount.propagation, ")"));
  }
  return {};
}

/// "1000:100" → 1000.
Status check_user_range(const Role& role, std::string_view user) {
  const auto& ranges = role.bounds->users;
  if (ranges.empty()) return {};
  const auto name = split_once(user, ':').before;
  const auto number = parse_integer<std::uint32_t>(name.empty() ? "0" : name);
  if (!number.ok()) return beyond(role, concat("the user \"", name, "\" by name")).with_hint("its users are bounded by number: give --user NUMBER");
  if (std::none_of(ranges.begin(), ranges.end(), [&](const auto& range) { return range.holds(*number); })) return beyond(role, concat("running as user ", *number));
  return {};
}

Status check_ports(const Role& role, const ContainerSpec& spec) {
  for (const auto& port : spec.ports) {
    if (port.host_port == 0) continue;
    const auto& ranges = role.bounds->ports;
    const std::uint16_t last = std::max(port.host_port, port.host_port_last);
    if (std::none_of(ranges.begin(), ranges.end(), [&](const auto& range) { return range.holds(port.host_port) && range.holds(last); }))
      return beyond(role, concat("the host's port ", port.host_port));
  }
  return {};
}

/// "debian*" means images of Docker's own and nobody's registry that begins so; with a slash a pattern goes over the whole name.
bool names_image(const std::string& pattern, const Reference& reference) {
  const std::string familiar = reference.familiar();
  if (pattern.find('/') == std::string::npos) return familiar.find('/') == std::string::npos && policy::matches(pattern, familiar);
  return policy::matches(pattern, reference.canonical()) || policy::matches(pattern, familiar);
}

/// "10.1.0.0/16": addresses that are private (RFC 1918, RFC 4193), so that no route of the host to somewhere else is hidden by them.
bool is_private(std::string_view cidr) {
  const auto halves = split_once(cidr, '/');
  const auto bits = parse_integer<std::uint32_t>(halves.after);
  if (cidr.empty()) return true;
  if (!halves.found || !bits.ok()) return false;
  const auto parts = split(halves.before, '.');
  if (parts.size() == 4) {
    const auto second = parse_integer<std::uint32_t>(parts[1]);
    if (parts[0] == "10") return *bits >= 8;
    if (parts[0] == "172") return second.ok() && *second >= 16 && *second <= 31 && *bits >= 12;
    return parts[0] == "192" && parts[1] == "168" && *bits >= 16;
  }
  const std::string address = lower(halves.before);
  return (address.starts_with("fd") || address.starts_with("fc")) && address.find(':') == 4 && *bits >= 7;
}

}  // namespace

policy::Labels given_labels(const ContainerSpec& spec) {
  policy::Labels labels = spec.labels;
  for (const auto& key : spec.image_labels) labels.erase(key);
  return labels;
}

Status put_in_scope(const Role& role, policy::Labels& labels) {
  auto put = [&](const std::string& key, const std::string& value) -> Status {
    auto [place, is_new] = labels.emplace(key, value);
    if (!is_new && place->second != value) return beyond(role, concat("the label ", key, "=", place->second)).with_hint(concat("what this role makes has ", key, "=", value));
    return {};
  };
  for (const auto& [key, value] : role.scope.labels) TRY_PLAIN(put(key, value));
  if (!role.scope.project.empty()) TRY_PLAIN(put(std::string(policy::project_label), role.scope.project));
  return {};
}

Status check_volume(const Role& role, const std::map<std::string, std::string>& options) {
  if (!role.bounds || role.bounds->volume_options) return {};
  for (const auto& [name, value] : options)
    if (name != "size") return beyond(role, concat("the volume option ", name, "=", value));
  return {};
}

Status check_network(const Role& role, const network::NetworkRequest& request) {
  if (!role.bounds || has(role.bounds->host_namespaces, "network")) return {};
  if (!request.driver.empty() && request.driver != "bridge") return beyond(role, concat("the network driver ", request.driver));
  static constexpr std::array<std::string_view, 4> harmless = {"com.docker.network.bridge.enable_icc", "com.docker.network.bridge.enable_ip_masquerade",
                                                               "com.docker.network.driver.mtu", "com.docker.network.enable_ipv6"};
  for (const auto& [name, value] : request.options)
    if (std::find(harmless.begin(), harmless.end(), name) == harmless.end()) return beyond(role, concat("the network option ", name, "=", value));
  for (const auto& subnet : request.subnets)
    if (!is_private(subnet.cidr)) return beyond(role, concat("the subnet ", subnet.cidr, ", which is not private"));
  return {};
}

Status check_image(const Role& role, const std::string& reference, const std::vector<std::string>& names) {
  if (!role.bounds) return {};
  const auto is_allowed = [&](const std::string& name) {
    auto parsed = parse_reference(name);
    return std::any_of(role.bounds->images.begin(), role.bounds->images.end(), [&](const auto& pattern) { return pattern == "*" || (parsed.ok() && names_image(pattern, *parsed)); });
  };
  // Of an image that is here its names count: what was typed may be the beginning of an id, which could be anything's.
  const bool is_by_digest = reference.find('@') != std::string::npos;
  if ((names.empty() || is_by_digest) && is_allowed(reference)) return {};
  if (std::any_of(names.begin(), names.end(), is_allowed)) return {};
  return beyond(role, concat("the image ", reference));
}

Status check_image_here(const Role& role, const std::string& reference, const image::Image& image) {
  return check_image(role, reference, image.repo_tags.empty() ? std::vector<std::string>{"<none>"} : image.repo_tags);
}

Status check_exec(const Role& role, const ExecSpec& exec, const ContainerSpec& container) {
  // Without bounds too: an operator works on containers, and more rights than theirs are made, not used.
  if (exec.privileged && !(role.bounds ? role.bounds->privileged : role.allows(policy::Verb::container_create))) return beyond(role, "privileged programs");
  return role.bounds ? check_user_range(role, exec.user.empty() ? container.user : exec.user) : Status();
}

Status check_box(const Role& role, const ContainerSpec& spec, Passing passing) {
  if (!role.bounds) return {};
  const auto& bounds = *role.bounds;
  if (spec.privileged && !bounds.privileged) return beyond(role, "privileged containers");
  TRY_PLAIN(check_capabilities(role, spec));
  if (!(spec.privileged && bounds.privileged)) TRY_PLAIN(check_host_namespaces(role, spec));  // a privileged one is in the host's user namespace
  TRY_PLAIN(check_devices(role, spec));
  TRY_PLAIN(check_profiles(role, spec));
  TRY_PLAIN(check_mounts(role, spec, passing));
  if (!spec.cgroup_parent.empty() && !bounds.cgroup_parent) return beyond(role, concat("the cgroup parent ", spec.cgroup_parent));
  if (spec.oom_score_adj.value_or(0) < 0) return beyond(role, "a negative --oom-score-adj");
  if (spec.resources.cpu_realtime_period_us != 0 || spec.resources.cpu_realtime_runtime_us != 0) return beyond(role, "real-time scheduling");
  for (const auto& ulimit : spec.ulimits)
    if (std::find(own_ulimits.begin(), own_ulimits.end(), ulimit.name) == own_ulimits.end()) return beyond(role, concat("the ulimit ", ulimit.name));
  for (const auto& [name, value] : spec.annotations)
    if (name.starts_with("org.systemd.property.") || name.starts_with("run.oci.")) return beyond(role, concat("the annotation ", name));
  return {};
}

Status bound_resources(const Role& role, ResourceSpec& resources) {
  if (!role.bounds) return {};
  const auto& bounds = *role.bounds;
  if (bounds.memory_bytes != 0) {
    if (resources.memory_bytes == 0) resources.memory_bytes = bounds.memory_bytes;
    if (resources.memory_bytes < 0 || resources.memory_bytes > bounds.memory_bytes)
      return beyond(role, concat("more memory than ", human_size_binary(static_cast<std::uint64_t>(bounds.memory_bytes))));
    if (resources.memory_swap_bytes == -1) return beyond(role, "unlimited swap");
  }
  if (resources.oom_kill_disable.value_or(false) && resources.memory_bytes == 0) return beyond(role, "--oom-kill-disable without a memory limit");
  if (bounds.nano_cpus != 0) {
    constexpr std::int64_t usual_period_us = 100'000;
    std::int64_t asked = resources.nano_cpus;
    if (resources.cpu_quota_us > 0) asked = resources.cpu_quota_us * 1000 / (resources.cpu_period_us > 0 ? resources.cpu_period_us : usual_period_us) * 1'000'000;
    if (asked > bounds.nano_cpus) return beyond(role, concat("more CPU time than ", bounds.nano_cpus / 1'000'000, " thousandths of a CPU"));
    if (resources.nano_cpus == 0 && resources.cpu_quota_us <= 0) {
      resources.nano_cpus = bounds.nano_cpus;
      resources.cpu_quota_us = resources.cpu_period_us = 0;
    }
  }
  if (bounds.pids != 0) {
    if (resources.pids_limit.value_or(0) <= 0) resources.pids_limit = bounds.pids;
    if (*resources.pids_limit > bounds.pids) return beyond(role, concat("more than ", bounds.pids, " processes"));
  }
  return {};
}

Status apply_bounds(const Role& role, ContainerSpec& spec) {
  if (!role.bounds) return {};
  TRY_PLAIN(check_box(role, spec, {.grants = true, .step_mounts = true}));
  TRY_PLAIN(check_user_range(role, spec.user));
  TRY_PLAIN(check_ports(role, spec));
  if (!spec.log_driver.empty() && !policy::matches_any(role.bounds->log_drivers, spec.log_driver)) return beyond(role, concat("the log driver ", spec.log_driver));
  TRY_PLAIN(bound_resources(role, spec.resources));
  for (auto& mount : spec.mounts) {
    if (mount.type != MountType::bind || mount.of_step || !mount.within.empty()) continue;
    mount.source = clean_path(mount.source);
    const auto* grant = policy::grant_for(*role.bounds, mount.source);
    mount.within = grant->path;
    mount.without_owners = !grant->keeps_owners;
    mount.create_source = false;  // what the engine makes is root's
    for (const char* word : {"nosuid", "nodev"})
      if (!has(mount.options, word)) mount.options.emplace_back(word);
  }
  return {};
}

Status apply_build_bounds(const Role& role, ContainerSpec& step, bool may_be_insecure, bool may_use_host_network) {
  if (!role.bounds) return {};
  step.privileged = may_be_insecure;
  if (may_use_host_network) step.network.mode = "host";
  TRY_PLAIN(check_box(role, step, {}));
  const auto& network = step.network.mode;
  const bool is_common = network.empty() || network == "default" || network == "none" || network == "host" || network == "bridge";
  if (!is_common && !policy::matches_any(role.bounds->networks, network)) return beyond(role, concat("the network ", network));
  return bound_resources(role, step.resources);
}

json::object asked_of_host(const ContainerSpec& spec) {
  json::object out;
  auto put_list = [&](const char* key, json::array list) {
    if (!list.empty()) out[key] = std::move(list);
  };
  out["image"] = spec.image;
  if (spec.privileged) out["privileged"] = true;
  put_list("capabilities", json::array(spec.cap_add.begin(), spec.cap_add.end()));
  json::array binds, devices, namespaces, ports;
  for (const auto& mount : spec.mounts)
    if (mount.type == MountType::bind && !mount.of_step) binds.emplace_back(concat(mount.source, ":", mount.target, mount.read_only ? ":ro" : ""));
  for (const auto& device : spec.devices) devices.emplace_back(device.path_on_host);
  for (const auto& rule : spec.device_cgroup_rules) devices.emplace_back(rule);
  const std::pair<const char*, const std::string&> modes[] = {{"network", spec.network.mode}, {"pid", spec.pid_mode},         {"ipc", spec.ipc_mode},
                                                              {"uts", spec.uts_mode},         {"cgroup", spec.cgroupns_mode}, {"user", spec.userns_mode}};
  for (const auto& [name, mode] : modes)
    if (mode == "host") namespaces.emplace_back(name);
  for (const auto& port : spec.ports) ports.emplace_back(concat(port.host_ip, port.host_ip.empty() ? "" : ":", port.host_port, ":", port.container_port, "/", network::to_string(port.protocol)));
  put_list("binds", std::move(binds));
  put_list("devices", std::move(devices));
  put_list("host-namespaces", std::move(namespaces));
  put_list("ports", std::move(ports));
  if (spec.nesting || !spec.seccomp.empty() || !spec.apparmor_profile.empty() || spec.masked_paths || spec.readonly_paths) out["unconfined"] = true;
  return out;
}

}  // namespace caisson::engine
