// compress: a layer's tar → the same tar as gzip or zstd, in pieces that several threads make at once.
#pragma once

#include <cstddef>
#include <functional>
#include <string_view>

#include "base/result.hpp"
#include "image/byte_source.hpp"
#include "image/layer_form.hpp"

namespace caisson::image {

struct CompressionJob {
  LayerForm form = LayerForm::gzip;  ///< not zstd_chunked: chunked_layer.hpp
  int level = 0;
  std::size_t threads = 1;  ///< this one is among them
};

/// What one thread compresses at a time, and one gzip member or zstd frame holds.
std::size_t piece_bytes_of(LayerForm form);

/// Reads all of `tar` and gives the compressed bytes to `sink`, in order and from this thread. They depend on the tar, the form, the level and the library's
/// version, and on nothing else: not on the number of threads, on time, or on how `tar` is cut. Memory: some four pieces per thread.
/// Errors: unavailable (no memory); those of `tar` and `sink`.
Status write_compressed(ByteSource& tar, const CompressionJob& job, const std::function<Status(std::string_view)>& sink);

}  // namespace caisson::image
