// tmpcopyup: a folder's content copied into a new tmpfs, by descriptors and without following any symbolic link.
#include <cerrno>
#include <cstring>

#include "linux/child.hpp"
#include "runtime/child.hpp"

namespace caisson::runtime::detail {

namespace raw = linux::raw;

namespace {

constexpr std::size_t path_limit = 4096;
constexpr std::size_t depth_limit = 64;
constexpr std::size_t records_size = 2048;
// Static: our stack is a copy of the stage's and small.
alignas(8) char records[depth_limit][records_size];
char link_text[path_limit];

/// struct linux_dirent64 (getdents64(2)).
struct Record {
  std::uint64_t inode;
  std::int64_t offset;
  unsigned short size;
  unsigned char type;
  char name[1];
};

int copy_content(int source, int target, std::size_t depth) noexcept;

int copy_file(int source_dir, int target_dir, const char* name, const struct ::stat& status) noexcept {
  const int source = raw::openat(source_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
  if (source < 0) return source;
  const int target = raw::openat(target_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  int result = target < 0 ? target : 0;
  while (result == 0) {
    constexpr std::size_t piece = std::size_t{1} << 20U;
    const long copied = raw::sendfile(target, source, piece);
    if (copied <= 0) {
      result = static_cast<int>(copied);
      break;
    }
  }
  // Owner before mode: a change of owner takes set-user-ID away (chown(2)).
  if (result == 0) result = raw::fchown(target, status.st_uid, status.st_gid);
  if (result == 0) result = raw::fchmod(target, status.st_mode & 07777U);
  if (target >= 0) (void)raw::close(target);
  (void)raw::close(source);
  return result;
}

int copy_folder(int source_dir, int target_dir, const char* name, const struct ::stat& status, std::size_t depth) noexcept {
  if (depth >= depth_limit) return -ELOOP;
  int result = raw::mkdirat(target_dir, name, 0700);
  if (result < 0) return result;
  const int source = raw::openat(source_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
  if (source < 0) return source;
  const int target = raw::openat(target_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
  result = target < 0 ? target : copy_content(source, target, depth);
  if (result == 0) result = raw::fchown(target, status.st_uid, status.st_gid);
  if (result == 0) result = raw::fchmod(target, status.st_mode & 07777U);
  if (target >= 0) (void)raw::close(target);
  (void)raw::close(source);
  return result;
}

int copy_link(int source_dir, int target_dir, const char* name, const struct ::stat& status) noexcept {
  const long size = raw::readlinkat(source_dir, name, link_text, sizeof link_text - 1);
  if (size < 0) return static_cast<int>(size);
  link_text[size] = '\0';
  const int made = raw::symlinkat(link_text, target_dir, name);
  return made < 0 ? made : raw::fchownat(target_dir, name, status.st_uid, status.st_gid, AT_SYMLINK_NOFOLLOW);
}

int copy_entry(int source_dir, int target_dir, const char* name, std::size_t depth) noexcept {
  struct ::stat status {};
  int result = raw::fstatat(source_dir, name, &status, AT_SYMLINK_NOFOLLOW);
  if (result < 0) return result;
  if (S_ISREG(status.st_mode)) result = copy_file(source_dir, target_dir, name, status);
  else if (S_ISDIR(status.st_mode)) result = copy_folder(source_dir, target_dir, name, status, depth);
  else if (S_ISLNK(status.st_mode)) result = copy_link(source_dir, target_dir, name, status);
  else {
    result = raw::mknodat(target_dir, name, status.st_mode, status.st_rdev);
    if (result == 0) result = raw::fchownat(target_dir, name, status.st_uid, status.st_gid, AT_SYMLINK_NOFOLLOW);
  }
  if (result < 0) return result;
  const struct ::timespec times[2] = {status.st_atim, status.st_mtim};
  return raw::utimensat(target_dir, name, times, AT_SYMLINK_NOFOLLOW);
}

int copy_content(int source, int target, std::size_t depth) noexcept {
  while (true) {
    const long size = raw::getdents64(source, records[depth], records_size);
    if (size <= 0) return static_cast<int>(size);
    for (long at = 0; at < size;) {
      const auto* record = reinterpret_cast<const Record*>(records[depth] + at);
      at += record->size;
      if (std::strcmp(record->name, ".") == 0 || std::strcmp(record->name, "..") == 0) continue;
      const int copied = copy_entry(source, target, record->name, depth + 1);
      if (copied < 0) return copied;
    }
  }
}

}  // namespace

int child_copy_folder(int source_fd, int target_fd) noexcept { return copy_content(source_fd, target_fd, 0); }

}  // namespace caisson::runtime::detail
