// Host ports held by bound sockets.
#include "network/port_reservations.hpp"

#include <algorithm>
#include <cerrno>

#include "base/strings.hpp"
#include "linux/socket.hpp"

namespace caisson::network {
namespace {

/// Binds without listening: a program that wants the port gets EADDRINUSE, and a connection that no rule translates is
/// refused by the kernel instead of waiting in a backlog nobody serves.
Result<UniqueFd> bind_socket(Protocol protocol, linux::Ipv4 address, std::uint16_t port) {
  const bool is_tcp = protocol == Protocol::tcp;
  UniqueFd socket = TRY_PLAIN(linux::socket(AF_INET, is_tcp ? SOCK_STREAM : SOCK_DGRAM));
  auto where = linux::SocketAddress::ipv4(address.value, port);
  Status bound = linux::bind(socket.get(), where);
  if (!bound && is_tcp && bound.error().error_number() == EADDRINUSE) {
    // Connections of a server that has just ended may hold the port for a minute (TIME_WAIT); with SO_REUSEADDR they do
    // not count, a listener still does. Taken back at once, so that nobody can join us on the port.
    TRY_PLAIN(linux::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, 1));
    bound = linux::bind(socket.get(), where);
    if (bound) TRY_PLAIN(linux::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, 0));
  }
  if (!bound) return std::move(bound).error();
  // Datagrams that no rule translates are not kept for a reader that never comes (the kernel rounds up to its minimum).
  if (!is_tcp) TRY_PLAIN(linux::setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUF, 1));
  return socket;
}

}  // namespace

Result<linux::Ipv4> host_address(const PortBinding& binding) {
  if (binding.host_ip.empty()) return linux::Ipv4{};
  if (binding.host_ip.find(':') != std::string::npos)
    return Error(ErrorKind::unsupported, concat("publishing on the IPv6 address ", binding.host_ip, " is not supported: this network has IPv4 only"))
        .with_hint("publish on an IPv4 address, or leave the address out");
  return linux::parse_ipv4(binding.host_ip);
}

std::string host_endpoint_text(const PortBinding& binding) {
  return concat(binding.host_ip.empty() ? "0.0.0.0" : binding.host_ip, ":", binding.host_port);
}

bool PortReservations::is_held(Protocol protocol, linux::Ipv4 address, std::uint16_t port) const {
  return std::any_of(held_.begin(), held_.end(), [&](const Held& held) {
    return held.protocol == protocol && held.port == port && (held.address == address || held.address.value == 0 || address.value == 0);
  });
}

Result<PortReservations::Held> PortReservations::bind_port(const PortBinding& binding, linux::Ipv4 address, std::uint16_t port) const {
  PortBinding named = binding;
  named.host_port = port;
  std::string where = concat("Bind for ", host_endpoint_text(named), " failed");
  if (port != 0 && is_held(binding.protocol, address, port)) return Error(ErrorKind::conflict, concat(where, ": port is already allocated"));
  auto socket = bind_socket(binding.protocol, address, port);
  if (!socket) {
    int number = socket.error().error_number();
    if (number == EADDRINUSE) return Error(ErrorKind::conflict, concat(where, ": address already in use"), number).with_hint("another program of this host uses the port; choose another host port");
    if (number == EADDRNOTAVAIL) return Error(ErrorKind::invalid, concat(where, ": this host has no such address"), number);
    return std::move(socket).error().in(where);
  }
  auto bound = TRY(linux::getsockname(socket->get()), where);
  Held held;
  held.protocol = binding.protocol;
  held.address = address;
  held.port = bound.port();
  held.socket = std::move(*socket);
  return held;
}

Status PortReservations::reserve_one(const std::string& owner, PortBinding& binding) {
  linux::Ipv4 address = TRY(host_address(binding), concat("port ", binding.container_port));
  const std::uint16_t last = std::max(binding.host_port, binding.host_port_last);
  std::uint32_t port = binding.host_port;
  auto held = bind_port(binding, address, binding.host_port);
  while (!held && held.error().kind() == ErrorKind::conflict && port < last) held = bind_port(binding, address, static_cast<std::uint16_t>(++port));
  if (!held) return std::move(held).error();
  held->owner = owner;
  binding.host_port = held->port;
  binding.host_port_last = 0;
  held_.push_back(std::move(*held));
  return {};
}

Status PortReservations::reserve(const std::string& owner, std::vector<PortBinding>& bindings) {
  std::vector<PortBinding> filled = bindings;
  const std::size_t before = held_.size();
  for (auto& binding : filled) {
    Status reserved = reserve_one(owner, binding);
    if (!reserved) {
      held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(before), held_.end());
      return reserved;
    }
  }
  bindings = std::move(filled);
  return {};
}

void PortReservations::release(const std::string& owner) {
  std::erase_if(held_, [&](const Held& held) { return held.owner == owner; });
}

}  // namespace caisson::network
