// Rotated log files, compressed: written whole beside the plain one and put in its place, read by being unpacked into a file without a name.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace caisson::engine {

/// No log has more files than that: the bound of searches among them.
inline constexpr int most_log_files = 1000;

/// Which file it was: kept in the archive's header (RFC 1952, extra field "Ci"), so that whoever read the plain one knows the archive again.
struct LogMark {
  std::uint64_t inode = 0;
  std::uint64_t size_bytes = 0;
  std::int64_t changed_ns = 0;
  bool operator==(const LogMark&) const = default;
};
/// Errors: io.
Result<LogMark> log_mark_of(int fd);
/// Of an archive; one that we did not write has its own.
Result<LogMark> archive_mark_of(int fd);

/// As long as the descriptor holds its lock, no rotation renames the log's files: the monitor rotates under the same lock (flock of the newest
/// file), and passes over a turn that it cannot have, so it never waits. `operation`: LOCK_SH to look, LOCK_EX to change. Errors: not_found (no
/// log, or between two renames of a monitor that was killed), io.
Result<UniqueFd> lock_rotation(const std::string& path, int operation);

/// Compresses the rotated files `path`.1, .2, … that are plain still, into `path`.N.gz. May be killed at any point: a file is there plain, or
/// compressed, or both, and never in part. Errors: io, of the first file that could not be.
Status compress_rotated(const std::string& path);

/// The archive's text as a file of `folder` that has no name. Errors: io (a full disk), corrupt.
Result<UniqueFd> unpack_log(int archive_fd, const std::string& folder);

}  // namespace caisson::engine
