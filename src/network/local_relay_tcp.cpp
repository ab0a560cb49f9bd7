// Relaying TCP connections: bytes both ways, the end of each direction by itself, and no more memory than one buffer per direction.
#include <netinet/tcp.h>

#include <algorithm>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/event.hpp"
#include "linux/stream_socket.hpp"
#include "network/local_relay.hpp"

namespace caisson::network {
namespace {

constexpr std::size_t buffer_bytes = 65536;
constexpr std::size_t connection_limit = 1024;  // per port; more of them wait in the backlog
constexpr std::int64_t accept_pause_ns = 100'000'000;

class TcpRelay : public LocalRelay {
 public:
  TcpRelay(EventLoop& loop, RelayPlace place) : loop_(loop), place_(std::move(place)) {
    loop_.begin_watch(place_.watch, place_.socket.get(), EPOLLIN, [this](std::uint32_t) { accept(); });
  }
  TcpRelay(const TcpRelay&) = delete;
  TcpRelay& operator=(const TcpRelay&) = delete;
  ~TcpRelay() override {
    loop_.cancel(accept_timer_);
    while (!connections_.empty()) close(connections_.begin()->first);
    loop_.unwatch(place_.watch);
  }

 private:
  /// One end of a connection. What it has sent and the other end has not taken yet is `held`; nothing more is read until that is gone.
  struct End {
    UniqueFd socket;
    std::uint64_t watch = 0;
    std::string held;
    bool has_ended = false;    ///< it sends no more
    bool is_told = false;      ///< the other end knows that
  };
  struct Connection {
    End client;
    End target;
    bool is_connecting = true;
  };

  void accept();
  void pause_accepting();
  Status open(UniqueFd client);
  void on_ready(std::uint64_t number, std::uint32_t events);
  /// Errors: the connection is broken and to be closed.
  Status move_bytes(End& from, End& to);
  void watch_for_more(Connection& connection);
  void close(std::uint64_t number);

  EventLoop& loop_;
  RelayPlace place_;
  std::map<std::uint64_t, Connection> connections_;
  std::uint64_t next_number_ = 1;
  std::uint64_t accept_timer_ = 0;
  std::string buffer_ = std::string(buffer_bytes, '\0');
};

void TcpRelay::accept() {
  while (connections_.size() < connection_limit) {
    auto accepted = linux::accept_connection(place_.socket.get());
    if (!accepted) return pause_accepting();
    if (!*accepted) return;
    ignore(open(std::move(**accepted)));  // the target cannot be reached: the client sees its connection closed
  }
  loop_.change(place_.watch, 0);  // until one of them ends
}

/// Descriptors are short: whoever waits is looked at again a little later, instead of at every turn of the loop.
void TcpRelay::pause_accepting() {
  loop_.change(place_.watch, 0);
  loop_.cancel(accept_timer_);
  accept_timer_ = loop_.at(monotonic_ns() + accept_pause_ns, [this] { loop_.change(place_.watch, EPOLLIN); });
}

Status TcpRelay::open(UniqueFd client) {
  UniqueFd target = TRY_PLAIN(linux::socket(place_.target.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK));
  TRY_PLAIN(linux::setsockopt(target.get(), IPPROTO_TCP, TCP_NODELAY, 1));
  if (place_.admits || place_.keeps_source) {
    const auto from = TRY_PLAIN(linux::getpeername(client.get()));
    if (place_.admits && !place_.admits(from)) return Error(ErrorKind::denied, concat("connection of ", from.text()));
    if (place_.keeps_source) ignore(speak_as(target.get(), from, place_.target));  // else the target sees ours
  }
  for (const int fd : {client.get(), target.get()}) TRY_PLAIN(linux::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, 1));
  Status connected = linux::connect(target.get(), place_.target);
  if (!connected && !linux::connect_in_progress(connected.error())) return connected;
  const std::uint64_t number = next_number_++;
  Connection connection;
  connection.client.watch = TRY_PLAIN(loop_.watch(client.get(), 0, [this, number](std::uint32_t events) { on_ready(number, events); }));
  auto target_watch = loop_.watch(target.get(), EPOLLOUT, [this, number](std::uint32_t events) { on_ready(number, events); });
  if (!target_watch) {
    loop_.unwatch(connection.client.watch);
    return std::move(target_watch).error();
  }
  connection.target.watch = *target_watch;
  connection.client.socket = std::move(client);
  connection.target.socket = std::move(target);
  connections_.emplace(number, std::move(connection));
  return {};
}

void TcpRelay::on_ready(std::uint64_t number, std::uint32_t events) {
  Connection& connection = connections_.at(number);
  // A reset, or both directions at their end. What was sent before a reset is lost in any TCP.
  if ((events & EPOLLERR) != 0) return close(number);
  if (connection.is_connecting) {
    if ((events & EPOLLHUP) != 0) return close(number);  // the client did not wait
    if (!linux::socket_error(connection.target.socket.get())) return close(number);
    connection.is_connecting = false;
  }
  Status moved = move_bytes(connection.client, connection.target);
  if (moved) moved = move_bytes(connection.target, connection.client);
  const bool is_over = connection.client.is_told && connection.target.is_told;
  if (!moved || is_over) return close(number);
  watch_for_more(connection);
}

Status TcpRelay::move_bytes(End& from, End& to) {
  if (from.held.empty() && !from.has_ended) {
    auto size = TRY_PLAIN(linux::receive_now(from.socket.get(), buffer_));
    if (size) from.held.assign(buffer_, 0, *size);
    from.has_ended = size && *size == 0;
  }
  if (!from.held.empty()) {
    const std::array<std::string_view, 1> pieces{from.held};
    auto sent = TRY_PLAIN(linux::send_now(to.socket.get(), pieces));
    from.held.erase(0, sent.value_or(0));
  }
  if (from.has_ended && from.held.empty() && !from.is_told) {
    TRY_PLAIN(linux::shutdown(to.socket.get(), SHUT_WR));
    from.is_told = true;
  }
  return {};
}

void TcpRelay::watch_for_more(Connection& connection) {
  // An end that is through in both directions is reported as hung up for ever; what it has left is the other end's to take.
  auto let_go = [this](End& own, const End& other) {
    if (!own.has_ended || !other.is_told) return;
    loop_.unwatch(own.watch);
    own.watch = 0;
  };
  let_go(connection.client, connection.target);
  let_go(connection.target, connection.client);
  auto events = [](const End& own, const End& other) {
    const bool may_read = own.held.empty() && !own.has_ended;
    return (may_read ? EPOLLIN : 0U) | (other.held.empty() ? 0U : EPOLLOUT);
  };
  loop_.change(connection.client.watch, events(connection.client, connection.target));
  loop_.change(connection.target.watch, events(connection.target, connection.client));
}

void TcpRelay::close(std::uint64_t number) {
  auto entry = connections_.extract(number);
  if (entry.empty()) return;
  loop_.unwatch(entry.mapped().client.watch);
  loop_.unwatch(entry.mapped().target.watch);
  loop_.change(place_.watch, EPOLLIN);
}

}  // namespace

std::unique_ptr<LocalRelay> relay_connections(EventLoop& loop, RelayPlace place) { return std::make_unique<TcpRelay>(loop, std::move(place)); }

}  // namespace caisson::network
