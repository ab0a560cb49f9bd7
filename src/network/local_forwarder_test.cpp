// Tests of the forwarder of [::1], in a network namespace of their own with the target in another.
#include "network/local_forwarder.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>

#include "base/strings.hpp"
#include "linux/fault.hpp"
#include "linux/spawn.hpp"
#include "network/netns_testing.hpp"

namespace caisson::network {
namespace {

using namespace testing_support;
using testing::HasSubstr;

constexpr int patience_ms = 10000;

linux::SocketAddress address(const std::string& text, std::uint16_t port) {
  auto parsed = linux::SocketAddress::parse(text, port);
  EXPECT_TRUE(parsed.ok());
  return std::move(parsed).value_or({});
}

UniqueFd bound(int type, const std::string& text, std::uint16_t port) {
  UniqueFd socket(::socket(text.find(':') == std::string::npos ? AF_INET : AF_INET6, type | SOCK_CLOEXEC, 0));
  ignore(linux::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, 1));
  EXPECT_TRUE(linux::bind(socket.get(), address(text, port)).ok());
  if (type == SOCK_STREAM) {
    EXPECT_TRUE(linux::listen(socket.get(), 1024).ok());
  }
  return socket;
}

UniqueFd connected(int type, std::uint16_t port) {
  UniqueFd socket(::socket(AF_INET6, type | SOCK_CLOEXEC, 0));
  if (!linux::connect(socket.get(), address("::1", port))) socket.reset();
  return socket;
}

bool readable(int fd, int timeout_ms = patience_ms) {
  pollfd entry{fd, POLLIN, 0};
  return ::poll(&entry, 1, timeout_ms) == 1;
}

/// Everything until the end of the stream; "broken" when it was reset.
std::string read_to_end(int fd) {
  std::string out;
  std::string buffer(65536, '\0');
  while (readable(fd)) {
    const ssize_t got = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (got == 0) return out;
    if (got < 0) return "broken";
    out.append(buffer, 0, static_cast<std::size_t>(got));
  }
  return "no end";
}

std::string read_datagram(int fd) {
  std::string buffer(65536, '\0');
  if (!readable(fd)) return "nothing";
  const ssize_t got = ::recv(fd, buffer.data(), buffer.size(), 0);
  return got < 0 ? "refused" : buffer.substr(0, static_cast<std::size_t>(got));
}

/// The test's threads stand in a "host", where the forwarder is; the target is 10.99.0.2 (and fd00::2) beyond a veth.
class LocalForwarderTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: network namespaces";
    original_.reset(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    host_ = new_netns();
    container_ = new_netns();
    ASSERT_EQ(::setns(host_.get(), CLONE_NEWNET), 0);
    ASSERT_TRUE(connect_by_veth("inner", container_.get()).ok());
    ASSERT_EQ(run("ip link set lo up && ip addr add 10.99.0.1/24 dev inner && ip addr add fd00::1/64 dev inner nodad"), 0);
    ASSERT_TRUE(inside(container_.get(), [] {
      return run("ip link set lo up && ip addr add 10.99.0.2/24 dev eth0 && ip addr add fd00::2/64 dev eth0 nodad && ip link set eth0 up") == 0;
    }));
    auto forwarder = LocalForwarder::create();
    ASSERT_TRUE(forwarder.ok()) << forwarder.error().text();
    forwarder_ = std::move(*forwarder);
  }
  void TearDown() override {
    forwarder_.reset();
    if (original_) {
      ASSERT_EQ(::setns(original_.get(), CLONE_NEWNET), 0);
    }
  }
  std::uint16_t add(Protocol protocol, std::uint16_t port, const linux::SocketAddress& target, const std::string& owner = "c1") {
    PortBinding binding;
    binding.protocol = protocol;
    binding.host_port = port;
    auto added = forwarder_->add(owner, binding, target);
    EXPECT_TRUE(added.ok()) << added.error().text();
    return std::move(added).value_or(0);
  }

  UniqueFd original_;
  UniqueFd host_;
  UniqueFd container_;
  std::unique_ptr<LocalForwarder> forwarder_;
};

TEST_F(LocalForwarderTest, a_connection_is_led_to_the_container_and_each_direction_ends_by_itself) {
  for (const char* target : {"10.99.0.2", "fd00::2"}) {
    UniqueFd listener = inside(container_.get(), [&] { return bound(SOCK_STREAM, target, 80); });
    const std::uint16_t port = add(Protocol::tcp, 0, address(target, 80));
    UniqueFd client = connected(SOCK_STREAM, port);
    ASSERT_TRUE(static_cast<bool>(client));
    auto server = linux::accept4(listener.get());
    ASSERT_TRUE(server.ok());
    ASSERT_TRUE(linux::send_all(client.get(), "question").ok());
    ASSERT_TRUE(linux::shutdown(client.get(), SHUT_WR).ok());
    EXPECT_EQ(read_to_end(server->get()), "question") << "the server sees the end of the client's half";
    ASSERT_TRUE(linux::send_all(server->get(), "answer").ok());
    server->reset();
    EXPECT_EQ(read_to_end(client.get()), "answer");
  }
}

TEST_F(LocalForwarderTest, much_data_both_ways_arrives_whole_though_readers_are_slow) {
  UniqueFd listener = inside(container_.get(), [] { return bound(SOCK_STREAM, "10.99.0.2", 80); });
  const std::uint16_t port = add(Protocol::tcp, 0, address("10.99.0.2", 80));
  UniqueFd client = connected(SOCK_STREAM, port);
  auto server = linux::accept4(listener.get());
  ASSERT_TRUE(client && server.ok());
  std::string data;
  for (std::uint32_t i = 0; data.size() < (8U << 20U); ++i) data += concat(i, ' ');
  auto send_everything = [&](int fd) {
    EXPECT_TRUE(linux::send_all(fd, data).ok());
    EXPECT_TRUE(linux::shutdown(fd, SHUT_WR).ok());
  };
  // Both write first: with the bounded memory between them, neither gets through before the other reads.
  std::thread upwards([&] { send_everything(client.get()); });
  std::thread downwards([&] { send_everything(server->get()); });
  std::string at_server;
  std::thread reader([&] { at_server = read_to_end(server->get()); });
  EXPECT_TRUE(read_to_end(client.get()) == data);
  reader.join();
  EXPECT_TRUE(at_server == data);
  upwards.join();
  downwards.join();
}

TEST_F(LocalForwarderTest, a_client_is_let_down_when_nobody_listens_in_the_container) {
  const std::uint16_t port = add(Protocol::tcp, 0, address("10.99.0.2", 81));
  UniqueFd client = connected(SOCK_STREAM, port);
  ASSERT_TRUE(static_cast<bool>(client));
  const std::string seen = read_to_end(client.get());
  EXPECT_TRUE(seen.empty() || seen == "broken") << seen;
}

TEST_F(LocalForwarderTest, datagrams_find_their_way_and_the_answers_theirs) {
  UniqueFd server = inside(container_.get(), [] { return bound(SOCK_DGRAM, "10.99.0.2", 53); });
  const std::uint16_t port = add(Protocol::udp, 0, address("10.99.0.2", 53));
  UniqueFd one = connected(SOCK_DGRAM, port);
  UniqueFd two = connected(SOCK_DGRAM, port);
  ASSERT_TRUE(linux::send(one.get(), "one").ok());
  ASSERT_TRUE(linux::send(two.get(), "two").ok());
  for (int i = 0; i < 2; ++i) {
    std::string buffer(64, '\0');
    ASSERT_TRUE(readable(server.get()));
    auto got = linux::receive_datagram(server.get(), buffer);
    ASSERT_TRUE(got.ok() && *got);
    ASSERT_TRUE(linux::send_datagram(server.get(), "to " + buffer.substr(0, (*got)->size), (*got)->from).ok());
  }
  EXPECT_EQ(read_datagram(one.get()), "to one");
  EXPECT_EQ(read_datagram(two.get()), "to two");
  ASSERT_TRUE(linux::send(one.get(), std::string(60000, 'x')).ok());
  EXPECT_EQ(read_datagram(server.get()).size(), 60000U);
}

TEST_F(LocalForwarderTest, a_port_is_refused_while_it_is_taken_and_free_when_its_owner_is_gone) {
  UniqueFd listener = inside(container_.get(), [] { return bound(SOCK_STREAM, "10.99.0.2", 80); });
  const std::uint16_t port = add(Protocol::tcp, 0, address("10.99.0.2", 80));
  UniqueFd client = connected(SOCK_STREAM, port);
  auto server = linux::accept4(listener.get());
  ASSERT_TRUE(client && server.ok());
  PortBinding binding;
  binding.host_port = port;
  auto refused = forwarder_->add("c2", binding, address("10.99.0.2", 80));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::conflict);
  EXPECT_THAT(refused.error().text(), HasSubstr(concat("[::1]:", port, " failed: port is already allocated")));
  ASSERT_TRUE(forwarder_->remove("c1").ok());
  EXPECT_FALSE(static_cast<bool>(connected(SOCK_STREAM, port)));
  EXPECT_NE(read_to_end(client.get()), "no end") << "its connections end with it";
  EXPECT_EQ(add(Protocol::tcp, port, address("10.99.0.2", 80), "c2"), port) << "though the old connection still lingers";
  ASSERT_TRUE(forwarder_->remove("nobody").ok());
}

TEST_F(LocalForwarderTest, it_stands_beside_a_socket_that_reserves_the_port_on_every_address) {
  for (int type : {SOCK_STREAM, SOCK_DGRAM}) {
    UniqueFd reservation(::socket(AF_INET6, type | SOCK_CLOEXEC, 0));
    ASSERT_TRUE(linux::setsockopt(reservation.get(), IPPROTO_IPV6, IPV6_V6ONLY, 1).ok());
    ASSERT_TRUE(linux::setsockopt(reservation.get(), SOL_SOCKET, SO_REUSEADDR, 1).ok());
    ASSERT_TRUE(linux::bind(reservation.get(), address("::", 0)).ok());
    const std::uint16_t port = linux::getsockname(reservation.get())->port();
    EXPECT_EQ(add(type == SOCK_STREAM ? Protocol::tcp : Protocol::udp, port, address("10.99.0.2", 80)), port);
    UniqueFd other(::socket(AF_INET6, type | SOCK_CLOEXEC, 0));
    ASSERT_TRUE(linux::setsockopt(other.get(), SOL_SOCKET, SO_REUSEADDR, 1).ok());
    EXPECT_FALSE(linux::bind(other.get(), address("::1", port)).ok()) << "nobody joins us on the port";
  }
}

TEST_F(LocalForwarderTest, a_host_without_ipv6_loopback_is_told_so) {
  if (run("sysctl -qw net.ipv6.conf.lo.disable_ipv6=1") != 0) GTEST_SKIP() << "this kernel has no IPv6";
  auto refused = forwarder_->add("c1", PortBinding{}, address("10.99.0.2", 80));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::unsupported);
}

TEST_F(LocalForwarderTest, a_failed_descriptor_costs_one_connection_only) {
  UniqueFd listener = inside(container_.get(), [] { return bound(SOCK_STREAM, "10.99.0.2", 80); });
  const std::uint16_t port = add(Protocol::tcp, 0, address("10.99.0.2", 80));
  for (const char* call : {"socket", "epoll_ctl", "accept4"}) {
    UniqueFd client(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    auto where = address("::1", port);
    linux::ScopedFault fault(call, EMFILE, 1);
    ASSERT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&where.storage), where.size), 0);
    if (std::string(call) != "accept4") {  // which leaves it in the backlog, to be served a little later
      EXPECT_EQ(read_to_end(client.get()), "") << call;
    }
  }
  UniqueFd client = connected(SOCK_STREAM, port);
  ASSERT_TRUE(readable(listener.get()));
  auto server = linux::accept4(listener.get());
  ASSERT_TRUE(server.ok());
}

}  // namespace
}  // namespace caisson::network
