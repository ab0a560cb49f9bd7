// An incremental HTTP/1.x parser behind a plain interface, so that Boost.Beast stays in one translation unit.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "wire/http_server.hpp"

namespace caisson::wire {

/// Everything in front of the body.
struct MessageHead {
  std::string method;  ///< requests
  std::string target;  ///< requests: as sent
  int status = 0;      ///< answers
  int version = 11;    ///< 10 or 11
  Headers headers;
  bool keep_alive = true;
  bool has_body = false;
  std::optional<std::uint64_t> content_length;
};

/// First header of that name (case-insensitive), or "".
std::string_view find_header(const Headers& headers, std::string_view name);

/// Parses one message. Not thread-safe.
class MessageParser {
 public:
  virtual ~MessageParser() = default;
  /// Takes bytes from the front of `bytes` and appends what they held of the body to `body`; returns how many were taken. Stops
  /// behind the head once, and at the end of the message. What was not taken must be offered again, with more behind it.
  /// Errors: invalid; failure_status() then tells the HTTP status a server should answer with.
  virtual Result<std::size_t> take(std::string_view bytes, std::string& body) = 0;
  /// The sender closed its side. Errors: corrupt when the message is cut off.
  virtual Status finish() = 0;
  [[nodiscard]] virtual bool head_done() const = 0;
  [[nodiscard]] virtual bool done() const = 0;
  /// Precondition: head_done().
  [[nodiscard]] virtual const MessageHead& head() const = 0;
  [[nodiscard]] virtual int failure_status() const = 0;
};

/// Heads (and trailers, and chunk headers) beyond `max_header_bytes` are refused with 431 (400).
std::unique_ptr<MessageParser> create_request_parser(std::size_t max_header_bytes);
/// `to_head`: the answer to a HEAD request, which has no body whatever its headers say.
std::unique_ptr<MessageParser> create_response_parser(std::size_t max_header_bytes, bool to_head);

}  // namespace caisson::wire
