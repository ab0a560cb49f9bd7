// What a configuration must satisfy beyond its types, with the JSON path of whatever is wrong.
#include <algorithm>
#include <limits>
#include <set>

#include "runtime/spec.hpp"

namespace caisson::runtime {

namespace {

Error bad(std::string_view path, std::string_view text) { return {ErrorKind::invalid, concat(path, ": ", text)}; }

bool has_nul(std::string_view text) { return text.find('\0') != std::string_view::npos; }

/// The kernel takes at most 340 lines per map (user_namespaces(7)); ranges may not be empty, wrap, or overlap.
Status check_mappings(const std::vector<linux::IdMapping>& mappings, std::string_view path) {
  if (mappings.size() > 340) return bad(path, concat(mappings.size(), " entries; the kernel takes at most 340"));
  for (std::size_t i = 0; i < mappings.size(); ++i) {
    const auto& one = mappings[i];
    std::string at = concat(path, "[", i, "]");
    if (one.count == 0) return bad(at, "size must be more than 0");
    constexpr std::uint64_t end = std::numeric_limits<std::uint32_t>::max();
    if (std::uint64_t{one.inside} + one.count > end || std::uint64_t{one.outside} + one.count > end)
      return bad(at, "range ends beyond the largest id");
    for (std::size_t k = 0; k < i; ++k) {
      const auto& other = mappings[k];
      auto overlap = [](std::uint64_t a, std::uint64_t b, std::uint64_t a_count, std::uint64_t b_count) {
        return a < b + b_count && b < a + a_count;
      };
      if (overlap(one.inside, other.inside, one.count, other.count) || overlap(one.outside, other.outside, one.count, other.count))
        return bad(at, concat("overlaps entry ", k));
    }
  }
  return {};
}

Status check_id_map(const linux::IdMap& map, std::string_view path) {
  if (map.uids.empty() != map.gids.empty()) return bad(path, "uidMappings and gidMappings must be given together");
  TRY_PLAIN(check_mappings(map.uids, concat(path, ".uidMappings")));
  return check_mappings(map.gids, concat(path, ".gidMappings"));
}

Status check_namespaces(const Spec& spec) {
  std::set<NamespaceType> seen;
  for (std::size_t i = 0; i < spec.namespaces.size(); ++i) {
    const auto& one = spec.namespaces[i];
    std::string at = concat("linux.namespaces[", i, "]");
    if (!seen.insert(one.type).second) return bad(at, concat("namespace type \"", to_string(one.type), "\" is listed twice"));
    if (!one.path.empty() && one.path[0] != '/') return bad(concat(at, ".path"), concat("\"", one.path, "\" is not absolute"));
    if (has_nul(one.path)) return bad(concat(at, ".path"), "contains a NUL byte");
  }
  if (!spec.id_map.empty() && spec.find_namespace(NamespaceType::user) == nullptr)
    return bad("linux.uidMappings", "mappings need a namespace of type user");
  const auto* uts = spec.find_namespace(NamespaceType::uts);
  if (!spec.hostname.empty() && uts == nullptr) return bad("hostname", "needs a namespace of type uts");
  if (!spec.domainname.empty() && uts == nullptr) return bad("domainname", "needs a namespace of type uts");
  return {};
}

Status check_time_offsets(const Spec& spec) {
  if (spec.time_offsets.empty()) return {};
  const auto* time = spec.find_namespace(NamespaceType::time);
  if (time == nullptr) return bad("linux.timeOffsets", "needs a namespace of type time");
  if (!time->path.empty()) return bad("linux.timeOffsets", "a time namespace that is joined keeps its offsets");
  for (const auto& [clock, offset] : spec.time_offsets) {
    const std::string at = concat("linux.timeOffsets.", clock);
    if (clock != "monotonic" && clock != "boottime") return bad(at, "only monotonic and boottime have offsets");
    if (offset.nanoseconds > 999'999'999) return bad(concat(at, ".nanosecs"), "must be below 1000000000");
  }
  return {};
}

/// dev_valid_name() of the kernel, 15 bytes at most.
bool is_interface_name(std::string_view name) {
  constexpr std::size_t longest = 15;
  return !name.empty() && name.size() <= longest && name != "." && name != ".." &&
         name.find_first_of("/: \t\n\v\f\r") == std::string_view::npos && !has_nul(name);
}

Status check_net_devices(const Spec& spec) {
  if (spec.net_devices.empty()) return {};
  if (spec.find_namespace(NamespaceType::network) == nullptr) return bad("linux.netDevices", "needs a namespace of type network");
  std::set<std::string_view> names;
  for (const auto& device : spec.net_devices) {
    const std::string at = concat("linux.netDevices[\"", device.host_name, "\"]");
    if (!is_interface_name(device.host_name)) return bad(at, "is not the name of an interface");
    if (!device.name.empty() && !is_interface_name(device.name))
      return bad(concat(at, ".name"), concat("\"", device.name, "\" is not the name of an interface"));
    const std::string_view inside = device.name.empty() ? device.host_name : device.name;
    const bool is_template = inside.find("%d") != std::string_view::npos;
    if (!is_template && inside.find('%') != std::string_view::npos) return bad(concat(at, ".name"), "may hold % only as %d");
    if (!is_template && !names.insert(inside).second)
      return bad(concat(at, ".name"), concat("two devices are to be called \"", inside, "\""));
  }
  return {};
}

Status check_intel_rdt(const Spec& spec) {
  if (!spec.intel_rdt) return {};
  const std::string& group = spec.intel_rdt->clos_id;
  const bool is_name = group != "." && group != ".." && group.find('/') == std::string::npos &&
                       group.find('\n') == std::string::npos && !has_nul(group);
  if (group != "/" && !is_name) return bad("linux.intelRdt.closID", concat("\"", group, "\" is not a name"));
  if (group == "info" || group == "mon_groups" || group == "mon_data")
    return bad("linux.intelRdt.closID", concat("\"", group, "\" is a name of the kernel's"));
  for (std::size_t i = 0; i < spec.intel_rdt->schemata.size(); ++i)
    if (trim(spec.intel_rdt->schemata[i]).empty() || spec.intel_rdt->schemata[i].find('\n') != std::string::npos)
      return bad(concat("linux.intelRdt.schemata[", i, "]"), "is not one line");
  return {};
}

Status check_resources(const Resources& resources) {
  for (std::size_t i = 0; i < resources.network.priorities.size(); ++i)
    if (!is_interface_name(resources.network.priorities[i].interface))
      return bad(concat("linux.resources.network.priorities[", i, "].name"), "is not the name of an interface");
  for (const auto& [device, limit] : resources.rdma) {
    const std::string at = concat("linux.resources.rdma[\"", device, "\"]");
    if (device.empty() || device.find_first_of(" \n/") != std::string::npos || has_nul(device))
      return bad(at, "is not the name of a device");
    if (!limit.handles && !limit.objects) return bad(at, "hcaHandles or hcaObjects is needed");
  }
  if (resources.memory.swappiness && *resources.memory.swappiness > 200)
    return bad("linux.resources.memory.swappiness", "must be at most 200");
  if (resources.memory.use_hierarchy == false)
    return bad("linux.resources.memory.useHierarchy", "the kernel always accounts hierarchically (since 5.11)");
  return {};
}

/// A sysctl may be set only where a namespace of the container owns it; anything else would change the host.
Status check_sysctl(const Spec& spec) {
  for (const auto& [written, value] : spec.sysctl) {
    std::string key = written.find('/') == std::string::npos ? written : replace_all(written, "/", ".");
    std::string at = concat("linux.sysctl[\"", written, "\"]");
    if (has_nul(value) || key.find("..") != std::string::npos || key.empty() || key[0] == '.') return bad(at, "not a valid name");
    auto owned = [&](NamespaceType type) { return spec.find_namespace(type) != nullptr; };
    auto starts = [&](std::string_view prefix) { return key.starts_with(prefix); };
    bool ipc = starts("fs.mqueue.") || key == "kernel.msgmax" || key == "kernel.msgmnb" || key == "kernel.msgmni" ||
               key == "kernel.sem" || key == "kernel.shmall" || key == "kernel.shmmax" || key == "kernel.shmmni" ||
               key == "kernel.shm_rmid_forced";
    if (ipc && owned(NamespaceType::ipc)) continue;
    if (starts("net.") && owned(NamespaceType::network)) continue;
    if (starts("user.") && owned(NamespaceType::user)) continue;
    if (key == "kernel.domainname" && owned(NamespaceType::uts) && spec.domainname.empty()) continue;
    if (key == "kernel.hostname") return bad(at, "set the hostname field instead");
    return bad(at, "is not owned by a namespace of this container, so setting it would change the host");
  }
  return {};
}

Status check_devices(const Spec& spec) {
  for (std::size_t i = 0; i < spec.devices.size(); ++i) {
    const auto& device = spec.devices[i];
    std::string at = concat("linux.devices[", i, "]");
    if (device.path.empty() || device.path[0] != '/' || has_nul(device.path))
      return bad(concat(at, ".path"), concat("\"", device.path, "\" is not an absolute path"));
    constexpr std::int64_t major_end = 1 << 12;
    constexpr std::int64_t minor_end = 1 << 20;
    if (device.type != 'p' && (device.major < 0 || device.major >= major_end)) return bad(concat(at, ".major"), "out of range");
    if (device.type != 'p' && (device.minor < 0 || device.minor >= minor_end)) return bad(concat(at, ".minor"), "out of range");
    if (device.file_mode && (*device.file_mode & ~07777U) != 0 && (*device.file_mode & 0170000U) == 0)
      return bad(concat(at, ".fileMode"), "has bits beyond the permission bits");
  }
  for (std::size_t i = 0; i < spec.resources.devices.size(); ++i)
    if (spec.resources.devices[i].access.find_first_not_of("rwm") != std::string::npos)
      return bad(concat("linux.resources.devices[", i, "].access"), "may hold only the letters r, w and m");
  return {};
}

Status check_mounts(const Spec& spec) {
  for (std::size_t i = 0; i < spec.mounts.size(); ++i) {
    const auto& mount = spec.mounts[i];
    std::string at = concat("mounts[", i, "]");
    if (mount.destination.empty()) return bad(concat(at, ".destination"), "missing");
    if (has_nul(mount.destination) || has_nul(mount.source)) return bad(at, "contains a NUL byte");
    TRY_PLAIN(check_id_map(mount.id_map, at));
  }
  return {};
}

bool known_propagation(std::string_view text) {
  static constexpr std::string_view names[] = {"",        "shared", "slave",    "private",    "unbindable",
                                               "rshared", "rslave", "rprivate", "runbindable"};
  return std::find(std::begin(names), std::end(names), text) != std::end(names);
}

}  // namespace

Status check_process(const Process& process, std::string_view path) {
  auto at = [&](std::string_view field) { return concat(path, ".", field); };
  if (process.args.empty()) return bad(at("args"), "at least the program's name is needed");
  for (std::size_t i = 0; i < process.args.size(); ++i)
    if (has_nul(process.args[i])) return bad(concat(at("args"), "[", i, "]"), "contains a NUL byte");
  for (std::size_t i = 0; i < process.env.size(); ++i)
    if (has_nul(process.env[i])) return bad(concat(at("env"), "[", i, "]"), "contains a NUL byte");
  if (process.cwd.empty() || process.cwd[0] != '/') return bad(at("cwd"), concat("\"", process.cwd, "\" is not an absolute path"));
  if (has_nul(process.cwd)) return bad(at("cwd"), "contains a NUL byte");
  if (process.user.uid == 0xffffffffU || process.user.gid == 0xffffffffU) return bad(at("user"), "id 4294967295 is reserved");
  if (process.user.umask && *process.user.umask > 0777) return bad(at("user.umask"), "must be at most 0777");
  if (process.oom_score_adj && (*process.oom_score_adj < -1000 || *process.oom_score_adj > 1000))
    return bad(at("oomScoreAdj"), "must be from -1000 to 1000");
  std::set<std::string_view> seen;
  for (std::size_t i = 0; i < process.rlimits.size(); ++i) {
    const auto& limit = process.rlimits[i];
    std::string here = concat(at("rlimits"), "[", i, "]");
    if (!seen.insert(limit.type).second) return bad(here, concat("\"", limit.type, "\" is listed twice"));
    if (limit.soft > limit.hard) return bad(here, "soft limit is above the hard limit");
  }
  return {};
}

Status check_spec(const Spec& spec) {
  if (!spec.oci_version.starts_with("1."))
    return Error(ErrorKind::unsupported, concat("ociVersion: \"", spec.oci_version, "\" is not a version 1"));
  TRY_PLAIN(check_process(spec.process, "process"));
  TRY_PLAIN(check_namespaces(spec));
  TRY_PLAIN(check_id_map(spec.id_map, "linux"));
  TRY_PLAIN(check_mounts(spec));
  TRY_PLAIN(check_devices(spec));
  TRY_PLAIN(check_sysctl(spec));
  TRY_PLAIN(check_time_offsets(spec));
  TRY_PLAIN(check_net_devices(spec));
  TRY_PLAIN(check_intel_rdt(spec));
  TRY_PLAIN(check_resources(spec.resources));
  if (!known_propagation(spec.rootfs_propagation))
    return bad("linux.rootfsPropagation", concat("\"", spec.rootfs_propagation, "\" is not a propagation"));
  if (spec.hostname.size() > 64) return bad("hostname", "longer than 64 bytes");
  if (spec.domainname.size() > 64) return bad("domainname", "longer than 64 bytes");
  if (has_nul(spec.hostname) || has_nul(spec.domainname) || has_nul(spec.root.path)) return bad("config.json", "contains a NUL byte");
  for (auto piece : split(spec.cgroups_path, '/'))
    if (piece == ".." || piece == ".") return bad("linux.cgroupsPath", "may not contain . or ..");
  for (const auto& [key, value] : spec.resources.unified)
    if (key.empty() || key.find('/') != std::string::npos || key == "." || key == "..")
      return bad("linux.resources.unified", concat("\"", key, "\" is not a file name"));
  auto check_paths = [](const std::vector<std::string>& paths, std::string_view name) -> Status {
    for (std::size_t i = 0; i < paths.size(); ++i)
      if (paths[i].empty() || paths[i][0] != '/' || has_nul(paths[i]))
        return bad(concat("linux.", name, "[", i, "]"), "is not an absolute path");
    return {};
  };
  TRY_PLAIN(check_paths(spec.masked_paths, "maskedPaths"));
  return check_paths(spec.readonly_paths, "readonlyPaths");
}

}  // namespace caisson::runtime
