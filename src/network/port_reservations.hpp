// PortReservations: host ports held by bound sockets, so that nothing else on the host takes a published port.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "linux/rtnetlink.hpp"
#include "network/network.hpp"

namespace caisson::network {

/// The addresses of the host a binding is for; the zero address of a family stands for all of it.
struct HostAddresses {
  std::optional<linux::Ipv4> ipv4;
  std::optional<linux::Ipv6> ipv6;
};
/// "": of every family the endpoint has; of "::1" none, because a LocalForwarder serves it. Errors: invalid (no address), unsupported (an IPv6
/// address for an endpoint without IPv6).
Result<HostAddresses> host_addresses(const PortBinding& binding, bool endpoint_has_ipv6);
/// Binds without listening: a program that wants the port gets EADDRINUSE, and a connection that no rule translates is refused by the kernel instead
/// of waiting in a backlog nobody serves. Errors: those of socket(2) and bind(2).
Result<UniqueFd> bind_host_port(Protocol protocol, const linux::SocketAddress& where);
/// Whether a forwarder serves it instead of the table: "::1".
bool is_forwarded(const PortBinding& binding);
/// Whether a forwarder serves [::1] beside the table, which cannot: every address ("") and every one of IPv6 ("::"). SCTP has no forwarder.
bool has_loopback_twin(const PortBinding& binding);
/// "0.0.0.0:8080", "[::1]:8080".
std::string host_endpoint_text(const PortBinding& binding);

/// Not thread-safe; the manager's lock guards it.
class PortReservations {
 public:
  using Bind = std::function<Result<UniqueFd>(Protocol, const linux::SocketAddress&)>;
  /// `bind`: instead of bind_host_port(), where our network namespace is not the host's.
  explicit PortReservations(Bind bind = {}) : bind_(std::move(bind)) {}

  /// Reserves all bindings for `owner` or none, but for forwarded ones; fills in host ports that were free to choose.
  /// Errors: conflict ("Bind for 0.0.0.0:8080 failed: port is already allocated" when another owner has it, "… address already
  /// in use" when a program of the host has it), invalid (an address this host does not have), denied (a low port).
  /// `has_ipv6`: the endpoint they lead to has an address of that family too.
  Status reserve(const std::string& owner, std::vector<PortBinding>& bindings, bool has_ipv6);
  /// While shared, a forwarder may bind [::1] beside a socket of `owner` that holds [::]; so may any program that sets SO_REUSEADDR, so take
  /// it back at once. What listens by then stays.
  Status set_shared(const std::string& owner, const PortBinding& binding, bool shared);
  /// Nothing happens when the owner has none.
  void release(const std::string& owner);
  /// Duplicates of the sockets that hold a reserved binding, to be served: at most one of each family.
  struct HeldSocket {
    bool is_v6 = false;
    UniqueFd socket;
  };
  [[nodiscard]] Result<std::vector<HeldSocket>> sockets_of(const std::string& owner, const PortBinding& binding) const;
  [[nodiscard]] std::size_t count() const { return held_.size(); }

 private:
  struct Held {
    std::string owner;
    Protocol protocol = Protocol::tcp;
    HostAddresses address;  ///< one of the two
    std::uint16_t port = 0;
    UniqueFd socket;  ///< none where this kernel has no sockets of the protocol, so that nobody else can take the port either
  };
  [[nodiscard]] bool is_held(Protocol protocol, const HostAddresses& address, std::uint16_t port) const;
  [[nodiscard]] std::uint16_t find_unheld(Protocol protocol, const HostAddresses& address) const;
  Status reserve_one(const std::string& owner, PortBinding& binding, bool has_ipv6);
  Status hold(const std::string& owner, const PortBinding& binding, const HostAddresses& addresses, std::uint16_t port);
  Result<Held> bind_port(const PortBinding& binding, const HostAddresses& address, std::uint16_t port) const;
  const Bind bind_;
  std::vector<Held> held_;
};

}  // namespace caisson::network
