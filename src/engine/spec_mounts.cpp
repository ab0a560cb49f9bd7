// The mounts of a container: the kernel's own file systems first, then what the user asked for, parents before children.
#include <algorithm>

#include "base/strings.hpp"
#include "engine/spec_builder.hpp"

namespace caisson::engine {

namespace {
constexpr std::int64_t default_shm_bytes = 64 << 20;
/// The mount is shown through the container's own user namespace. Naming the same map once more (uidMappings) would make the runtime
/// create another namespace per mount, which is a process each.
constexpr const char* own_id_map = "idmap";

using Options = std::vector<std::string>;

runtime::Mount make_mount(std::string destination, std::string type, std::string source, Options options) {
  runtime::Mount mount;
  mount.destination = std::move(destination);
  mount.type = std::move(type);
  mount.source = std::move(source);
  mount.options = std::move(options);
  return mount;
}

/// proc and sysfs belong to a pid and a network namespace; a container that uses the host's may not mount a new one from its own
/// user namespace (user_namespaces(7)), so it gets the host's by a bind.
std::vector<runtime::Mount> kernel_mounts(const SpecInput& input) {
  const auto& spec = input.info.spec;
  bool own_user_namespace = !input.id_map.empty();
  // Nesting: what of /sys belongs to the container's own namespaces may be changed, and so may its cgroup where it can be handed over.
  std::string access = spec.privileged || spec.nesting ? "rw" : "ro";
  std::string cgroup_access = spec.privileged || (spec.nesting && input.can_hand_over_cgroup) ? "rw" : "ro";
  std::vector<runtime::Mount> mounts;
  if (spec.pid_mode == "host" && own_user_namespace)
    mounts.push_back(make_mount("/proc", "bind", "/proc", {"rbind", "nosuid", "noexec", "nodev"}));
  else
    mounts.push_back(make_mount("/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}));
  mounts.push_back(make_mount("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}));
  mounts.push_back(make_mount("/dev/pts", "devpts", "devpts", {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}));
  if (spec.network.mode == "host" && own_user_namespace)
    mounts.push_back(make_mount("/sys", "bind", "/sys", {"rbind", "nosuid", "noexec", "nodev", access}));
  else
    mounts.push_back(make_mount("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", access}));
  mounts.push_back(make_mount("/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", std::move(cgroup_access)}));
  if (spec.ipc_mode == "host" && own_user_namespace) {
    if (input.host_has_mqueue) mounts.push_back(make_mount("/dev/mqueue", "bind", "/dev/mqueue", {"bind", "nosuid", "noexec", "nodev"}));
  } else {
    mounts.push_back(make_mount("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}));
  }
  if (spec.ipc_mode == "host") {
    mounts.push_back(make_mount("/dev/shm", "bind", "/dev/shm", {"bind", "nosuid", "noexec", "nodev"}));
  } else if (spec.ipc_mode != "none") {
    std::int64_t size = spec.shm_size_bytes > 0 ? spec.shm_size_bytes : default_shm_bytes;
    mounts.push_back(make_mount("/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", concat("size=", size)}));
  }
  return mounts;
}

/// Names, addresses and resolver of the container: one small file each, writable by its root as in docker.
std::vector<runtime::Mount> network_files(const SpecInput& input) {
  const auto& info = input.info;
  std::vector<runtime::Mount> mounts;
  auto add = [&](const std::string& source, const char* destination) {
    if (source.empty()) return;
    Options options = {"bind", "rprivate", info.spec.read_only_rootfs ? "ro" : "rw"};
    if (!input.id_map.empty()) options.emplace_back(own_id_map);
    mounts.push_back(make_mount(destination, "bind", source, std::move(options)));
  };
  add(info.resolv_conf_path, "/etc/resolv.conf");
  add(info.hostname_path, "/etc/hostname");
  add(info.hosts_path, "/etc/hosts");
  return mounts;
}

runtime::Mount bind_mount(const SpecInput& input, const MountSpec& asked, const MountPoint& point) {
  Options options = {asked.non_recursive ? "bind" : "rbind", point.propagation.empty() ? "rprivate" : point.propagation};
  if (point.read_write) {
    options.emplace_back("rw");
  } else {
    options.emplace_back("ro");
    if (!asked.non_recursive) options.emplace_back("rro");  // submounts too: "ro" alone leaves them writable (mount_setattr(2))
  }
  for (const auto& word : asked.options)
    if (word == "nosuid" || word == "nodev" || word == "noexec") options.push_back(word);
  // Without a map of its own, what root owns on the host would belong to nobody inside. Ids inside equal ids on disk where policy lets the
  // caller write there as root; otherwise a setuid file made here would be the host's root's.
  bool mappable = std::find(input.unmappable_sources.begin(), input.unmappable_sources.end(), point.source) == input.unmappable_sources.end();
  if (mappable && !asked.without_owners && !input.id_map.empty()) options.emplace_back(own_id_map);
  return make_mount(point.destination, "bind", point.source, std::move(options));
}

runtime::Mount tmpfs_mount(const MountSpec& asked) {
  // docker's defaults; a word of the user replaces its opposite.
  Options options = {"nosuid", "nodev", "noexec", asked.read_only ? "ro" : "rw"};
  auto replace = [&](std::string_view old_word, const std::string& word) {
    std::erase(options, old_word);
    options.push_back(word);
  };
  bool has_mode = asked.tmpfs_mode.has_value();
  for (const auto& word : asked.options) {
    if (word == "exec") replace("noexec", word);
    else if (word == "suid") replace("nosuid", word);
    else if (word == "dev") replace("nodev", word);
    else if (word == "ro") replace("rw", word);
    else if (word == "rw") replace("ro", word);
    else if (std::find(options.begin(), options.end(), word) == options.end()) options.push_back(word);
    has_mode = has_mode || word.starts_with("mode=");
  }
  if (asked.tmpfs_size_bytes > 0) options.push_back(concat("size=", asked.tmpfs_size_bytes));
  if (asked.tmpfs_mode) {
    std::string octal;
    for (std::uint32_t rest = *asked.tmpfs_mode; rest != 0; rest /= 8) octal.insert(octal.begin(), static_cast<char>('0' + rest % 8));
    options.push_back("mode=" + (octal.empty() ? "0" : octal));
  } else if (!has_mode) {
    options.emplace_back("mode=1777");
  }
  return make_mount(asked.target, "tmpfs", "tmpfs", std::move(options));
}

std::size_t depth_of(const std::string& path) { return static_cast<std::size_t>(std::count(path.begin(), path.end(), '/')); }
}  // namespace

namespace detail {
Result<std::vector<runtime::Mount>> build_mounts(const SpecInput& input) {
  const auto& spec = input.info.spec;
  std::vector<runtime::Mount> wanted = network_files(input);
  for (const auto& point : input.info.mounts) {
    auto asked = std::find_if(spec.mounts.begin(), spec.mounts.end(), [&](const MountSpec& m) { return m.target == point.destination; });
    if (asked == spec.mounts.end())
      return Error(ErrorKind::internal, concat("mount ", point.destination, ": no such entry in the container's own list"));
    std::erase_if(wanted, [&](const runtime::Mount& mount) { return mount.destination == point.destination; });
    wanted.push_back(point.type == MountType::tmpfs ? tmpfs_mount(*asked) : bind_mount(input, *asked, point));
  }
  std::stable_sort(wanted.begin(), wanted.end(), [](const auto& a, const auto& b) { return depth_of(a.destination) < depth_of(b.destination); });

  std::vector<runtime::Mount> mounts = kernel_mounts(input);
  for (const auto& mount : wanted)
    std::erase_if(mounts, [&](const runtime::Mount& other) { return other.destination == mount.destination; });
  for (auto& mount : wanted) mounts.push_back(std::move(mount));
  return mounts;
}
}  // namespace detail

}  // namespace caisson::engine
