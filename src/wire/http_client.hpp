// A small blocking HTTP/1.1 client for local sockets: what the command line speaks to the daemon with.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "wire/http_server.hpp"

namespace caisson::wire {

struct ClientResponse {
  int status = 0;
  Headers headers;
  [[nodiscard]] std::string_view header(std::string_view name) const;
};

/// One keep-alive connection. Not thread-safe.
class Client {
 public:
  virtual ~Client() = default;
  /// Sends a request with a whole body; finish() reads the answer's head. Between the two the caller may talk to other connections.
  virtual Status begin(std::string_view method, std::string_view target, const Headers& headers, std::string_view body) = 0;
  virtual Result<ClientResponse> finish() = 0;
  /// Both in one.
  Result<ClientResponse> send(std::string_view method, std::string_view target, const Headers& headers, std::string_view body) {
    TRY_PLAIN(begin(method, target, headers, body));
    return finish();
  }
  /// Sends the head, then the body as chunks from `source_fd` until its end, then reads the answer's head.
  virtual Result<ClientResponse> send_stream(std::string_view method, std::string_view target, const Headers& headers, int source_fd) = 0;
  /// Next piece of the answer's body; "" at the end. Errors: io, corrupt.
  virtual Result<std::string> read_some() = 0;
  /// Everything that is left. Errors: invalid beyond `limit_bytes`.
  virtual Result<std::string> read_all(std::size_t limit_bytes = 64 << 20) = 0;
  /// After a 101 (or an endless 200): the raw socket and what was read beyond the head.
  virtual Hijacked release() = 0;
  /// The connection's socket, for poll.
  [[nodiscard]] virtual int fd() const = 0;
};

/// "unix:///run/caisson.sock" or "tcp://host:port" ("http://…" too). With `tls`, TCP speaks it ("https://…" demands it). Errors: not_found (no
/// socket file), unavailable (nobody listens), denied (also: a certificate that is not accepted).
Result<std::unique_ptr<Client>> connect(const std::string& endpoint, int timeout_ms, const TlsContext* tls = nullptr);

/// A client over a stream socket that is connected already (a tunnel). `host`: what the Host header says.
std::unique_ptr<Client> client_over(UniqueFd socket, std::string host);

/// Addresses of `host` from /etc/hosts, numeric ones as they are. A static glibc cannot load the resolver's plug-ins, so names that
/// only DNS knows are refused with a hint. Errors: not_found.
Result<std::vector<std::string>> addresses_of(std::string_view host);

}  // namespace caisson::wire
