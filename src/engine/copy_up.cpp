// Layers are read from the lowest up, so that each may replace or remove what those below have brought.
#include "engine/copy_up.hpp"

#include <vector>

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::engine {

namespace {
constexpr std::size_t deepest_folder = 128;

bool is_opaque(int dir_fd) {
  auto mark = linux::fgetxattr(dir_fd, "user.overlay.opaque");
  return mark.ok() && *mark == "y";
}

Status copy_attributes(int from, int to, const linux::FileStatus& status) {
  TRY_PLAIN(linux::fchown(to, status.st_uid, status.st_gid));
  TRY_PLAIN(linux::fchmod(to, status.st_mode & 07777));  // after the owner: chown clears setuid bits
  auto names = linux::flistxattr(from);
  if (names.ok()) {
    for (const auto& name : *names) {
      if (name.starts_with("user.overlay.") || name.starts_with("trusted.")) continue;  // marks of the layer, not of the file
      auto value = TRY_PLAIN(linux::fgetxattr(from, name));
      TRY_PLAIN(linux::fsetxattr(to, name, value));
    }
  }
  return linux::utimensat(to, "", status.st_atim, status.st_mtim, AT_EMPTY_PATH);
}

Status copy_file(int from_dir, int to_dir, const std::string& name, const linux::FileStatus& status) {
  auto from = TRY_PLAIN(linux::openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  auto to = TRY_PLAIN(linux::openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  TRY_PLAIN(linux::copy_all(from.get(), to.get()));
  return copy_attributes(from.get(), to.get(), status);
}

Status copy_link(int from_dir, int to_dir, const std::string& name, const linux::FileStatus& status) {
  auto text = TRY_PLAIN(linux::readlinkat(from_dir, name));
  TRY_PLAIN(linux::symlinkat(text, to_dir, name));
  return linux::fchownat(to_dir, name, status.st_uid, status.st_gid, AT_SYMLINK_NOFOLLOW);
}

/// One folder of a layer on its way into the target's.
struct Merged {
  UniqueFd from;
  UniqueFd to;
  std::string name;
  std::vector<linux::DirectoryEntry> rest;
};

Status enter(UniqueFd from, UniqueFd to, std::string name, std::vector<Merged>& stack) {
  if (stack.size() > deepest_folder) return Error(ErrorKind::invalid, concat("folders are nested more than ", deepest_folder, " deep"));
  if (is_opaque(from.get())) TRY_PLAIN(linux::remove_children(to.get()));
  Merged level;
  level.rest = TRY_PLAIN(linux::list_dir(from.get()));
  level.from = std::move(from);
  level.to = std::move(to);
  level.name = std::move(name);
  stack.push_back(std::move(level));
  return {};
}

Status merge_entry(int from_dir, int to_dir, const std::string& name, std::vector<Merged>& stack) {
  auto status = TRY_PLAIN(linux::fstatat(from_dir, name, AT_SYMLINK_NOFOLLOW));
  if (S_ISDIR(status.st_mode)) {
    auto existing = linux::fstatat(to_dir, name, AT_SYMLINK_NOFOLLOW);
    if (existing.ok() && !S_ISDIR(existing->st_mode)) TRY_PLAIN(linux::remove_tree(to_dir, name));
    if (!existing.ok() || !S_ISDIR(existing->st_mode)) TRY_PLAIN(linux::mkdirat(to_dir, name, 0700));
    auto from = TRY_PLAIN(linux::openat(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    auto to = TRY_PLAIN(linux::openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    return enter(std::move(from), std::move(to), name, stack);
  }
  TRY_PLAIN(linux::remove_tree(to_dir, name));
  if (S_ISREG(status.st_mode)) return copy_file(from_dir, to_dir, name, status);
  if (S_ISLNK(status.st_mode)) return copy_link(from_dir, to_dir, name, status);
  if (S_ISFIFO(status.st_mode)) {
    TRY_PLAIN(linux::mknodat(to_dir, name, S_IFIFO | (status.st_mode & 0777), 0));
    return linux::fchownat(to_dir, name, status.st_uid, status.st_gid, AT_SYMLINK_NOFOLLOW);
  }
  return {};  // a whiteout (what it hid is removed above), a socket or a device
}

std::string path_of(const std::vector<Merged>& stack, const std::string& name) {
  std::string path;
  for (const auto& level : stack)
    if (!level.name.empty()) path += level.name + "/";
  return path + name;
}

/// With a list of levels instead of recursion: an image chooses the depth, and threads that serve requests have small stacks.
Status merge_folder(UniqueFd from, UniqueFd to) {
  std::vector<Merged> stack;
  TRY_PLAIN(enter(std::move(from), std::move(to), "", stack));
  while (!stack.empty()) {
    Merged& level = stack.back();
    if (level.rest.empty()) {
      // Last: what is made in a folder changes its time.
      auto status = TRY_PLAIN(linux::fstat(level.from.get()));
      TRY(copy_attributes(level.from.get(), level.to.get(), status), path_of(stack, ""));
      stack.pop_back();
      continue;
    }
    const std::string name = std::move(level.rest.back().name);
    level.rest.pop_back();
    Status merged = merge_entry(level.from.get(), level.to.get(), name, stack);
    if (!merged.ok()) return std::move(merged).error().in(path_of(stack, name));
  }
  return {};
}

/// What one layer says about a path.
struct LayerPath {
  bool hides_lower = false;  ///< it removes or replaces what lower layers have there
  UniqueFd folder;           ///< empty: it has no folder there
};
/// Looks for `path`, never through a symbolic link.
Result<LayerPath> look_up(int layer_fd, const std::string& path) {
  LayerPath result;
  UniqueFd current = TRY_PLAIN(linux::openat(layer_fd, ".", O_RDONLY | O_DIRECTORY));
  for (auto part : split(path, '/')) {
    if (part.empty()) continue;
    std::string name(part);
    auto status = linux::fstatat(current.get(), name, AT_SYMLINK_NOFOLLOW);
    if (!status.ok() && status.error().kind() == ErrorKind::not_found) return result;
    if (!status.ok()) return std::move(status).error();
    if (!S_ISDIR(status->st_mode)) {  // a whiteout, a file, or a symbolic link, which would lead to another place than the mount's
      result.hides_lower = true;
      return result;
    }
    current = TRY_PLAIN(linux::openat(current.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    result.hides_lower = result.hides_lower || is_opaque(current.get());
  }
  result.folder = std::move(current);
  return result;
}
}  // namespace

Result<bool> copy_from_layers(std::span<const std::string> layers, const std::string& path, int target_fd) {
  bool has_folder = false;
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) {
    auto layer_fd = TRY_PLAIN(linux::open(*layer, O_PATH | O_DIRECTORY));
    auto place = TRY(look_up(layer_fd.get(), path), path);
    if (place.hides_lower) {
      TRY_PLAIN(linux::remove_children(target_fd));
      has_folder = false;
    }
    if (!place.folder) continue;
    auto target = TRY_PLAIN(linux::openat(target_fd, ".", O_RDONLY | O_DIRECTORY));
    TRY(merge_folder(std::move(place.folder), std::move(target)), concat("copy ", path, " of the image"));
    has_folder = true;
  }
  return has_folder;
}

}  // namespace caisson::engine
