// Tests of the network manager in a host of its own: a fresh network namespace with a second "outside" host beside it.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <optional>
#include <thread>

#include "base/ids.hpp"
#include "base/strings.hpp"
#include "linux/fault.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/rtnetlink.hpp"
#include "linux/socket.hpp"
#include "linux/spawn.hpp"
#include "network/bridge.hpp"
#include "network/network.hpp"
#include "state/store.hpp"

namespace caisson::network {
namespace {

using testing::HasSubstr;

/// Runs `body` on a thread that has entered `netns_fd`.
template <typename Body>
auto inside(int netns_fd, Body body) -> decltype(body()) {
  decltype(body()) result{};
  std::thread([&] {
    if (::setns(netns_fd, CLONE_NEWNET) == 0) result = body();
  }).join();
  return result;
}

UniqueFd new_netns() {
  UniqueFd fd;
  std::thread([&] {
    if (::unshare(CLONE_NEWNET) == 0) fd.reset(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  }).join();
  return fd;
}

int run(const std::string& script) {
  auto output = linux::run_program({"sh", "-c", script});
  return output ? output->status.exit_code() : -1;
}

std::string output_of(const std::string& script) {
  auto output = linux::run_program({"sh", "-c", script});
  return output ? output->standard_output : output.error().text();
}

/// A server in a namespace that answers every connection or datagram with its greeting and the client's address.
class Server {
 public:
  Server(int netns_fd, int type, const std::string& address, std::uint16_t port, std::string greeting) : greeting_(std::move(greeting)), type_(type) {
    std::thread([&] {
      if (::setns(netns_fd, CLONE_NEWNET) != 0) return;
      auto socket = linux::socket(AF_INET, type);
      if (!socket) return;
      auto where = linux::SocketAddress::parse(address, port);
      ignore(linux::setsockopt(socket->get(), SOL_SOCKET, SO_REUSEADDR, 1));
      if (!where || !linux::bind(socket->get(), *where)) return;
      if (type == SOCK_STREAM && !linux::listen(socket->get())) return;
      socket_ = std::move(*socket);
    }).join();
    if (socket_) worker_ = std::thread([this] { serve(); });
  }
  ~Server() {
    stop_ = true;
    if (worker_.joinable()) worker_.join();
  }
  [[nodiscard]] bool ok() const { return static_cast<bool>(socket_); }

 private:
  void serve() {
    while (!stop_) {
      pollfd entry{socket_.get(), POLLIN, 0};
      if (::poll(&entry, 1, 20) != 1) continue;
      sockaddr_storage peer{};
      socklen_t size = sizeof peer;
      if (type_ == SOCK_STREAM) {
        UniqueFd connection(::accept4(socket_.get(), reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC));
        std::string reply = answer(peer);
        if (connection) ignore(linux::send_all(connection.get(), reply));
      } else {
        char buffer[64];
        if (::recvfrom(socket_.get(), buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&peer), &size) < 0) continue;
        std::string reply = answer(peer);
        if (::sendto(socket_.get(), reply.data(), reply.size(), 0, reinterpret_cast<sockaddr*>(&peer), size) < 0) continue;
      }
    }
  }
  [[nodiscard]] std::string answer(const sockaddr_storage& peer) const {
    sockaddr_in v4{};
    std::memcpy(&v4, &peer, sizeof v4);
    return concat(greeting_, " ", linux::to_string(linux::Ipv4{ntohl(v4.sin_addr.s_addr)}));
  }
  std::string greeting_;
  int type_;
  UniqueFd socket_;
  std::atomic<bool> stop_ = false;
  std::thread worker_;
};

// An answer comes within microseconds, so the long patience costs nothing; the short one is for packets that must be dropped.
constexpr int long_patience_ms = 5000;
constexpr int short_patience_ms = 300;

/// What a client in `netns_fd` gets from address:port; "" for nothing, "refused" for a refusal.
std::string ask(int netns_fd, int type, const std::string& address, std::uint16_t port, int patience_ms = long_patience_ms) {
  return inside(netns_fd, [&]() -> std::string {
    UniqueFd socket(::socket(address.find(':') == std::string::npos ? AF_INET : AF_INET6, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    auto where = linux::SocketAddress::parse(address, port);
    if (!where) return "bad address";
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&where->storage), where->size) != 0 && errno != EINPROGRESS) return "refused";
    pollfd entry{socket.get(), POLLOUT, 0};
    if (::poll(&entry, 1, patience_ms) != 1) return "";
    if (type == SOCK_STREAM && !linux::socket_error(socket.get())) return "refused";
    if (type == SOCK_DGRAM && ::send(socket.get(), "hello", 5, MSG_NOSIGNAL) < 0) return "refused";
    entry.events = POLLIN;
    if (::poll(&entry, 1, patience_ms) != 1) return "";
    char buffer[256];
    ssize_t size = ::recv(socket.get(), buffer, sizeof buffer, 0);
    return size < 0 ? "refused" : std::string(buffer, static_cast<std::size_t>(size));
  });
}

class NetworkManagerTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root (network namespaces)";
    if (!linux::find_program("nft", "/usr/sbin:/usr/bin:/sbin:/bin") || !linux::find_program("ip", "/usr/sbin:/usr/bin:/sbin:/bin"))
      GTEST_SKIP() << "needs the programs nft and ip";
    original_.reset(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
    if (::unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "needs CAP_SYS_ADMIN (unshare of the network)";
    host_.reset(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    outside_ = new_netns();
    char folder[] = "/tmp/caisson-test-network-XXXXXX";
    ASSERT_NE(::mkdtemp(folder), nullptr);
    folder_ = folder;
    ASSERT_EQ(run("ip link set lo up"), 0);
    // The outside host: 198.51.100.2, we are 198.51.100.1.
    linux::NetlinkBatch batch;
    linux::VethPair pair;
    pair.name = "uplink";
    pair.peer_name = "eth0";
    pair.peer_netns_fd = outside_.get();
    linux::add_veth(batch, pair);
    auto socket = linux::open_rtnetlink();
    ASSERT_TRUE(socket.ok());
    ASSERT_TRUE(socket->execute(batch).ok());
    ASSERT_EQ(run("ip addr add 198.51.100.1/24 dev uplink && ip route add default via 198.51.100.2"), 0);
    ASSERT_TRUE(inside(outside_.get(), [] {
      return run("ip link set lo up && ip addr add 198.51.100.2/24 dev eth0 && ip link set eth0 up && ip route add 172.30.0.0/16 via 198.51.100.1") == 0;
    }));
    open_manager();
  }
  void TearDown() override {
    manager_.reset();
    store_.reset();
    if (original_) {
      ASSERT_EQ(::setns(original_.get(), CLONE_NEWNET), 0);
    }
    if (!folder_.empty()) run("rm -rf " + folder_);
  }
  void open_manager() {
    manager_.reset();
    store_.reset();
    auto opened = state::open_sqlite_store({folder_ + "/state.db"});
    ASSERT_TRUE(opened.ok()) << opened.error().text();
    store_ = std::move(opened->store);
    auto manager = create_network_manager(*store_, options_);
    ASSERT_TRUE(manager.ok()) << manager.error().text();
    manager_ = std::move(*manager);
  }
  Result<Endpoint> connect(const std::string& id, int netns, const std::vector<std::string>& publish = {}) {
    ConnectRequest request;
    request.container_id = id;
    request.netns_fd = netns;
    for (const auto& text : publish) {
      auto bindings = parse_publish(text);
      EXPECT_TRUE(bindings.ok());
      request.ports.insert(request.ports.end(), bindings->begin(), bindings->end());
    }
    return manager_->connect(request);
  }
  [[nodiscard]] static int count_links(const std::string& prefix) {
    return std::atoi(output_of("ip -o link | grep -c ': " + prefix + "' || true").c_str());
  }
  /// The maps of published ports as nft shows them.
  [[nodiscard]] static std::string published_elements() {
    return output_of("for map in published published_on published6 published6_on; do nft list map inet caisson_test $map 2>&1; done");
  }
  [[nodiscard]] std::size_t count_records() const { return store_->list("network/endpoint/")->size() + store_->list("network/address/")->size(); }

  Options options_ = {.bridge_interface = "testbr0", .subnet = "172.30.0.0/16", .nft_table = "caisson_test", .mtu = 0, .enabled = true};
  UniqueFd original_;
  UniqueFd host_;
  UniqueFd outside_;
  std::string folder_;
  std::unique_ptr<state::Store> store_;
  std::unique_ptr<NetworkManager> manager_;
};

TEST_F(NetworkManagerTest, an_idle_manager_touches_nothing) {
  auto networks = manager_->list();
  ASSERT_TRUE(networks.ok()) << networks.error().text();
  EXPECT_EQ(networks->size(), 3U);
  EXPECT_EQ(networks->front().subnets.front().gateway, "172.30.0.1");
  EXPECT_EQ(manager_->find("none")->driver, "null");
  EXPECT_EQ(manager_->find(networks->front().id.substr(0, 12))->name, "bridge");
  EXPECT_EQ(manager_->find("nirvana").error().kind(), ErrorKind::not_found);
  EXPECT_EQ(count_links("testbr0"), 0);
  EXPECT_THAT(output_of("nft list tables"), testing::Not(HasSubstr("caisson_test")));
}

TEST_F(NetworkManagerTest, a_container_gets_address_route_and_loopback) {
  UniqueFd container = new_netns();
  auto endpoint = connect("c1", container.get());
  ASSERT_TRUE(endpoint.ok()) << endpoint.error().text();
  EXPECT_EQ(endpoint->ipv4, "172.30.0.2");
  EXPECT_EQ(endpoint->gateway, "172.30.0.1");
  EXPECT_EQ(endpoint->mac, "02:42:ac:1e:00:02");
  std::string seen = inside(container.get(), [] { return output_of("ip addr; ip route"); });
  EXPECT_THAT(seen, HasSubstr("inet 127.0.0.1/8"));
  EXPECT_THAT(seen, HasSubstr("inet 172.30.0.2/16"));
  EXPECT_THAT(seen, HasSubstr("default via 172.30.0.1 dev eth0"));
  EXPECT_THAT(seen, HasSubstr("02:42:ac:1e:00:02"));
  EXPECT_THAT(seen, testing::Not(HasSubstr("fe80:")));
  EXPECT_EQ(connect("c1", container.get()).error().kind(), ErrorKind::conflict);
}

TEST_F(NetworkManagerTest, a_link_made_ahead_is_recorded_when_a_container_takes_it) {
  UniqueFd container = new_netns();
  auto link = manager_->prepare_link(container.get());
  ASSERT_TRUE(link.ok()) << link.error().text();
  EXPECT_EQ(count_records(), 0U);
  ConnectRequest request;
  request.container_id = "c1";
  request.netns_fd = container.get();
  request.ready = *link;
  auto endpoint = manager_->connect(request);
  ASSERT_TRUE(endpoint.ok()) << endpoint.error().text();
  EXPECT_EQ(endpoint->ipv4, link->ipv4);
  EXPECT_EQ(count_records(), 2U);
  std::string seen = inside(container.get(), [] { return output_of("ip addr; ip route"); });
  EXPECT_THAT(seen, HasSubstr(concat("inet ", link->ipv4, "/16")));
  EXPECT_THAT(seen, HasSubstr("inet 127.0.0.1/8"));
  EXPECT_THAT(seen, HasSubstr("default via 172.30.0.1 dev eth0"));
}

TEST_F(NetworkManagerTest, the_address_of_a_link_made_ahead_is_nobody_elses_until_it_is_given_back) {
  UniqueFd ahead = new_netns();
  auto link = manager_->prepare_link(ahead.get());
  ASSERT_TRUE(link.ok()) << link.error().text();
  UniqueFd container = new_netns();
  ConnectRequest request;
  request.container_id = "c1";
  request.netns_fd = container.get();
  request.ipv4 = link->ipv4;
  auto refused = manager_->connect(request);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::conflict);
  ahead.reset();
  manager_->give_back(*link);
  auto endpoint = manager_->connect(request);
  ASSERT_TRUE(endpoint.ok()) << endpoint.error().text();
  manager_->give_back(*link);  // the container's by now
  UniqueFd other = new_netns();
  request.container_id = "c2";
  request.netns_fd = other.get();
  EXPECT_EQ(manager_->connect(request).error().kind(), ErrorKind::conflict);
}

TEST_F(NetworkManagerTest, a_link_that_hangs_on_no_bridge_any_more_is_refused_and_leaves_nothing) {
  UniqueFd ahead = new_netns();
  auto link = manager_->prepare_link(ahead.get());
  ASSERT_TRUE(link.ok()) << link.error().text();
  ASSERT_EQ(run("ip link delete testbr0"), 0);
  ConnectRequest request;
  request.container_id = "c1";
  request.netns_fd = ahead.get();
  request.ready = *link;
  auto refused = manager_->connect(request);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::not_found);
  EXPECT_EQ(count_records(), 0U);
  UniqueFd container = new_netns();
  auto endpoint = connect("c1", container.get());
  EXPECT_TRUE(endpoint.ok()) << endpoint.error().text();
}

TEST_F(NetworkManagerTest, a_published_tcp_port_is_reached_from_everywhere) {
  UniqueFd web = new_netns();
  UniqueFd other = new_netns();
  auto endpoint = connect("web", web.get(), {"8080:80"});
  ASSERT_TRUE(endpoint.ok()) << endpoint.error().text();
  ASSERT_TRUE(connect("other", other.get()).ok());
  Server server(web.get(), SOCK_STREAM, "0.0.0.0", 80, "web");
  ASSERT_TRUE(server.ok());
  EXPECT_EQ(ask(host_.get(), SOCK_STREAM, "127.0.0.1", 8080), "web 172.30.0.1");
  EXPECT_THAT(ask(host_.get(), SOCK_STREAM, "198.51.100.1", 8080), HasSubstr("web"));
  EXPECT_EQ(ask(host_.get(), SOCK_STREAM, "172.30.0.2", 80), "web 172.30.0.1");
  EXPECT_EQ(ask(outside_.get(), SOCK_STREAM, "198.51.100.1", 8080), "web 198.51.100.2") << "the client's address must be seen";
  EXPECT_THAT(ask(other.get(), SOCK_STREAM, "198.51.100.1", 8080), HasSubstr("web")) << "from another container through the host";
  EXPECT_THAT(ask(other.get(), SOCK_STREAM, "172.30.0.1", 8080), HasSubstr("web"));
  EXPECT_EQ(ask(other.get(), SOCK_STREAM, "172.30.0.2", 80), "web 172.30.0.3") << "container to container";
  EXPECT_THAT(ask(web.get(), SOCK_STREAM, "198.51.100.1", 8080), HasSubstr("web")) << "hairpin: from itself through the host";
}

TEST_F(NetworkManagerTest, a_published_udp_port_is_reached_and_an_address_restricts_it) {
  UniqueFd dns = new_netns();
  ASSERT_TRUE(connect("dns", dns.get(), {"5353:53/udp", "127.0.0.1:5454:54/udp"}).ok());
  Server open_server(dns.get(), SOCK_DGRAM, "0.0.0.0", 53, "open");
  Server local_server(dns.get(), SOCK_DGRAM, "0.0.0.0", 54, "local");
  ASSERT_TRUE(open_server.ok() && local_server.ok());
  EXPECT_THAT(ask(host_.get(), SOCK_DGRAM, "127.0.0.1", 5353), HasSubstr("open"));
  EXPECT_THAT(ask(outside_.get(), SOCK_DGRAM, "198.51.100.1", 5353), HasSubstr("open"));
  EXPECT_THAT(ask(host_.get(), SOCK_DGRAM, "127.0.0.1", 5454), HasSubstr("local"));
  EXPECT_THAT(ask(outside_.get(), SOCK_DGRAM, "198.51.100.1", 5454, short_patience_ms), testing::Not(HasSubstr("local")));
}

TEST_F(NetworkManagerTest, a_client_that_keeps_sending_udp_is_led_to_the_new_container) {
  // One socket outside keeps its port, so its flow stays tracked.
  UniqueFd client;
  inside(outside_.get(), [&] {
    client.reset(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    return 0;
  });
  auto where = linux::SocketAddress::parse("198.51.100.1", 5353);
  ASSERT_TRUE(where.ok());
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&where->storage), where->size), 0);
  auto exchange = [&]() -> std::string {
    ignore(linux::socket_error(client.get()));
    if (::send(client.get(), "x", 1, MSG_NOSIGNAL) < 0 && ::send(client.get(), "x", 1, MSG_NOSIGNAL) < 0) return "not sent";
    pollfd entry{client.get(), POLLIN, 0};
    if (::poll(&entry, 1, long_patience_ms) != 1) return "";
    char buffer[64];
    ssize_t size = ::recv(client.get(), buffer, sizeof buffer, 0);
    return size < 0 ? "refused" : std::string(buffer, static_cast<std::size_t>(size));
  };
  UniqueFd warm_up = new_netns();
  ASSERT_TRUE(connect("warm-up", warm_up.get()).ok());  // the table is there, so flows are tracked
  EXPECT_EQ(exchange(), "refused") << "tracked as a flow to the host itself";
  for (const char* name : {"first", "second"}) {
    UniqueFd container = new_netns();
    ASSERT_TRUE(connect(name, container.get(), {"5353:53/udp"}).ok());
    Server server(container.get(), SOCK_DGRAM, "0.0.0.0", 53, name);
    ASSERT_TRUE(server.ok());
    EXPECT_THAT(exchange(), HasSubstr(name));
    ASSERT_TRUE(manager_->disconnect(name).ok());
  }
}

TEST_F(NetworkManagerTest, containers_reach_the_outside_under_the_hosts_address) {
  UniqueFd container = new_netns();
  ASSERT_TRUE(connect("c", container.get()).ok());
  Server server(outside_.get(), SOCK_STREAM, "0.0.0.0", 7, "outside");
  ASSERT_TRUE(server.ok());
  EXPECT_EQ(ask(container.get(), SOCK_STREAM, "198.51.100.2", 7), "outside 198.51.100.1");
}

TEST_F(NetworkManagerTest, unpublished_ports_are_closed_to_the_outside_even_with_a_route) {
  UniqueFd container = new_netns();
  ASSERT_TRUE(connect("c", container.get(), {"8080:80"}).ok());
  Server published(container.get(), SOCK_STREAM, "0.0.0.0", 80, "published");
  Server hidden(container.get(), SOCK_STREAM, "0.0.0.0", 81, "hidden");
  ASSERT_TRUE(published.ok() && hidden.ok());
  EXPECT_EQ(ask(outside_.get(), SOCK_STREAM, "172.30.0.2", 81, short_patience_ms), "");
  EXPECT_EQ(ask(outside_.get(), SOCK_STREAM, "172.30.0.2", 80, short_patience_ms), "") << "a published port is reached through the host only";
  EXPECT_EQ(ask(host_.get(), SOCK_STREAM, "172.30.0.2", 81), "hidden 172.30.0.1");
}

TEST_F(NetworkManagerTest, services_on_the_hosts_loopback_are_closed_to_containers) {
  UniqueFd container = new_netns();
  ASSERT_TRUE(connect("c", container.get()).ok());
  Server secret(host_.get(), SOCK_STREAM, "127.0.0.1", 9999, "secret");
  ASSERT_TRUE(secret.ok());
  ASSERT_EQ(ask(host_.get(), SOCK_STREAM, "127.0.0.1", 9999), "secret 127.0.0.1");
  // What an attacker as root in the container does: route 127.0.0.0/8 to the bridge.
  ASSERT_EQ(inside(container.get(), [] {
    return run("ip addr del 127.0.0.1/8 dev lo; ip route del local 127.0.0.0/8 table local; echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet;"
               "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; ip route add 127.0.0.0/8 via 172.30.0.1 dev eth0 src 172.30.0.2");
  }), 0);
  EXPECT_EQ(ask(container.get(), SOCK_STREAM, "127.0.0.1", 9999, short_patience_ms), "");
  EXPECT_THAT(output_of("nft list chain inet caisson_test guard"), testing::Not(HasSubstr("packets 0"))) << "the attack must have been seen by the guard";
}

TEST_F(NetworkManagerTest, a_taken_host_port_is_refused_and_nothing_is_left) {
  UniqueFd first = new_netns();
  UniqueFd second = new_netns();
  ASSERT_TRUE(connect("first", first.get(), {"8080:80"}).ok());
  auto links = count_links("veth");
  auto records = count_records();
  auto refused = connect("second", second.get(), {"9090:90", "8080:80"});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::conflict);
  EXPECT_THAT(refused.error().text(), HasSubstr("Bind for 0.0.0.0:8080 failed: port is already allocated"));
  EXPECT_EQ(count_links("veth"), links);
  EXPECT_EQ(count_records(), records);
  EXPECT_TRUE(connect("second", second.get(), {"9090:90"}).ok()) << "the first port of the refused request must be free again";
  Server native(host_.get(), SOCK_STREAM, "0.0.0.0", 7070, "native");
  UniqueFd third = new_netns();
  auto in_use = connect("third", third.get(), {"7070:70"});
  ASSERT_FALSE(in_use.ok());
  EXPECT_THAT(in_use.error().text(), HasSubstr("Bind for 0.0.0.0:7070 failed: address already in use"));
}

TEST_F(NetworkManagerTest, free_ports_are_chosen_for_zero_and_from_ranges) {
  UniqueFd first = new_netns();
  UniqueFd second = new_netns();
  auto endpoint = connect("first", first.get(), {"80", "8000-8001:81"});
  ASSERT_TRUE(endpoint.ok()) << endpoint.error().text();
  EXPECT_GE(endpoint->ports[0].host_port, 1024);
  EXPECT_EQ(endpoint->ports[1].host_port, 8000);
  auto next = connect("second", second.get(), {"8000-8001:81"});
  ASSERT_TRUE(next.ok());
  EXPECT_EQ(next->ports[0].host_port, 8001);
  UniqueFd third = new_netns();
  EXPECT_FALSE(connect("third", third.get(), {"8000-8001:81"}).ok());
}

TEST_F(NetworkManagerTest, a_port_without_an_address_is_answered_on_ipv6s_loopback_too) {
  UniqueFd web = new_netns();
  auto endpoint = connect("web", web.get(), {"8080:80", "5353:53/udp", "80", "0.0.0.0:8081:80"});
  ASSERT_TRUE(endpoint.ok()) << endpoint.error().text();
  Server server(web.get(), SOCK_STREAM, "0.0.0.0", 80, "web");
  Server datagrams(web.get(), SOCK_DGRAM, "0.0.0.0", 53, "datagrams");
  ASSERT_TRUE(server.ok() && datagrams.ok());
  EXPECT_EQ(ask(host_.get(), SOCK_STREAM, "::1", 8080), "web 172.30.0.1");
  EXPECT_EQ(ask(host_.get(), SOCK_STREAM, "::1", endpoint->ports[2].host_port), "web 172.30.0.1");
  EXPECT_THAT(ask(host_.get(), SOCK_DGRAM, "::1", 5353), HasSubstr("datagrams"));
  EXPECT_EQ(ask(host_.get(), SOCK_STREAM, "::1", 8081), "refused") << "published on an address of IPv4";
  open_manager();
  EXPECT_TRUE(manager_->recover({"web"}).ok());
  EXPECT_EQ(ask(host_.get(), SOCK_STREAM, "::1", 8080), "web 172.30.0.1");
  ASSERT_TRUE(manager_->disconnect("web").ok());
  EXPECT_EQ(ask(host_.get(), SOCK_STREAM, "::1", 8080), "refused");
}

TEST_F(NetworkManagerTest, a_port_that_is_taken_on_ipv6s_loopback_is_refused_and_free_ones_pass_it_over) {
  UniqueFd native;
  inside(host_.get(), [&] {
    native.reset(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    auto where = linux::SocketAddress::parse("::1", 8000);
    return where.ok() && linux::bind(native.get(), *where).ok() && linux::listen(native.get()).ok();
  });
  UniqueFd first = new_netns();
  auto refused = connect("first", first.get(), {"9090:90", "8000:80"});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::conflict);
  EXPECT_THAT(refused.error().text(), HasSubstr("Bind for [::1]:8000 failed: port is already allocated"));
  EXPECT_EQ(count_records(), 0U);
  auto endpoint = connect("first", first.get(), {"9090:90", "8000-8001:80"});
  ASSERT_TRUE(endpoint.ok()) << endpoint.error().text();
  EXPECT_EQ(endpoint->ports[1].host_port, 8001);
}

TEST_F(NetworkManagerTest, disconnect_gives_everything_back_and_may_be_repeated) {
  for (int round = 0; round < 3; ++round) {
    UniqueFd container = new_netns();
    ASSERT_TRUE(connect("c", container.get(), {"8080:80", "127.0.0.1:53:53/udp"}).ok());
    EXPECT_THAT(output_of("nft list table inet caisson_test"), HasSubstr("8080"));
    ASSERT_TRUE(manager_->disconnect("c").ok());
    ASSERT_TRUE(manager_->disconnect("c").ok());
    EXPECT_THAT(published_elements(), testing::Not(HasSubstr("elements")));
    EXPECT_EQ(count_records(), 0U);
  }
  EXPECT_TRUE(manager_->endpoints()->empty());
}

TEST_F(NetworkManagerTest, a_restarted_manager_keeps_live_endpoints_and_removes_the_rest) {
  UniqueFd live = new_netns();
  UniqueFd dead = new_netns();
  ASSERT_TRUE(connect("live", live.get(), {"8080:80"}).ok());
  ASSERT_TRUE(connect("dead", dead.get(), {"9090:90"}).ok());
  Server server(live.get(), SOCK_STREAM, "0.0.0.0", 80, "live");
  open_manager();
  auto repairs = manager_->recover({"live"});
  ASSERT_TRUE(repairs.ok()) << repairs.error().text();
  ASSERT_EQ(repairs->size(), 1U);
  EXPECT_THAT(repairs->front(), HasSubstr("dead"));
  EXPECT_EQ(manager_->endpoints()->size(), 1U);
  EXPECT_THAT(ask(outside_.get(), SOCK_STREAM, "198.51.100.1", 8080), HasSubstr("live"));
  EXPECT_THAT(output_of("nft list table inet caisson_test"), testing::Not(HasSubstr("9090")));
  UniqueFd next = new_netns();
  EXPECT_EQ(connect("next", next.get(), {"8080:80"}).error().kind(), ErrorKind::conflict) << "the port must be reserved again";
  auto endpoint = connect("next", next.get(), {"9090:90"});
  ASSERT_TRUE(endpoint.ok()) << endpoint.error().text();
  EXPECT_NE(endpoint->ipv4, "172.30.0.2");
  EXPECT_TRUE(manager_->recover({"live", "next"}).ok()) << "recover may be repeated";
}

TEST_F(NetworkManagerTest, an_unreadable_endpoint_is_said_and_its_container_keeps_its_address) {
  UniqueFd whole = new_netns();
  UniqueFd broken = new_netns();
  ASSERT_TRUE(connect("whole", whole.get(), {"8080:80"}).ok());
  auto before = connect("broken", broken.get(), {"9090:90"});
  ASSERT_TRUE(before.ok());
  Server server(whole.get(), SOCK_STREAM, "0.0.0.0", 80, "whole");
  for (const char* text : {R"({"ipv4":5})", R"({"ipv4":"172.30.0.999"})", R"([])"}) {
    state::Transaction transaction;
    transaction.put(concat("network/endpoint/broken/", before->network_id), text);
    ASSERT_TRUE(store_->commit(transaction).ok());
    open_manager();
    auto repairs = manager_->recover({"whole", "broken"});
    ASSERT_TRUE(repairs.ok()) << repairs.error().text();
    EXPECT_THAT(join(*repairs, "\n"), testing::AllOf(HasSubstr("network/endpoint/broken"), HasSubstr("not published any more"))) << text;
    ASSERT_EQ(manager_->endpoints()->size(), 2U) << text;
    EXPECT_EQ(manager_->endpoints()->front().second.ipv4, before->ipv4);
    EXPECT_EQ(manager_->endpoints()->front().second.mac, before->mac);
  }
  EXPECT_THAT(ask(outside_.get(), SOCK_STREAM, "198.51.100.1", 8080), HasSubstr("whole"));
  UniqueFd next = new_netns();
  auto endpoint = connect("next", next.get(), {"9090:90"});
  ASSERT_TRUE(endpoint.ok()) << endpoint.error().text();
  EXPECT_NE(endpoint->ipv4, before->ipv4);
  for (const char* name : {"whole", "broken", "next"}) EXPECT_TRUE(manager_->disconnect(name).ok());
  EXPECT_EQ(count_records(), 0U);
  open_manager();
  EXPECT_THAT(*manager_->recover({}), testing::IsEmpty()) << "said once";
}

TEST_F(NetworkManagerTest, unreadable_definitions_are_made_anew_around_what_runs) {
  options_.subnet = "";
  open_manager();
  UniqueFd container = new_netns();
  auto before = connect("c", container.get());
  ASSERT_TRUE(before.ok()) << before.error().text();
  ASSERT_TRUE(manager_->list().ok());
  for (const char* name : {"bridge", "host", "none"}) {
    state::Transaction transaction;
    transaction.put(std::string("network/definition/") + name, R"({"id":[]})");
    ASSERT_TRUE(store_->commit(transaction).ok());
  }
  open_manager();
  auto repairs = manager_->recover({"c"});
  ASSERT_TRUE(repairs.ok()) << repairs.error().text();
  EXPECT_EQ(repairs->size(), 3U);
  EXPECT_EQ(manager_->list()->size(), 3U);
  EXPECT_EQ(manager_->find("bridge")->id, before->network_id);
  EXPECT_EQ(manager_->find("bridge")->subnets.front().gateway, before->gateway);
  UniqueFd next = new_netns();
  EXPECT_TRUE(connect("next", next.get()).ok());
}

TEST_F(NetworkManagerTest, a_flushed_ruleset_heals_with_the_next_published_port) {
  UniqueFd first = new_netns();
  UniqueFd second = new_netns();
  ASSERT_TRUE(connect("first", first.get(), {"8080:80"}).ok());
  Server server(first.get(), SOCK_STREAM, "0.0.0.0", 80, "first");
  ASSERT_EQ(run("nft flush ruleset"), 0);
  ASSERT_TRUE(connect("second", second.get(), {"9090:90"}).ok());
  EXPECT_THAT(ask(outside_.get(), SOCK_STREAM, "198.51.100.1", 8080), HasSubstr("first"));
}

TEST_F(NetworkManagerTest, a_host_that_drops_forwarded_packets_is_opened_with_marked_rules_and_closed_again) {
  ASSERT_EQ(run("nft add table inet guard '{ chain fwd1 { type filter hook forward priority 0; policy drop; }; }'"), 0);
  const bool with_iptables = run("iptables -P FORWARD DROP") == 0;
  UniqueFd container = new_netns();
  ASSERT_TRUE(connect("c", container.get(), {"8080:80"}).ok());
  Server server(container.get(), SOCK_STREAM, "0.0.0.0", 80, "web");
  Server far(outside_.get(), SOCK_STREAM, "0.0.0.0", 7, "outside");
  EXPECT_THAT(ask(outside_.get(), SOCK_STREAM, "198.51.100.1", 8080), HasSubstr("web"));
  EXPECT_THAT(ask(container.get(), SOCK_STREAM, "198.51.100.2", 7), HasSubstr("outside"));
  EXPECT_THAT(output_of("nft list chain inet guard fwd1"), HasSubstr("caisson:caisson_test"));
  if (with_iptables) {
    EXPECT_THAT(output_of("iptables -S FORWARD"), HasSubstr("caisson:caisson_test"));
  }
  EXPECT_THAT(manager_->find("bridge")->options, testing::Not(testing::IsEmpty())) << "changes of the host must be said";
  ASSERT_TRUE(manager_->disconnect("c").ok());
  ASSERT_TRUE(manager_->shut_down().ok());
  ASSERT_TRUE(manager_->shut_down().ok());
  EXPECT_THAT(output_of("nft list ruleset"), testing::Not(HasSubstr("caisson")));
  EXPECT_EQ(count_links("testbr0"), 0);
}

TEST_F(NetworkManagerTest, wanted_address_mac_and_sysctls_are_used_and_checked) {
  UniqueFd container = new_netns();
  ConnectRequest request;
  request.container_id = "c";
  request.netns_fd = container.get();
  request.ipv4 = "172.30.7.7";
  request.mac = "02:00:00:00:00:07";
  request.interface = "net0";
  request.sysctls = {{"net.ipv4.ip_unprivileged_port_start", "0"}, {"net.ipv4.conf.net0.rp_filter", "2"}};
  auto endpoint = manager_->connect(request);
  ASSERT_TRUE(endpoint.ok()) << endpoint.error().text();
  EXPECT_EQ(endpoint->ipv4, "172.30.7.7");
  EXPECT_EQ(inside(container.get(), [] { return output_of("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/conf/net0/rp_filter; ip -o link | grep -c 02:00:00:00:00:07"); }), "0\n2\n1\n");
  UniqueFd other = new_netns();
  request.container_id = "d";
  request.netns_fd = other.get();
  EXPECT_EQ(manager_->connect(request).error().kind(), ErrorKind::conflict);
  request.ipv4 = "10.0.0.1";
  EXPECT_EQ(manager_->connect(request).error().kind(), ErrorKind::invalid);
  request.ipv4.reset();
  request.mac = "nonsense";
  EXPECT_EQ(manager_->connect(request).error().kind(), ErrorKind::invalid);
  request.mac.reset();
  auto links = count_links("veth");
  for (const char* name : {"kernel.core_pattern", "net/../kernel/x", "net.ipv4.no_such_switch"}) {
    request.sysctls = {{name, "1"}};
    auto refused = manager_->connect(request);
    ASSERT_FALSE(refused.ok()) << name;
    EXPECT_THAT(refused.error().text(), HasSubstr(name));
    EXPECT_EQ(count_links("veth"), links) << name;
    EXPECT_EQ(count_records(), 2U) << name;
  }
}

/// A manager with user-defined networks.
class SeveralNetworks : public NetworkManagerTest {
 protected:
  Result<Network> make(const std::string& name, const std::function<void(NetworkRequest&)>& change = [](NetworkRequest&) {}) {
    NetworkRequest request;
    request.name = name;
    change(request);
    return manager_->create(request);
  }
  Result<Endpoint> join(const std::string& id, int netns, const std::string& network, const std::string& publish = "") {
    ConnectRequest request;
    request.container_id = id;
    request.netns_fd = netns;
    request.network = network;
    if (!publish.empty()) request.ports = *parse_publish(publish);
    return manager_->connect(request);
  }
  static std::string default_route_of(int netns) {
    return inside(netns, [] { return output_of("ip route show default"); });
  }
};

TEST_F(SeveralNetworks, they_are_made_found_and_removed_with_all_they_had) {
  auto made = make("front");
  ASSERT_TRUE(made.ok()) << made.error().text();
  const std::string bridge = concat("br-", made->id.substr(0, 12));
  EXPECT_EQ(made->bridge_interface, bridge);
  EXPECT_EQ(count_links(bridge), 1);
  EXPECT_THAT(output_of("nft list set inet caisson_test bridges"), HasSubstr(bridge));
  EXPECT_EQ(manager_->find("front")->id, made->id);
  EXPECT_EQ(manager_->find(made->id.substr(0, 10))->name, "front");
  EXPECT_EQ(manager_->list()->size(), 4U);
  EXPECT_EQ(make("front").error().kind(), ErrorKind::conflict);
  for (const char* name : {"bridge", "host", "none", "default"}) EXPECT_EQ(make(name).error().kind(), ErrorKind::denied) << name;
  open_manager();
  EXPECT_EQ(manager_->find("front")->id, made->id);
  EXPECT_EQ(manager_->remove("bridge").error().kind(), ErrorKind::denied);
  ASSERT_TRUE(manager_->remove("front").ok());
  EXPECT_EQ(manager_->find("front").error().kind(), ErrorKind::not_found);
  EXPECT_EQ(count_links(bridge), 0);
  ASSERT_TRUE(manager_->shut_down().ok());
  EXPECT_EQ(output_of("nft list ruleset"), "");
}

TEST_F(SeveralNetworks, subnets_are_chosen_apart_from_each_other_and_from_the_hosts_routes) {
  ASSERT_EQ(run("ip route add 172.29.0.0/16 via 198.51.100.2"), 0);
  std::vector<linux::Ipv4Prefix> seen = {*linux::parse_ipv4_prefix("172.29.0.0/16"), *linux::parse_ipv4_prefix(options_.subnet)};
  for (const char* name : {"a", "b", "c"}) {
    auto made = make(name);
    ASSERT_TRUE(made.ok()) << made.error().text();
    auto subnet = *linux::parse_ipv4_prefix(made->subnets.front().cidr);
    for (const auto& other : seen) EXPECT_FALSE(other.overlaps(subnet)) << made->subnets.front().cidr;
    seen.push_back(subnet);
  }
  auto overlapping = make("d", [&](NetworkRequest& request) { request.subnets = {{linux::to_string(seen.back()), "", "", {}}}; });
  EXPECT_EQ(overlapping.error().kind(), ErrorKind::denied);
  EXPECT_THAT(overlapping.error().text(), HasSubstr("Pool overlaps"));
}

TEST_F(SeveralNetworks, addresses_come_from_the_range_and_leave_out_what_is_reserved) {
  ASSERT_TRUE(make("n", [](NetworkRequest& request) { request.subnets = {{"10.7.0.0/24", "10.7.0.9", "10.7.0.8/30", {{"router", "10.7.0.10"}}}}; }).ok());
  std::vector<UniqueFd> namespaces;
  std::vector<std::string> addresses;
  for (int i = 0; i < 2; ++i) {
    namespaces.push_back(new_netns());
    auto endpoint = join(concat("c", i), namespaces.back().get(), "n");
    ASSERT_TRUE(endpoint.ok()) << endpoint.error().text();
    EXPECT_EQ(endpoint->gateway, "10.7.0.9");
    addresses.push_back(endpoint->ipv4);
  }
  EXPECT_THAT(addresses, testing::UnorderedElementsAre("10.7.0.8", "10.7.0.11"));
  UniqueFd next = new_netns();
  EXPECT_EQ(join("next", next.get(), "n").error().kind(), ErrorKind::unavailable);
}

TEST_F(SeveralNetworks, one_cannot_reach_the_other_and_a_container_on_both_reaches_both) {
  ASSERT_TRUE(make("a").ok() && make("b").ok());
  UniqueFd one = new_netns();
  UniqueFd two = new_netns();
  UniqueFd both = new_netns();
  auto of_one = join("one", one.get(), "a");
  auto of_two = join("two", two.get(), "b");
  ASSERT_TRUE(of_one.ok() && of_two.ok());
  Server server_one(one.get(), SOCK_STREAM, "0.0.0.0", 80, "one");
  Server server_two(two.get(), SOCK_STREAM, "0.0.0.0", 80, "two");
  EXPECT_EQ(ask(one.get(), SOCK_STREAM, of_two->ipv4, 80, short_patience_ms), "");
  EXPECT_EQ(ask(two.get(), SOCK_STREAM, of_one->ipv4, 80, short_patience_ms), "");
  auto first = join("both", both.get(), "b");
  auto second = join("both", both.get(), "a");
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->interface, "eth0");
  EXPECT_EQ(second->interface, "eth1");
  EXPECT_THAT(ask(both.get(), SOCK_STREAM, of_one->ipv4, 80), HasSubstr("one"));
  EXPECT_THAT(ask(both.get(), SOCK_STREAM, of_two->ipv4, 80), HasSubstr("two"));
  EXPECT_THAT(default_route_of(both.get()), HasSubstr(second->gateway)) << "docker's rule: the first by name";
  ASSERT_TRUE(manager_->disconnect_from("both", second->network_id, both.get()).ok());
  EXPECT_THAT(default_route_of(both.get()), HasSubstr(first->gateway));
  EXPECT_EQ(ask(both.get(), SOCK_STREAM, of_one->ipv4, 80, short_patience_ms), "");
  EXPECT_EQ(manager_->disconnect_from("both", second->network_id, both.get()).error().kind(), ErrorKind::not_found);
  EXPECT_EQ(manager_->endpoints_of("both").size(), 1U);
  EXPECT_EQ(manager_->remove("b").error().kind(), ErrorKind::denied) << "in use";
}

TEST_F(SeveralNetworks, published_ports_move_to_another_network_when_theirs_is_disconnected) {
  ASSERT_TRUE(make("a").ok() && make("b").ok());
  ASSERT_TRUE(make("inner", [](NetworkRequest& request) { request.internal = true; }).ok());
  UniqueFd web = new_netns();
  auto inner = join("web", web.get(), "inner", "8080:80");
  ASSERT_TRUE(inner.ok()) << inner.error().text();
  EXPECT_TRUE(inner->ports.empty()) << "an internal network publishes nothing";
  EXPECT_EQ(inner->gateway, "");
  auto a = join("web", web.get(), "a", "8080:80");
  ASSERT_TRUE(a.ok() && a->ports.size() == 1U);
  ASSERT_TRUE(join("web", web.get(), "b", "8080:80")->ports.empty());
  Server server(web.get(), SOCK_STREAM, "0.0.0.0", 80, "web");
  EXPECT_THAT(ask(outside_.get(), SOCK_STREAM, "198.51.100.1", 8080), HasSubstr("web"));
  ASSERT_TRUE(manager_->disconnect_from("web", a->network_id, web.get()).ok());
  EXPECT_THAT(ask(outside_.get(), SOCK_STREAM, "198.51.100.1", 8080), HasSubstr("web"));
  open_manager();
  ASSERT_TRUE(manager_->recover({"web"}).ok());
  EXPECT_THAT(ask(outside_.get(), SOCK_STREAM, "198.51.100.1", 8080), HasSubstr("web"));
  ASSERT_TRUE(manager_->disconnect("web").ok());
  EXPECT_EQ(count_records(), 0U);
  EXPECT_THAT(published_elements(), testing::Not(HasSubstr("elements")));
}

TEST_F(SeveralNetworks, an_endpoint_record_of_an_earlier_build_is_read_and_removed_in_its_time) {
  UniqueFd container = new_netns();
  auto endpoint = connect("old", container.get(), {"8080:80"});
  ASSERT_TRUE(endpoint.ok());
  const std::string key = concat("network/endpoint/old/", endpoint->network_id);
  state::Transaction transaction;
  transaction.put("network/endpoint/old", store_->get(key)->value).erase(key);
  ASSERT_TRUE(store_->commit(transaction).ok());
  open_manager();
  EXPECT_THAT(*manager_->recover({"old"}), testing::IsEmpty());
  ASSERT_EQ(manager_->endpoints_of("old").size(), 1U);
  EXPECT_EQ(manager_->endpoints_of("old").front().ipv4, endpoint->ipv4);
  ASSERT_TRUE(manager_->disconnect("old").ok());
  EXPECT_EQ(count_records(), 0U);
}

TEST_F(SeveralNetworks, a_lost_definition_is_made_anew_from_an_endpoint) {
  auto made = make("n", [](NetworkRequest& request) { request.subnets = {{"10.7.0.0/24", "10.7.0.9", "", {}}}; });
  ASSERT_TRUE(made.ok());
  UniqueFd container = new_netns();
  auto endpoint = join("c", container.get(), "n");
  ASSERT_TRUE(endpoint.ok());
  state::Transaction transaction;
  transaction.put("network/definition/n", R"({"id":[]})");
  ASSERT_TRUE(store_->commit(transaction).ok());
  open_manager();
  auto repairs = manager_->recover({"c"});
  ASSERT_TRUE(repairs.ok()) << repairs.error().text();
  EXPECT_EQ(manager_->find("n")->id, made->id);
  EXPECT_EQ(manager_->find("n")->subnets.front().cidr, "10.7.0.0/24");
  EXPECT_EQ(manager_->find("n")->subnets.front().gateway, "10.7.0.9");
  UniqueFd next = new_netns();
  auto joined = join("next", next.get(), "n");
  EXPECT_TRUE(joined.ok()) << joined.error().text();
}

TEST_F(SeveralNetworks, ipv6_reaches_neighbours_and_published_ports) {
  auto made = make("six", [](NetworkRequest& request) { request.ipv6 = true; });
  ASSERT_TRUE(made.ok()) << made.error().text();
  ASSERT_EQ(made->subnets.size(), 2U);
  EXPECT_TRUE(linux::parse_ipv6_prefix("fd00::/8")->contains(linux::parse_ipv6_prefix(made->subnets[1].cidr)->address));
  ASSERT_EQ(run("ip addr add 2001:db8::1/64 dev uplink nodad"), 0);
  ASSERT_EQ(inside(outside_.get(), [] { return run("ip addr add 2001:db8::2/64 dev eth0 nodad"); }), 0);
  UniqueFd web = new_netns();
  auto endpoint = join("web", web.get(), "six", "8080:80");
  ASSERT_TRUE(endpoint.ok()) << endpoint.error().text();
  std::string seen = inside(web.get(), [] { return output_of("ip -6 addr; ip -6 route"); });
  EXPECT_THAT(seen, HasSubstr(concat(endpoint->ipv6, "/64")));
  EXPECT_THAT(seen, HasSubstr(concat("default via ", endpoint->ipv6_gateway)));
  EXPECT_THAT(published_elements(), HasSubstr(concat("tcp . 8080 : ", endpoint->ipv6, " . 80")));
  ASSERT_TRUE(manager_->disconnect("web").ok());
  EXPECT_THAT(published_elements(), testing::Not(HasSubstr("elements")));
  EXPECT_EQ(count_records(), 0U);
}

TEST_F(SeveralNetworks, a_start_beside_many_networks_and_endpoints_runs_no_program) {
  constexpr int network_count = 12;
  std::vector<UniqueFd> namespaces;
  for (int i = 0; i < network_count; ++i) {
    ASSERT_TRUE(make(concat("n", i)).ok());
    namespaces.push_back(new_netns());
    ASSERT_TRUE(join(concat("c", i), namespaces.back().get(), concat("n", i), concat(9000 + i, ":80")).ok());
  }
  // Whoever wrote the table again would need nft.
  const std::string path = ::getenv("PATH");
  ::setenv("PATH", "/nonexistent", 1);
  UniqueFd container = new_netns();
  auto endpoint = join("late", container.get(), "n3", "9100:80");
  Status left = manager_->disconnect("c5");
  ::setenv("PATH", path.c_str(), 1);
  EXPECT_TRUE(endpoint.ok()) << endpoint.error().text();
  EXPECT_TRUE(left.ok()) << left.error().text();
  EXPECT_THAT(published_elements(), testing::AllOf(HasSubstr("9100"), HasSubstr("9004"), testing::Not(HasSubstr("9005"))));
}

TEST_F(SeveralNetworks, containers_without_icc_reach_each_other_by_published_ports_alone) {
  ASSERT_TRUE(make("quiet", [](NetworkRequest& request) { request.options["com.docker.network.bridge.enable_icc"] = "false"; }).ok());
  UniqueFd web = new_netns();
  UniqueFd other = new_netns();
  auto endpoint = join("web", web.get(), "quiet", "8080:80");
  ASSERT_TRUE(endpoint.ok() && join("other", other.get(), "quiet").ok());
  Server server(web.get(), SOCK_STREAM, "0.0.0.0", 80, "web");
  ASSERT_TRUE(server.ok());
  EXPECT_EQ(ask(other.get(), SOCK_STREAM, endpoint->ipv4, 80, short_patience_ms), "");
  EXPECT_THAT(ask(other.get(), SOCK_STREAM, "198.51.100.1", 8080), HasSubstr("web"));
  EXPECT_THAT(ask(host_.get(), SOCK_STREAM, endpoint->ipv4, 80), HasSubstr("web"));
}

TEST_F(SeveralNetworks, a_bridge_of_the_users_is_used_and_left) {
  ASSERT_EQ(run("ip link add mine type bridge"), 0);
  auto made = make("n", [](NetworkRequest& request) { request.options["com.docker.network.bridge.name"] = "mine"; });
  ASSERT_TRUE(made.ok()) << made.error().text();
  ASSERT_TRUE(manager_->remove("n").ok());
  EXPECT_EQ(count_links("mine"), 1);
}

TEST_F(SeveralNetworks, what_cannot_be_is_refused_by_name) {
  auto refused = [&](auto change, ErrorKind kind, const char* text) {
    auto made = make("n", change);
    ASSERT_FALSE(made.ok()) << text;
    EXPECT_EQ(made.error().kind(), kind) << made.error().text();
    EXPECT_THAT(made.error().text(), HasSubstr(text));
  };
  refused([](NetworkRequest& r) { r.driver = "overlay"; }, ErrorKind::not_found, "plugin \"overlay\" not found");
  refused([](NetworkRequest& r) { r.driver = "null"; }, ErrorKind::denied, "only one instance");
  refused([](NetworkRequest& r) { r.driver = "macvlan"; }, ErrorKind::unsupported, "parent");
  refused([](NetworkRequest& r) { r.ipam_driver = "dhcp"; }, ErrorKind::not_found, "dhcp");
  refused([](NetworkRequest& r) { r.subnets = {{"10.0.0.0/33", "", "", {}}}; }, ErrorKind::invalid, "10.0.0.0/33");
  refused([](NetworkRequest& r) { r.subnets = {{"10.0.0.0/24", "10.0.1.1", "", {}}}; }, ErrorKind::invalid, "10.0.1.1");
  refused([](NetworkRequest& r) { r.subnets = {{"10.0.0.0/24", "", "10.0.1.0/25", {}}}; }, ErrorKind::invalid, "10.0.1.0/25");
  refused([](NetworkRequest& r) { r.subnets = {{"10.0.0.0/24", "", "", {}}, {"10.1.0.0/24", "", "", {}}}; }, ErrorKind::invalid, "one subnet");
  refused([](NetworkRequest& r) { r.options["com.docker.network.driver.mtu"] = "9"; }, ErrorKind::invalid, "mtu");
  refused([](NetworkRequest& r) { r.options["com.docker.network.bridge.name"] = "a b"; }, ErrorKind::invalid, "a b");
  refused([](NetworkRequest& r) { r.name = "a/b"; }, ErrorKind::invalid, "a/b");
  EXPECT_EQ(manager_->list()->size(), 3U);
}

/// Fails system calls `first`, `first + step`, … of connect() one at a time.
class NetworkFaultWalk : public NetworkManagerTest {
 protected:
  enum class Bridge : std::uint8_t { ready, made_anew };
  Result<Endpoint> attempt() {
    namespaces_.push_back(new_netns());
    return connect("c", namespaces_.back().get(), {"8080:80", "127.0.0.1:53:53/udp"});
  }
  void begin(Bridge bridge) {
    ASSERT_TRUE(manager_->disconnect("c").ok());
    if (bridge == Bridge::made_anew) {
      ASSERT_TRUE(manager_->shut_down().ok());
    }
  }
  static std::size_t link_count() {
    auto socket = linux::open_rtnetlink();
    auto links = linux::list_links(*socket);
    return static_cast<std::size_t>(std::count_if(links->begin(), links->end(), [](const linux::LinkInfo& link) { return link.name.rfind("veth", 0) == 0; }));
  }
  void walk(Bridge bridge, std::uint32_t first, std::uint32_t step) {
    ASSERT_TRUE(attempt().ok());
    begin(bridge);
    std::uint32_t calls = 0;
    {
      linux::ScopedCallCount count;
      ASSERT_TRUE(attempt().ok());
      calls = count.value();
    }
    int refusals = 0;
    for (std::uint32_t nth = first; nth <= calls; nth += step) {
      begin(bridge);
      const std::size_t links = link_count();
      std::optional<Error> refusal;
      std::string name;
      {
        linux::ScopedFault fault("*", EIO, nth);
        auto endpoint = attempt();
        if (!endpoint) refusal = endpoint.error();
        name = concat("call ", nth, " of ", calls, ": ", fault.fired_name());
      }
      if (!refusal) continue;  // a call that may fail
      ++refusals;
      SCOPED_TRACE(concat(name, ": ", refusal->text()));
      EXPECT_THAT(refusal->text(), HasSubstr("connecting container c"));
      EXPECT_EQ(link_count(), links);
      EXPECT_EQ(count_records(), 0U);
      EXPECT_TRUE(manager_->endpoints()->empty());
      EXPECT_THAT(published_elements(), testing::Not(HasSubstr("elements")));
      auto again = attempt();
      EXPECT_TRUE(again.ok()) << again.error().text();
    }
    EXPECT_GT(refusals, 5);
  }
  std::vector<UniqueFd> namespaces_;  // kept, so that no veth vanishes while links are counted
};

TEST_F(NetworkFaultWalk, whichever_call_of_a_connect_fails_nothing_is_left_and_the_next_one_works) { walk(Bridge::ready, 1, 1); }

TEST_F(NetworkFaultWalk, whichever_call_fails_while_bridge_and_table_are_made_nothing_is_left) {
  // Starting programs is most of it; a stride keeps the walk short, its offset moves with every run.
  constexpr std::uint32_t stride = 7;
  auto first = static_cast<std::uint32_t>(1 + ::getpid() % static_cast<int>(stride));
  SCOPED_TRACE(concat("first call ", first));
  walk(Bridge::made_anew, first, stride);
}

TEST_F(NetworkManagerTest, many_containers_connect_at_once) {
  constexpr int count = 16;
  std::vector<UniqueFd> namespaces;
  for (int i = 0; i < count; ++i) namespaces.push_back(new_netns());
  std::atomic<int> connected = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i)
    threads.emplace_back([&, i] {
      auto endpoint = connect(concat("c", i), namespaces[static_cast<std::size_t>(i)].get(), {concat(10000 + i, ":80")});
      if (endpoint) ++connected;
      else ADD_FAILURE() << endpoint.error().text();
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(connected, count);
  EXPECT_EQ(count_links("veth"), count);
}

TEST_F(NetworkManagerTest, loopback_alone_can_be_brought_up) {
  UniqueFd container = new_netns();
  ASSERT_TRUE(manager_->bring_up_loopback(container.get()).ok());
  EXPECT_THAT(inside(container.get(), [] { return output_of("ip addr show lo"); }), HasSubstr("127.0.0.1/8"));
}

TEST_F(NetworkManagerTest, a_disabled_bridge_is_said_plainly) {
  options_.enabled = false;
  open_manager();
  UniqueFd container = new_netns();
  EXPECT_EQ(connect("c", container.get()).error().kind(), ErrorKind::unsupported);
  EXPECT_EQ(manager_->list()->size(), 2U);
  EXPECT_TRUE(manager_->shut_down().ok());
}

TEST_F(NetworkManagerTest, a_foreign_interface_under_the_bridges_name_is_not_taken_over) {
  ASSERT_EQ(run("ip link add testbr0 type veth peer name testbr1"), 0);
  UniqueFd container = new_netns();
  auto refused = connect("c", container.get());
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::conflict);
  EXPECT_THAT(refused.error().text(), HasSubstr("is no bridge"));
  EXPECT_EQ(count_records(), 0U);
}

}  // namespace
}  // namespace caisson::network
