// Thin wrappers of file system calls by descriptor: open, names, attributes, duplicates.
#include "linux/file.hpp"

#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <climits>

#include "linux/syscall.hpp"

namespace caisson::linux {

using detail::descriptor;
using detail::status;
using detail::value;

Result<UniqueFd> open(PathArg path, int flags, mode_t mode) {
  return descriptor("open", [&] { return ::open(path.c_str(), flags | O_CLOEXEC, mode); }, path);
}

Result<UniqueFd> openat(int dir_fd, PathArg path, int flags, mode_t mode) {
  return descriptor("openat", [&] { return ::openat(dir_fd, path.c_str(), flags | O_CLOEXEC, mode); }, path);
}

Result<UniqueFd> openat2(int dir_fd, PathArg path, int flags, std::uint64_t resolve, mode_t mode) {
  struct ::open_how how {};
  how.flags = static_cast<std::uint32_t>(flags) | static_cast<std::uint32_t>(O_CLOEXEC);
  how.mode = mode;
  how.resolve = resolve;
  return descriptor(
      "openat2",
      [&]() -> long {
        // EAGAIN: a rename or mount elsewhere made a scoped lookup uncertain (openat2(2)); an attacker who renames in a
        // loop must not hold us forever.
        long fd = -1;
        for (int attempt = 0; attempt < 128; ++attempt) {
          fd = ::syscall(SYS_openat2, dir_fd, path.c_str(), &how, sizeof how);
          if (fd >= 0 || errno != EAGAIN) break;
        }
        return fd;
      },
      path);
}

Result<UniqueFd> open_in_root(int root_fd, PathArg path, int flags, mode_t mode) {
  return openat2(root_fd, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS, mode);
}

Result<UniqueFd> open_inside(int dir_fd, PathArg path, int flags, mode_t mode) {
  return openat2(dir_fd, path, flags, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS, mode);
}
Result<UniqueFd> open_beneath(int dir_fd, PathArg path, int flags, mode_t mode) {
  return openat2(dir_fd, path, flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS, mode);
}

Result<UniqueFd> reopen(int fd, int flags) { return open(concat("/proc/self/fd/", fd), flags); }

Status mkdirat(int dir_fd, PathArg path, mode_t mode) {
  return status("mkdirat", [&] { return ::mkdirat(dir_fd, path.c_str(), mode); }, path);
}
Status mkdir(PathArg path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
Status unlinkat(int dir_fd, PathArg path, int flags) {
  return status("unlinkat", [&] { return ::unlinkat(dir_fd, path.c_str(), flags); }, path);
}
Status unlink(PathArg path) { return unlinkat(AT_FDCWD, path, 0); }
Status rmdir(PathArg path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

Status renameat2(int old_dir_fd, PathArg old_path, int new_dir_fd, PathArg new_path, unsigned int flags) {
  return status(
      "renameat2",
      [&] { return ::syscall(SYS_renameat2, old_dir_fd, old_path.c_str(), new_dir_fd, new_path.c_str(), flags); }, old_path,
      " to ", new_path);
}
Status rename(PathArg old_path, PathArg new_path) { return renameat2(AT_FDCWD, old_path, AT_FDCWD, new_path, 0); }

Status linkat(int old_dir_fd, PathArg old_path, int new_dir_fd, PathArg new_path, int flags) {
  return status("linkat", [&] { return ::linkat(old_dir_fd, old_path.c_str(), new_dir_fd, new_path.c_str(), flags); },
                old_path, " to ", new_path);
}
Status symlinkat(PathArg target, int dir_fd, PathArg link_path) {
  return status("symlinkat", [&] { return ::symlinkat(target.c_str(), dir_fd, link_path.c_str()); }, link_path, " -> ",
                target);
}

Result<std::string> readlinkat(int dir_fd, PathArg path) {
  std::string text(PATH_MAX, '\0');
  const auto size = TRY_PLAIN(
      value<std::size_t>("readlinkat", [&] { return ::readlinkat(dir_fd, path.c_str(), text.data(), text.size()); }, path));
  text.resize(size);
  return text;
}

Status mknodat(int dir_fd, PathArg path, mode_t mode, dev_t device) {
  return status("mknodat", [&] { return ::mknodat(dir_fd, path.c_str(), mode, device); }, path);
}
dev_t make_device(std::uint32_t major, std::uint32_t minor) { return gnu_dev_makedev(major, minor); }
std::uint32_t device_major(dev_t device) { return gnu_dev_major(device); }
std::uint32_t device_minor(dev_t device) { return gnu_dev_minor(device); }

Result<FileStatus> fstat(int fd) {
  FileStatus out{};
  TRY_PLAIN(status("fstat", [&] { return ::fstat(fd, &out); }));
  return out;
}
Result<FileStatus> fstatat(int dir_fd, PathArg path, int flags) {
  FileStatus out{};
  TRY_PLAIN(status("fstatat", [&] { return ::fstatat(dir_fd, path.c_str(), &out, flags); }, path));
  return out;
}
Result<FileStatus> stat(PathArg path) { return fstatat(AT_FDCWD, path, 0); }
Result<FileStatus> lstat(PathArg path) { return fstatat(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW); }

Result<bool> exists(PathArg path) {
  auto found = fstatat(AT_FDCWD, path, 0);
  if (found) return true;
  const int reason = found.error().error_number();
  if (reason == ENOENT || reason == ENOTDIR) return false;
  return std::move(found).error();
}

Status faccessat(int dir_fd, PathArg path, int mode) {
  return status("faccessat", [&] { return ::syscall(SYS_faccessat2, dir_fd, path.c_str(), mode, AT_EACCESS); }, path);
}
Result<FileSystemStatus> fstatfs(int fd) {
  FileSystemStatus out{};
  TRY_PLAIN(status("fstatfs", [&] { return ::fstatfs(fd, &out); }));
  return out;
}
Result<FileSystemStatus> statfs(PathArg path) {
  FileSystemStatus out{};
  TRY_PLAIN(status("statfs", [&] { return ::statfs(path.c_str(), &out); }, path));
  return out;
}
Status fchmod(int fd, mode_t mode) {
  return status("fchmod", [&] { return ::fchmod(fd, mode); });
}
Status fchmodat(int dir_fd, PathArg path, mode_t mode) {
  return status("fchmodat", [&] { return ::fchmodat(dir_fd, path.c_str(), mode, 0); }, path);
}
Status fchown(int fd, uid_t uid, gid_t gid) {
  return status("fchown", [&] { return ::fchown(fd, uid, gid); });
}
Status fchownat(int dir_fd, PathArg path, uid_t uid, gid_t gid, int flags) {
  return status("fchownat", [&] { return ::fchownat(dir_fd, path.c_str(), uid, gid, flags); }, path);
}
Status utimensat(int dir_fd, PathArg path, const TimeSpec& access_time, const TimeSpec& modify_time, int flags) {
  const std::array<TimeSpec, 2> times{access_time, modify_time};
  return status("utimensat", [&] { return ::syscall(SYS_utimensat, dir_fd, path.c_str(), times.data(), flags); }, path);
}

namespace {
/// A missing attribute is an ordinary answer: ENODATA becomes not_found.
Error attribute_error(Error error) {
  if (error.error_number() != ENODATA) return error;
  return std::move(error).with_kind(ErrorKind::not_found);
}

/// Asks for the size, then for the value, again when it grew in between.
template <typename Get>
Result<std::string> read_attribute(const char* name, PathArg object, Get get) {
  std::string out;
  while (true) {
    auto size = value<std::size_t>(name, [&] { return get(static_cast<char*>(nullptr), std::size_t{0}); }, object);
    if (!size) return attribute_error(std::move(size).error());
    out.resize(*size);
    if (out.empty()) return out;
    auto got = value<std::size_t>(name, [&] { return get(out.data(), out.size()); }, object);
    if (got) {
      out.resize(*got);
      return out;
    }
    if (got.error().error_number() != ERANGE) return attribute_error(std::move(got).error());
  }
}
}  // namespace

Status fsetxattr(int fd, PathArg name, std::string_view bytes, int flags) {
  return status("fsetxattr", [&] { return ::fsetxattr(fd, name.c_str(), bytes.data(), bytes.size(), flags); }, name);
}
Result<std::string> fgetxattr(int fd, PathArg name) {
  return read_attribute("fgetxattr", name,
                        [&](char* buffer, std::size_t size) { return ::fgetxattr(fd, name.c_str(), buffer, size); });
}
Result<std::vector<std::string>> flistxattr(int fd) {
  const std::string names = TRY_PLAIN(read_attribute(
      "flistxattr", "", [&](char* buffer, std::size_t size) { return ::flistxattr(fd, buffer, size); }));
  std::vector<std::string> out;
  for (std::string_view name : split(names, '\0'))
    if (!name.empty()) out.emplace_back(name);
  return out;
}
Status fremovexattr(int fd, PathArg name) {
  return status("fremovexattr", [&] { return ::fremovexattr(fd, name.c_str()); }, name);
}
Status lsetxattr(PathArg path, PathArg name, std::string_view bytes, int flags) {
  return status("lsetxattr", [&] { return ::lsetxattr(path.c_str(), name.c_str(), bytes.data(), bytes.size(), flags); },
                name, " of ", path);
}
Result<std::string> lgetxattr(PathArg path, PathArg name) {
  if (path.has_nul()) return Error(ErrorKind::invalid, "lgetxattr: the path contains a NUL character", EINVAL);
  return read_attribute("lgetxattr", name, [&](char* buffer, std::size_t size) {
    return ::lgetxattr(path.c_str(), name.c_str(), buffer, size);
  });
}

Status fsync(int fd) {
  return status("fsync", [&] { return ::fsync(fd); });
}
Status fdatasync(int fd) {
  return status("fdatasync", [&] { return ::fdatasync(fd); });
}
Status begin_writing_out(int fd, std::uint64_t offset, std::uint64_t size_bytes) {
  return status("sync_file_range", [&] { return ::sync_file_range(fd, static_cast<off_t>(offset), static_cast<off_t>(size_bytes), SYNC_FILE_RANGE_WRITE); });
}
Status syncfs(int fd) {
  return status("syncfs", [&] { return ::syncfs(fd); });
}
Status ftruncate(int fd, std::uint64_t size_bytes) {
  return status("ftruncate", [&] { return ::ftruncate(fd, static_cast<off_t>(size_bytes)); });
}
Status fallocate(int fd, int mode, std::uint64_t offset, std::uint64_t size_bytes) {
  return status("fallocate",
                [&] { return ::fallocate(fd, mode, static_cast<off_t>(offset), static_cast<off_t>(size_bytes)); });
}
Status flock(int fd, int operation) {
  return status("flock", [&] { return ::flock(fd, operation); });
}
Result<UniqueFd> dup(int fd) { return dup_at_least(fd, 0); }
Result<UniqueFd> dup_at_least(int fd, int minimum) {
  return descriptor("dup", [&] { return ::fcntl(fd, F_DUPFD_CLOEXEC, minimum); });
}
Status dup3(int fd, int target, int flags) {
  return status("dup3", [&] { return ::dup3(fd, target, flags); });
}
Result<int> fcntl_get_flags(int fd) {
  return value<int>("fcntl", [&] { return ::fcntl(fd, F_GETFL); });
}
Status fcntl_set_flags(int fd, int flags) {
  return status("fcntl", [&] { return ::fcntl(fd, F_SETFL, flags); });
}
Status set_nonblocking(int fd, bool nonblocking) {
  const int flags = TRY_PLAIN(fcntl_get_flags(fd));
  const int wanted = nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
  if (wanted == flags) return {};
  return fcntl_set_flags(fd, wanted);
}
Status set_close_on_exec(int fd, bool close_on_exec) {
  return status("fcntl", [&] { return ::fcntl(fd, F_SETFD, close_on_exec ? FD_CLOEXEC : 0); });
}
Result<int> set_pipe_size(int fd, int size_bytes) {
  return value<int>("fcntl", [&] { return ::fcntl(fd, F_SETPIPE_SZ, size_bytes); }, "F_SETPIPE_SZ");
}
Result<std::size_t> bytes_available(int fd) {
  int count = 0;
  TRY_PLAIN(status("ioctl", [&] { return ::ioctl(fd, FIONREAD, &count); }, "FIONREAD"));
  return static_cast<std::size_t>(count);
}

Result<Pipe> pipe2(int flags) {
  std::array<int, 2> ends{-1, -1};
  TRY_PLAIN(status("pipe2", [&] { return ::pipe2(ends.data(), flags | O_CLOEXEC); }));
  Pipe out;
  out.read_end.reset(ends[0]);
  out.write_end.reset(ends[1]);
  return out;
}

Result<UniqueFd> memfd_create(PathArg name, unsigned int flags) {
  return descriptor("memfd_create", [&] { return ::memfd_create(name.c_str(), flags | MFD_CLOEXEC); }, name);
}
Status add_seals(int fd, int seals) {
  return status("fcntl", [&] { return ::fcntl(fd, F_ADD_SEALS, seals); }, "F_ADD_SEALS");
}
Result<int> get_seals(int fd) {
  return value<int>("fcntl", [&] { return ::fcntl(fd, F_GET_SEALS); }, "F_GET_SEALS");
}
Result<UniqueFd> sealed_memfd(PathArg name, std::string_view bytes) {
  UniqueFd fd = TRY_PLAIN(memfd_create(name, MFD_ALLOW_SEALING));
  TRY_PLAIN(write_all(fd.get(), bytes));
  TRY_PLAIN(lseek(fd.get(), 0, SEEK_SET));
  TRY_PLAIN(add_seals(fd.get(), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL));
  return fd;
}

Result<std::string> getcwd() {
  std::string path(PATH_MAX, '\0');
  const auto size = TRY_PLAIN(value<std::size_t>("getcwd", [&] { return ::syscall(SYS_getcwd, path.data(), path.size()); }));
  path.resize(size == 0 ? 0 : size - 1);  // the kernel counts the terminating NUL
  return path;
}
Status chdir(PathArg path) {
  return status("chdir", [&] { return ::chdir(path.c_str()); }, path);
}
Status fchdir(int fd) {
  return status("fchdir", [&] { return ::fchdir(fd); });
}
Status chroot(PathArg path) {
  return status("chroot", [&] { return ::chroot(path.c_str()); }, path);
}
mode_t umask(mode_t mask) { return ::umask(mask); }

}  // namespace caisson::linux
