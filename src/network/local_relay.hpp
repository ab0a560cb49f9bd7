// LocalRelay: what goes through one published port of [::1], TCP connections or UDP flows.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/unique_fd.hpp"
#include "linux/socket.hpp"
#include "network/event_loop.hpp"

namespace caisson::network {

/// On the loop's thread only, from its first to its last moment.
class LocalRelay {
 public:
  virtual ~LocalRelay() = default;
};

/// A bound socket and where it leads.
struct RelayPlace {
  UniqueFd socket;  ///< non-blocking; TCP: listens
  std::uint64_t watch = 0;  ///< EventLoop::reserve_watch
  linux::SocketAddress target;
  bool keeps_source = false;  ///< the target sees the client's own address (speak_as)
  std::function<bool(const linux::SocketAddress&)> admits;  ///< clients that it is for; empty: everybody
};

/// The marks by which packets of a relay that speaks under its clients' addresses are known: on its sockets, and on the answers, which are routed to
/// ourselves (firewall.cpp, linux::add_local_delivery).
constexpr std::uint32_t relay_mark = 0xca150001;
constexpr std::uint32_t answer_mark = 0xca150002;
constexpr std::uint8_t answer_table = 202;

/// Makes a socket that is not connected yet speak under a client's address: with its port, or with another one when that is taken. Loopback addresses
/// are left alone, for no answer comes back to them, as are clients of another family than the target. Privilege: CAP_NET_ADMIN in the network
/// namespace. Errors: denied, io; then the target sees an address of ours.
Status speak_as(int socket, const linux::SocketAddress& client, const linux::SocketAddress& target);

std::unique_ptr<LocalRelay> relay_connections(EventLoop& loop, RelayPlace place);
std::unique_ptr<LocalRelay> relay_datagrams(EventLoop& loop, RelayPlace place);

}  // namespace caisson::network
