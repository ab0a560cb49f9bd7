// A file whose contents a process of ours gives: a FUSE file system that is nothing but that one file (fuse(4), Documentation/filesystems/fuse).
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace caisson::linux {

/// A read of the file is asked for in pieces of at most so many bytes: what fits into one is answered as a whole or not at all.
inline constexpr std::uint32_t most_fuse_read_bytes = 1 << 20;

/// A connection that nothing is mounted on yet. Errors: not_found, unsupported (no FUSE here), denied.
Result<UniqueFd> open_fuse_device();

/// A detached mount whose root is the file, read-only, nosuid, nodev, noexec. Requests come on `device_fd` (borrowed) from now on; when the last descriptor of the
/// device is closed, all that is waiting and all that comes fails (ECONNABORTED, ENOTCONN). Opening the file waits until somebody serves.
/// Privilege: CAP_SYS_ADMIN.
Result<UniqueFd> mount_fuse_file(int device_fd);
/// Opens it for reading. Errors: unavailable (whoever was to serve has ended).
Result<UniqueFd> open_fuse_file(int mount_fd);

struct FuseEvent {
  enum class Kind : std::uint8_t {
    read,       ///< `size_bytes` from `offset` are wanted: answer `number`
    interrupt,  ///< whoever waits for `number` would like to stop waiting; it is still to be answered
    ended,      ///< nothing is mounted any more
  };
  Kind kind = Kind::ended;
  std::uint64_t number = 0;
  std::uint64_t offset = 0;
  std::uint32_t size_bytes = 0;
};
/// Waits for the next event of a file of `file_bytes`. Questions that have but one answer (its size, opening it) are answered on the way; reads go past the kernel's page
/// cache. Several threads may wait on one device. Errors: corrupt (not the protocol), io.
Result<FuseEvent> next_fuse_event(int device_fd, std::uint64_t file_bytes);
/// Answers a read. That nobody waits any more is no error.
Status answer_fuse_read(int device_fd, std::uint64_t number, std::string_view bytes);
/// The read fails with this errno.
Status refuse_fuse_read(int device_fd, std::uint64_t number, int error_number);

}  // namespace caisson::linux
