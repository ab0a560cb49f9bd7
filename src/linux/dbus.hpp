// A D-Bus client that can do what the systemd cgroup driver needs: connect, call a method, wait for a signal.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "linux/dbus_message.hpp"

namespace caisson::linux {

/// One connection to a bus, or directly to a peer. Not thread-safe.
class DbusConnection {
 public:
  enum class Peer : std::uint8_t {
    bus,     ///< a message bus: says Hello first, and needs add_match for signals
    direct,  ///< the other side is the service itself (systemd's private socket)
  };
  /// Authenticates with our own ids (SASL EXTERNAL). `timeout_ms` is for everything done on this connection from now on.
  /// Errors: not_found, unavailable (nobody listens), denied, timeout, corrupt.
  static Result<DbusConnection> connect(const std::string& socket_path, Peer peer, int timeout_ms);
  /// The same on a connected stream socket, which is made non-blocking.
  static Result<DbusConnection> adopt(UniqueFd socket, Peer peer, int timeout_ms);

  DbusConnection(DbusConnection&&) noexcept = default;
  DbusConnection& operator=(DbusConnection&&) noexcept = default;

  /// Sends a method call (its serial is set here) and returns the reply. Signals that come meanwhile are kept for wait_signal.
  /// Errors: what the peer answered, "NAME: text" with the kind of the well-known names; unavailable when it hangs up.
  Result<DbusMessage> call(DbusMessage message);
  /// Asks a bus to send us signals; does nothing on a direct connection, which gets them all.
  Status add_match(const std::string& rule);
  /// The first signal for which `wanted` is true, of those kept or of those still to come; others are dropped.
  Result<DbusMessage> wait_signal(const std::function<bool(const DbusMessage&)>& wanted);

 private:
  DbusConnection(UniqueFd socket, Peer peer, std::int64_t deadline_ns)
      : socket_(std::move(socket)), peer_(peer), deadline_ns_(deadline_ns) {}
  Status authenticate();
  Status send(std::string_view bytes);
  /// At least one byte more in buffer_.
  Status receive_more();
  Result<std::string> receive_line();
  Result<DbusMessage> receive();

  UniqueFd socket_;
  Peer peer_;
  std::int64_t deadline_ns_;
  std::uint32_t serial_ = 0;
  std::string buffer_;  ///< received, not yet taken
  std::deque<DbusMessage> signals_;
};

}  // namespace caisson::linux
