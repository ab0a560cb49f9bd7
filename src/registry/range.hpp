// Byte ranges: "Range" of downloads (RFC 9110, 14.2) and "Content-Range" of chunks (distribution specification). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace caisson::registry {

/// First and last byte, both included.
struct ByteRange {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  bool operator==(const ByteRange&) const = default;
  [[nodiscard]] std::uint64_t size_bytes() const { return last - first + 1; }
};

enum class RangeVerdict : std::uint8_t {
  whole,          ///< no range, or one that may be ignored: malformed, another unit, several
  part,
  unsatisfiable,  ///< 416
};
struct RangeRequest {
  RangeVerdict verdict = RangeVerdict::whole;
  ByteRange range;  ///< of part: within the file
};
/// `header`: "bytes=0-99", "bytes=100-", "bytes=-5", or "".
RangeRequest parse_range(std::string_view header, std::uint64_t size_bytes);

/// "0-99", also "bytes 0-99/1000" as some clients have it. None when it is malformed.
std::optional<ByteRange> parse_chunk_range(std::string_view header);

}  // namespace caisson::registry
