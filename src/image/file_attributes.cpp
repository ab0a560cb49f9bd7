// One set of rules for unpacking layers, for packing them and for copying into containers.
#include "image/file_attributes.hpp"

#include <cerrno>

#include "base/strings.hpp"

namespace caisson::image {

bool is_kept_xattr(std::string_view name) {
  if (name.starts_with("user.")) return !name.starts_with("user.overlay.");
  return name == "security.capability" || name == "system.posix_acl_access" || name == "system.posix_acl_default";
}

linux::TimeSpec time_of(const TarEntry& entry) {
  linux::TimeSpec time{};
  time.tv_sec = entry.mtime_s;
  time.tv_nsec = static_cast<long>(entry.mtime_ns);
  return time;
}

Status write_contents(TarReader& tar, int fd, const TarEntry& entry) {
  for (;;) {
    auto piece = TRY_PLAIN(tar.read());
    if (piece.bytes.empty()) break;
    if (!entry.is_sparse) {
      TRY_PLAIN(linux::write_all(fd, piece.bytes));
      continue;
    }
    for (std::size_t done = 0; done < piece.bytes.size();) done += TRY_PLAIN(linux::pwrite(fd, piece.bytes.substr(done), piece.offset + done));
  }
  if (entry.is_sparse) TRY_PLAIN(linux::ftruncate(fd, entry.size_bytes));
  return {};
}

Status apply_attributes(int fd, const TarEntry& entry, bool is_new_file) {
  if (entry.uid != 0 || entry.gid != 0 || !is_new_file) TRY_PLAIN(linux::fchown(fd, static_cast<uid_t>(entry.uid), static_cast<gid_t>(entry.gid)));
  bool mode_is_set = is_new_file && (entry.mode & 07000) == 0;
  if (!mode_is_set) TRY_PLAIN(linux::fchmod(fd, static_cast<mode_t>(entry.mode)));
  for (const auto& [name, value] : entry.xattrs) {
    if (!is_kept_xattr(name)) continue;
    auto set = linux::fsetxattr(fd, name, value);
    // A file system without such attributes (tmpfs before 6.6) loses them, as it does for every other tool.
    if (!set.ok() && set.error().error_number() != EOPNOTSUPP) return std::move(set).error().in("attribute " + name);
  }
  auto time = time_of(entry);
  return linux::utimensat(fd, "", time, time, AT_EMPTY_PATH);
}

Status apply_link_attributes(int folder_fd, const std::string& name, const TarEntry& entry) {
  if (entry.uid != 0 || entry.gid != 0)
    TRY_PLAIN(linux::fchownat(folder_fd, name, static_cast<uid_t>(entry.uid), static_cast<gid_t>(entry.gid), AT_SYMLINK_NOFOLLOW));
  auto time = time_of(entry);
  return linux::utimensat(folder_fd, name, time, time, AT_SYMLINK_NOFOLLOW);
}

Result<std::map<std::string, std::string>> read_kept_xattrs(int fd) {
  std::map<std::string, std::string> out;
  auto names = linux::flistxattr(fd);
  if (!names.ok() && (names.error().error_number() == EOPNOTSUPP || names.error().error_number() == EPERM)) return out;
  if (!names.ok()) return std::move(names).error();
  for (const auto& name : *names) {
    if (!is_kept_xattr(name)) continue;
    auto value = linux::fgetxattr(fd, name);
    if (!value.ok() && value.error().kind() == ErrorKind::not_found) continue;  // removed meanwhile
    if (!value.ok()) return std::move(value).error().in("attribute " + name);
    out.emplace(name, std::move(*value));
  }
  return out;
}

}  // namespace caisson::image
