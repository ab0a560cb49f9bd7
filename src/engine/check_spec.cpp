// Field by field, in docker's words where its command line or people's scripts know them.
#include "engine/check_spec.hpp"

#include <algorithm>
#include <set>

#include "base/ids.hpp"
#include "base/strings.hpp"
#include "engine/capabilities.hpp"
#include "engine/log_drivers.hpp"
#include "engine/signals.hpp"
#include "engine/spec_builder.hpp"

namespace caisson::engine {

namespace {
constexpr std::int64_t smallest_memory_bytes = 512 << 10;  // a static program starts below that; docker's floor is 6 MiB

Error invalid(std::string text) { return {ErrorKind::invalid, std::move(text)}; }

template <class List>
bool is_one_of(std::string_view word, const List& list) {
  return std::find(std::begin(list), std::end(list), word) != std::end(list);
}

std::string_view name_of(MountType type) {
  switch (type) {
    case MountType::bind: return "bind";
    case MountType::volume: return "volume";
    case MountType::tmpfs: return "tmpfs";
  }
  return "mount";
}

Status check_mount(const MountSpec& mount) {
  auto refuse = [&](std::string_view why) { return invalid(concat("invalid mount config for type \"", name_of(mount.type), "\": ", why)); };
  static constexpr std::string_view propagations[] = {"", "private", "rprivate", "shared", "rshared", "slave", "rslave"};
  // z and Z relabel for SELinux, which is harmless to skip where it is off; the cached family is for macOS clients.
  static constexpr std::string_view bind_words[] = {"z", "Z", "ro", "rw", "nocopy", "cached", "delegated", "consistent", "nosuid", "nodev", "noexec", "U"};
  static constexpr std::string_view tmpfs_words[] = {"ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "relatime", "norelatime",
                                                     "noatime", "atime", "strictatime", "sync", "async", "dirsync", "nodiratime"};
  static constexpr std::string_view tmpfs_keys[] = {"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks"};
  if (mount.target.empty()) return refuse("field Target must not be empty");
  if (!mount.target.starts_with('/')) return refuse(concat("invalid mount path: '", mount.target, "' mount path must be absolute"));
  if (mount.target.find_first_not_of('/') == std::string::npos) return refuse("invalid specification: destination can't be '/'");
  if (mount.target.find('\0') != std::string::npos || mount.source.find('\0') != std::string::npos) return refuse("a path holds a zero byte");
  if (!is_one_of(mount.propagation, propagations)) return refuse(concat("invalid propagation mode: ", mount.propagation));
  if (mount.type != MountType::bind && !mount.propagation.empty()) return refuse("propagation is for bind mounts only");
  if (mount.type == MountType::bind && mount.source.empty()) return refuse("field Source must not be empty: a bind needs a source path");
  if (mount.type == MountType::bind && mount.source.empty()) return refuse("field Source must not be empty");
  if (mount.type == MountType::bind && !mount.source.starts_with('/'))
    return refuse(concat("invalid mount path: '", mount.source, "' mount path must be absolute"));
  if (mount.type == MountType::volume && !mount.source.empty()) TRY_PLAIN(check_name("volume", mount.source));
  if (mount.type == MountType::volume && !mount.driver.empty() && mount.driver != "local")
    return Error(ErrorKind::unsupported, concat("volume driver \"", mount.driver, "\": only \"local\" is known"));
  if (mount.type == MountType::tmpfs && !mount.source.empty()) return refuse("field Source must not be specified");
  if (mount.tmpfs_size_bytes < 0) return refuse("SizeBytes must not be negative");
  for (const auto& word : mount.options) {
    bool known = mount.type == MountType::tmpfs ? is_one_of(word, tmpfs_words) || is_one_of(split_once(word, '=').before, tmpfs_keys)
                                                : is_one_of(word, bind_words);
    if (!known) return refuse(concat("invalid mode: ", word));
  }
  auto parts = split(mount.subpath, '/');
  if (mount.subpath.starts_with('/') || is_one_of("..", parts)) return refuse("Subpath must stay inside the volume");
  return {};
}

Status check_mounts(const ContainerSpec& spec) {
  std::set<std::string> targets;
  for (const auto& mount : spec.mounts) {
    TRY_PLAIN(check_mount(mount));
    if (!targets.insert(mount.target).second) return invalid(concat("Duplicate mount point: ", mount.target));
  }
  return {};
}

Status check_process(const ContainerSpec& spec) {
  for (const auto& setting : spec.env)
    if (setting.empty() || setting[0] == '=' || setting.find('\0') != std::string::npos)
      return invalid(concat("invalid environment variable: ", setting));
  if (!spec.working_dir.empty() && !spec.working_dir.starts_with('/'))
    return invalid(concat("the working directory '", spec.working_dir, "' is invalid, it needs to be an absolute path"));
  if (!spec.stop_signal.empty()) TRY(parse_signal(spec.stop_signal), "stop signal");
  constexpr std::size_t longest_hostname = 64;  // __NEW_UTS_LEN, uname(2)
  if (spec.hostname.size() > longest_hostname) return invalid(concat("invalid hostname: ", spec.hostname, ": longer than 64 characters"));
  if (spec.domainname.size() > longest_hostname) return invalid(concat("invalid domainname: ", spec.domainname, ": longer than 64 characters"));
  if (spec.hostname.find_first_of(std::string_view("\n\0 /", 4)) != std::string::npos) return invalid(concat("invalid hostname: ", spec.hostname));
  return {};
}

Status check_rights(const ContainerSpec& spec) {
  TRY_PLAIN(resolve_capabilities(spec.cap_add, spec.cap_drop, spec.privileged));
  if (!spec.seccomp.empty() && spec.seccomp != "unconfined") TRY_PLAIN(seccomp_from_text(spec.seccomp, {}));
  static constexpr std::string_view limits[] = {"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice",
                                                "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack"};
  std::set<std::string> seen;
  for (const auto& ulimit : spec.ulimits) {
    if (!is_one_of(ulimit.name, limits)) return invalid(concat("invalid ulimit type: ", ulimit.name));
    if (!seen.insert(ulimit.name).second) return invalid(concat("ulimit ", ulimit.name, " is given twice"));
    if (ulimit.soft < -1 || ulimit.hard < -1) return invalid(concat("ulimit ", ulimit.name, ": negative value"));
    bool above = ulimit.hard != -1 && (ulimit.soft == -1 || ulimit.soft > ulimit.hard);
    if (above) return invalid(concat("ulimit soft limit must be less than or equal to hard limit: ", ulimit.soft, " > ", ulimit.hard));
  }
  for (const auto& device : spec.devices) {
    if (!device.path_on_host.starts_with('/')) return invalid(concat("device \"", device.path_on_host, "\": must be an absolute path"));
    if (device.permissions.find_first_not_of("rwm") != std::string::npos || device.permissions.empty())
      return invalid(concat("invalid device cgroup permissions: \"", device.permissions, "\""));
  }
  if (spec.oom_score_adj && (*spec.oom_score_adj < -1000 || *spec.oom_score_adj > 1000))
    return invalid(concat("Invalid value ", *spec.oom_score_adj, ", range for oom score adj is [-1000, 1000]"));
  return {};
}

Status check_namespaces(const ContainerSpec& spec) {
  auto check = [](std::string_view what, const std::string& mode, std::initializer_list<std::string_view> words, bool joins) -> Status {
    if (is_one_of(mode, words)) return {};
    if (joins && !container_of_mode(mode).empty()) return {};
    return invalid(concat("invalid ", what, " mode: ", mode));
  };
  TRY_PLAIN(check("userns", spec.userns_mode, {"", "host", "private"}, false));
  TRY_PLAIN(check("pid", spec.pid_mode, {"", "private", "host"}, true));
  TRY_PLAIN(check("ipc", spec.ipc_mode, {"", "private", "shareable", "none", "host"}, true));
  TRY_PLAIN(check("uts", spec.uts_mode, {"", "private", "host"}, false));
  TRY_PLAIN(check("cgroupns", spec.cgroupns_mode, {"", "private", "host"}, false));
  if (spec.nesting && !spec.privileged && spec.userns_mode == "host")
    return invalid("--security-opt nesting and --userns=host: an engine in the host's user namespace could leave its container").with_hint("leave out --userns, or say --privileged if the container is trusted with the host");
  if (spec.uts_mode == "host" && !spec.hostname.empty()) return invalid("conflicting options: hostname and the UTS mode");
  return {};
}

Status check_network(const ContainerSpec& spec) {
  const auto& mode = spec.network.mode;
  bool joins = mode.starts_with("container:");
  if (joins && container_of_mode(mode).empty()) return invalid(concat("invalid network mode: ", mode, ": the container's name is missing"));
  if (joins && !spec.hostname.empty())
    return invalid("conflicting options: hostname and the network mode");
  if (joins && (!spec.ports.empty() || spec.publish_all_ports))
    return invalid("conflicting options: port publishing and the container type network mode");
  if (joins && (!spec.dns.empty() || !spec.extra_hosts.empty()))
    return invalid("conflicting options: dns and hosts settings and the container type network mode");
  // docker refuses it on its default bridge too, where an address can be chosen here.
  const bool has_no_addresses = joins || mode == "host" || mode == "none";
  for (const auto& endpoint : spec.network.endpoints)
    if (has_no_addresses && endpoint.network == mode && (!endpoint.ipv4.empty() || !endpoint.ipv6.empty()))
      return invalid("user specified IP address is supported on user defined networks only");
  for (const auto& port : spec.ports)
    if (port.container_port == 0) return invalid("invalid containerPort: 0");
  for (const auto& entry : spec.extra_hosts)
    if (auto halves = split_once(entry, ':'); !halves.found || halves.before.empty() || halves.after.empty())
      return invalid(concat("bad format for add-host: \"", entry, "\""));
  for (const auto& server : spec.dns)
    if (server.empty() || server.find_first_not_of("0123456789abcdefABCDEF.:%") != std::string::npos)
      return invalid(concat("bad format for nameserver: \"", server, "\""));
  return {};
}

}  // namespace

std::string container_of_mode(const std::string& mode) {
  constexpr std::string_view prefix = "container:";
  return mode.starts_with(prefix) ? mode.substr(prefix.size()) : "";
}

Status check_restart_policy(const RestartPolicy& policy, bool auto_remove) {
  if (policy.maximum_retry_count < 0) return invalid("invalid restart policy: maximum retry count cannot be negative");
  if (policy.maximum_retry_count != 0 && policy.condition != RestartCondition::on_failure)
    return invalid("invalid restart policy: maximum retry count can only be used with 'on-failure'");
  if (auto_remove && policy.condition != RestartCondition::no) return invalid("can't create 'AutoRemove' container with restart policy");
  return {};
}

Status check_resources(const ResourceSpec& resources, const HostLimits& host) {
  if (resources.memory_bytes < 0) return invalid("memory: must not be negative");
  if (resources.memory_bytes != 0 && resources.memory_bytes < smallest_memory_bytes) return invalid("Minimum memory limit allowed is 512KB");
  if (resources.memory_swap_bytes < -1) return invalid("memory swap: must be -1 or a size");
  if (resources.memory_swap_bytes > 0 && resources.memory_bytes == 0)
    return invalid("You should always set the Memory limit when using Memoryswap limit, see usage");
  if (resources.memory_swap_bytes > 0 && resources.memory_swap_bytes < resources.memory_bytes)
    return invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
  if (resources.memory_reservation_bytes < 0) return invalid("memory reservation: must not be negative");
  if (resources.memory_bytes != 0 && resources.memory_reservation_bytes > resources.memory_bytes)
    return invalid("Minimum memory limit can not be less than memory reservation limit, see usage");
  if (resources.memory_swappiness && (*resources.memory_swappiness < 0 || *resources.memory_swappiness > 100))
    return invalid(concat("Invalid value: ", *resources.memory_swappiness, ", valid memory swappiness range is 0-100"));

  if (resources.nano_cpus != 0 && (resources.cpu_quota_us > 0 || resources.cpu_period_us > 0))
    return invalid("Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set.");
  constexpr std::int64_t smallest_nano_cpus = 10'000'000;
  std::int64_t largest_nano_cpus = static_cast<std::int64_t>(host.cpus) * 1'000'000'000;
  if (resources.nano_cpus != 0 && (resources.nano_cpus < smallest_nano_cpus || resources.nano_cpus > largest_nano_cpus))
    return invalid(concat("Range of CPUs is from 0.01 to ", host.cpus, ".00, as there are only ", host.cpus, " CPUs available"));
  if (resources.cpu_period_us != 0 && (resources.cpu_period_us < 1000 || resources.cpu_period_us > 1'000'000))
    return invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
  if (resources.cpu_quota_us > 0 && resources.cpu_quota_us < 1000) return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)");
  if (resources.cpu_shares < 0) return invalid("cpu shares: must not be negative");
  for (const auto& list : {resources.cpuset_cpus, resources.cpuset_mems})
    if (list.find_first_not_of("0123456789,-") != std::string::npos) return invalid(concat("Invalid value ", list, " for cpuset"));
  if (resources.blkio_weight != 0 && (resources.blkio_weight < 10 || resources.blkio_weight > 1000))
    return invalid("Range of blkio weight is from 10 to 1000");
  return {};
}

Status check_spec(const ContainerSpec& spec, const HostLimits& host) {
  if (spec.image.empty()) return invalid("no image was specified");
  TRY_PLAIN(check_process(spec));
  TRY_PLAIN(check_mounts(spec));
  TRY_PLAIN(check_rights(spec));
  TRY_PLAIN(check_namespaces(spec));
  TRY_PLAIN(check_network(spec));
  TRY_PLAIN(check_resources(spec.resources, host));
  if (spec.shm_size_bytes < 0) return invalid("SHM size can not be less than 0");
  TRY_PLAIN(check_restart_policy(spec.restart, spec.auto_remove));
  return check_log_driver(spec.log_driver, spec.log_options);
}

std::string clean_path(std::string_view path) {
  std::vector<std::string> parts;
  for (auto part : split(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
    } else {
      parts.emplace_back(part);
    }
  }
  return "/" + join(parts, "/");
}

}  // namespace caisson::engine
