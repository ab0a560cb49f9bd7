// Stream sockets as servers and clients use them, on top of socket.hpp: listening safely, connecting in time, moving what is possible now.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace caisson::linux {

/// A numeric IP address and a port.
struct IpEndpoint {
  std::string address;  ///< "127.0.0.1" or "::1"
  std::uint16_t port = 0;
};
/// "127.0.0.1:2375", "[::1]:0". Names are not resolved here. Errors: invalid.
Result<IpEndpoint> parse_ip_endpoint(std::string_view text);
/// "127.0.0.1:80", "[::1]:80".
std::string to_string(const IpEndpoint& endpoint);

struct UnixListenOptions {
  mode_t mode = 0600;
  std::optional<gid_t> group;
  mode_t parent_mode = 0711;  ///< of parent directories that are missing
};
/// A listening unix stream socket at `path`. It is bound under a temporary name, gets mode and group, and only then takes the
/// name, so nobody ever reaches it with wider rights; a stale socket is replaced. Paths longer than sun_path work.
/// Privilege: CAP_CHOWN for a group the caller is not in. Errors: conflict when something answers at `path` already, or when
/// `path` is no socket.
Result<UniqueFd> listen_unix_socket(const std::string& path, const UnixListenOptions& options);
/// Errors: not_found (no such file), unavailable (nobody listens, or the backlog is full for `timeout_ms`), denied.
Result<UniqueFd> connect_unix_socket(const std::string& path, int timeout_ms);

/// Port 0 lets the kernel choose; local_endpoint() tells. SO_REUSEADDR is set. Errors: conflict (address in use), denied.
Result<UniqueFd> listen_tcp_socket(const IpEndpoint& endpoint);
/// TCP_NODELAY is set. Errors: unavailable (refused, unreachable), timeout.
Result<UniqueFd> connect_tcp_socket(const IpEndpoint& endpoint, int timeout_ms);

/// The next waiting connection (blocking, close-on-exec, TCP_NODELAY where it applies), or none when nobody waits.
/// The listener must be non-blocking. Errors: unavailable when descriptors or memory are short.
Result<std::optional<UniqueFd>> accept_connection(int listener);

/// Bytes that were written and that the peer of a unix socket has not read yet; of a TCP socket those that its machine has not confirmed (SIOCOUTQ).
Result<std::size_t> unread_bytes(int fd);

/// False for anything but a unix socket.
bool is_unix_socket(int fd);
/// Errors: invalid for a socket that is not TCP.
Result<IpEndpoint> local_endpoint(int fd);
Result<IpEndpoint> peer_endpoint(int fd);

/// Reads what is there now: a count, 0 at the end of the stream, none when nothing is there yet (whatever the socket's mode).
Result<std::optional<std::size_t>> receive_now(int fd, std::span<char> into);
/// Writes what fits now, from all pieces in order: a count, or none when nothing fits. Raises no SIGPIPE; a peer that is
/// gone is an `io` error with EPIPE or ECONNRESET.
Result<std::optional<std::size_t>> send_now(int fd, std::span<const std::string_view> pieces);

}  // namespace caisson::linux
