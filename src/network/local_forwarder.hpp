// LocalForwarder: published ports on [::1]. The kernel cannot translate packets from ::1 (DNAT of them is refused or times out), so this one
// address is served by a forwarder inside the daemon. Without root it serves all of them, by sockets that were bound on the host.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/result.hpp"
#include "linux/socket.hpp"
#include "network/local_relay.hpp"
#include "network/network.hpp"

namespace caisson::network {

/// Thread-safe; one thread forwards for all ports. Connections end with the daemon: a client of [::1] notices a restart, others do not.
class LocalForwarder {
 public:
  /// A socket of [::1]:PORT (0: a free one), bound on the host. Empty: in our own network namespace.
  using BindLoopback = std::function<Result<UniqueFd>(Protocol protocol, std::uint16_t port)>;
  static Result<std::unique_ptr<LocalForwarder>> create(BindLoopback bind = {});
  virtual ~LocalForwarder() = default;

  /// Listens on [::1]:host_port (0: a free one) and leads to `target` (the container's address and port, IPv4 or IPv6). Returns the port.
  /// `binding.host_ip` is for error texts only. A socket that reserves [::]:host_port may exist when it was bound with SO_REUSEADDR and
  /// does not listen. Errors: conflict (the port is taken on ::1), unsupported (this host has no IPv6 loopback).
  virtual Result<std::uint16_t> add(const std::string& owner, const PortBinding& binding, const linux::SocketAddress& target) = 0;
  /// Serves a bound socket of TCP or UDP, which listens from now on. `place.watch` is not looked at.
  virtual Status relay(const std::string& owner, Protocol protocol, RelayPlace place) = 0;
  /// Ports, connections and UDP flows of `owner` (a container's id) end. The ports are free when this returns. Safe to repeat.
  virtual Status remove(const std::string& owner) = 0;
};

}  // namespace caisson::network
