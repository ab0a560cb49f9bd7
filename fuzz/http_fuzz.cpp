// Fuzzes the HTTP parser, as a server and as a client: reading byte by byte must end where reading at once ends.
#include <string>

#include "base/strings.hpp"
#include "fuzz/fuzz.hpp"
#include "wire/http_parser.hpp"

namespace {

// What a connection would have understood: the heads and bodies of pipelined messages, then how it ended.
std::string read_all(std::string_view bytes, std::size_t piece_bytes, bool as_server) {
  using namespace caisson;
  std::string told;
  for (int message = 0; message < 8; ++message) {
    auto parser = as_server ? wire::create_request_parser(4096) : wire::create_response_parser(4096, false);
    std::string body;
    std::size_t offered = std::min(piece_bytes, bytes.size());
    while (!parser->done()) {
      auto taken = parser->take(bytes.substr(0, offered), body);
      if (!taken.ok()) return told + "refused";
      fuzz::demand(*taken <= offered, "no byte is taken that was not offered");
      bytes.remove_prefix(*taken);
      if (*taken > 0 || parser->done()) {
        offered = std::min(std::max<std::size_t>(offered - *taken, piece_bytes), bytes.size());
        if (!bytes.empty() || parser->done()) continue;
      } else if (offered < bytes.size()) {
        offered = std::min(offered + piece_bytes, bytes.size());
        continue;
      }
      return told + (parser->finish().ok() && parser->done() ? "end" : "cut off");
    }
    told += concat(parser->head().method, " ", parser->head().target, " ", parser->head().status, " ", body.size(), "\n");
    if (bytes.empty()) break;
  }
  return told;
}

// Refused and cut off are both failures: which of the two a broken message is may depend on where it was cut.
bool is_accepted(std::string_view told) { return !told.ends_with("refused") && !told.ends_with("cut off"); }

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  bool as_server = data[0] % 2 == 0;
  std::string_view bytes = caisson::fuzz::text_of(data + 1, size - 1);
  std::string whole = read_all(bytes, size, as_server);
  std::string split = read_all(bytes, 1, as_server);
  caisson::fuzz::demand(is_accepted(whole) == is_accepted(split), "pieces do not change the verdict");
  return 0;
}
