// Relaying under the client's address: a transparent socket (IP_TRANSPARENT, ip(7)) whose answers a mark brings back to us.
#include <cerrno>
#include <cstring>

#include "network/local_relay.hpp"

namespace caisson::network {

namespace {
bool is_loopback(const linux::SocketAddress& address) {
  if (address.storage.ss_family == AF_INET) {
    struct ::sockaddr_in native {};
    std::memcpy(&native, &address.storage, sizeof native);
    constexpr std::uint32_t loopback_net = 127;
    return ntohl(native.sin_addr.s_addr) >> 24U == loopback_net;
  }
  struct ::sockaddr_in6 native {};
  std::memcpy(&native, &address.storage, sizeof native);
  return IN6_IS_ADDR_LOOPBACK(&native.sin6_addr) || IN6_IS_ADDR_LINKLOCAL(&native.sin6_addr);  // a link's address means another link here
}

linux::SocketAddress without_port(linux::SocketAddress address) {
  // The port lies at the same place in both families (sockaddr_in, sockaddr_in6).
  struct ::sockaddr_in native {};
  std::memcpy(&native, &address.storage, sizeof native);
  native.sin_port = 0;
  std::memcpy(&address.storage, &native, sizeof native);
  return address;
}
}  // namespace

Status speak_as(int socket, const linux::SocketAddress& client, const linux::SocketAddress& target) {
  if (client.storage.ss_family != target.storage.ss_family || is_loopback(client)) return {};
  const bool is_v6 = client.storage.ss_family == AF_INET6;
  constexpr int ipv6_transparent = 75;  // linux/in6.h, which glibc's netinet/in.h does not go with
  TRY_PLAIN(linux::setsockopt(socket, is_v6 ? IPPROTO_IPV6 : IPPROTO_IP, is_v6 ? ipv6_transparent : IP_TRANSPARENT, 1));
  TRY_PLAIN(linux::setsockopt(socket, SOL_SOCKET, SO_MARK, static_cast<int>(relay_mark)));
  TRY_PLAIN(linux::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, 1));  // a client may use one port towards several of ours
  Status bound = linux::bind(socket, client);
  if (!bound && bound.error().error_number() == EADDRINUSE) bound = linux::bind(socket, without_port(client));
  return bound;
}

}  // namespace caisson::network
