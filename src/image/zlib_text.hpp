// Data in zlib's own wrapping (RFC 1950), whole in memory: what some services serve in place of gzip.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace caisson::image {

/// True for the two bytes that begin such data.
bool is_zlib(std::string_view bytes);
/// Errors: corrupt (damaged, cut off, followed by more), unsupported (more than `limit_bytes` decompressed).
Result<std::string> inflate_zlib(std::string_view bytes, std::size_t limit_bytes);

}  // namespace caisson::image
