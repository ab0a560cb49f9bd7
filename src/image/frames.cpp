// Building frames and taking them apart.
#include "image/frames.hpp"

#include "base/strings.hpp"

namespace caisson::image {

namespace {
constexpr std::size_t header_bytes = 5;
}

std::string make_frame(std::uint8_t type, std::string_view payload) {
  std::string frame;
  frame.reserve(header_bytes + payload.size());
  frame += static_cast<char>(type);
  for (unsigned shift = 0; shift < 32; shift += 8) frame += static_cast<char>(payload.size() >> shift & 0xFF);
  frame += payload;
  return frame;
}

Status FrameSplitter::add(std::string_view bytes, const Visit& visit) {
  pending_ += bytes;
  std::size_t at = 0;
  while (pending_.size() - at >= header_bytes) {
    std::size_t length = 0;
    for (std::size_t i = 0; i < 4; ++i) length |= static_cast<std::size_t>(static_cast<unsigned char>(pending_[at + 1 + i])) << (8 * i);
    if (length > most_payload_bytes_) return Error(ErrorKind::corrupt, concat(peer_, " sent a message that is too long"));
    if (pending_.size() - at < header_bytes + length) break;
    auto type = static_cast<std::uint8_t>(pending_[at]);
    TRY_PLAIN(visit(type, std::string_view(pending_).substr(at + header_bytes, length)));
    at += header_bytes + length;
  }
  pending_.erase(0, at);
  return {};
}

}  // namespace caisson::image
