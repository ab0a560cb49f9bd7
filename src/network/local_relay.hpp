// LocalRelay: what goes through one published port of [::1], TCP connections or UDP flows.
#pragma once

#include <array>
#include <cstdint>
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
};

std::unique_ptr<LocalRelay> relay_connections(EventLoop& loop, RelayPlace place);
std::unique_ptr<LocalRelay> relay_datagrams(EventLoop& loop, RelayPlace place);

}  // namespace caisson::network
