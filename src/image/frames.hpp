// Frames: how the store and its child processes cut their byte streams into messages.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace caisson::image {

/// A byte for the type, a little-endian u32 for the payload's length, the payload.
std::string make_frame(std::uint8_t type, std::string_view payload);

/// Takes frames apart as their bytes come in.
class FrameSplitter {
 public:
  using Visit = std::function<Status(std::uint8_t type, std::string_view payload)>;
  FrameSplitter(std::string_view peer, std::size_t most_payload_bytes) : peer_(peer), most_payload_bytes_(most_payload_bytes) {}
  /// Calls `visit` for every frame that is complete now. Errors: corrupt, naming the peer; what `visit` returns.
  Status add(std::string_view bytes, const Visit& visit);

 private:
  std::string peer_;
  std::size_t most_payload_bytes_;
  std::string pending_;
};

}  // namespace caisson::image
