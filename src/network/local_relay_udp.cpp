// Relaying UDP: each client has a socket of its own towards the container, so that answers find their way back.
#include <algorithm>

#include "base/time.hpp"
#include "linux/event.hpp"
#include "linux/stream_socket.hpp"
#include "network/local_relay.hpp"

namespace caisson::network {
namespace {

constexpr std::size_t datagram_limit = 65535;
constexpr std::size_t flow_limit = 1024;                   // per port; a new client then takes the place of the one silent for longest
constexpr std::int64_t silence_limit_ns = 90'000'000'000;  // docker-proxy's
constexpr int datagrams_per_turn = 32;

class UdpRelay : public LocalRelay {
 public:
  UdpRelay(EventLoop& loop, RelayPlace place) : loop_(loop), place_(std::move(place)) {
    loop_.begin_watch(place_.watch, place_.socket.get(), EPOLLIN, [this](std::uint32_t) { read_clients(); });
  }
  UdpRelay(const UdpRelay&) = delete;
  UdpRelay& operator=(const UdpRelay&) = delete;
  ~UdpRelay() override {
    while (!flows_.empty()) close(flows_.begin()->first);
    loop_.unwatch(place_.watch);
  }

 private:
  struct Flow {
    linux::SocketAddress client;
    UniqueFd socket;  ///< connected to the target
    std::uint64_t watch = 0;
    std::uint64_t timer = 0;
    std::int64_t last_ns = 0;
  };

  void read_clients();
  Result<Flow*> flow_of(const linux::SocketAddress& client);
  void read_target(const std::string& name);
  void end_when_silent(const std::string& name, Flow& flow);
  void close(const std::string& name);

  EventLoop& loop_;
  RelayPlace place_;
  std::map<std::string, Flow> flows_;  ///< by the client's address and port
  std::string buffer_ = std::string(datagram_limit, '\0');
};

// What cannot be sent on is lost, as datagrams are when a queue is full or nobody listens.

void UdpRelay::read_clients() {
  for (int i = 0; i < datagrams_per_turn; ++i) {
    auto datagram = linux::receive_datagram(place_.socket.get(), buffer_);
    if (!datagram || !*datagram) return;
    if (place_.admits && !place_.admits((*datagram)->from)) continue;
    auto flow = flow_of((*datagram)->from);
    if (!flow) continue;
    (*flow)->last_ns = monotonic_ns();
    ignore(linux::send((*flow)->socket.get(), std::string_view(buffer_).substr(0, (*datagram)->size), MSG_DONTWAIT));
  }
}

Result<UdpRelay::Flow*> UdpRelay::flow_of(const linux::SocketAddress& client) {
  const std::string name = client.text();
  auto found = flows_.find(name);
  if (found != flows_.end()) return &found->second;
  if (flows_.size() >= flow_limit)
    close(std::min_element(flows_.begin(), flows_.end(), [](const auto& a, const auto& b) { return a.second.last_ns < b.second.last_ns; })->first);
  Flow flow;
  flow.client = client;
  flow.socket = TRY_PLAIN(linux::socket(place_.target.storage.ss_family, SOCK_DGRAM | SOCK_NONBLOCK));
  if (place_.keeps_source) ignore(speak_as(flow.socket.get(), client, place_.target));  // else the target sees an address of ours
  TRY_PLAIN(linux::connect(flow.socket.get(), place_.target));
  flow.watch = TRY_PLAIN(loop_.watch(flow.socket.get(), EPOLLIN, [this, name](std::uint32_t) { read_target(name); }));
  flow.last_ns = monotonic_ns();
  Flow& kept = flows_.emplace(name, std::move(flow)).first->second;
  end_when_silent(name, kept);
  return &kept;
}

void UdpRelay::read_target(const std::string& name) {
  Flow& flow = flows_.at(name);
  for (int i = 0; i < datagrams_per_turn; ++i) {
    auto size = linux::receive_now(flow.socket.get(), buffer_);
    if (!size || !*size) return;  // an error is the target's "nobody listens" to one datagram
    flow.last_ns = monotonic_ns();
    ignore(linux::send_datagram(place_.socket.get(), std::string_view(buffer_).substr(0, **size), flow.client));
  }
}

/// One timer per flow, set anew only when it fires: datagrams do not touch it.
void UdpRelay::end_when_silent(const std::string& name, Flow& flow) {
  flow.timer = loop_.at(flow.last_ns + silence_limit_ns, [this, name] {
    Flow& quiet = flows_.at(name);
    if (monotonic_ns() - quiet.last_ns >= silence_limit_ns) close(name);
    else end_when_silent(name, quiet);
  });
}

void UdpRelay::close(const std::string& name) {
  auto entry = flows_.extract(name);
  if (entry.empty()) return;
  loop_.cancel(entry.mapped().timer);
  loop_.unwatch(entry.mapped().watch);
}

}  // namespace

std::unique_ptr<LocalRelay> relay_datagrams(EventLoop& loop, RelayPlace place) { return std::make_unique<UdpRelay>(loop, std::move(place)); }

}  // namespace caisson::network
