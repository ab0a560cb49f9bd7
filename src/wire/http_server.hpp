// HTTP/1.1 server: pool threads watch all connections together; a request is handled synchronously by the thread that it woke.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/cancel.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "wire/tls.hpp"

namespace caisson::wire {

using Headers = std::vector<std::pair<std::string, std::string>>;

/// The common name in a peer's certificate, known once the handshake is over. Thread-safe.
class PeerName {
 public:
  void set(std::string name) {
    std::lock_guard lock(mutex_);
    name_ = std::move(name);
  }
  [[nodiscard]] std::string text() const {
    std::lock_guard lock(mutex_);
    return name_;
  }

 private:
  mutable std::mutex mutex_;
  std::string name_;
};

/// Who is at the other end.
struct Peer {
  bool is_unix = true;
  uid_t uid = 0;  ///< SO_PEERCRED; unix sockets only
  gid_t gid = 0;
  std::vector<gid_t> groups;  ///< supplementary; unix sockets only
  pid_t pid = 0;        ///< 0: not in our PID namespace
  UniqueFd pidfd;       ///< of the process that connected, so that its number cannot come to mean another; none when it has ended
  std::string address;  ///< "127.0.0.1:4711" for TCP
  bool is_verified = false;  ///< by a TLS certificate; TCP only
  std::shared_ptr<const PeerName> certificate;  ///< of whoever `is_verified`. Shared with the connection's codec, which learns it
};

/// A connection that left HTTP: the handler owns the socket now. `pending` was received behind the request already.
struct Hijacked {
  UniqueFd socket;
  std::string pending;
  std::shared_ptr<Pump> pump;  ///< clients: what carries the socket's bytes through TLS; keep it as long as the socket. Shared with the client
};

/// One request and its answer. Used by one thread, except that begin() and write() may run in a second one while the first
/// is in read_body_some() (an upload that reports its progress). All writes block with back-pressure and fail with `io` when the client is gone.
class Exchange {
 public:
  virtual ~Exchange() = default;

  // request
  [[nodiscard]] virtual const std::string& method() const = 0;
  [[nodiscard]] virtual const std::string& path() const = 0;  ///< percent-decoded per segment is the router's work: this is raw
  [[nodiscard]] virtual const std::string& query() const = 0;  ///< raw, without '?'
  /// First header of that name (case-insensitive), or "".
  [[nodiscard]] virtual std::string_view header(std::string_view name) const = 0;
  [[nodiscard]] virtual const Peer& peer() const = 0;
  /// The whole body. Errors: invalid when longer than `limit_bytes` ("request body too large"), io.
  virtual Result<std::string> read_body(std::size_t limit_bytes) = 0;
  /// Next piece of the body ("" at its end), for streams such as image load. Errors: io, invalid (broken chunking).
  virtual Result<std::string> read_body_some() = 0;
  /// Becomes readable when the client hangs up (its half of the connection is enough), and for nothing else: bytes that still
  /// come do not count. Valid as long as the exchange.
  [[nodiscard]] virtual Cancel cancel() const = 0;

  // answer: either respond(), or begin() + write()… + end(), or hijack()
  virtual Status respond(int status, const Headers& headers, std::string_view body) = 0;
  /// Answers with `size_bytes` of an open file from `offset` on, which the kernel sends by itself (sendfile; SIGPIPE must be ignored). The file's
  /// position moves. Errors: io, corrupt (the file is shorter).
  virtual Status respond_file(int status, const Headers& headers, int file, std::uint64_t offset, std::uint64_t size_bytes) = 0;
  /// Sends the head at once (flushed) with chunked encoding (HTTP/1.0 clients: until close).
  virtual Status begin(int status, const Headers& headers) = 0;
  virtual Status write(std::string_view bytes) = 0;
  virtual Status end() = 0;
  /// Sends exactly `head` and takes the socket (in blocking mode) out of the server. Read the request's body first: what is
  /// left of it comes raw in `pending`. Sockets without TLS are given as they are; of the others, the plain side that a Pump serves.
  virtual Result<Hijacked> hijack(std::string_view head) = 0;
  /// The same, with every byte behind `head` going through `codec`. Returns the plain side.
  virtual Result<UniqueFd> hijack_through(std::string_view head, std::unique_ptr<Codec> codec) = 0;
  [[nodiscard]] virtual bool answered() const = 0;  ///< head sent or hijacked
};

using Handler = std::function<void(Exchange&)>;

struct ServerOptions {
  std::size_t max_threads = 1024;        ///< concurrent requests, streams included; further ones get 503
  std::size_t max_connections = 4096;
  std::size_t max_header_bytes = 64 << 10;
  int header_timeout_ms = 30'000;        ///< slow requests are cut, idle keep-alive connections are not
  int idle_thread_ms = 10'000;           ///< pool threads beyond one end after this
};

class Server {
 public:
  virtual ~Server() = default;
  /// Serves `listener` (listening, non-blocking or not; owned from now on).
  virtual Status add_listener(UniqueFd listener) = 0;
  /// The same, for clients that speak TLS.
  virtual Status add_tls_listener(UniqueFd listener, TlsContext context) = 0;
  /// Until stop(); returns when all handlers have returned or `grace_ms` after stop().
  virtual Status run() = 0;
  virtual void stop(int grace_ms) = 0;  ///< thread-safe, async-signal-safe not required
};
std::unique_ptr<Server> create_server(Handler handler, const ServerOptions& options);

/// A listening unix socket at `path`: bound to a temporary name, mode set, then renamed over a stale one; parent directories are
/// made 0711. Errors: conflict when something answers there already.
Result<UniqueFd> listen_unix(const std::string& path, mode_t mode, std::optional<gid_t> group);
/// "127.0.0.1:2375", "[::1]:0". Errors: invalid, conflict (address in use), denied.
Result<UniqueFd> listen_tcp(const std::string& address);
/// Sockets handed over by a service manager (sd_listen_fds(3): LISTEN_PID, LISTEN_FDS, descriptors from 3 on). Empty when there are
/// none for the process `own_pid`. Takes the variables out of the environment, so it must run before threads do. Errors: invalid.
Result<std::vector<UniqueFd>> inherited_listeners(pid_t own_pid);

/// "a=b&c=%20+d" → pairs in order; '+' is a space. Broken escapes stay as they are.
std::vector<std::pair<std::string, std::string>> parse_query(std::string_view query);
std::string percent_decode(std::string_view text);  ///< for path segments: '+' stays
std::string percent_encode(std::string_view text);

}  // namespace caisson::wire
