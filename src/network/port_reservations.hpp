// PortReservations: host ports held by bound sockets, so that nothing else on the host takes a published port.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "linux/rtnetlink.hpp"
#include "network/network.hpp"

namespace caisson::network {

/// Which address a binding is for; "" and "0.0.0.0" are all. Errors: invalid, unsupported (IPv6).
Result<linux::Ipv4> host_address(const PortBinding& binding);
/// "0.0.0.0:8080".
std::string host_endpoint_text(const PortBinding& binding);

/// Not thread-safe; the manager's lock guards it.
class PortReservations {
 public:
  /// Reserves all bindings for `owner` or none; fills in host ports that were free to choose.
  /// Errors: conflict ("Bind for 0.0.0.0:8080 failed: port is already allocated" when another owner has it, "… address already
  /// in use" when a program of the host has it), invalid (an address this host does not have), denied (a low port).
  Status reserve(const std::string& owner, std::vector<PortBinding>& bindings);
  /// Nothing happens when the owner has none.
  void release(const std::string& owner);
  [[nodiscard]] std::size_t count() const { return held_.size(); }

 private:
  struct Held {
    std::string owner;
    Protocol protocol = Protocol::tcp;
    linux::Ipv4 address;  ///< 0: all
    std::uint16_t port = 0;
    UniqueFd socket;
  };
  [[nodiscard]] bool is_held(Protocol protocol, linux::Ipv4 address, std::uint16_t port) const;
  Status reserve_one(const std::string& owner, PortBinding& binding);
  Result<Held> bind_port(const PortBinding& binding, linux::Ipv4 address, std::uint16_t port) const;
  std::vector<Held> held_;
};

}  // namespace caisson::network
