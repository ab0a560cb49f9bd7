// TarWriter: deterministic tar archives: ustar headers, PAX records only where ustar cannot say it.
#pragma once

#include <functional>
#include <string_view>

#include "base/result.hpp"
#include "image/tar.hpp"

namespace caisson::image {

/// The same calls give the same bytes. `sink` takes all bytes in order; its errors come back unchanged.
class TarWriter {
 public:
  using Sink = std::function<Status(std::string_view)>;
  explicit TarWriter(Sink sink) : sink_(std::move(sink)) {}

  /// Ends the last entry and begins another; then write() must be given exactly entry.size_bytes bytes, or for a sparse file what its
  /// segments cover, in order (written in PAX format 1.0, which Go, GNU tar, libarchive and we read).
  /// Errors: internal when the last entry is incomplete; those of the sink.
  Status begin(const TarEntry& entry);
  Status write(std::string_view bytes);
  /// An entry whose contents are at hand.
  Status add(const TarEntry& entry, std::string_view contents);
  /// The end marker; nothing may follow.
  Status finish();

 private:
  Status end_entry();
  Status write_extension(std::string records);
  Sink sink_;
  std::uint64_t left_ = 0;
  std::uint64_t padding_ = 0;
};

}  // namespace caisson::image
