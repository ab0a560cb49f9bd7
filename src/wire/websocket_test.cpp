// Websocket frames and handshakes: what RFC 6455 shows, in pieces of any size, and what must be refused.
#include "wire/websocket.hpp"

#include <gtest/gtest.h>

#include <tuple>

namespace caisson::wire {
namespace {

/// A client's frame; the mask is fixed, which no rule forbids a test.
std::string client_frame(int first, std::string_view payload) {
  constexpr unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
  std::string out(1, static_cast<char>(first));
  if (payload.size() < 126) {
    out += static_cast<char>(0x80 | payload.size());
  } else {
    out += static_cast<char>(0x80 | 126);
    out += static_cast<char>(payload.size() >> 8);
    out += static_cast<char>(payload.size() & 0xff);
  }
  out.append(reinterpret_cast<const char*>(mask), 4);
  for (std::size_t i = 0; i < payload.size(); ++i) out += static_cast<char>(static_cast<unsigned char>(payload[i]) ^ mask[i % 4]);
  return out;
}

/// What a reader makes of `bytes`, given in pieces of `piece`: data, replies, closed or refused.
std::tuple<std::string, std::string, std::string> read_in_pieces(std::string_view bytes, std::size_t piece) {
  WebSocketReader reader;
  std::string data;
  std::string replies;
  for (; !bytes.empty(); bytes.remove_prefix(std::min(piece, bytes.size())))
    if (!reader.take(bytes.substr(0, piece), data, replies).ok()) return {data, replies, "refused"};
  return {data, replies, reader.is_closed() ? "closed" : "open"};
}

TEST(WebSocket, the_rfcs_masked_hello_is_read) {
  // Section 5.7.
  const std::string hello = "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
  EXPECT_EQ(read_in_pieces(hello, 100), std::make_tuple("Hello", "", "open"));
  EXPECT_EQ(client_frame(0x81, "Hello"), hello);
}

TEST(WebSocket, pieces_of_any_size_mean_the_same) {
  const std::string long_text(70'000 / 2, 'x');
  const std::string bytes = client_frame(0x02, "one ") + client_frame(0x89, "ping") + client_frame(0x00, "two ") + client_frame(0x80, "three") +
                            client_frame(0x82, "") + client_frame(0x82, long_text) + client_frame(0x88, std::string("\x03\xe8", 2) + "bye") + "ignored";
  const auto whole = read_in_pieces(bytes, bytes.size());
  EXPECT_EQ(std::get<0>(whole), "one two three" + long_text);
  EXPECT_EQ(std::get<1>(whole), std::string("\x8a\x04ping\x88\x02\x03\xe8", 10));
  EXPECT_EQ(std::get<2>(whole), "closed");
  for (std::size_t piece : {1U, 2U, 3U, 7U, 1000U}) EXPECT_EQ(read_in_pieces(bytes, piece), whole) << piece;
}

TEST(WebSocket, what_breaks_the_protocol_is_refused) {
  const std::string unmasked("\x82\x01x", 3);
  for (const auto& bytes : {unmasked, client_frame(0xc2, "reserved bit"), client_frame(0x83, "unknown data"), client_frame(0x8b, "unknown control"),
                            client_frame(0x09, "ping in parts"), client_frame(0x89, std::string(126, 'x')), client_frame(0x80, "continues nothing"),
                            client_frame(0x02, "a") + client_frame(0x82, "b")})
    EXPECT_EQ(std::get<2>(read_in_pieces(bytes, 1)), "refused");
}

TEST(WebSocket, lengths_are_written_in_their_shortest_form) {
  for (auto [size, head] : {std::pair<std::size_t, std::string>{5, std::string("\x82\x05", 2)}, {126, std::string("\x82\x7e\x00\x7e", 4)}, {70000, std::string("\x82\x7f\0\0\0\0\0\x01\x11\x70", 10)}}) {
    std::string out;
    append_websocket_frame(out, WebSocketCode::binary, std::string(size, 'x'));
    EXPECT_TRUE(out.starts_with(head)) << size;
    EXPECT_EQ(out.size(), head.size() + size);
  }
}

}  // namespace
}  // namespace caisson::wire
