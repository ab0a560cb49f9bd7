// Published ports and the firewall between host, outside and containers.
#include <gmock/gmock.h>

#include <optional>
#include <thread>

#include "network/test_support.hpp"

namespace caisson::network {
namespace {

using testing::HasSubstr;
using namespace testing_support;

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

}  // namespace
}  // namespace caisson::network
