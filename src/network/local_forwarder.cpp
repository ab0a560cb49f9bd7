// The ports of the LocalForwarder: bound by whoever asks, served by one thread.
#include "network/local_forwarder.hpp"

#include <algorithm>
#include <cerrno>
#include <map>
#include <vector>

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "network/event_loop.hpp"
#include "network/local_relay.hpp"

namespace caisson::network {
namespace {

Result<UniqueFd> bind_loopback(int type, std::uint16_t port) {
  UniqueFd socket = TRY_PLAIN(linux::socket(AF_INET6, type | SOCK_NONBLOCK));
  // Beside a socket that only reserves [::]:port, and in spite of connections that linger after their end.
  TRY_PLAIN(linux::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, 1));
  TRY_PLAIN(linux::bind(socket.get(), TRY_PLAIN(linux::SocketAddress::parse("::1", port))));
  // So that nobody joins us: a listening socket allows no other anyway, and its connections must inherit the option to allow the next one.
  if (type == SOCK_STREAM) TRY_PLAIN(linux::listen(socket.get()));
  else TRY_PLAIN(linux::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, 0));
  return socket;
}

/// As the errors of PortReservations, because callers of Docker's API read them.
Error bind_error(Error error, const PortBinding& binding) {
  const std::string where = concat("Bind for [::1]:", binding.host_port, " failed");
  const int number = error.error_number();
  if (number == EADDRINUSE) return Error(ErrorKind::conflict, concat(where, ": port is already allocated"), number);
  if (number == EADDRNOTAVAIL || number == EAFNOSUPPORT)
    return Error(ErrorKind::unsupported, concat(where, ": this host has no IPv6 loopback address"), number);
  return std::move(error).in(where);
}

class ThreadedLocalForwarder : public LocalForwarder {
 public:
  ThreadedLocalForwarder(std::unique_ptr<EventLoop> loop, BindLoopback bind) : loop_(std::move(loop)), bind_(std::move(bind)) {}
  ThreadedLocalForwarder(const ThreadedLocalForwarder&) = delete;
  ThreadedLocalForwarder& operator=(const ThreadedLocalForwarder&) = delete;
  /// The thread first: then nobody else uses what it used.
  ~ThreadedLocalForwarder() override { loop_->stop(); }

  Result<std::uint16_t> add(const std::string& owner, const PortBinding& binding, const linux::SocketAddress& target) override {
    const bool is_tcp = binding.protocol == Protocol::tcp;
    auto socket = bind_ ? bind_(binding.protocol, binding.host_port) : bind_loopback(is_tcp ? SOCK_STREAM : SOCK_DGRAM, binding.host_port);
    if (!socket) return bind_error(std::move(socket).error(), binding);
    const std::uint16_t port = TRY_PLAIN(linux::getsockname(socket->get())).port();
    RelayPlace place;
    place.socket = std::move(*socket);
    place.target = target;
    if (bind_) TRY_PLAIN(relay(owner, binding.protocol, std::move(place)));
    else TRY_PLAIN(begin(owner, is_tcp, std::move(place)));
    return port;
  }

  Status relay(const std::string& owner, Protocol protocol, RelayPlace place) override {
    if (protocol == Protocol::sctp) return Error(ErrorKind::unsupported, "ports of sctp cannot be relayed");
    TRY_PLAIN(linux::set_nonblocking(place.socket.get(), true));
    if (protocol == Protocol::tcp) {
      // Connections must inherit it, or those that linger after their end (TIME_WAIT) would keep the port from the next daemon; who listens shares
      // it with nobody all the same.
      TRY_PLAIN(linux::setsockopt(place.socket.get(), SOL_SOCKET, SO_REUSEADDR, 1));
      TRY_PLAIN(linux::listen(place.socket.get()));
    }
    return begin(owner, protocol == Protocol::tcp, std::move(place));
  }

  Status remove(const std::string& owner) override {
    const auto erase = [this, owner] { relays_.erase(owner); };
    auto erased = loop_->post_and_wait(erase);
    // A thread that has ended leaves the ports bound; the next work starts it anew.
    return erased ? std::move(erased) : loop_->post_and_wait(erase);
  }

 private:
  Status begin(const std::string& owner, bool is_tcp, RelayPlace given) {
    // Shared, because what is posted must be copyable; the loop alone uses it.
    auto place = std::make_shared<RelayPlace>(std::move(given));
    place->watch = TRY_PLAIN(loop_->reserve_watch(place->socket.get()));
    return loop_->post([this, owner, place, is_tcp] {
      relays_[owner].push_back(is_tcp ? relay_connections(*loop_, std::move(*place)) : relay_datagrams(*loop_, std::move(*place)));
    });
  }

  std::unique_ptr<EventLoop> loop_;
  const BindLoopback bind_;
  std::map<std::string, std::vector<std::unique_ptr<LocalRelay>>> relays_;  // of the loop's thread
};

}  // namespace

Result<std::unique_ptr<LocalForwarder>> LocalForwarder::create(BindLoopback bind) {
  auto loop = TRY(EventLoop::create("local-ports"), "starting the forwarder of published ports");
  return std::unique_ptr<LocalForwarder>(std::make_unique<ThreadedLocalForwarder>(std::move(loop), std::move(bind)));
}

}  // namespace caisson::network
