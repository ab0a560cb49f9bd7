// What the tests of the network manager share: a host of its own, which is a fresh network namespace with a second "outside" host beside it.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/ids.hpp"
#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/rtnetlink.hpp"
#include "linux/socket.hpp"
#include "linux/spawn.hpp"
#include "network/bridge.hpp"
#include "network/netns_testing.hpp"
#include "network/network.hpp"
#include "state/store.hpp"

namespace caisson::network::testing_support {

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
inline constexpr int long_patience_ms = 5000;
inline constexpr int short_patience_ms = 300;

/// What a client in `netns_fd` gets from address:port; "" for nothing, "refused" for a refusal.
inline std::string ask(int netns_fd, int type, const std::string& address, std::uint16_t port, int patience_ms = long_patience_ms) {
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

class NetworkManagerTest : public ::testing::Test {
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
    ASSERT_TRUE(connect_by_veth("uplink", outside_.get()).ok());
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

}  // namespace caisson::network::testing_support
