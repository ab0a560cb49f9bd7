// Reading, writing and copying whole files: loops over read, write, sendfile, and the atomic replacement of a file.
#include <poll.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>

#include "linux/file.hpp"
#include "linux/syscall.hpp"

namespace caisson::linux {

using detail::status;
using detail::value;

Result<std::size_t> read(int fd, std::span<char> buffer) {
  return value<std::size_t>("read", [&] { return ::read(fd, buffer.data(), buffer.size()); });
}
Result<std::size_t> write(int fd, std::string_view bytes) {
  return value<std::size_t>("write", [&] { return ::write(fd, bytes.data(), bytes.size()); });
}
Result<std::size_t> pread(int fd, std::span<char> buffer, std::uint64_t offset) {
  return value<std::size_t>("pread",
                            [&] { return ::pread(fd, buffer.data(), buffer.size(), static_cast<off_t>(offset)); });
}
Result<std::size_t> pwrite(int fd, std::string_view bytes, std::uint64_t offset) {
  return value<std::size_t>("pwrite",
                            [&] { return ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)); });
}

bool would_block(const Error& error) { return error.error_number() == EAGAIN; }

namespace {
Status wait_for(int fd, short events) {
  struct ::pollfd entry {};
  entry.fd = fd;
  entry.events = events;
  return status("poll", [&] { return ::poll(&entry, 1, -1); });
}
}  // namespace

Status write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    auto written = write(fd, bytes);
    if (written) {
      bytes.remove_prefix(*written);
    } else if (would_block(written.error())) {
      TRY_PLAIN(wait_for(fd, POLLOUT));
    } else {
      return std::move(written).error();
    }
  }
  return {};
}

Result<std::string> read_all(int fd, std::size_t limit_bytes) {
  limit_bytes = std::min(limit_bytes, SIZE_MAX - 1);
  std::string out;
  std::size_t used = 0;
  out.resize(std::min<std::size_t>(limit_bytes + 1, 4096));
  while (true) {
    auto got = read(fd, std::span(out).subspan(used));
    if (!got) {
      if (!would_block(got.error())) return std::move(got).error();
      TRY_PLAIN(wait_for(fd, POLLIN));
      continue;
    }
    if (*got == 0) break;
    used += *got;
    if (used > limit_bytes)
      return Error(ErrorKind::invalid, concat("read: more than the allowed ", limit_bytes, " bytes"), EFBIG);
    if (used == out.size()) out.resize(std::min(limit_bytes + 1, out.size() * 2));
  }
  out.resize(used);
  return out;
}

Result<std::string> read_file_at(int dir_fd, PathArg path, std::size_t limit_bytes) {
  const UniqueFd fd = TRY_PLAIN(openat(dir_fd, path, O_RDONLY));
  return TRY(read_all(fd.get(), limit_bytes), path.view());
}
Result<std::string> read_file(PathArg path, std::size_t limit_bytes) { return read_file_at(AT_FDCWD, path, limit_bytes); }

Result<std::string> read_kernel_file(PathArg path) {
  const UniqueFd fd = TRY_PLAIN(openat(AT_FDCWD, path, O_RDONLY));
  std::array<char, 4096> buffer;
  const std::size_t got = TRY(read(fd.get(), buffer), path.view());
  if (got == buffer.size()) return Error(ErrorKind::invalid, concat(path.view(), ": is longer than a page"), EFBIG);
  return std::string(buffer.data(), got);
}

Status write_file(PathArg path, std::string_view bytes, mode_t mode) {
  const UniqueFd fd = TRY_PLAIN(open(path, O_WRONLY | O_CREAT | O_TRUNC, mode));
  TRY(write_all(fd.get(), bytes), path.view());
  return {};
}

Status write_kernel_file_at(int dir_fd, PathArg path, std::string_view bytes) {
  const UniqueFd fd = TRY_PLAIN(openat(dir_fd, path, O_WRONLY));
  const std::size_t written = TRY(write(fd.get(), bytes), path.view());
  if (written != bytes.size())
    return Error(ErrorKind::io, concat(path.view(), ": the kernel took ", written, " of ", bytes.size(), " bytes"));
  return {};
}
Status write_kernel_file(PathArg path, std::string_view bytes) { return write_kernel_file_at(AT_FDCWD, path, bytes); }

namespace {
constexpr mode_t owner_only = 0600;

/// "FOLDER.NAME.PID-N.tmp": unique among the processes of one pid namespace; O_EXCL guards the rest.
std::string temporary_name(std::string_view folder, std::string_view name) {
  static std::atomic<std::uint64_t> counter{0};
  static const pid_t pid = ::getpid();  // a child of ours counts on from the same number
  return concat(folder, '.', name, '.', pid, '-', counter.fetch_add(1), ".tmp");
}

Status fill_temporary(int fd, std::string_view bytes, mode_t mode, Durability durability) {
  TRY_PLAIN(write_all(fd, bytes));
  // Made with the owner's bits, of which a umask takes only what its owner does not want.
  if (mode != owner_only) TRY_PLAIN(fchmod(fd, mode));
  if (durability == Durability::synced) TRY_PLAIN(fsync(fd));
  return {};
}
}  // namespace

namespace {
/// `folder`: "" or a path with its "/", from `dir_fd` on.
Status replace_file(int dir_fd, std::string_view folder, std::string_view name, std::string_view bytes, mode_t mode, Durability durability) {
  std::string temporary = temporary_name(folder, name);
  auto opened = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, owner_only);
  for (int attempt = 0; !opened && opened.error().error_number() == EEXIST && attempt < 100; ++attempt) {
    // Left over by a killed process whose number we have now.
    temporary = temporary_name(folder, name);
    opened = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, owner_only);
  }
  const UniqueFd fd = TRY_PLAIN(std::move(opened));
  Status written = fill_temporary(fd.get(), bytes, mode, durability);
  if (written) written = renameat2(dir_fd, temporary, dir_fd, concat(folder, name), 0);
  if (!written) {
    ignore(unlinkat(dir_fd, temporary));  // the first error is the one to report
    return std::move(written).error().in(name);
  }
  return {};
}
}  // namespace

Status write_file_atomic_at(int dir_fd, PathArg name, std::string_view bytes, mode_t mode, Durability durability) {
  if (name.has_nul() || name.empty() || name.view().find('/') != std::string_view::npos)
    return Error(ErrorKind::invalid, concat("write file: \"", name.view(), "\" is not a plain name"), EINVAL);
  TRY_PLAIN(replace_file(dir_fd, "", name.view(), bytes, mode, durability));
  if (durability == Durability::synced) {
    // AT_FDCWD and O_PATH descriptors cannot be synced themselves.
    const UniqueFd folder = TRY_PLAIN(openat(dir_fd, ".", O_RDONLY | O_DIRECTORY));
    TRY(fsync(folder.get()), name.view());
  }
  return {};
}

Status write_file_atomic(PathArg path, std::string_view bytes, mode_t mode, Durability durability) {
  const Halves halves = split_last(path.view(), '/');
  const std::string_view name = halves.found ? halves.after : path.view();
  // Without a sync nothing else needs the folder's descriptor: the path up to the name leads to the same folder both times.
  if (durability == Durability::none && !name.empty() && !path.has_nul())
    return replace_file(AT_FDCWD, path.view().substr(0, path.view().size() - name.size()), name, bytes, mode, durability);
  const std::string folder(halves.found ? (halves.before.empty() ? "/" : halves.before) : ".");
  const UniqueFd folder_fd = TRY(open(folder, O_PATH | O_DIRECTORY), path.view());
  return write_file_atomic_at(folder_fd.get(), std::string(name), bytes, mode, durability);
}

Result<std::uint64_t> lseek(int fd, std::int64_t offset, int whence) {
  return value<std::uint64_t>("lseek", [&] { return ::lseek(fd, offset, whence); });
}
Result<std::size_t> sendfile(int out_fd, int in_fd, std::size_t count) {
  return value<std::size_t>("sendfile", [&] { return ::sendfile(out_fd, in_fd, nullptr, count); });
}
Result<std::size_t> copy_file_range(int in_fd, int out_fd, std::size_t count) {
  return value<std::size_t>("copy_file_range",
                            [&] { return ::copy_file_range(in_fd, nullptr, out_fd, nullptr, count, 0); });
}
Result<std::size_t> splice(int in_fd, int out_fd, std::size_t count, unsigned int flags) {
  return value<std::size_t>("splice", [&] { return ::splice(in_fd, nullptr, out_fd, nullptr, count, flags); });
}
Result<std::size_t> tee(int in_fd, int out_fd, std::size_t count, unsigned int flags) {
  return value<std::size_t>("tee", [&] { return ::tee(in_fd, out_fd, count, flags); });
}

namespace {
/// Errors by which a pair of descriptors says "not this way".
bool not_this_way(const Error& error) {
  const int reason = error.error_number();
  return reason == EINVAL || reason == EXDEV || reason == EOPNOTSUPP || reason == ENOSYS || reason == EBADF;
}

Result<std::uint64_t> copy_by_buffer(int in_fd, int out_fd) {
  std::string buffer(1U << 17U, '\0');
  std::uint64_t total = 0;
  while (true) {
    const std::size_t got = TRY_PLAIN(read(in_fd, buffer));
    if (got == 0) return total;
    TRY_PLAIN(write_all(out_fd, std::string_view(buffer).substr(0, got)));
    total += got;
  }
}
}  // namespace

Result<std::uint64_t> copy_all(int in_fd, int out_fd) {
  constexpr std::size_t chunk = 1U << 30U;
  std::uint64_t total = 0;
  using Way = Result<std::size_t> (*)(int, int, std::size_t);
  const std::array<Way, 2> ways{copy_file_range,
                                [](int in, int out, std::size_t count) { return sendfile(out, in, count); }};
  for (const Way way : ways) {
    const std::uint64_t before = total;
    while (true) {
      auto moved = way(in_fd, out_fd, chunk);
      if (!moved && not_this_way(moved.error())) break;
      const std::size_t count = TRY_PLAIN(std::move(moved));
      // copy_file_range says 0 for files of /proc and the like, which have no size; the next way finds their bytes.
      if (count == 0 && total == before) break;
      if (count == 0) return total;
      total += count;
    }
  }
  return total + TRY_PLAIN(copy_by_buffer(in_fd, out_fd));
}

}  // namespace caisson::linux
