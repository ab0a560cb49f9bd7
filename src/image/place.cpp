// Entries one after another into a tree that is in use: resolved inside the root each time, then touched as (folder, one name).
#include "image/place.hpp"

#include <cerrno>
#include <map>
#include <vector>

#include "base/strings.hpp"
#include "image/file_attributes.hpp"
#include "image/layer_tree.hpp"
#include "image/root_path.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::image {

namespace {

class Placer {
 public:
  Placer(TarReader& tar, int root_fd, const PlaceRequest& request, std::string folder)
      : tar_(tar), root_fd_(root_fd), request_(request), folder_(std::move(folder)) {}
  Status run();

 private:
  Status place(TarEntry& entry);
  [[nodiscard]] Result<std::vector<std::string>> names_of(const std::string& name) const;
  [[nodiscard]] std::string path_of(const std::vector<std::string>& parts) const;
  Result<int> open_folder(const std::string& path);
  Result<bool> make_room(int folder_fd, const std::string& name, const TarEntry& entry);
  Status make(int folder_fd, const std::string& name, const TarEntry& entry);
  Status make_file(int folder_fd, const std::string& name, const TarEntry& entry);
  Status make_hard_link(int folder_fd, const std::string& name, const TarEntry& entry);
  Status finish_folders();

  TarReader& tar_;
  int root_fd_;
  const PlaceRequest& request_;
  std::string folder_;                         // absolute in the root
  std::map<std::string, TarEntry> folders_;    // by absolute path: their attributes come last, because what is put inside changes times
  std::string open_path_;                      // archives list a folder's files one after another
  UniqueFd open_fd_;
};

/// The error of a write that only the mount forbids.
Error as_read_only(Error error) { return error.error_number() == EROFS ? std::move(error).with_kind(ErrorKind::denied) : std::move(error); }

Status Placer::run() {
  TarEntry entry;
  while (TRY_PLAIN(tar_.next(entry))) {
    auto placed = place(entry);
    if (!placed.ok()) return as_read_only(std::move(placed).error()).in(concat("entry \"", entry.name, "\""));
  }
  auto finished = finish_folders();
  if (!finished.ok()) return as_read_only(std::move(finished).error());
  return {};
}

/// Resolved anew whenever it differs from the last one: entries before may have put a link there, and a container may at any time.
Result<int> Placer::open_folder(const std::string& path) {
  if (open_fd_ && path == open_path_) return open_fd_.get();
  constexpr mode_t implied_mode = 0755;
  open_fd_ = TRY_PLAIN(linux::make_dirs_in_root(root_fd_, path, implied_mode));
  open_path_ = path;
  return open_fd_.get();
}

Status Placer::place(TarEntry& entry) {
  auto parts = TRY_PLAIN(names_of(entry.name));
  if (request_.without_attributes) entry.xattrs.clear();
  if (request_.owner) {
    entry.uid = request_.owner->uid;
    entry.gid = request_.owner->gid;
  } else if (entry.uid > most_file_id || entry.gid > most_file_id) {
    return Error(ErrorKind::invalid, concat("owner ", entry.uid, ":", entry.gid, " is outside the ids 0 to ", most_file_id, " that a container has"));
  }
  if (parts.empty()) return {};  // "./": the folder that everything goes to
  const auto name = parts.back();
  parts.pop_back();
  const auto path = path_of(parts);
  int folder_fd = TRY_PLAIN(open_folder(path));
  bool is_there = TRY_PLAIN(make_room(folder_fd, name, entry));
  if (entry.type != TarType::directory) return make(folder_fd, name, entry);
  if (!is_there) TRY_PLAIN(linux::mkdirat(folder_fd, name, 0700));
  folders_.insert_or_assign(path == "/" ? path + name : concat(path, "/", name), entry);
  return {};
}

/// The parts of a name of the archive. Errors: invalid when it leads out of the folder that everything goes to.
Result<std::vector<std::string>> Placer::names_of(const std::string& name) const {
  auto parts = TRY_PLAIN(clean_components(name));
  if (!request_.first_name.empty() && !parts.empty()) parts.front() = request_.first_name;
  return parts;
}

/// The absolute path in the root of what lies at `parts` below the folder.
std::string Placer::path_of(const std::vector<std::string>& parts) const {
  if (parts.empty()) return folder_;
  return concat(folder_ == "/" ? "" : folder_, "/", join(parts, "/"));
}

/// Removes what is in the way. True: a folder is there and the entry is one. Docker's words where kinds differ.
Result<bool> Placer::make_room(int folder_fd, const std::string& name, const TarEntry& entry) {
  auto status = linux::fstatat(folder_fd, name, AT_SYMLINK_NOFOLLOW);
  if (!status.ok() && status.error().error_number() == ENOENT) return false;
  if (!status.ok()) return std::move(status).error();
  const bool is_folder = S_ISDIR(status->st_mode);
  const bool becomes_folder = entry.type == TarType::directory;
  if (is_folder && becomes_folder) return true;
  const auto path = concat(open_path_ == "/" ? "" : open_path_, "/", name);
  if (request_.keep_kinds && is_folder) return Error(ErrorKind::invalid, concat("cannot overwrite directory \"", path, "\" with non-directory \"", folder_, "\""));
  if (request_.keep_kinds && becomes_folder) return Error(ErrorKind::invalid, concat("cannot overwrite non-directory \"", path, "\" with directory \"", folder_, "\""));
  TRY_PLAIN(linux::remove_tree(folder_fd, name));
  return false;
}

Status Placer::make(int folder_fd, const std::string& name, const TarEntry& entry) {
  switch (entry.type) {
    case TarType::file: return make_file(folder_fd, name, entry);
    case TarType::hard_link: return make_hard_link(folder_fd, name, entry);
    case TarType::symlink:
      TRY_PLAIN(linux::symlinkat(entry.link_target, folder_fd, name));
      return apply_link_attributes(folder_fd, name, entry);
    case TarType::fifo:
      TRY_PLAIN(linux::mknodat(folder_fd, name, static_cast<mode_t>(S_IFIFO | (entry.mode & 0777)), 0));
      return apply_link_attributes(folder_fd, name, entry);
    // Docker leaves them out too where a container has a user namespace: nobody inside could use them.
    case TarType::char_device:
    case TarType::block_device: return {};
    case TarType::directory: break;
  }
  return Error(ErrorKind::internal, "entry of an unknown type");
}

Status Placer::make_file(int folder_fd, const std::string& name, const TarEntry& entry) {
  auto mode = static_cast<mode_t>(entry.mode & 0777);
  auto file = TRY_PLAIN(linux::openat(folder_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode));
  TRY_PLAIN(write_contents(tar_, file.get(), entry));
  return apply_attributes(file.get(), entry, false);
}

/// The target is a name of the archive, so it is looked for where the archive goes.
Status Placer::make_hard_link(int folder_fd, const std::string& name, const TarEntry& entry) {
  auto step = concat("hard link to \"", entry.link_target, "\"");
  auto parts = TRY(names_of(entry.link_target), step);
  if (parts.empty()) return Error(ErrorKind::invalid, step + ": is a directory");
  const auto target = parts.back();
  parts.pop_back();
  auto from = TRY(linux::open_in_root(root_fd_, path_of(parts), O_PATH | O_DIRECTORY), step);
  TRY(linux::linkat(from.get(), target, folder_fd, name), step);
  return {};
}

Status Placer::finish_folders() {
  // Deepest first, so that a folder that is made unreadable still lets its children be reached.
  for (auto item = folders_.rbegin(); item != folders_.rend(); ++item) {
    auto folder = linux::open_in_root(root_fd_, item->first, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!folder.ok() && (folder.error().error_number() == ENOENT || folder.error().error_number() == ENOTDIR || folder.error().error_number() == ELOOP))
      continue;  // the archive or the container has replaced it since
    if (!folder.ok()) return std::move(folder).error().in(item->first);
    TRY(apply_attributes(folder->get(), item->second, false), item->first);
  }
  return {};
}

}  // namespace

Status place_archive(TarReader& tar, int root_fd, const PlaceRequest& request) {
  auto folder = TRY_PLAIN(resolve_in_root(root_fd, request.path));
  auto opened = TRY_PLAIN(linux::open_in_root(root_fd, folder, O_PATH));
  auto status = TRY_PLAIN(linux::fstat(opened.get()));
  if (!S_ISDIR(status.st_mode)) return Error(ErrorKind::invalid, "extraction point is not a directory");
  return Placer(tar, root_fd, request, std::move(folder)).run();
}

}  // namespace caisson::image
