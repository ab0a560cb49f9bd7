// One walk over the writable layer; the layers below are looked up folder by folder, as overlayfs stacks them.
#include "engine/file_changes.hpp"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <set>

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::engine {

namespace {

constexpr std::size_t deepest_folder = 256;

bool is_whiteout(const linux::FileStatus& status) { return S_ISCHR(status.st_mode) && status.st_rdev == 0; }

bool is_opaque(int folder_fd) {
  auto mark = linux::fgetxattr(folder_fd, "user.overlay.opaque");
  return mark.ok() && *mark == "y";
}

std::string capability_of(int folder_fd, const std::string& name) {
  auto file = linux::openat(folder_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!file.ok()) return {};
  return linux::fgetxattr(file->get(), "security.capability").value_or("");
}

bool same_time(const linux::TimeSpec& a, const linux::TimeSpec& b) {
  return a.tv_sec == b.tv_sec && (a.tv_nsec == b.tv_nsec || a.tv_nsec == 0 || b.tv_nsec == 0);
}

bool differs(const linux::FileStatus& a, const linux::FileStatus& b) {
  if (a.st_mode != b.st_mode || a.st_uid != b.st_uid || a.st_gid != b.st_gid || a.st_rdev != b.st_rdev) return true;
  return !S_ISDIR(a.st_mode) && (a.st_size != b.st_size || !same_time(a.st_mtim, b.st_mtim));
}

/// One folder of the layers below, merged.
class LowerFolder {
 public:
  LowerFolder() = default;
  static Result<LowerFolder> open(std::span<const std::string> layers) {
    LowerFolder root;
    for (const auto& layer : layers) root.folders_.push_back(TRY_PLAIN(linux::open(layer, O_RDONLY | O_DIRECTORY)));
    return root;
  }

  struct Found {
    linux::FileStatus status{};
    std::size_t layer = 0;
  };
  [[nodiscard]] Result<std::optional<Found>> find(const std::string& name) const {
    for (std::size_t layer = 0; layer < folders_.size(); ++layer) {
      auto status = linux::fstatat(folders_[layer].get(), name, AT_SYMLINK_NOFOLLOW);
      if (!status.ok() && status.error().error_number() == ENOENT) continue;
      if (!status.ok()) return std::move(status).error();
      if (is_whiteout(*status)) break;
      return std::optional<Found>(Found{*status, layer});
    }
    return std::optional<Found>();
  }
  [[nodiscard]] Result<LowerFolder> enter(const std::string& name, const Found& found) const {
    LowerFolder child;
    if (!S_ISDIR(found.status.st_mode)) return child;
    for (std::size_t layer = found.layer; layer < folders_.size(); ++layer) {
      auto folder = linux::openat(folders_[layer].get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      if (!folder.ok() && folder.error().error_number() == ENOENT) continue;
      if (!folder.ok() && folder.error().error_number() == ENOTDIR) break;  // hides what is below it
      child.folders_.push_back(TRY_PLAIN(std::move(folder)));
      if (is_opaque(child.folders_.back().get())) break;
    }
    return child;
  }
  [[nodiscard]] Result<std::set<std::string>> names() const {
    std::set<std::string> seen;
    std::set<std::string> out;
    for (const auto& folder : folders_) {
      for (const auto& entry : TRY_PLAIN(linux::list_dir(folder.get()))) {
        if (!seen.insert(entry.name).second) continue;
        auto status = TRY_PLAIN(linux::fstatat(folder.get(), entry.name, AT_SYMLINK_NOFOLLOW));
        if (!is_whiteout(status)) out.insert(entry.name);
      }
    }
    return out;
  }
  [[nodiscard]] std::string capability(const std::string& name, const Found& found) const { return capability_of(folders_[found.layer].get(), name); }

 private:
  std::vector<UniqueFd> folders_;  ///< topmost first
};

/// A folder of the writable layer that is being gone through.
struct Level {
  UniqueFd upper;
  LowerFolder lower;
  std::string path;                ///< "": the root
  std::vector<std::string> names;  ///< in order
  std::size_t next = 0;
  std::size_t position = 0;        ///< where in the list its own line belongs
  bool is_listed = true;           ///< it is there already, or never will be
};

/// Keeps its levels in a list instead of recursing: threads that serve requests have small stacks, and containers choose the depth.
class Comparison {
 public:
  Status run(UniqueFd upper, LowerFolder lower);
  std::vector<FileChange> take() { return std::move(changes_); }

 private:
  Status enter(Level level);
  void leave();
  Status compare(const std::string& name);
  void add(ChangeKind kind, const std::string& path) { changes_.push_back({kind, path}); }

  std::vector<Level> levels_;
  std::vector<FileChange> changes_;
};

Status Comparison::run(UniqueFd upper, LowerFolder lower) {
  Level root;
  root.upper = std::move(upper);
  root.lower = std::move(lower);
  TRY_PLAIN(enter(std::move(root)));
  while (!levels_.empty()) {
    auto& level = levels_.back();
    if (level.next == level.names.size()) leave();
    else TRY_PLAIN(compare(std::string(level.names[level.next++])));
  }
  return {};
}

Status Comparison::enter(Level level) {
  if (levels_.size() > deepest_folder) return Error(ErrorKind::invalid, concat("folders are nested more than ", deepest_folder, " deep"));
  std::set<std::string> names;
  for (const auto& entry : TRY_PLAIN(linux::list_dir(level.upper.get()))) names.insert(entry.name);
  // A folder that was removed and made anew hides all of the old one.
  if (is_opaque(level.upper.get())) names.merge(TRY_PLAIN(level.lower.names()));
  level.names.assign(names.begin(), names.end());
  levels_.push_back(std::move(level));
  return {};
}

/// A folder that nothing else lists is, when something in it changed, listed before that.
void Comparison::leave() {
  const auto& level = levels_.back();
  if (!level.is_listed && changes_.size() > level.position)
    changes_.insert(changes_.begin() + static_cast<std::ptrdiff_t>(level.position), FileChange{ChangeKind::modified, level.path});
  levels_.pop_back();
}

Status Comparison::compare(const std::string& name) {
  const auto& level = levels_.back();
  const auto own_path = concat(level.path, "/", name);
  auto before = TRY_PLAIN(level.lower.find(name));
  auto status = linux::fstatat(level.upper.get(), name, AT_SYMLINK_NOFOLLOW);
  const bool is_gone = status.ok() ? is_whiteout(*status) : status.error().error_number() == ENOENT;
  if (!status.ok() && !is_gone) return std::move(status).error();
  if (is_gone) {
    if (before) add(ChangeKind::deleted, own_path);
    return {};
  }
  Level below;
  below.position = changes_.size();
  if (!before) add(ChangeKind::added, own_path);
  else if (differs(*status, before->status) || (S_ISREG(status->st_mode) && capability_of(level.upper.get(), name) != level.lower.capability(name, *before)))
    add(ChangeKind::modified, own_path);
  else below.is_listed = false;
  if (!S_ISDIR(status->st_mode)) return {};
  auto folder = linux::openat(level.upper.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!folder.ok()) return {};  // a running container has replaced it meanwhile
  below.upper = std::move(*folder);
  if (before) below.lower = TRY_PLAIN(level.lower.enter(name, *before));
  below.path = own_path;
  return enter(std::move(below));
}

}  // namespace

Result<std::vector<FileChange>> find_changes(const std::string& upper, std::span<const std::string> lower) {
  auto top = TRY_PLAIN(linux::open(upper, O_RDONLY | O_DIRECTORY));
  auto below = TRY_PLAIN(LowerFolder::open(lower));
  Comparison comparison;
  TRY_PLAIN(comparison.run(std::move(top), std::move(below)));
  return comparison.take();
}

}  // namespace caisson::engine
