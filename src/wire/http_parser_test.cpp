// Tests of the incremental parser alone: where the pieces are cut must not matter.
#include <gtest/gtest.h>

#include <string>

#include "wire/http_parser.hpp"

namespace caisson::wire {
namespace {

// Offers `bytes` in steps of `piece`; "refused" or the body.
std::string read_in_pieces(std::string_view bytes, std::size_t piece) {
  auto parser = create_request_parser(4096);
  std::string body;
  std::size_t offered = piece;
  while (!parser->done()) {
    offered = std::min(offered, bytes.size());
    auto taken = parser->take(bytes.substr(0, offered), body);
    if (!taken.ok()) return "refused";
    bytes.remove_prefix(*taken);
    if (*taken > 0)
      offered = piece;
    else if (offered < bytes.size())
      offered += piece;
    else if (!parser->done())
      return "cut off";
  }
  return body;
}

TEST(http_parser, chunks_may_be_cut_anywhere) {
  const std::string_view message = "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
  for (std::size_t piece = 1; piece <= message.size(); ++piece) EXPECT_EQ(read_in_pieces(message, piece), "abcd") << piece;
}

TEST(http_parser, a_broken_trailer_is_refused_however_it_is_cut) {
  const std::string_view message = "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nabc\r0\r\n\r\n";
  for (std::size_t piece = 1; piece <= message.size(); ++piece) EXPECT_EQ(read_in_pieces(message, piece), "refused") << piece;
}

}  // namespace
}  // namespace caisson::wire
