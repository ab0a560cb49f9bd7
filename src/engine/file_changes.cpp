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

constexpr int deepest_folder = 256;

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

class Comparison {
 public:
  Status compare(int upper, const LowerFolder& lower, const std::string& path, int depth);
  std::vector<FileChange> take() { return std::move(changes_); }

 private:
  Status compare_entry(int upper, const std::string& name, const LowerFolder& lower, const std::string& path, int depth);
  void add(ChangeKind kind, const std::string& path) { changes_.push_back({kind, path}); }
  std::vector<FileChange> changes_;
};

Status Comparison::compare(int upper, const LowerFolder& lower, const std::string& path, int depth) {
  if (depth > deepest_folder) return Error(ErrorKind::invalid, concat("folders are nested more than ", deepest_folder, " deep"));
  std::set<std::string> names;
  for (const auto& entry : TRY_PLAIN(linux::list_dir(upper))) names.insert(entry.name);
  // A folder that was removed and made anew hides all of the old one.
  if (is_opaque(upper)) names.merge(TRY_PLAIN(lower.names()));
  for (const auto& name : names) TRY_PLAIN(compare_entry(upper, name, lower, path, depth));
  return {};
}

Status Comparison::compare_entry(int upper, const std::string& name, const LowerFolder& lower, const std::string& path, int depth) {
  const auto own_path = concat(path, "/", name);
  auto before = TRY_PLAIN(lower.find(name));
  auto status = linux::fstatat(upper, name, AT_SYMLINK_NOFOLLOW);
  const bool is_gone = status.ok() ? is_whiteout(*status) : status.error().error_number() == ENOENT;
  if (!status.ok() && !is_gone) return std::move(status).error();
  if (is_gone) {
    if (before) add(ChangeKind::deleted, own_path);
    return {};
  }
  const auto position = changes_.size();
  bool is_listed = true;
  if (!before) add(ChangeKind::added, own_path);
  else if (differs(*status, before->status) || (S_ISREG(status->st_mode) && capability_of(upper, name) != lower.capability(name, *before)))
    add(ChangeKind::modified, own_path);
  else is_listed = false;
  if (!S_ISDIR(status->st_mode)) return {};
  auto folder = linux::openat(upper, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!folder.ok()) return {};  // a running container has replaced it meanwhile
  LowerFolder below;
  if (before) below = TRY_PLAIN(lower.enter(name, *before));
  TRY_PLAIN(compare(folder->get(), below, own_path, depth + 1));
  if (!is_listed && changes_.size() > position)
    changes_.insert(changes_.begin() + static_cast<std::ptrdiff_t>(position), FileChange{ChangeKind::modified, own_path});
  return {};
}

}  // namespace

Result<std::vector<FileChange>> find_changes(const std::string& upper, std::span<const std::string> lower) {
  auto top = TRY_PLAIN(linux::open(upper, O_RDONLY | O_DIRECTORY));
  auto below = TRY_PLAIN(LowerFolder::open(lower));
  Comparison comparison;
  TRY_PLAIN(comparison.compare(top.get(), below, "", 0));
  return comparison.take();
}

}  // namespace caisson::engine
