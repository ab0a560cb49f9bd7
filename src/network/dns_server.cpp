// The DnsServer: one thread for all containers, and the servers they may ask.
#include "network/dns_server.hpp"

#include <algorithm>
#include <map>

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "network/dns_container.hpp"
#include "network/dns_sockets.hpp"
#include "network/event_loop.hpp"

namespace caisson::network {
namespace {

constexpr std::uint16_t dns_port = 53;

bool is_loopback(const linux::SocketAddress& address) {
  const std::string text = address.text();
  return text.starts_with("127.") || text.starts_with("[::1]");
}

class ThreadedDnsServer : public DnsServer {
 public:
  ThreadedDnsServer(std::unique_ptr<EventLoop> loop, NameSource& names, SocketMaker sockets)
      : loop_(std::move(loop)), thread_{*loop_, names, std::move(sockets)} {}
  ThreadedDnsServer(const ThreadedDnsServer&) = delete;
  ThreadedDnsServer& operator=(const ThreadedDnsServer&) = delete;
  /// The thread first: then nobody else uses what it used.
  ~ThreadedDnsServer() override { loop_->stop(); }

  Status serve(const std::string& container_id, int netns_fd, DnsConfig config) override {
    // Shared, because what is posted must be copyable; the loop alone uses it.
    auto place = std::make_shared<DnsPlace>();
    place->container_id = container_id;
    place->netns = TRY(linux::dup(netns_fd), "DNS at 127.0.0.11");
    place->sockets = TRY_PLAIN(open_dns_sockets(netns_fd));
    place->udp_watch = TRY_PLAIN(loop_->reserve_watch(place->sockets.udp.get()));
    place->tcp_watch = TRY_PLAIN(loop_->reserve_watch(place->sockets.tcp.get()));
    return loop_->post([this, place, config = std::move(config)] {
      const std::string id = place->container_id;
      containers_.erase(id);
      containers_.emplace(id, std::make_unique<DnsContainer>(thread_, std::move(*place), config));
    });
  }

  Status update(const std::string& container_id, DnsConfig config) override {
    return loop_->post([this, container_id, config = std::move(config)] {
      auto found = containers_.find(container_id);
      if (found != containers_.end()) found->second->update(config);
    });
  }

  Status forget(const std::string& container_id) override {
    return loop_->post([this, container_id] { containers_.erase(container_id); });
  }

 private:
  std::unique_ptr<EventLoop> loop_;
  DnsThread thread_;                                                  // of the loop's thread
  std::map<std::string, std::unique_ptr<DnsContainer>> containers_;  // of the loop's thread
};

}  // namespace

Result<std::unique_ptr<DnsServer>> DnsServer::create(NameSource& names) {
  SocketMaker sockets = TRY_PLAIN(SocketMaker::create());
  auto loop = TRY(EventLoop::create("dns"), "starting the DNS server");
  return std::unique_ptr<DnsServer>(std::make_unique<ThreadedDnsServer>(std::move(loop), names, std::move(sockets)));
}

std::vector<DnsUpstream> host_upstreams(std::string_view resolv_conf) {
  std::vector<DnsUpstream> upstreams;
  for (auto line : split(resolv_conf, '\n')) {
    line = trim(line);
    const auto blank = line.find_first_of(" \t");
    if (blank == std::string_view::npos || line.substr(0, blank) != "nameserver") continue;
    auto address = linux::SocketAddress::parse(trim(line.substr(blank)), dns_port);
    if (!address) continue;
    DnsUpstream upstream;
    upstream.address = *address;
    upstream.from_host = is_loopback(*address);
    upstreams.push_back(upstream);
  }
  return upstreams;
}

Result<std::vector<DnsUpstream>> container_upstreams(const std::vector<std::string>& addresses) {
  std::vector<DnsUpstream> upstreams;
  for (const auto& text : addresses) {
    DnsUpstream upstream;
    upstream.address = TRY(linux::SocketAddress::parse(text, dns_port), "DNS server");
    if (upstream.address.text() == linux::SocketAddress::ipv4(dns_address.value, dns_port).text()) continue;  // that is us: we would ask ourselves
    upstreams.push_back(upstream);
  }
  return upstreams;
}

}  // namespace caisson::network
