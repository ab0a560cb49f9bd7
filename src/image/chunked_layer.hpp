// chunked_layer: a layer's tar → the same tar as zstd:chunked, of which single files can be had by range.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "image/byte_source.hpp"
#include "image/layer_toc.hpp"

namespace caisson::image {

struct ChunkedLayer {
  TocPlace toc;
  std::uint64_t decoded_toc_bytes = 0;
  std::uint64_t blob_bytes = 0;
};

/// Reads all of `tar` (decoded) and gives the blob to `sink` in order: a zstd frame per piece of a file and per what lies between files, the table of contents
/// and a footer in frames that every zstd decoder skips. Decoded it is the same bytes, so the layer's diffID stays. The same tar gives the same blob, with one
/// version of libzstd and one of its levels. Errors: unsupported, naming the file (a sparse one: the format has no word for it; more names than a table may have); those of `tar` and `sink`.
Result<ChunkedLayer> write_chunked(ByteSource& tar, int level, const std::function<Status(std::string_view)>& sink);

/// What a manifest says about such a layer.
std::map<std::string, std::string> chunked_annotations(const ChunkedLayer& layer);

}  // namespace caisson::image
