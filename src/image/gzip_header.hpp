// The header of a gzip member (RFC 1952, section 2.3), read from pieces of any size.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "base/result.hpp"

namespace caisson::image {

class GzipHeader {
 public:
  /// Takes what belongs to the header off `input`. True: it is whole. Errors: corrupt, in zlib's words.
  Result<bool> read(std::string_view& input);

 private:
  enum class Part : std::uint8_t { fixed, extra_size, extra, name, comment, check, whole };

  bool consume(std::string_view& input);
  bool collect(std::string_view& input, std::size_t bytes);
  Status finish();
  void begin_after(Part part);
  [[nodiscard]] unsigned collected_number() const { return collected_[0] | static_cast<unsigned>(collected_[1]) << 8U; }

  Part part_ = Part::fixed;
  std::array<unsigned char, 10> collected_{};
  std::size_t collected_bytes_ = 0;
  unsigned flags_ = 0;
  std::size_t extra_left_ = 0;
  std::uint32_t sum_ = 0;
};

}  // namespace caisson::image
