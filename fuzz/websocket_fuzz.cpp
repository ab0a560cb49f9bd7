// Fuzzes the reader of a client's websocket frames: reading byte by byte must mean what reading at once means.
#include <string>
#include <tuple>

#include "fuzz/fuzz.hpp"
#include "wire/websocket.hpp"

namespace {
std::tuple<std::string, std::string, bool, bool> read_all(std::string_view bytes, std::size_t piece) {
  caisson::wire::WebSocketReader reader;
  std::string data;
  std::string replies;
  for (; !bytes.empty(); bytes.remove_prefix(std::min(piece, bytes.size())))
    if (!reader.take(bytes.substr(0, piece), data, replies).ok()) return {data, replies, reader.is_closed(), false};
  return {data, replies, reader.is_closed(), true};
}
}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = caisson::fuzz::text_of(data, size);
  caisson::fuzz::demand(read_all(bytes, size == 0 ? 1 : size) == read_all(bytes, 1), "pieces do not matter");
  return 0;
}
