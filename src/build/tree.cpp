// Copying and hashing by (folder descriptor, one name): what lies in a context was written by strangers.
#include "build/tree.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/strings.hpp"
#include "dockerfile/glob.hpp"
#include "linux/event.hpp"
#include "linux/tree.hpp"

namespace caisson::build {

namespace {

constexpr int open_folder = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

std::vector<std::string> sorted_names(const std::vector<linux::DirectoryEntry>& entries) {
  std::vector<std::string> names;
  names.reserve(entries.size());
  for (const auto& entry : entries) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  return names;
}

bool is_kept_attribute(std::string_view name) {
  if (name == "security.capability") return true;
  return !name.starts_with("security.") && !name.starts_with("system.") && !name.starts_with("trusted.") && !name.starts_with("user.overlay.");
}

constexpr std::uint64_t bytes_between_looks = 16U << 20U;

Status check_cancelled(const Cancel& cancel) {
  if (cancel.fd < 0 || !TRY_PLAIN(linux::wait_readable(cancel.fd, 0))) return {};
  return Error(ErrorKind::unavailable, "the build was cancelled", ECANCELED);
}

/// linux::copy_all, but a large file's copy ends when the build does.
Status copy_bytes(int from_fd, int to_fd, const linux::FileStatus& status, const Cancel& cancel) {
  std::uint64_t copied = 0;
  while (static_cast<std::uint64_t>(status.st_size) - copied > bytes_between_looks) {
    auto moved = linux::copy_file_range(from_fd, to_fd, bytes_between_looks);
    if (!moved.ok() && copied == 0) break;  // not between these file systems: the other ways are tried below
    const auto count = TRY_PLAIN(std::move(moved));
    if (count == 0) break;  // it has shrunk, or tells no size
    copied += count;
    TRY_PLAIN(check_cancelled(cancel));
    if (copied >= static_cast<std::uint64_t>(status.st_size)) break;
  }
  TRY_PLAIN(linux::copy_all(from_fd, to_fd));
  return {};
}

/// Can a layer simply show the entry there? A file may cover a file. Two folders become one, and a folder cannot stand in a file's place nor a file in a folder's.
Result<bool> is_free_for(int from_fd, const std::string& name, int to_fd) {
  const auto there = linux::fstatat(to_fd, name, AT_SYMLINK_NOFOLLOW);
  if (!there.ok() && there.error().kind() == ErrorKind::not_found) return true;
  if (!there.ok()) return there.error();
  if (S_ISDIR(there->st_mode)) return false;
  return !S_ISDIR(TRY_PLAIN(linux::fstatat(from_fd, name, AT_SYMLINK_NOFOLLOW)).st_mode);
}

std::string joined(const std::string& folder, const std::string& name) { return folder.empty() || name.empty() ? concat(folder, name) : concat(folder, "/", name); }

}  // namespace

Result<std::vector<std::string>> find_sources(int root_fd, std::string_view source) {
  auto path = dockerfile::clean_path(concat("/", source)).substr(1);
  if (path.empty()) return std::vector<std::string>{"."};
  if (!dockerfile::has_wildcards(path)) {
    auto is_there = TRY_PLAIN(linux::open_in_root(root_fd, path, O_PATH));
    return std::vector<std::string>{path};
  }
  std::vector<std::string> found{""};
  for (auto part : split(path, '/')) {
    auto glob = TRY(dockerfile::Glob::for_paths(part), concat("\"", source, "\""));
    std::vector<std::string> next;
    for (const auto& folder : found) {
      auto fd = linux::open_in_root(root_fd, folder.empty() ? "." : folder, O_RDONLY | O_DIRECTORY);
      if (!fd.ok()) continue;  // a file has nothing below it
      for (const auto& name : sorted_names(TRY_PLAIN(linux::list_dir(fd->get()))))
        if (glob.matches(name)) next.push_back(joined(folder, name));
    }
    found = std::move(next);
  }
  return found;
}

Result<std::string> TreeHasher::digest(int root_fd, const std::string& path) {
  auto fd = TRY_PLAIN(linux::open_in_root(root_fd, path, O_PATH));
  auto status = TRY_PLAIN(linux::fstat(fd.get()));
  Hasher hasher;
  if (S_ISDIR(status.st_mode)) {
    auto folder = TRY_PLAIN(linux::openat(fd.get(), ".", O_RDONLY | O_DIRECTORY));
    hasher.update("folder\n");
    TRY_PLAIN(add_folder(folder.get(), "", hasher));
    return hasher.finish().text();
  }
  // A link was followed inside the root; what counts is the file it leads to.
  hasher.update(concat("file ", status.st_mode, " ", with_owners_ ? concat(status.st_uid, ":", status.st_gid) : "", " ", status.st_size, "\n"));
  if (S_ISREG(status.st_mode)) {
    auto file = TRY_PLAIN(linux::reopen(fd.get(), O_RDONLY));
    TRY_PLAIN(add_content(file.get(), status, path, hasher));
  }
  return hasher.finish().text();
}

Status TreeHasher::add_folder(int fd, const std::string& shown, Hasher& hasher) {
  for (const auto& name : sorted_names(TRY_PLAIN(linux::list_dir(fd)))) TRY_PLAIN(add(fd, name, joined(shown, name), hasher));
  return {};
}

Status TreeHasher::add(int dir_fd, const std::string& name, const std::string& shown, Hasher& hasher) {
  if (exclude_ != nullptr && exclude_->excludes(shown)) {
    if (exclude_->excludes_all_below(shown)) return {};
  }
  auto status = TRY_PLAIN(linux::fstatat(dir_fd, name, AT_SYMLINK_NOFOLLOW));
  bool is_excluded = exclude_ != nullptr && exclude_->excludes(shown);
  if (!is_excluded) {
    bool has_size = S_ISREG(status.st_mode);
    hasher.update(concat(shown.size(), ":", shown, " ", status.st_mode, " ", with_owners_ ? concat(status.st_uid, ":", status.st_gid) : "", " ",
                         has_size ? status.st_size : 0, " ", S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode) ? status.st_rdev : 0, "\n"));
    if (S_ISLNK(status.st_mode)) hasher.update(concat(TRY_PLAIN(linux::readlinkat(dir_fd, name)), "\n"));
  }
  if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) return {};
  if (S_ISREG(status.st_mode) && is_excluded) return {};
  auto fd = TRY_PLAIN(linux::openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  if (!is_excluded) {
    auto attributes = TRY_PLAIN(linux::flistxattr(fd.get()));
    std::sort(attributes.begin(), attributes.end());
    for (const auto& attribute : attributes)
      if (is_kept_attribute(attribute)) hasher.update(concat(attribute, "=", base64_encode(TRY_PLAIN(linux::fgetxattr(fd.get(), attribute))), "\n"));
  }
  if (S_ISDIR(status.st_mode)) return add_folder(fd.get(), shown, hasher);
  return add_content(fd.get(), status, shown, hasher);
}

Status TreeHasher::add_content(int fd, const linux::FileStatus& status, const std::string& shown, Hasher& hasher) {
  const auto size = static_cast<std::uint64_t>(status.st_size);
  const auto on_disk = static_cast<std::uint64_t>(status.st_blocks) * 512;
  if (size > on_disk) hole_bytes_ += size - on_disk;
  if (hole_bytes_ > limits_.most_hole_bytes)
    return Error(ErrorKind::unavailable, concat(shown, ": with its holes it has ", size, " bytes, and there is no room for them (", limits_.most_hole_bytes, " bytes are free)"), ENOSPC);
  std::vector<char> buffer(1 << 17);
  for (std::uint64_t done = 0, asked = 0;;) {
    auto got = TRY_PLAIN(linux::read(fd, buffer));
    if (got == 0) return {};
    hasher.update({buffer.data(), got});
    done += got;
    if (done - asked < bytes_between_looks) continue;
    asked = done;
    TRY_PLAIN(check_cancelled(limits_.cancel));
  }
}

// ---- copying ------------------------------------------------------------------------------------------------------

Status TreeCopier::copy_children(int from_fd, int to_fd) { return copy_all_in(from_fd, to_fd, ""); }

Status TreeCopier::copy_file(int from_fd, int to_fd, const std::string& to_name) {
  auto status = TRY_PLAIN(linux::fstat(from_fd));
  if (!S_ISREG(status.st_mode)) return Error(ErrorKind::invalid, concat(to_name, ": the source is neither a file nor a folder"));
  auto there = linux::fstatat(to_fd, to_name, AT_SYMLINK_NOFOLLOW);
  if (there.ok() && !S_ISDIR(there->st_mode)) TRY_PLAIN(linux::unlinkat(to_fd, to_name));
  auto from = TRY_PLAIN(linux::reopen(from_fd, O_RDONLY));
  return copy_content(from.get(), to_fd, to_name, status);
}

Status TreeCopier::copy_all_in(int from_fd, int to_fd, const std::string& above) {
  image::Graft graft{joined(options_.graft_folder, above), joined(options_.graft_source, above), {}};
  for (const auto& name : sorted_names(TRY_PLAIN(linux::list_dir(from_fd)))) {
    auto shown = joined(above, name);
    if (options_.grafts != nullptr && TRY_PLAIN(is_free_for(from_fd, name, to_fd))) {
      graft.names.push_back(name);
      continue;
    }
    if (options_.exclude != nullptr && options_.exclude->excludes(shown)) {
      auto status = TRY_PLAIN(linux::fstatat(from_fd, name, AT_SYMLINK_NOFOLLOW));
      if (!S_ISDIR(status.st_mode) || options_.exclude->excludes_all_below(shown)) continue;
    }
    TRY_PLAIN(copy_entry(from_fd, name, to_fd, name, shown));
  }
  if (graft.names.empty()) return {};
  options_.grafts->push_back(std::move(graft));
  // The layer needs the folder: setting a mode, be it the same, brings it up from the overlay's lower layers (ovl_setattr).
  return linux::fchmod(to_fd, TRY_PLAIN(linux::fstat(to_fd)).st_mode & 07777);
}

Status TreeCopier::copy_entry(int from_fd, const std::string& from_name, int to_fd, const std::string& to_name, const std::string& shown) {
  auto status = TRY_PLAIN(linux::fstatat(from_fd, from_name, AT_SYMLINK_NOFOLLOW));
  if (S_ISSOCK(status.st_mode)) return {};  // an archive cannot hold one
  if (S_ISDIR(status.st_mode)) return copy_folder(from_fd, from_name, to_fd, to_name, status, shown);
  auto there = linux::fstatat(to_fd, to_name, AT_SYMLINK_NOFOLLOW);
  if (there.ok() && S_ISDIR(there->st_mode)) return Error(ErrorKind::invalid, concat("cannot copy to non-directory: ", shown, ": a folder of that name is there"));
  if (there.ok()) TRY_PLAIN(linux::unlinkat(to_fd, to_name));
  if (S_ISREG(status.st_mode)) {
    auto from = TRY_PLAIN(linux::openat(from_fd, from_name, O_RDONLY | O_NOFOLLOW));
    return copy_content(from.get(), to_fd, to_name, status);
  }
  return copy_special(from_fd, from_name, to_fd, to_name, status);
}

Status TreeCopier::copy_folder(int from_fd, const std::string& from_name, int to_fd, const std::string& to_name, const linux::FileStatus& status, const std::string& shown) {
  auto made = linux::mkdirat(to_fd, to_name, 0700);
  if (!made.ok() && made.error().error_number() == EEXIST) {
    auto there = TRY_PLAIN(linux::fstatat(to_fd, to_name, AT_SYMLINK_NOFOLLOW));
    if (!S_ISDIR(there.st_mode)) return Error(ErrorKind::invalid, concat("cannot copy a folder to a file: ", shown, ": a file of that name is there"));
  } else {
    TRY_PLAIN(std::move(made));
  }
  auto from = TRY_PLAIN(linux::openat(from_fd, from_name, open_folder));
  auto to = TRY_PLAIN(linux::openat(to_fd, to_name, open_folder));
  TRY_PLAIN(copy_all_in(from.get(), to.get(), shown));
  return set_attributes(from.get(), to.get(), status, true);
}

/// In this order: a change of the owner takes capabilities and setuid away.
Status TreeCopier::set_attributes(int from_fd, int fd, const linux::FileStatus& status, bool is_folder) const {
  auto owner = options_.owner.value_or(std::pair<std::uint32_t, std::uint32_t>(status.st_uid, status.st_gid));
  TRY_PLAIN(linux::fchown(fd, owner.first, owner.second));
  for (const auto& name : TRY_PLAIN(linux::flistxattr(from_fd)))
    if (is_kept_attribute(name)) TRY_PLAIN(linux::fsetxattr(fd, name, TRY_PLAIN(linux::fgetxattr(from_fd, name))));
  std::uint32_t mode = status.st_mode & 07777;
  if (!options_.mode.empty()) mode = TRY_PLAIN(change_mode(options_.mode, mode, is_folder));
  TRY_PLAIN(linux::fchmod(fd, mode));
  return linux::utimensat(fd, "", status.st_mtim, status.st_mtim, AT_EMPTY_PATH);
}

Status TreeCopier::copy_content(int from_fd, int to_fd, const std::string& to_name, const linux::FileStatus& status) {
  auto key = std::pair<std::uint64_t, std::uint64_t>(status.st_dev, status.st_ino);
  if (auto first = linked_.find(key); status.st_nlink > 1 && first != linked_.end()) return linux::linkat(first->second.get(), "", to_fd, to_name, AT_EMPTY_PATH);
  auto to = TRY_PLAIN(linux::openat(to_fd, to_name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  TRY_PLAIN(copy_bytes(from_fd, to.get(), status, options_.cancel));
  TRY_PLAIN(set_attributes(from_fd, to.get(), status, false));
  if (status.st_nlink > 1) linked_.emplace(key, TRY_PLAIN(linux::openat(to_fd, to_name, O_PATH | O_NOFOLLOW)));
  return {};
}

Status TreeCopier::copy_special(int from_fd, const std::string& from_name, int to_fd, const std::string& to_name, const linux::FileStatus& status) {
  auto owner = options_.owner.value_or(std::pair<std::uint32_t, std::uint32_t>(status.st_uid, status.st_gid));
  if (S_ISLNK(status.st_mode)) {
    TRY_PLAIN(linux::symlinkat(TRY_PLAIN(linux::readlinkat(from_fd, from_name)), to_fd, to_name));
  } else {
    TRY_PLAIN(linux::mknodat(to_fd, to_name, status.st_mode, status.st_rdev));
    TRY_PLAIN(linux::fchmodat(to_fd, to_name, status.st_mode & 07777));
  }
  TRY_PLAIN(linux::fchownat(to_fd, to_name, owner.first, owner.second, AT_SYMLINK_NOFOLLOW));
  return linux::utimensat(to_fd, to_name, status.st_mtim, status.st_mtim, AT_SYMLINK_NOFOLLOW);
}

Result<UniqueFd> make_folders(int root_fd, std::string_view path, std::pair<std::uint32_t, std::uint32_t> owner) {
  auto clean = dockerfile::clean_path(concat("/", path));
  std::string so_far = ".";
  for (auto part : split(std::string_view(clean).substr(1), '/')) {
    if (part.empty()) continue;
    auto next = concat(so_far, "/", part);
    auto found = linux::open_in_root(root_fd, next, O_PATH | O_DIRECTORY);
    if (!found.ok() && found.error().kind() == ErrorKind::not_found) {
      auto parent = TRY_PLAIN(linux::open_in_root(root_fd, so_far, O_RDONLY | O_DIRECTORY));
      std::string name(part);
      TRY(linux::mkdirat(parent.get(), name, 0755), concat("folder ", next.substr(1)));
      auto made = TRY_PLAIN(linux::openat(parent.get(), name, open_folder));
      TRY_PLAIN(linux::fchmod(made.get(), 0755));
      TRY_PLAIN(linux::fchown(made.get(), owner.first, owner.second));
    } else if (!found.ok()) {
      return std::move(found).error().in(concat("folder ", next.substr(1)));
    }
    so_far = std::move(next);
  }
  return linux::open_in_root(root_fd, so_far, O_RDONLY | O_DIRECTORY);
}

// ---- chmod --------------------------------------------------------------------------------------------------------

namespace {

/// One clause of a symbolic mode: "go=rX".
Result<std::uint32_t> apply_clause(std::string_view clause, std::uint32_t mode, bool is_folder) {
  auto bad = [&] { return Error(ErrorKind::invalid, concat("invalid chmod parameter: '", clause, "'")); };
  std::size_t at = 0;
  std::uint32_t who = 0;  // rwx bits of the classes meant
  for (; at < clause.size() && std::string_view("ugoa").find(clause[at]) != std::string_view::npos; ++at)
    who |= clause[at] == 'u' ? 0700U : clause[at] == 'g' ? 0070U : clause[at] == 'o' ? 0007U : 0777U;
  if (who == 0) who = 0777;
  if (at == clause.size()) return bad();
  while (at < clause.size()) {
    char action = clause[at++];
    if (action != '+' && action != '-' && action != '=') return bad();
    std::uint32_t bits = 0;
    std::uint32_t special = 0;
    for (; at < clause.size() && clause[at] != '+' && clause[at] != '-' && clause[at] != '='; ++at) {
      char c = clause[at];
      if (c == 'r') bits |= 0444;
      else if (c == 'w') bits |= 0222;
      else if (c == 'x' || (c == 'X' && (is_folder || (mode & 0111) != 0))) bits |= 0111;
      else if (c == 's') special |= ((who & 0700) != 0 ? 04000U : 0U) | ((who & 0070) != 0 ? 02000U : 0U);
      else if (c == 't') special |= 01000;
      else if (c == 'u' || c == 'g' || c == 'o') bits |= (mode >> (c == 'u' ? 6U : c == 'g' ? 3U : 0U) & 7U) * 0111U;
      else if (c != 'X') return bad();
    }
    bits = (bits & who) | special;
    if (action == '+') mode |= bits;
    else if (action == '-') mode &= ~bits;
    else mode = (mode & ~who) | bits;
  }
  return mode;
}

}  // namespace

Result<std::uint32_t> change_mode(std::string_view text, std::uint32_t current, bool is_folder) {
  if (!text.empty() && text[0] >= '0' && text[0] <= '9') {
    auto number = parse_integer<std::uint32_t>(text, 8);
    if (!number.ok() || *number > 07777) return Error(ErrorKind::invalid, concat("invalid chmod parameter: '", text, "'. it should be octal string and between 0 and 07777"));
    return *number;
  }
  auto mode = current;
  for (auto clause : split(text, ',')) mode = TRY_PLAIN(apply_clause(clause, mode, is_folder));
  return mode;
}

}  // namespace caisson::build
