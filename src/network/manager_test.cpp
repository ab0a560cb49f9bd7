// Tests of the network manager: addresses, what is given back, what a restart finds, and refusals.
#include <gmock/gmock.h>

#include <thread>

#include "network/test_support.hpp"

namespace caisson::network {
namespace {

using testing::HasSubstr;
using namespace testing_support;

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
