// Host ports held by bound sockets.
#include "network/port_reservations.hpp"

#include <algorithm>
#include <cerrno>

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"

namespace caisson::network {
namespace {

Result<UniqueFd> open_socket(Protocol protocol, bool is_v6) {
  const int family = is_v6 ? AF_INET6 : AF_INET;
  UniqueFd socket;
  switch (protocol) {
    case Protocol::tcp: socket = TRY_PLAIN(linux::socket(family, SOCK_STREAM)); break;
    case Protocol::udp: socket = TRY_PLAIN(linux::socket(family, SOCK_DGRAM)); break;
    case Protocol::sctp: socket = TRY_PLAIN(linux::socket(family, SOCK_STREAM, IPPROTO_SCTP)); break;
  }
  if (is_v6) TRY_PLAIN(linux::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, 1));
  return socket;
}

linux::SocketAddress socket_address(const HostAddresses& address, std::uint16_t port) {
  return address.ipv6 ? linux::SocketAddress::ipv6(address.ipv6->bytes(), port) : linux::SocketAddress::ipv4(address.ipv4.value_or(linux::Ipv4{}).value, port);
}

}  // namespace

Result<UniqueFd> bind_host_port(Protocol protocol, const linux::SocketAddress& where) {
  UniqueFd socket = TRY_PLAIN(open_socket(protocol, where.storage.ss_family == AF_INET6));
  Status bound = linux::bind(socket.get(), where);
  if (!bound && protocol == Protocol::tcp && bound.error().error_number() == EADDRINUSE) {
    // Connections of a server that has just ended may hold the port for a minute (TIME_WAIT); with SO_REUSEADDR they do
    // not count, a listener still does. Taken back at once, so that nobody can join us on the port.
    TRY_PLAIN(linux::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, 1));
    bound = linux::bind(socket.get(), where);
    if (bound) TRY_PLAIN(linux::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, 0));
  }
  if (!bound) return std::move(bound).error();
  return socket;
}

namespace {

/// Whether an address of both may be meant by one packet.
bool overlap(const HostAddresses& a, const HostAddresses& b) {
  if (a.ipv4 && b.ipv4) return a.ipv4 == b.ipv4 || a.ipv4->value == 0 || b.ipv4->value == 0;
  if (a.ipv6 && b.ipv6) return a.ipv6 == b.ipv6 || *a.ipv6 == linux::Ipv6{} || *b.ipv6 == linux::Ipv6{};
  return false;
}

/// One entry per family.
std::vector<HostAddresses> families_of(const HostAddresses& addresses) {
  std::vector<HostAddresses> families;
  if (addresses.ipv4) families.push_back({addresses.ipv4, std::nullopt});
  if (addresses.ipv6) families.push_back({std::nullopt, addresses.ipv6});
  return families;
}

}  // namespace

Result<HostAddresses> host_addresses(const PortBinding& binding, bool endpoint_has_ipv6) {
  HostAddresses addresses;
  if (binding.host_ip.empty()) {
    addresses.ipv4 = linux::Ipv4{};
    if (endpoint_has_ipv6) addresses.ipv6 = linux::Ipv6{};
    return addresses;
  }
  if (binding.host_ip.find(':') == std::string::npos) {
    addresses.ipv4 = TRY_PLAIN(linux::parse_ipv4(binding.host_ip));
    return addresses;
  }
  addresses.ipv6 = TRY_PLAIN(linux::parse_ipv6(binding.host_ip));
  if (is_forwarded(binding)) return HostAddresses{};
  if (!endpoint_has_ipv6)
    return Error(ErrorKind::unsupported, concat("publishing on the IPv6 address ", binding.host_ip, " is not supported: this network has IPv4 only"))
        .with_hint("publish on an IPv4 address, or use a network made with --ipv6");
  return addresses;
}

bool is_forwarded(const PortBinding& binding) {
  auto address = linux::parse_ipv6(binding.host_ip);
  return address && *address == linux::Ipv6{0, 1};
}

bool has_loopback_twin(const PortBinding& binding) {
  return binding.protocol != Protocol::sctp && (binding.host_ip.empty() || binding.host_ip == "::");
}

std::string host_endpoint_text(const PortBinding& binding) {
  if (binding.host_ip.find(':') != std::string::npos) return concat("[", binding.host_ip, "]:", binding.host_port);
  return concat(binding.host_ip.empty() ? "0.0.0.0" : binding.host_ip, ":", binding.host_port);
}

bool PortReservations::is_held(Protocol protocol, const HostAddresses& address, std::uint16_t port) const {
  return std::any_of(held_.begin(), held_.end(),
                     [&](const Held& held) { return held.protocol == protocol && held.port == port && overlap(held.address, address); });
}

/// Of the range that IANA leaves to everybody (RFC 6335); 0 when all are held.
std::uint16_t PortReservations::find_unheld(Protocol protocol, const HostAddresses& address) const {
  constexpr std::uint32_t first = 49152;
  for (std::uint32_t port = first; port <= 65535; ++port)
    if (!is_held(protocol, address, static_cast<std::uint16_t>(port))) return static_cast<std::uint16_t>(port);
  return 0;
}

Result<PortReservations::Held> PortReservations::bind_port(const PortBinding& binding, const HostAddresses& address, std::uint16_t port) const {
  PortBinding named = binding;
  named.host_port = port;
  if (address.ipv6 && named.host_ip.empty()) named.host_ip = "::";
  std::string where = concat("Bind for ", host_endpoint_text(named), " failed");
  if (port != 0 && is_held(binding.protocol, address, port)) return Error(ErrorKind::conflict, concat(where, ": port is already allocated"));
  Held held;
  held.protocol = binding.protocol;
  held.address = address;
  auto socket = bind_ ? bind_(binding.protocol, socket_address(address, port)) : bind_host_port(binding.protocol, socket_address(address, port));
  if (!socket) {
    const int number = socket.error().error_number();
    if (number == EPROTONOSUPPORT && binding.protocol == Protocol::sctp) {
      held.port = port != 0 ? port : find_unheld(binding.protocol, address);
      return held;
    }
    if (number == EADDRINUSE) return Error(ErrorKind::conflict, concat(where, ": address already in use"), number).with_hint("another program of this host uses the port; choose another host port");
    if (number == EACCES)
      return Error(ErrorKind::denied, concat(where, ": this port is for root"), number)
          .with_hint("sudo sysctl -w net.ipv4.ip_unprivileged_port_start=PORT gives ports from there on to everybody; or publish a port of 1024 and above");
    if (number == EADDRNOTAVAIL) return Error(ErrorKind::invalid, concat(where, ": this host has no such address"), number);
    return std::move(socket).error().in(where);
  }
  auto bound = TRY(linux::getsockname(socket->get()), where);
  held.port = bound.port();
  // Datagrams that no rule translates are not kept for a reader that never comes (the kernel rounds up to its minimum).
  if (!bind_ && binding.protocol == Protocol::udp) TRY_PLAIN(linux::setsockopt(socket->get(), SOL_SOCKET, SO_RCVBUF, 1));
  held.socket = std::move(*socket);
  return held;
}

/// The same port of every family, or of none.
Status PortReservations::hold(const std::string& owner, const PortBinding& binding, const HostAddresses& addresses, std::uint16_t port) {
  std::vector<Held> taken;
  for (const auto& family : families_of(addresses)) {
    auto held = bind_port(binding, family, port);
    if (!held) return std::move(held).error();
    held->owner = owner;
    port = held->port;
    taken.push_back(std::move(*held));
  }
  for (auto& held : taken) held_.push_back(std::move(held));
  return {};
}

Status PortReservations::reserve_one(const std::string& owner, PortBinding& binding, bool has_ipv6) {
  constexpr int most_attempts = 16;  // a port that the kernel chose for one family may be taken in the other
  const HostAddresses addresses = TRY(host_addresses(binding, has_ipv6), concat("port ", binding.container_port));
  const std::uint16_t last = std::max(binding.host_port, binding.host_port_last);
  std::uint32_t port = binding.host_port;
  Status held = hold(owner, binding, addresses, binding.host_port);
  for (int attempt = 1; !held && held.error().kind() == ErrorKind::conflict && port == 0 && attempt < most_attempts; ++attempt)
    held = hold(owner, binding, addresses, 0);
  while (!held && held.error().kind() == ErrorKind::conflict && port < last) held = hold(owner, binding, addresses, static_cast<std::uint16_t>(++port));
  if (!held) return held;
  binding.host_port = held_.back().port;
  binding.host_port_last = 0;
  return {};
}

Status PortReservations::reserve(const std::string& owner, std::vector<PortBinding>& bindings, bool has_ipv6) {
  std::vector<PortBinding> filled = bindings;
  const std::size_t before = held_.size();
  for (auto& binding : filled) {
    if (is_forwarded(binding)) continue;
    Status reserved = reserve_one(owner, binding, has_ipv6);
    if (!reserved) {
      held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(before), held_.end());
      return reserved;
    }
  }
  bindings = std::move(filled);
  return {};
}

Result<std::vector<PortReservations::HeldSocket>> PortReservations::sockets_of(const std::string& owner, const PortBinding& binding) const {
  constexpr int above_standard_streams = 3;
  const HostAddresses addresses = TRY_PLAIN(host_addresses(binding, true));
  std::vector<HeldSocket> out;
  for (const auto& held : held_) {
    const bool is_meant = (held.address.ipv4 && held.address.ipv4 == addresses.ipv4) || (held.address.ipv6 && held.address.ipv6 == addresses.ipv6);
    if (held.owner != owner || held.protocol != binding.protocol || held.port != binding.host_port || !held.socket || !is_meant) continue;
    out.push_back({held.address.ipv6.has_value(), TRY_PLAIN(linux::dup_at_least(held.socket.get(), above_standard_streams))});
  }
  return out;
}

Status PortReservations::set_shared(const std::string& owner, const PortBinding& binding, bool shared) {
  for (const auto& held : held_) {
    if (held.owner != owner || held.protocol != binding.protocol || held.port != binding.host_port || !held.address.ipv6 || !held.socket) continue;
    TRY(linux::setsockopt(held.socket.get(), SOL_SOCKET, SO_REUSEADDR, shared ? 1 : 0), host_endpoint_text(binding));
  }
  return {};
}

void PortReservations::release(const std::string& owner) {
  std::erase_if(held_, [&](const Held& held) { return held.owner == owner; });
}

}  // namespace caisson::network
