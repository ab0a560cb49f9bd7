// The child's mounts: every destination is resolved once, below the root's descriptor, and used as a descriptor.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "linux/child.hpp"
#include "linux/file.hpp"
#include "runtime/child.hpp"

namespace caisson::runtime::detail {

namespace raw = linux::raw;

namespace {

constexpr std::uint64_t in_root = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
constexpr std::size_t path_limit = 4096;

/// Makes what is missing of path[0..size): parents first, each resolved anew below the root, so that a symbolic link in
/// between leads to nowhere but the root (CVE-2019-18837, CVE-2024-45310).
int make_missing(int root_fd, const char* path, bool want_folder, std::uint64_t resolve) noexcept {
  char buffer[path_limit];
  const std::size_t size = std::strlen(path);
  if (size >= sizeof buffer) return -ENAMETOOLONG;
  std::size_t begin = 0;
  int parent = root_fd;
  while (parent >= 0) {
    while (begin < size && path[begin] == '/') ++begin;
    std::size_t end = begin;
    while (end < size && path[end] != '/') ++end;
    if (begin == end) break;
    std::memcpy(buffer, path, end);
    buffer[end] = '\0';
    const bool last = end == size;
    const int flags = O_PATH | (last && !want_folder ? 0 : O_DIRECTORY);
    int next = raw::openat2(root_fd, buffer, flags, in_root | resolve, 0);
    if (next == -ENOENT) {
      const char* name = buffer + begin;
      const int made = last && !want_folder ? raw::mknodat(parent, name, S_IFREG | 0644, 0) : raw::mkdirat(parent, name, 0755);
      if (made < 0) return made == -EEXIST ? -ELOOP : made;  // it exists but resolves to nothing: a dangling link
      next = raw::openat2(root_fd, buffer, flags, in_root | resolve, 0);
    }
    if (parent != root_fd) (void)raw::close(parent);
    parent = next;
    begin = end;
  }
  // "/" alone: the caller owns what it gets.
  return parent == root_fd ? raw::openat2(root_fd, "/", O_PATH | O_DIRECTORY, in_root, 0) : parent;
}

void check(const ChildSetup& setup, int result, ChildStep step, std::size_t index) noexcept {
  child_check(setup, result, step, static_cast<std::uint32_t>(index));
}

/// The group of terminals has no id in a map of one id; all peers then leave it to the container's root.
bool is_terminal_group(const PlanMount& mount, const PlanOption& option) noexcept {
  return mount.type == "devpts" && option.key == "gid" && option.value == "5";
}

/// `terminal_group`: false leaves that one out.
void set_options(const ChildSetup& setup, const PlanMount& mount, int context, std::size_t index, bool terminal_group) noexcept {
  for (const auto& option : mount.options) {
    if (!terminal_group && is_terminal_group(mount, option)) continue;
    const int set = option.is_flag ? raw::fsconfig(context, FSCONFIG_SET_FLAG, option.key.c_str(), nullptr, 0)
                                   : raw::fsconfig(context, FSCONFIG_SET_STRING, option.key.c_str(), option.value.c_str(), 0);
    if (set != -EINVAL || !is_terminal_group(mount, option)) check(setup, set, ChildStep::mount_option, index);
  }
}

/// A context with source and options, to be created.
int open_context(const ChildSetup& setup, const PlanMount& mount, std::size_t index, bool terminal_group) noexcept {
  const int context = raw::fsopen(mount.type.c_str());
  check(setup, context, ChildStep::mount_create, index);
  if (!mount.source.empty() && mount.source != "none")
    check(setup, raw::fsconfig(context, FSCONFIG_SET_STRING, "source", mount.source.c_str(), 0), ChildStep::mount_option, index);
  set_options(setup, mount, context, index, terminal_group);
  return context;
}

/// The host's sysfs, for a network namespace that our user namespace does not own.
int clone_sysfs(const PlanMount& mount) noexcept {
  const int tree = raw::open_tree(AT_FDCWD, "/sys", OPEN_TREE_CLONE | AT_RECURSIVE);
  if (tree < 0) return tree;
  // Recursive: under a read-only /sys the host's cgroups must not be writable either.
  const int set = raw::mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, mount.attr_set, 0, MS_PRIVATE, -1);
  return set < 0 ? set : tree;
}

/// A new superblock, made here because it belongs to the namespaces of whoever makes it.
int make_filesystem(const ChildSetup& setup, const PlanMount& mount, std::size_t index) noexcept {
  int context = open_context(setup, mount, index, true);
  int created = raw::fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0);
  const auto is_the_group = [&mount](const PlanOption& option) { return is_terminal_group(mount, option); };
  // Linux 6.12 and before read devpts's options no earlier than here.
  if (created == -EINVAL && std::any_of(mount.options.begin(), mount.options.end(), is_the_group)) {
    (void)raw::close(context);
    context = open_context(setup, mount, index, false);
    created = raw::fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0);
  }
  if (created == -EPERM && mount.type == "sysfs") {
    const int tree = clone_sysfs(mount);
    check(setup, tree, ChildStep::mount_create, index);
    return tree;
  }
  check(setup, created, ChildStep::mount_create, index);
  // What is copied up later must be written first.
  const std::uint64_t attributes = mount.copy_up ? mount.attr_set & ~std::uint64_t{MOUNT_ATTR_RDONLY} : mount.attr_set;
  const int tree = raw::fsmount(context, attributes);
  check(setup, tree, ChildStep::mount_create, index);
  if (setup.mount_userns_fds[index] >= 0)
    check(setup, raw::mount_setattr(tree, "", AT_EMPTY_PATH, MOUNT_ATTR_IDMAP, 0, 0, setup.mount_userns_fds[index]),
          ChildStep::mount_id_map, index);
  return tree;
}

/// "KEY=VALUE,KEY": mount(2)'s text of the options. False when it cannot say them.
bool write_mount_data(const PlanMount& mount, char (&text)[path_limit]) noexcept {
  std::size_t size = 0;
  for (const auto& option : mount.options) {
    const std::size_t needed = option.key.size() + option.value.size() + 2;  // with "," and "="
    if (size + needed >= sizeof text || option.value.find_first_of(",\"\\") != std::string::npos) return false;
    if (size > 0) text[size++] = ',';
    std::memcpy(text + size, option.key.data(), option.key.size());
    size += option.key.size();
    if (option.is_flag) continue;
    text[size++] = '=';
    std::memcpy(text + size, option.value.data(), option.value.size());
    size += option.value.size();
  }
  text[size] = '\0';
  return true;
}

/// The flags of mount(2) that mean the same as these attributes of a mount. False when there are none: its MS_RDONLY would make the file
/// system read-only too.
bool to_mount_flags(std::uint64_t attributes, unsigned long& flags) noexcept {
  constexpr struct {
    std::uint64_t attribute;
    unsigned long flag;
  } same[] = {{MOUNT_ATTR_NOSUID, MS_NOSUID},           {MOUNT_ATTR_NODEV, MS_NODEV},
              {MOUNT_ATTR_NOEXEC, MS_NOEXEC},           {MOUNT_ATTR_NOATIME, MS_NOATIME},
              {MOUNT_ATTR_STRICTATIME, MS_STRICTATIME}, {MOUNT_ATTR_NODIRATIME, MS_NODIRATIME}};
  for (const auto& [attribute, flag] : same) {
    if ((attributes & attribute) == 0) continue;
    attributes &= ~attribute;
    flags |= flag;
  }
  return attributes == 0;
}

/// An ordinary new file system by the one call of old, on "." in the target, which no path leads to. False when it has to be made step by step,
/// also because the kernel refused it: then the step that fails says what is wrong.
bool mount_at_once(const ChildSetup& setup, const PlanMount& mount, int target, std::size_t index) noexcept {
  char data[path_limit];
  unsigned long flags = 0;
  const bool plain = mount.kind == MountKind::filesystem && !mount.copy_up && setup.mount_userns_fds[index] < 0 &&
                     (mount.propagation == 0 || mount.propagation == MS_PRIVATE);
  if (!plain || !to_mount_flags(mount.attr_set, flags) || !write_mount_data(mount, data)) return false;
  const char* source = mount.source.empty() ? "none" : mount.source.c_str();
  return raw::fchdir(target) == 0 && raw::mount(source, ".", mount.type.c_str(), flags, data) == 0;
}

void copy_up(const ChildSetup& setup, const PlanMount& mount, int tree, int target, std::size_t index) noexcept {
  const int source = raw::openat2(target, ".", O_RDONLY | O_DIRECTORY, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS, 0);
  check(setup, source, ChildStep::mount_copy_up, index);
  check(setup, child_copy_folder(source, tree), ChildStep::mount_copy_up, index);
  (void)raw::close(source);
  if ((mount.attr_set & MOUNT_ATTR_RDONLY) != 0)
    check(setup, raw::mount_setattr(tree, "", AT_EMPTY_PATH, MOUNT_ATTR_RDONLY, 0, 0, -1), ChildStep::mount_attributes, index);
}

/// Attributes, propagation and the file system's own options of what is mounted already.
void remount(const ChildSetup& setup, const PlanMount& mount, int target, std::size_t index) noexcept {
  if (!mount.options.empty()) {
    const int context = raw::fspick(target);
    check(setup, context, ChildStep::mount_option, index);
    set_options(setup, mount, context, index, true);
    check(setup, raw::fsconfig(context, FSCONFIG_CMD_RECONFIGURE, nullptr, nullptr, 0), ChildStep::mount_option, index);
  }
  const unsigned int flags = AT_EMPTY_PATH | (mount.propagation_recursive ? AT_RECURSIVE : 0U);
  check(setup, raw::mount_setattr(target, "", AT_EMPTY_PATH, mount.attr_set, mount.attr_clear, 0, -1), ChildStep::mount_attributes,
        index);
  if (mount.propagation != 0)
    check(setup, raw::mount_setattr(target, "", flags, 0, 0, mount.propagation, -1), ChildStep::mount_attributes, index);
  if (mount.recursive_attr_set != 0 || mount.recursive_attr_clear != 0)
    check(setup,
          raw::mount_setattr(target, "", AT_EMPTY_PATH | AT_RECURSIVE, mount.recursive_attr_set, mount.recursive_attr_clear, 0, -1),
          ChildStep::mount_attributes, index);
}

/// A symbolic link in the place of a mount: made anew, or there already with the same text.
void make_link(const ChildSetup& setup, const PlanMount& mount, std::size_t index) noexcept {
  char buffer[path_limit];
  const std::size_t size = mount.destination.size();
  const std::size_t slash = mount.destination.rfind('/');
  if (size >= sizeof buffer) child_fail(setup, ChildStep::mount_link, static_cast<std::uint32_t>(index), ENAMETOOLONG);
  std::memcpy(buffer, mount.destination.c_str(), slash + 1);
  buffer[slash + 1] = '\0';
  const char* name = mount.destination.c_str() + slash + 1;
  const std::string& text = setup.mount_links[index];
  const int parent = child_open_target(setup.root_fd, buffer, true, 0);
  check(setup, parent, ChildStep::mount_target, index);
  const int made = raw::symlinkat(text.c_str(), parent, name);
  if (made == -EEXIST) {
    const long there = raw::readlinkat(parent, name, buffer, sizeof buffer);
    const bool same = there == static_cast<long>(text.size()) && std::memcmp(buffer, text.data(), text.size()) == 0;
    if (!same) child_fail(setup, ChildStep::mount_link, static_cast<std::uint32_t>(index), EEXIST);
  } else {
    check(setup, made, ChildStep::mount_link, index);
  }
  (void)raw::close(parent);
}

/// v1: a tmpfs with one folder per hierarchy and the container's own part of it bound there.
int make_cgroup_folder(const ChildSetup& setup, std::size_t index) noexcept {
  const int context = raw::fsopen("tmpfs");
  check(setup, context, ChildStep::cgroup_mount, index);
  check(setup, raw::fsconfig(context, FSCONFIG_SET_STRING, "mode", "755", 0), ChildStep::cgroup_mount, index);
  check(setup, raw::fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0), ChildStep::cgroup_mount, index);
  const int tree = raw::fsmount(context, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
  check(setup, tree, ChildStep::cgroup_mount, index);
  return tree;
}

void fill_cgroup_folder(const ChildSetup& setup, const PlanMount& mount, int tree, std::size_t index) noexcept {
  const auto& binds = setup.cgroup_binds[index];
  for (std::size_t i = 0; i < binds.size(); ++i) {
    if (binds[i] < 0) continue;
    const char* name = mount.folders[i].c_str();
    check(setup, raw::mkdirat(tree, name, 0755), ChildStep::cgroup_mount, index);
    check(setup, raw::move_mount(binds[i], "", tree, name, MOVE_MOUNT_F_EMPTY_PATH), ChildStep::cgroup_mount, index);
  }
  // Recursive: a writable v1 hierarchy would give release_agent away (CVE-2022-0492).
  if (mount.attr_set != 0)
    check(setup, raw::mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, mount.attr_set, 0, 0, -1), ChildStep::cgroup_mount, index);
}

bool is_folder(int fd) noexcept {
  struct ::stat status {};
  return raw::fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
}

void mount_one(const ChildSetup& setup, const PlanMount& mount, std::size_t index) noexcept {
  if (!setup.mount_links[index].empty()) return make_link(setup, mount, index);
  const std::uint64_t resolve = mount.no_symlink_target ? RESOLVE_NO_SYMLINKS : 0;
  const int flags = O_PATH | (mount.destination_nofollow ? O_NOFOLLOW : 0);
  int target = raw::openat2(setup.root_fd, mount.destination.c_str(), flags, in_root | resolve, 0);
  if (mount.kind == MountKind::remount) {
    check(setup, target, ChildStep::mount_target, index);
    return remount(setup, mount, target, index);
  }
  if (target >= 0 && mount_at_once(setup, mount, target, index)) return;
  int tree = setup.mount_fds[index];
  if (mount.kind == MountKind::filesystem) tree = make_filesystem(setup, mount, index);
  if (mount.kind == MountKind::cgroup_v1) tree = make_cgroup_folder(setup, index);
  if (target == -ENOENT)
    target = make_missing(setup.root_fd, mount.destination.c_str(), mount.kind != MountKind::bind || is_folder(tree), resolve);
  check(setup, target, ChildStep::mount_target, index);
  if (mount.copy_up) copy_up(setup, mount, tree, target, index);
  check(setup, raw::attach_mount(tree, target), ChildStep::mount_attach, index);
  if (mount.kind == MountKind::cgroup_v1) fill_cgroup_folder(setup, mount, tree, index);
  const bool made_here = mount.kind != MountKind::bind;
  if (made_here && mount.propagation != 0 && mount.propagation != MS_PRIVATE)
    check(setup,
          raw::mount_setattr(tree, "", AT_EMPTY_PATH | (mount.propagation_recursive ? AT_RECURSIVE : 0U), 0, 0, mount.propagation, -1),
          ChildStep::mount_attributes, index);
}

struct Link {
  const char* target;
  const char* path;
};
constexpr Link device_links[] = {{"/proc/self/fd", "fd"},
                                 {"/proc/self/fd/0", "stdin"},
                                 {"/proc/self/fd/1", "stdout"},
                                 {"/proc/self/fd/2", "stderr"},
                                 {"pts/ptmx", "ptmx"}};

/// A node in the root itself: mknod where the kernel lets us, else the host's own node, checked and bound.
int make_device(const ChildSetup& setup, const PlanDevice& device) noexcept {
  char parent_path[path_limit];
  const std::size_t size = device.path.size();
  if (size >= sizeof parent_path) return -ENAMETOOLONG;
  std::size_t slash = device.path.rfind('/');
  std::memcpy(parent_path, device.path.c_str(), slash + 1);
  parent_path[slash + 1] = '\0';
  const char* name = device.path.c_str() + slash + 1;
  const int parent = child_open_target(setup.root_fd, parent_path, true, 0);
  if (parent < 0) return parent;
  const dev_t number = linux::make_device(device.major, device.minor);
  const int made = raw::mknodat(parent, name, device.mode, number);
  if (made == 0) return raw::fchownat(parent, name, device.uid, device.gid, AT_SYMLINK_NOFOLLOW);
  struct ::stat status {};
  if (made == -EEXIST) {
    const int found = raw::fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW);
    if (found < 0) return found;
    if ((status.st_mode & S_IFMT) == (device.mode & S_IFMT) && status.st_rdev == number) return 0;
    if (!S_ISREG(status.st_mode) || status.st_size != 0) return -EEXIST;  // an empty file is a mount point left by an earlier start
  } else if (made != -EPERM) {
    return made;
  }
  const int source = raw::open_tree(AT_FDCWD, device.path.c_str(), OPEN_TREE_CLONE | AT_SYMLINK_NOFOLLOW);
  if (source < 0) return source;
  const int known = raw::fstat(source, &status);
  if (known < 0) return known;
  if ((status.st_mode & S_IFMT) != (device.mode & S_IFMT) || status.st_rdev != number) return -ENODEV;
  const int target = child_open_target(setup.root_fd, device.path.c_str(), false, RESOLVE_NO_SYMLINKS);
  if (target < 0) return target;
  return raw::attach_mount(source, target);
}

/// What masked paths are covered with.
struct Covers {
  int null;          ///< the host's null device, for files
  int empty_folder;  ///< one read-only tmpfs serves all folders: each would cost a superblock (runc#5275); -1: not made yet

  int attach(bool as_folder, int target) noexcept {
    const bool is_new = as_folder && empty_folder < 0;
    const int cover = is_new ? make_empty_folder() : raw::open_tree(as_folder ? empty_folder : null, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
    if (cover < 0) return cover;
    const int attached = raw::attach_mount(cover, target);
    if (is_new && attached == 0) empty_folder = cover;  // only what is attached can be cloned (before 6.15)
    return attached;
  }

 private:
  static int make_empty_folder() noexcept {
    const int context = raw::fsopen("tmpfs");
    if (context < 0) return context;
    const int sized = raw::fsconfig(context, FSCONFIG_SET_STRING, "size", "0", 0);
    if (sized < 0) return sized;
    const int created = raw::fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0);
    if (created < 0) return created;
    return raw::fsmount(context, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
  }
};

/// A guess that saves a futile attempt in almost every start; a wrong one costs it.
bool is_likely_folder(std::string_view path) noexcept {
  constexpr std::string_view known[] = {"/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"};
  for (const auto folder : known)
    if (path == folder) return true;
  return false;
}

}  // namespace

int child_open_target(int root_fd, const char* path, bool want_folder, std::uint64_t resolve) noexcept {
  const int found = raw::openat2(root_fd, path, O_PATH, in_root | resolve, 0);
  return found == -ENOENT ? make_missing(root_fd, path, want_folder, resolve) : found;
}

void child_mount_all(const ChildSetup& setup) noexcept {
  const auto& mounts = setup.launch->mounts;
  for (std::size_t i = 0; i < mounts.size(); ++i) mount_one(setup, mounts[i], i);
}

void child_make_devices(const ChildSetup& setup) noexcept {
  const auto& devices = setup.launch->devices;
  bool links_needed = false;
  for (std::size_t i = 0; i < devices.size(); ++i) {
    if (setup.device_done[i]) continue;
    const int made = make_device(setup, devices[i]);
    // /dev/tty and the like may be missing on a host that is a container itself; the five memory devices may not.
    if (made == -ENOENT && devices[i].path == "/dev/tty") continue;
    check(setup, made, ChildStep::device, i);
    links_needed = links_needed || devices[i].path == "/dev/null";
  }
  if (!links_needed) return;
  const int dev = raw::openat2(setup.root_fd, "dev", O_PATH | O_DIRECTORY, in_root | RESOLVE_NO_SYMLINKS, 0);
  child_check(setup, dev, ChildStep::device_link);
  for (const auto& link : device_links) {
    const int made = raw::symlinkat(link.target, dev, link.path);
    if (made < 0 && made != -EEXIST) child_fail(setup, ChildStep::device_link, 0, -made);
  }
}

void child_cover_paths(const ChildSetup& setup) noexcept {
  const LaunchPlan& plan = *setup.launch;
  for (std::size_t i = 0; i < plan.readonly_paths.size(); ++i) {
    const int target = raw::openat2(setup.root_fd, plan.readonly_paths[i].c_str(), O_PATH, in_root, 0);
    if (target == -ENOENT || target == -ENOTDIR) continue;
    check(setup, target, ChildStep::readonly_path, i);
    const int tree = raw::open_tree(target, "", OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE);
    check(setup, tree, ChildStep::readonly_path, i);
    check(setup, raw::mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, MOUNT_ATTR_RDONLY, 0, 0, -1), ChildStep::readonly_path, i);
    check(setup, raw::attach_mount(tree, target), ChildStep::readonly_path, i);
  }
  if (plan.masked_paths.empty()) return;
  // The host's null, looked at before it is used: the container's own could be anything (CVE-2025-31133).
  const int null = raw::openat(AT_FDCWD, "/dev/null", O_PATH | O_NOFOLLOW, 0);
  child_check(setup, null, ChildStep::masked_path);
  struct ::stat status {};
  child_check(setup, raw::fstat(null, &status), ChildStep::masked_path);
  if (!S_ISCHR(status.st_mode) || status.st_rdev != linux::make_device(1, 3)) child_fail(setup, ChildStep::masked_path, 0, ENODEV);
  Covers covers{null, -1};
  for (std::size_t i = 0; i < plan.masked_paths.size(); ++i) {
    const int target = raw::openat2(setup.root_fd, plan.masked_paths[i].c_str(), O_PATH, in_root, 0);
    if (target == -ENOENT || target == -ENOTDIR) continue;
    check(setup, target, ChildStep::masked_path, i);
    const bool folder_first = is_likely_folder(plan.masked_paths[i]);
    int attached = covers.attach(folder_first, target);
    // ENOTDIR, EINVAL: the target is of the other kind.
    if (attached == -ENOTDIR || attached == -EINVAL) attached = covers.attach(!folder_first, target);
    check(setup, attached, ChildStep::masked_path, i);
  }
}

}  // namespace caisson::runtime::detail
