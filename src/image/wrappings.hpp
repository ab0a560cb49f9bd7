// xz and bzip2: what people wrap archives in, and what layers never are.
#pragma once

#include <memory>
#include <string_view>

#include "image/byte_source.hpp"

namespace caisson::image {

/// Bytes that are enough for wrapping_of, and for detect_compression.
constexpr std::size_t wrapping_magic_bytes = 6;
/// "xz" or "bzip2" when `first_bytes` begin such a file, else "".
std::string_view wrapping_of(std::string_view first_bytes);

/// Takes one xz or bzip2 wrapping off; every other input passes through as it is. Only for archives that a user brings (load, import, ADD, cp):
/// a layer's media type knows plain, gzip and zstd (OCI image-spec, layer.md). Memory is fixed: an xz file that wants more than 128 MiB is refused.
/// `input` is borrowed. Errors: those of `input`; later from next(): corrupt, unavailable (memory), unsupported.
Result<std::unique_ptr<ByteSource>> unwrap(ByteSource& input);

}  // namespace caisson::image
