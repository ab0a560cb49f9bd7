// FileLock: one process at a time owns a folder or file, and whoever comes second learns the owner's pid.
#pragma once

#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace caisson::linux {

/// An exclusive flock(2) on a small file that also holds the owner's pid. The kernel drops the lock when the process
/// dies, however it dies; the file itself stays, because unlinking it would let two processes lock two different inodes.
class FileLock {
 public:
  /// Creates `path` (0600) when it is missing and locks it, waiting at most `wait_ms` for an owner that lives, and some seconds for what a dead
  /// owner leaves to end. Errors: unavailable ("PATH: in use by process 123"), denied, io.
  static Result<FileLock> acquire(const std::string& path, int wait_ms = 0);

 private:
  explicit FileLock(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace caisson::linux
