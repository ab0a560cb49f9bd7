// ByteSource: where parsers pull their bytes from (memory, a descriptor, another source's decoded output).
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "base/result.hpp"

namespace caisson::image {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// The next bytes, as a view into the source's own buffer, valid until the next call. Empty: the end. A source never
  /// copies what its owner can read in place; that is what keeps unpacking at one pass over memory.
  virtual Result<std::string_view> next() = 0;
};

/// Gives out one text, in pieces of at most `piece_bytes` (tests and fuzzing use small ones).
class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(std::string_view bytes, std::size_t piece_bytes = 1 << 18) : rest_(bytes), piece_bytes_(piece_bytes) {}
  Result<std::string_view> next() override {
    auto piece = rest_.substr(0, piece_bytes_);
    rest_.remove_prefix(piece.size());
    return piece;
  }

 private:
  std::string_view rest_;
  std::size_t piece_bytes_;
};

}  // namespace caisson::image
