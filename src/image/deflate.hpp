// Compression to gzip, streaming with fixed memory.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace caisson::image {

class Deflater {
 public:
  virtual ~Deflater() = default;
  /// Errors: those of writing to `out_fd`; internal.
  virtual Status write(std::string_view piece, int out_fd) = 0;
  /// Once, at the end.
  virtual Status finish(int out_fd) = 0;
};

/// `level`: zlib's, 1 to 9. `extra`: the header's extra field (RFC 1952, 2.3.1.1), whole subfields; "": none. Errors: io (no memory).
Result<std::unique_ptr<Deflater>> open_gzip_deflater(int level, std::string extra);

}  // namespace caisson::image
