// What a tar entry is, for the reader and the writer.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/time.hpp"

namespace caisson::image {

enum class TarType : std::uint8_t { file, hard_link, symlink, char_device, block_device, directory, fifo };

/// `length` bytes of a sparse file that are really there, from `offset` on.
struct TarSegment {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  bool operator==(const TarSegment&) const = default;
};

struct TarEntry {
  TarType type = TarType::file;
  std::string name;         ///< as in the archive: hostile, not normalised, without NUL
  std::string link_target;  ///< of links: hostile as well
  std::uint32_t mode = 0;   ///< 07777 at most
  std::uint64_t uid = 0;
  std::uint64_t gid = 0;
  std::uint64_t size_bytes = 0;  ///< of the file once unpacked (a sparse file's full length)
  std::int64_t mtime_s = 0;
  std::uint32_t mtime_ns = 0;  ///< 0 to 999999999
  std::uint32_t device_major = 0;
  std::uint32_t device_minor = 0;
  std::map<std::string, std::string> xattrs;
  std::vector<TarSegment> segments;  ///< of a sparse file
  bool is_sparse = false;
};

constexpr std::size_t tar_block_bytes = 512;

}  // namespace caisson::image
