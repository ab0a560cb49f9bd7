// Choosing projects and naming what stands in the way.
#include "engine/size_limit.hpp"

#include <array>
#include <random>
#include <string_view>
#include <utility>

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/project_quota.hpp"
#include "linux/tree.hpp"

namespace caisson::engine {
namespace {

// Away from the small numbers that administrators and dockerd (which counts from the data folder's own id on) take; xfs and ext4 have 32 bits.
constexpr std::uint32_t first_project = 0x43000000;
constexpr std::uint32_t project_count = 0x00ffffff;
constexpr int most_attempts = 64;

/// By statfs(2)'s magic numbers.
std::string file_system_name(const std::string& dir) {
  static constexpr std::array<std::pair<std::uint32_t, std::string_view>, 7> names = {{{0xef53, "ext4"}, {0x58465342, "xfs"}, {0x9123683e, "btrfs"},
                                                                                      {0x01021994, "tmpfs"}, {0x794c7630, "overlay"}, {0x2fc12fc1, "zfs"}, {0xf2f52010, "f2fs"}}};
  auto status = linux::statfs(dir);
  if (!status.ok()) return "unknown";
  for (const auto& [magic, name] : names)
    if (static_cast<std::uint32_t>(status->f_type) == magic) return std::string(name);
  return concat("of type 0x", to_hex(std::array<std::uint8_t, 4>{static_cast<std::uint8_t>(status->f_type >> 24), static_cast<std::uint8_t>(status->f_type >> 16),
                                                                 static_cast<std::uint8_t>(status->f_type >> 8), static_cast<std::uint8_t>(status->f_type)}));
}

Error explained(Error error, const std::string& dir) {
  if (error.kind() == ErrorKind::denied)
    return Error(ErrorKind::invalid, concat("quota size requested but no quota support: the file system below ", dir, " keeps project quotas for the host's root only: ", error.text()))
        .with_hint("a volume of type tmpfs can be limited: --opt type=tmpfs --opt device=tmpfs --opt o=size=64m");
  if (error.kind() != ErrorKind::unsupported) return error;
  const std::string name = file_system_name(dir);
  return Error(ErrorKind::invalid, concat("quota size requested but no quota support: the file system below ", dir, " (", name, ") keeps no project quotas: ", error.text()))
      .with_hint(name == "ext4" || name == "xfs" ? "mount it with prjquota (ext4 must have been made with -O quota,project), on a kernel with quotas of its format"
                                                 : "ext4 and xfs with prjquota have them; a volume of type tmpfs can be limited: --opt type=tmpfs --opt device=tmpfs --opt o=size=64m");
}

bool is_ours(std::uint32_t project) { return project >= first_project && project - first_project < project_count; }

Status name_project(const std::vector<std::string>& dirs, int root, std::uint32_t project, std::int64_t size_bytes) {
  TRY_PLAIN(linux::set_project_limit(root, project, static_cast<std::uint64_t>(size_bytes)));
  for (const auto& dir : dirs) {
    auto folder = TRY_PLAIN(linux::open(dir, O_RDONLY | O_DIRECTORY));
    TRY_PLAIN(linux::set_project(folder.get(), project));
  }
  return {};
}

/// The project of `dir` if it is one of ours, else 0.
Result<std::uint32_t> project_of(int dir_fd) {
  auto project = linux::get_project(dir_fd);
  if (!project.ok() && project.error().kind() == ErrorKind::unsupported) return std::uint32_t{0};
  if (!project.ok()) return std::move(project).error();
  return is_ours(*project) ? *project : 0;
}

Status lift(const std::string& dir) {
  auto folder = linux::open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!folder.ok()) return {};  // half made, or half removed: nothing to find in it
  const std::uint32_t project = TRY_PLAIN(project_of(folder->get()));
  if (project == 0) return {};
  return linux::set_project_limit(folder->get(), project, 0);
}

}  // namespace

Status SizeLimits::limit(const std::vector<std::string>& dirs, std::int64_t size_bytes) {
  std::lock_guard lock(mutex_);
  auto root = TRY_PLAIN(linux::open(dirs.front(), O_RDONLY | O_DIRECTORY));
  std::random_device random;
  for (int attempt = 0; attempt < most_attempts; ++attempt) {
    const std::uint32_t project = first_project + random() % project_count;
    auto known = linux::get_project_quota(root.get(), project);
    if (!known.ok()) return explained(std::move(known).error(), dirs.front());
    if (known->limit_bytes != 0 || known->used_inodes != 0) continue;  // somebody else's
    Status named = name_project(dirs, root.get(), project, size_bytes);
    if (named.ok()) return {};
    ignore(linux::set_project_limit(root.get(), project, 0));  // the first error is the one to report
    return explained(std::move(named).error(), dirs.front());
  }
  return Error(ErrorKind::unavailable, concat("no free project found below ", dirs.front(), " in ", most_attempts, " attempts"));
}

Status SizeLimits::join(const std::string& dir, const std::string& neighbour) {
  auto beside = TRY_PLAIN(linux::open(neighbour, O_RDONLY | O_DIRECTORY));
  const std::uint32_t project = TRY(project_of(beside.get()), neighbour);
  if (project == 0) return {};
  auto folder = TRY_PLAIN(linux::open(dir, O_RDONLY | O_DIRECTORY));
  TRY(linux::set_project(folder.get(), project), dir);
  return {};
}

Status SizeLimits::remove_tree(const std::string& tree, const std::string& limited) {
  TRY(lift(concat(tree, "/", limited)), concat("lift the size limit of ", tree));
  return linux::remove_tree(tree);
}

Result<std::int64_t> parse_size_limit(const std::string& text) {
  const std::int64_t size = TRY(parse_size_bytes(text), "size");
  if (size <= 0) return Error(ErrorKind::invalid, concat("size: \"", text, "\" must be positive"));
  return size;
}

}  // namespace caisson::engine
