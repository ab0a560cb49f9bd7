// The server's half of RFC 6455: the answer to a handshake, frames, and the codec between a websocket and a byte stream.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "wire/http_server.hpp"
#include "wire/pump.hpp"

namespace caisson::wire {

enum class WebSocketCode : std::uint8_t { continuation = 0, text = 1, binary = 2, close = 8, ping = 9, pong = 10 };

/// Checks that `exchange` asks for a websocket (section 4.2.1) and returns the head to answer with (4.2.2), up to the empty line; `headers`
/// go into it. Errors: invalid, naming what is missing.
Result<std::string> websocket_head(const Exchange& exchange, const Headers& headers);

/// One unmasked frame, as a server sends them (5.1).
void append_websocket_frame(std::string& out, WebSocketCode code, std::string_view payload);

/// Takes a client's frames apart, in pieces of any size.
class WebSocketReader {
 public:
  /// Consumes all of `bytes`: the payload of data frames is appended to `data`, answers to pings and a close to `replies`. Errors: invalid:
  /// a frame that breaks the protocol; the connection must then be closed (7.1.7).
  Status take(std::string_view bytes, std::string& data, std::string& replies);
  /// The client has said its last frame.
  [[nodiscard]] bool is_closed() const { return closed_; }

 private:
  Status read_header();
  void end_control(std::string& replies);

  std::string header_;
  WebSocketCode code_ = WebSocketCode::continuation;
  std::uint64_t left_ = 0;       ///< of the payload under way
  std::uint64_t offset_ = 0;     ///< in it, for the mask
  unsigned char mask_[4] = {};
  bool in_payload_ = false;
  bool in_message_ = false;      ///< a data message is not at its end: only continuations and control frames may come
  bool closed_ = false;
  std::string control_;
};

/// Data frames carry the stream's bytes, out in frames of `code`.
std::unique_ptr<Codec> create_websocket_codec(WebSocketCode code);

}  // namespace caisson::wire
