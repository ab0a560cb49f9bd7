// Names and properties of systemd's units: pure.
#include <algorithm>

#include "base/strings.hpp"
#include "linux/cgroup.hpp"
#include "linux/cgroup_systemd.hpp"
#include "linux/file.hpp"
#include "linux/idmap.hpp"
#include "linux/process.hpp"

namespace caisson::linux {

namespace {

constexpr std::string_view scheme = "systemd:";

Error bad_unit(std::string_view name, std::string_view why) {
  return {ErrorKind::invalid, concat("cgroup: \"", name, "\" ", why), EINVAL};
}

/// systemd.unit(5): letters, digits and ":-_.\", "@" for templates, at most 255 bytes.
Status check_unit_name(std::string_view name) {
  if (name.empty() || name.size() > 255) return bad_unit(name, "is not the name of a unit: 1 to 255 bytes");
  for (const char letter : name) {
    const bool alphanumeric = (letter >= '0' && letter <= '9') || (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z');
    if (!alphanumeric && std::string_view(":-_.\\@").find(letter) == std::string_view::npos)
      return bad_unit(name, "is not the name of a systemd unit: letters, digits and :-_.\\@ only");
  }
  return {};
}

/// "a-b.slice" lies in "a.slice" (systemd.slice(5)): "/a.slice/a-b.slice". The root slice is "-.slice".
Result<std::string> slice_path(std::string_view slice) {
  TRY_PLAIN(check_unit_name(slice));
  if (!slice.ends_with(".slice")) return bad_unit(slice, "is not a slice: its name must end in .slice");
  if (slice == "-.slice") return std::string();
  const std::string_view name = slice.substr(0, slice.size() - 6);
  std::string out;
  std::string upto;
  for (std::string_view part : split(name, '-')) {
    if (part.empty()) return bad_unit(slice, "is not a slice: an empty part between dashes");
    upto += concat(upto.empty() ? "" : "-", part);
    out += concat('/', upto, ".slice");
  }
  return out;
}

}  // namespace

Result<std::string> systemd_cgroup_path(std::string_view cgroups_path, std::string_view id, const SystemdManager& manager) {
  std::string_view slice;
  std::string_view prefix = "caisson";
  std::string_view name = id;
  if (!cgroups_path.empty()) {
    const auto parts = split(cgroups_path, ':');
    if (parts.size() != 3 || parts[2].empty())
      return Error(
          ErrorKind::invalid,
          concat("linux.cgroupsPath: \"", cgroups_path, "\" is not of the form slice:prefix:name, which the systemd driver needs"),
          EINVAL);
    slice = parts[0];
    prefix = parts[1];
    name = parts[2];
  }
  if (slice.empty()) slice = manager.default_slice;
  const std::string unit = name.ends_with(".slice") ? std::string(name)
                           : prefix.empty()         ? concat(name, ".scope")
                                                    : concat(prefix, '-', name, ".scope");
  TRY_PLAIN(check_unit_name(unit));
  const std::string folder = unit.ends_with(".slice") ? TRY_PLAIN(slice_path(unit)) : concat(TRY_PLAIN(slice_path(slice)), '/', unit);
  return concat(scheme, manager.root, folder);
}

Result<SystemdManager> own_systemd_manager() {
  SystemdManager out;
  const std::string map = TRY(read_file("/proc/self/uid_map"), "systemd");
  const auto ids = TRY(parse_id_map(map), "systemd");
  const std::uint32_t uid = map_to_outside(ids, geteuid()).value_or(geteuid());
  if (uid == 0) return out;
  out.of_user = true;
  out.root = concat("/user.slice/user-", uid, ".slice/user@", uid, ".service");
  out.default_slice = "user.slice";
  return out;
}

std::string systemd_unit_name(std::string_view path) {
  const auto unit = detail::parse_systemd_path(path);
  return unit && *unit ? (*unit)->name : std::string();
}

namespace detail {

Result<std::optional<SystemdUnit>> parse_systemd_path(std::string_view path) {
  std::optional<SystemdUnit> out;
  if (!path.starts_with(scheme)) return out;
  const std::string_view inner = path.substr(scheme.size());
  if (!inner.starts_with('/')) return bad_unit(path, "does not name a unit");
  out.emplace();
  out->path = inner;
  out->slice = "-.slice";
  std::size_t begin = 1;
  while (begin <= inner.size()) {
    const std::size_t end = std::min(inner.find('/', begin), inner.size());
    const std::string_view part = inner.substr(begin, end - begin);
    begin = end + 1;
    if (part.starts_with("user@") && part.ends_with(".service")) {
      out->of_user = true;
      out->manager = inner.substr(0, end);
      out->slice = "-.slice";
      out->name.clear();
    } else if (part.ends_with(".scope")) {
      if (!out->name.empty()) out->slice = out->name;
      out->name = part;
      out->unit_path = inner.substr(0, end);
      break;
    } else if (part.ends_with(".slice")) {
      if (!out->name.empty()) out->slice = out->name;
      out->name = part;
      out->unit_path = inner.substr(0, end);
    } else {
      break;
    }
  }
  if (out->name.empty()) return bad_unit(path, "does not name a unit");
  TRY_PLAIN(check_unit_name(out->name));
  return out;
}

namespace {

DbusValue limit_value(std::int64_t value) { return DbusValue::uint64(value < 0 ? UINT64_MAX : static_cast<std::uint64_t>(value)); }

/// "0-2,5" as the bytes of a mask, lowest first. Nothing for what is not such a list: the kernel then refuses the file's write.
std::optional<DbusValue> mask_of(std::string_view list) {
  constexpr unsigned int most = 8192;
  std::string mask;
  for (std::string_view part : split(list, ',')) {
    const Halves range = split_once(trim(part), '-');
    const auto first = parse_integer<unsigned int>(range.before);
    const auto last = range.found ? parse_integer<unsigned int>(range.after) : first;
    if (!first || !last || *last < *first || *last >= most) return std::nullopt;
    if (mask.size() <= *last / 8) mask.resize(*last / 8 + 1, '\0');
    for (unsigned int cpu = *first; cpu <= *last; ++cpu) mask[cpu / 8] = static_cast<char>(mask[cpu / 8] | 1 << cpu % 8);
  }
  return DbusValue::bytes(mask);
}

std::string device_node(char type, std::int64_t major, std::int64_t minor) {
  return concat(type == 'b' ? "/dev/block/" : "/dev/char/", major, ':', minor);
}

DbusValue pair_of(std::string text, DbusValue value) {
  return DbusValue::structure({DbusValue::string(std::move(text)), std::move(value)});
}

void add_rates(std::vector<SystemdProperty>& out, std::string name, const std::vector<CgroupDevice>& devices) {
  std::vector<DbusValue> items;
  for (const CgroupDevice& device : devices)
    items.push_back(
        pair_of(device_node('b', device.major, device.minor), DbusValue::uint64(device.value == 0 ? UINT64_MAX : device.value)));
  if (!items.empty()) out.push_back({std::move(name), DbusValue::array("(st)", std::move(items))});
}

/// The rules as DeviceAllow lines, when they are "nothing but …". systemd has neither exceptions nor a minor for every major.
std::optional<std::vector<DbusValue>> device_lines(const std::vector<CgroupDeviceRule>& rules) {
  std::vector<DbusValue> out;
  if (rules.empty() || rules[0].allow || rules[0].type != 'a') return std::nullopt;
  for (std::size_t i = 1; i < rules.size(); ++i) {
    const CgroupDeviceRule& rule = rules[i];
    if (!rule.allow || rule.type == 'a' || (!rule.major && rule.minor)) return std::nullopt;
    std::string name;
    if (rule.major && rule.minor) name = device_node(rule.type, *rule.major, *rule.minor);
    else name = concat(rule.type == 'b' ? "block-" : "char-", rule.major ? concat(*rule.major) : std::string("*"));
    out.push_back(pair_of(std::move(name), DbusValue::string(rule.access.empty() ? "rwm" : rule.access)));
  }
  return out;
}

void add_devices(std::vector<SystemdProperty>& out, const std::vector<CgroupDeviceRule>& rules) {
  if (rules.empty()) return;
  auto lines = device_lines(rules);
  // "auto" without lines: systemd keeps its hands off, and our own filter (or our writes on v1) stand alone.
  out.push_back({"DevicePolicy", DbusValue::string(lines ? "strict" : "auto")});
  out.push_back({"DeviceAllow", DbusValue::array("(ss)", {})});  // an empty list empties what was there
  if (lines && !lines->empty()) out.push_back({"DeviceAllow", DbusValue::array("(ss)", std::move(*lines))});
}

void add_memory(std::vector<SystemdProperty>& out, const CgroupLimits& limits, bool v2) {
  const std::int64_t memory = limits.memory_limit_bytes.value_or(0);
  const std::int64_t both = limits.memory_swap_bytes.value_or(0);
  if (memory != 0) out.push_back({v2 ? "MemoryMax" : "MemoryLimit", limit_value(memory)});
  if (!v2) return;
  if (limits.memory_reservation_bytes.value_or(0) != 0) out.push_back({"MemoryLow", limit_value(*limits.memory_reservation_bytes)});
  if (both < 0 || (memory < 0 && both == 0)) out.push_back({"MemorySwapMax", limit_value(-1)});
  else if (both > 0 && memory > 0 && both >= memory) out.push_back({"MemorySwapMax", limit_value(both - memory)});
}

void add_cpu(std::vector<SystemdProperty>& out, const CgroupLimits& limits, bool v2) {
  if (limits.cpu_shares.value_or(0) != 0) {
    if (v2) out.push_back({"CPUWeight", DbusValue::uint64(cpu_weight_of_shares(*limits.cpu_shares))});
    else out.push_back({"CPUShares", DbusValue::uint64(*limits.cpu_shares)});
  }
  const std::int64_t quota_us = limits.cpu_quota_us.value_or(0);
  const std::uint64_t period_us = limits.cpu_period_us.value_or(0);
  if (period_us != 0) out.push_back({"CPUQuotaPeriodUSec", DbusValue::uint64(period_us)});
  if (quota_us < 0) out.push_back({"CPUQuotaPerSecUSec", limit_value(-1)});
  if (quota_us > 0) {
    // systemd takes steps of 1 % of a CPU, that is of 10 ms per second: round up, the file is written exactly afterwards.
    const std::uint64_t per_second = static_cast<std::uint64_t>(quota_us) * 1'000'000 / (period_us == 0 ? 100'000 : period_us);
    out.push_back({"CPUQuotaPerSecUSec", DbusValue::uint64((per_second + 9999) / 10'000 * 10'000)});
  }
  if (const auto mask = mask_of(limits.cpuset_cpus); v2 && !limits.cpuset_cpus.empty() && mask) out.push_back({"AllowedCPUs", *mask});
  if (const auto mask = mask_of(limits.cpuset_mems); v2 && !limits.cpuset_mems.empty() && mask)
    out.push_back({"AllowedMemoryNodes", *mask});
}

}  // namespace

std::vector<SystemdProperty> plan_systemd_limits(const CgroupLimits& limits, CgroupMode mode) {
  const bool v2 = mode == CgroupMode::unified;
  std::vector<SystemdProperty> out;
  add_memory(out, limits, v2);
  add_cpu(out, limits, v2);
  // 0 is a limit for the kernel, but TasksMax=0 is refused by systemd: that one stays with the file.
  if (limits.pids_limit && *limits.pids_limit != 0) out.push_back({"TasksMax", limit_value(*limits.pids_limit)});
  if (limits.blkio_weight.value_or(0) != 0) {
    if (v2) out.push_back({"IOWeight", DbusValue::uint64(io_weight_of_blkio(*limits.blkio_weight))});
    else out.push_back({"BlockIOWeight", DbusValue::uint64(*limits.blkio_weight)});
  }
  if (v2) {
    add_rates(out, "IOReadBandwidthMax", limits.blkio_read_bps);
    add_rates(out, "IOWriteBandwidthMax", limits.blkio_write_bps);
    add_rates(out, "IOReadIOPSMax", limits.blkio_read_iops);
    add_rates(out, "IOWriteIOPSMax", limits.blkio_write_iops);
  }
  add_devices(out, limits.devices);
  return out;
}

Result<std::vector<SystemdProperty>> parse_systemd_properties(const std::map<std::string, std::string>& texts) {
  std::vector<SystemdProperty> out;
  for (const auto& [name, text] : texts) {
    const bool plain = !name.empty() && std::all_of(name.begin(), name.end(), [](char letter) {
      return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || (letter >= '0' && letter <= '9');
    });
    if (!plain)
      return Error(ErrorKind::invalid, concat("annotation org.systemd.property.", name, ": not the name of a property"), EINVAL);
    DbusValue value = TRY(parse_gvariant(text), concat("annotation org.systemd.property.", name));
    if (!name.ends_with("Sec") || name.ends_with("USec")) {
      out.push_back({name, std::move(value)});
      continue;
    }
    if (value.signature.size() != 1 || std::string_view("ynqiuxt").find(value.signature[0]) == std::string_view::npos)
      return Error(ErrorKind::invalid, concat("annotation org.systemd.property.", name, ": seconds are a whole number"), EINVAL);
    out.push_back({concat(name.substr(0, name.size() - 3), "USec"), DbusValue::uint64(value.number * 1'000'000)});
  }
  return out;
}

}  // namespace detail

}  // namespace caisson::linux
