// Sockets of the embedded DNS inside network namespaces: those clients reach at 127.0.0.11, and those that ask upstream servers.
#pragma once

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "linux/socket.hpp"

namespace caisson::network {

struct DnsSockets {
  UniqueFd udp;
  UniqueFd tcp;  ///< listens; both are non-blocking
};
/// On ports of 127.0.0.11 in the namespace `netns_fd` (borrowed), where port 53 is led to them (linux::install_port_redirect). A thread of
/// its own enters the namespace and ends. Errors: unsupported, denied, by errno; nothing is left then.
Result<DnsSockets> open_dns_sockets(int netns_fd);

/// Makes sockets in other namespaces for one thread, which is at home in the namespace where this was created whenever no call runs: a
/// thread that stayed elsewhere would keep that namespace alive. Not thread-safe.
class SocketMaker {
 public:
  static Result<SocketMaker> create();
  /// Non-blocking. `netns_fd`: -1 for home. Errors: by errno; never a socket of another namespace.
  Result<UniqueFd> socket_in(int netns_fd, int family, int type);

 private:
  explicit SocketMaker(UniqueFd home) : home_(std::move(home)) {}
  Status go_home();
  UniqueFd home_;
  bool is_home_ = true;
};

}  // namespace caisson::network
