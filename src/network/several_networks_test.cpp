// User-defined networks: made, kept apart, joined, and found again by a restarted manager.
#include <gmock/gmock.h>

#include <functional>
#include <set>

#include "network/test_support.hpp"

namespace caisson::network {
namespace {

using testing::HasSubstr;
using namespace testing_support;

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

}  // namespace
}  // namespace caisson::network
