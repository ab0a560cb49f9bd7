// flock(2) with the owner's pid written into the locked file.
#include "linux/file_lock.hpp"

#include <sys/file.h>

#include <array>
#include <cerrno>

#include "base/strings.hpp"
#include "linux/backoff.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"

namespace caisson::linux {

namespace {
/// A child that a dead owner was about to make a program of still has the owner's descriptors (flock(2): duplicates share the lock), and dies
/// by its parent's death as soon as it runs.
constexpr int heir_timeout_ms = 10'000;

bool is_gone(std::string_view pid) {
  const auto number = parse_integer<int>(pid);
  if (!number || *number <= 0) return false;
  const auto there = kill(*number, 0);
  return !there && there.error().error_number() == ESRCH;
}

std::string read_owner(int fd) {
  std::array<char, 32> buffer{};
  auto got = pread(fd, buffer, 0);
  if (!got.ok()) return {};
  return std::string(trim(std::string_view(buffer.data(), *got)));
}
}  // namespace

Result<FileLock> FileLock::acquire(const std::string& path, int wait_ms) {
  auto fd = TRY(open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600), "lock");
  detail::Backoff patience(heir_timeout_ms);
  detail::Backoff wish(wait_ms);
  for (;;) {
    auto locked = flock(fd.get(), LOCK_EX | LOCK_NB);
    if (locked) break;
    if (!would_block(locked.error())) return std::move(locked).error().in(concat("lock ", path));
    auto owner = read_owner(fd.get());
    if (is_gone(owner) ? patience.wait() : wish.wait()) continue;
    return Error(ErrorKind::unavailable, concat(path, ": in use by ", owner.empty() ? std::string("another process") : concat("process ", owner)), EWOULDBLOCK);
  }
  // The pid is a courtesy to whoever finds the lock taken; a full disk must not keep the owner from starting.
  auto pid = concat(getpid(), "\n");
  if (ftruncate(fd.get(), 0).ok()) ignore(pwrite(fd.get(), pid, 0));
  return FileLock(std::move(fd));
}

}  // namespace caisson::linux
