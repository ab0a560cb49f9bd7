// What server and exchange share about one accepted connection.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "wire/http_parser.hpp"
#include "wire/http_server.hpp"
#include "wire/stream.hpp"

namespace caisson::wire {

struct Connection {
  Connection(std::uint64_t connection_id, UniqueFd socket, Peer who) : id(connection_id), stream(std::move(socket)), peer(std::move(who)) {}

  std::uint64_t id;
  Stream stream;
  Peer peer;
  bool is_watched = false;  ///< known to the event loop, which one served at once and then closed never is
  std::string buffer;  ///< received, not yet consumed
  std::atomic<bool> streaming = false;  ///< a chunked answer has begun: stop() need not wait for its natural end
};

/// How a connection goes on after one exchange.
enum class Outcome : std::uint8_t { keep, close, linger, hijacked };

/// Takes the socket away from the connection and out of the event loop's reach, for hijack().
using Detach = std::function<Result<UniqueFd>(Connection&)>;

/// The same, with a codec behind it; the plain side is returned.
using DetachThrough = std::function<Result<UniqueFd>(Connection&, std::unique_ptr<Codec>)>;

/// "HTTP/1.1 503 Service Unavailable" with a JSON message, for refusals outside an exchange. Closes the connection.
std::string refusal(int status, std::string_view message);

/// Reads one request from `connection` and has it handled. Blocks. Runs on a pool thread.
Outcome serve_one(Connection& connection, const Handler& handler, const ServerOptions& options, const Detach& detach,
                  const DetachThrough& detach_through);

}  // namespace caisson::wire
