// One client connection as bytes: reads with a deadline, writes with back-pressure. Of a TLS connection it is the plain side (pump.hpp).
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace caisson::wire {

inline constexpr std::int64_t no_deadline = 0;

/// Owns the socket, which stays in blocking mode (the mode is shared with whoever gets it by hijack); waiting is done by poll.
class Stream {
 public:
  explicit Stream(UniqueFd socket) : socket_(std::move(socket)) {}

  [[nodiscard]] int fd() const { return socket_.get(); }

  /// Appends up to `most` bytes; returns how many, 0 at the end. `deadline_ns` is on the monotonic clock. Errors: timeout, io.
  Result<std::size_t> read_some(std::string& into, std::size_t most, std::int64_t deadline_ns);
  /// Writes all pieces in order; blocks as long as the peer is there and does not read. Errors: io.
  Status write_all(std::initializer_list<std::string_view> pieces);
  /// The same, but gives up at once when the peer's window is full.
  void write_or_drop(std::string_view bytes);
  /// Lets the peer read an answer although its request was not read to the end: ends our side, then throws away what
  /// still comes, for a moment; the caller closes. Without this, close() makes TCP reset the connection and the answer may be lost (RFC 9112, 9.6).
  void linger();

  UniqueFd release() { return std::move(socket_); }

 private:
  UniqueFd socket_;
};

/// Stream::read_some on a socket that somebody else owns.
Result<std::size_t> receive_by(int socket, std::string& into, std::int64_t deadline_ns, std::size_t most = 16 << 10);

/// Monotonic deadline `timeout_ms` from now.
std::int64_t deadline_after(int timeout_ms);

}  // namespace caisson::wire
