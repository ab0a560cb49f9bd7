// stat(2) on what the user named; nothing here follows a path of a container.
#include "engine/devices.hpp"

#include <algorithm>
#include <array>

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::engine {

namespace {
constexpr int deepest_folder = 8;

std::optional<runtime::Device> device_of(const linux::FileStatus& status, std::string path_inside) {
  runtime::Device device;
  if (S_ISCHR(status.st_mode)) device.type = 'c';
  else if (S_ISBLK(status.st_mode)) device.type = 'b';
  else return std::nullopt;
  device.path = std::move(path_inside);
  device.major = linux::device_major(status.st_rdev);
  device.minor = linux::device_minor(status.st_rdev);
  device.file_mode = static_cast<std::uint32_t>(status.st_mode & 07777);
  device.uid = status.st_uid;
  device.gid = status.st_gid;
  return device;
}

/// Calls `visit(status, path below the folder)` for every device node below `dir`.
template <class Visit>
Status walk(const std::string& dir, const std::string& below, int depth, Visit visit) {
  // Of the host's /dev: file systems with devices of their own, and what the runtime makes itself.
  static constexpr std::array<std::string_view, 6> skipped = {"pts", "shm", "mqueue", "fd", "console", "hugepages"};
  if (depth > deepest_folder) return {};
  auto entries = TRY_PLAIN(linux::list_dir(dir));
  for (const auto& entry : entries) {
    if (std::find(skipped.begin(), skipped.end(), entry.name) != skipped.end()) continue;
    std::string path = dir + "/" + entry.name;
    auto status = linux::lstat(path);
    if (!status.ok()) continue;  // it vanished meanwhile: hot-plugging is normal in /dev
    if (S_ISDIR(status->st_mode)) TRY_PLAIN(walk(path, below + "/" + entry.name, depth + 1, visit));
    else visit(*status, below + "/" + entry.name);
  }
  return {};
}

runtime::DeviceRule rule_for(const runtime::Device& device, const std::string& permissions) {
  return {true, device.type, device.major, device.minor, permissions};
}

Status add_device(const DeviceSpec& wanted, ResolvedDevices& out) {
  auto add = [&](const linux::FileStatus& status, const std::string& inside) {
    auto device = device_of(status, inside);
    if (!device) return false;
    out.rules.push_back(rule_for(*device, wanted.permissions));
    out.nodes.push_back(std::move(*device));
    return true;
  };
  const std::string what = concat("error gathering device information while adding custom device \"", wanted.path_on_host, "\"");
  const std::string inside = wanted.path_in_container.empty() ? wanted.path_on_host : wanted.path_in_container;
  auto status = linux::stat(wanted.path_on_host);
  if (!status.ok()) return std::move(status).error().in(what).with_kind(ErrorKind::invalid);
  if (S_ISDIR(status->st_mode)) {
    TRY(walk(wanted.path_on_host, inside, 0, add), what);
    return {};
  }
  if (!add(*status, inside)) return Error(ErrorKind::invalid, concat(what, ": not a device node"));
  return {};
}

Result<dev_t> number_of(const std::string& path) {
  auto status = linux::stat(path);
  if (!status.ok()) return std::move(status).error().in(concat("blkio device ", path)).with_kind(ErrorKind::invalid);
  if (!S_ISBLK(status->st_mode)) return Error(ErrorKind::invalid, concat("blkio device ", path, ": not a block device"));
  return status->st_rdev;
}

Status add_throttles(const std::vector<ThrottleDevice>& from, std::vector<runtime::ThrottleDevice>& to) {
  for (const auto& device : from) {
    dev_t number = TRY_PLAIN(number_of(device.path));
    to.push_back({linux::device_major(number), linux::device_minor(number), device.rate});
  }
  return {};
}
}  // namespace

Result<runtime::DeviceRule> parse_device_rule(std::string_view text) {
  auto refuse = [&] { return Error(ErrorKind::invalid, concat("invalid device cgroup rule format: '", text, "'")); };
  auto words = split(text, ' ');
  if (words.size() != 3 || words[0].size() != 1 || std::string_view("abc").find(words[0]) == std::string_view::npos) return refuse();
  auto numbers = split_once(words[1], ':');
  if (!numbers.found || words[2].empty() || words[2].find_first_not_of("rwm") != std::string_view::npos) return refuse();
  runtime::DeviceRule rule;
  rule.allow = true;
  rule.type = words[0][0];
  rule.access = words[2];
  for (auto [number, into] : {std::pair{numbers.before, &rule.major}, std::pair{numbers.after, &rule.minor}}) {
    if (number == "*") continue;
    auto parsed = parse_integer<std::uint32_t>(number);
    if (!parsed.ok()) return refuse();
    *into = *parsed;
  }
  return rule;
}

std::vector<runtime::Mount> bind_renamed_devices(const std::vector<DeviceSpec>& devices, std::vector<runtime::Device>& nodes) {
  std::vector<runtime::Mount> binds;
  for (const auto& device : devices) {
    const auto& inside = device.path_in_container;
    if (inside.empty() || inside == device.path_on_host) continue;
    std::erase_if(nodes, [&](const runtime::Device& node) { return node.path == inside || node.path.starts_with(inside + "/"); });
    runtime::Mount bind;
    bind.destination = inside;
    bind.type = "bind";
    bind.source = device.path_on_host;
    bind.options = {"rbind", "nosuid", "noexec"};
    binds.push_back(std::move(bind));
  }
  return binds;
}

Result<ResolvedDevices> resolve_devices(const ContainerSpec& spec) {
  ResolvedDevices out;
  if (spec.privileged) {
    auto add = [&](const linux::FileStatus& status, const std::string& inside) {
      if (auto device = device_of(status, inside)) out.nodes.push_back(std::move(*device));
    };
    TRY(walk("/dev", "/dev", 0, add), "list the host's devices");
    // The runtime makes these itself, with its own owners.
    static constexpr std::array<std::string_view, 7> defaults = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random",
                                                                 "/dev/urandom", "/dev/tty", "/dev/ptmx"};
    std::erase_if(out.nodes, [](const auto& node) { return std::find(defaults.begin(), defaults.end(), node.path) != defaults.end(); });
    out.rules.push_back({true, 'a', std::nullopt, std::nullopt, "rwm"});
  }
  for (const auto& device : spec.devices) TRY_PLAIN(add_device(device, out));
  for (const auto& rule : spec.device_cgroup_rules) out.rules.push_back(TRY_PLAIN(parse_device_rule(rule)));
  const auto& resources = spec.resources;
  for (const auto& device : resources.blkio_weight_devices) {
    dev_t number = TRY_PLAIN(number_of(device.path));
    out.block_io.weight_devices.push_back({linux::device_major(number), linux::device_minor(number), device.weight});
  }
  TRY_PLAIN(add_throttles(resources.blkio_read_bps, out.block_io.read_bps));
  TRY_PLAIN(add_throttles(resources.blkio_write_bps, out.block_io.write_bps));
  TRY_PLAIN(add_throttles(resources.blkio_read_iops, out.block_io.read_iops));
  TRY_PLAIN(add_throttles(resources.blkio_write_iops, out.block_io.write_iops));
  return out;
}

}  // namespace caisson::engine
