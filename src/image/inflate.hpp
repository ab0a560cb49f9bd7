// Decompression of layers and archives: the format is told by the first bytes, never by a name or a media type.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "image/byte_source.hpp"

namespace caisson::image {

enum class Compression : std::uint8_t { none, gzip, zstd };

std::string_view to_string(Compression compression);

/// Bytes that are enough for detect_compression.
constexpr std::size_t compression_magic_bytes = 4;
Compression detect_compression(std::string_view first_bytes);

/// A source that yields the decoded bytes of `input` (borrowed). Concatenated gzip members and zstd frames, skippable
/// frames and zero padding behind gzip are legal; anything else behind the end is an error.
class Inflater : public ByteSource {
 public:
  [[nodiscard]] virtual Compression compression() const = 0;
};

/// Looks at the first bytes of `input` to choose. Errors: those of `input`; unsupported (bzip2, xz: named in the text);
/// later from next(): corrupt.
Result<std::unique_ptr<Inflater>> open_inflater(ByteSource& input);

}  // namespace caisson::image
