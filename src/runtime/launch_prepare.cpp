// What the host's root makes before the child exists: the device folder and the clones of bind sources.
#include "linux/child.hpp"
#include "linux/file.hpp"
#include "linux/idmap.hpp"
#include "linux/mount_api.hpp"
#include "runtime/launch.hpp"

namespace caisson::runtime {

RootIds outside_user(const LaunchPlan& plan, std::uint32_t uid, std::uint32_t gid) {
  RootIds out{uid, gid};
  if (!plan.in_user_namespace) return out;
  out.uid = linux::map_to_outside(plan.id_map.uids, uid).value_or(0);
  out.gid = linux::map_to_outside(plan.id_map.gids, gid).value_or(0);
  return out;
}

RootIds outside_root(const LaunchPlan& plan) { return outside_user(plan, 0, 0); }

namespace detail {

namespace {

/// "/dev/null" → "null", "/dev/net/tun" → "net/tun"; empty for what is not below /dev.
std::string_view below_dev(std::string_view path) {
  if (!path.starts_with("/dev/")) return {};
  path.remove_prefix(5);
  return path.find("..") == std::string_view::npos ? path : std::string_view();
}

Status make_parents(int folder, std::string_view name) {
  for (std::size_t slash = name.find('/'); slash != std::string_view::npos; slash = name.find('/', slash + 1)) {
    auto made = linux::mkdirat(folder, std::string(name.substr(0, slash)), 0755);
    if (!made && made.error().error_number() != 17 /* EEXIST: an earlier device's folder */) return made;
  }
  return {};
}

Status make_node(int folder, const PlanDevice& device, const LaunchPlan& plan) {
  const std::string name(below_dev(device.path));
  TRY_PLAIN(make_parents(folder, name));
  TRY_PLAIN(linux::mknodat(folder, name, device.mode, linux::make_device(device.major, device.minor)));
  if (device.uid == 0 && device.gid == 0) return {};  // it is the container root's already
  const RootIds owner = outside_user(plan, device.uid, device.gid);
  return linux::fchownat(folder, name, owner.uid, owner.gid, AT_SYMLINK_NOFOLLOW);
}

}  // namespace

Result<UniqueFd> make_device_folder(const PlanMount& mount, const LaunchPlan& plan, std::vector<bool>& done) {
  auto identity = TRY_PLAIN(FileIdentity::assume(outside_root(plan)));
  auto context = TRY_PLAIN(linux::FileSystemContext::create("tmpfs"));
  if (!mount.source.empty()) TRY_PLAIN(context.set_string("source", mount.source));
  for (const auto& option : mount.options)
    TRY_PLAIN(option.is_flag ? context.set_flag(option.key) : context.set_string(option.key, option.value));
  TRY_PLAIN(context.create_superblock());
  auto folder = TRY_PLAIN(context.mount(mount.attr_set & ~std::uint64_t{MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV}));
  const auto old_umask = linux::umask(0);
  auto fill = [&]() -> Status {
    for (std::size_t i = 0; i < plan.devices.size(); ++i) {
      if (below_dev(plan.devices[i].path).empty()) continue;
      TRY(make_node(folder.get(), plan.devices[i], plan), concat("device ", plan.devices[i].path));
      done[i] = true;
    }
    for (const auto& name : mount.folders) {
      auto made = linux::mkdirat(folder.get(), name, 0755);
      if (!made && made.error().error_number() != 17 /* EEXIST: two mounts on one folder */) return made;
    }
    TRY_PLAIN(linux::symlinkat("/proc/self/fd", folder.get(), "fd"));
    TRY_PLAIN(linux::symlinkat("/proc/self/fd/0", folder.get(), "stdin"));
    TRY_PLAIN(linux::symlinkat("/proc/self/fd/1", folder.get(), "stdout"));
    TRY_PLAIN(linux::symlinkat("/proc/self/fd/2", folder.get(), "stderr"));
    TRY_PLAIN(linux::symlinkat("pts/ptmx", folder.get(), "ptmx"));
    if (plan.process.terminal) TRY_PLAIN(linux::mknodat(folder.get(), "console", 0100620, 0));
    return {};
  };
  auto filled = fill();
  (void)linux::umask(old_umask);
  if (!filled) return std::move(filled).error();
  return folder;
}

namespace {

/// In a user namespace the host's mounts keep the restrictions they have (mount_namespaces(7): locked flags). A request to lift one is
/// refused with EPERM; then what is asked for beyond that is set, and the restriction stays, as it does under crun.
Status set_attributes(int tree, unsigned int flags, linux::MountAttributes attributes) {
  auto set = linux::mount_setattr(tree, "", AT_EMPTY_PATH | flags, attributes);
  if (set || set.error().error_number() != 1 /* EPERM */ || attributes.clear == 0) return set;
  attributes.set &= ~std::uint64_t{MOUNT_ATTR__ATIME};
  attributes.clear = 0;
  return linux::mount_setattr(tree, "", AT_EMPTY_PATH | flags, attributes);
}

}  // namespace

Result<UniqueFd> clone_bind(const PlanMount& mount, std::size_t index, int container_userns) {
  const std::string at = concat("mounts[", index, "]: bind of ", mount.source, " on ", mount.destination);
  const unsigned int flags =
      (mount.recursive ? unsigned{AT_RECURSIVE} : 0U) | (mount.source_nofollow ? unsigned{AT_SYMLINK_NOFOLLOW} : 0U);
  auto opened = linux::open_tree(AT_FDCWD, mount.source, OPEN_TREE_CLONE | flags);
  if (!opened) {
    // Not the kernel's words: callers take "no such file or directory" for a missing program (exit code 127).
    if (opened.error().error_number() == 2 /* ENOENT */)
      return Error(ErrorKind::not_found, concat(at, ": the source does not exist"), 2);
    return std::move(opened).error().in(at);
  }
  UniqueFd tree = std::move(opened).value();
  linux::MountAttributes attributes;
  attributes.set = mount.attr_set;
  attributes.clear = mount.attr_clear;
  // A clone of a shared mount is its peer: what the container mounts below it would show up on the host.
  attributes.propagation = mount.propagation == 0 ? std::uint64_t{MS_PRIVATE} : mount.propagation;
  const bool recursive_propagation = mount.propagation == 0 || mount.propagation_recursive;
  const bool plain = mount.attr_set == 0 && mount.attr_clear == 0;
  if (mount.recursive && recursive_propagation && plain) {
    TRY(set_attributes(tree.get(), AT_RECURSIVE, attributes), at);
  } else {
    TRY(set_attributes(tree.get(), 0, attributes), at);
    if (mount.recursive && recursive_propagation) {
      linux::MountAttributes below;
      below.propagation = attributes.propagation;
      TRY(set_attributes(tree.get(), AT_RECURSIVE, below), at);
    }
  }
  if (mount.recursive_attr_set != 0 || mount.recursive_attr_clear != 0) {
    linux::MountAttributes below;
    below.set = mount.recursive_attr_set;
    below.clear = mount.recursive_attr_clear;
    TRY(set_attributes(tree.get(), AT_RECURSIVE, below), at);
  }
  if (mount.id_mapped) {
    UniqueFd own;
    if (!mount.id_map.empty()) own = TRY(linux::create_user_namespace(mount.id_map), at);
    TRY(linux::idmap_mount(tree.get(), own ? own.get() : container_userns, mount.id_mapped_recursive), at);
  }
  return tree;
}

}  // namespace detail

}  // namespace caisson::runtime
