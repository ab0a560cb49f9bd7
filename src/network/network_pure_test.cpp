// Tests of what needs no kernel: address pool, firewall text, names, and the records' JSON.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.hpp"
#include "network/address_pool.hpp"
#include "network/bridge.hpp"
#include "network/firewall.hpp"
#include "network/port_reservations.hpp"
#include "network/records.hpp"

namespace caisson::network {
namespace {

using testing::HasSubstr;

linux::Ipv4 ip(const char* text) { return linux::parse_ipv4(text).value_or(linux::Ipv4{}); }
linux::Ipv4Prefix prefix(const char* text) { return linux::parse_ipv4_prefix(text).value_or(linux::Ipv4Prefix{}); }

TEST(AddressPool, addresses_go_round_before_one_is_used_again) {
  AddressPool pool(prefix("10.0.0.0/29"), ip("10.0.0.1"));
  EXPECT_EQ(linux::to_string(*pool.take()), "10.0.0.2");
  EXPECT_EQ(linux::to_string(*pool.take()), "10.0.0.3");
  pool.give_back(ip("10.0.0.2"));
  EXPECT_EQ(linux::to_string(*pool.take()), "10.0.0.4");
  EXPECT_EQ(linux::to_string(*pool.take()), "10.0.0.5");
  EXPECT_EQ(linux::to_string(*pool.take()), "10.0.0.6");
  EXPECT_EQ(linux::to_string(*pool.take()), "10.0.0.2");
  EXPECT_EQ(pool.take().error().kind(), ErrorKind::unavailable);
  EXPECT_EQ(pool.taken(), 5U);
}

TEST(AddressPool, a_wanted_address_must_be_free_and_of_the_subnet) {
  AddressPool pool(prefix("10.0.0.0/24"), ip("10.0.0.1"));
  EXPECT_TRUE(pool.take(ip("10.0.0.200")).ok());
  EXPECT_EQ(pool.take(ip("10.0.0.200")).error().kind(), ErrorKind::conflict);
  for (const char* bad : {"10.0.0.0", "10.0.0.1", "10.0.0.255", "10.0.1.2", "192.0.2.1"}) EXPECT_EQ(pool.take(ip(bad)).error().kind(), ErrorKind::invalid) << bad;
}

TEST(AddressPool, the_default_subnets_are_private_and_distinct) {
  auto subnets = default_subnets();
  EXPECT_EQ(linux::to_string(subnets.front()), "172.30.0.0/16");
  for (std::size_t i = 0; i < subnets.size(); ++i) {
    EXPECT_TRUE(prefix("172.16.0.0/12").contains(subnets[i].address) || prefix("10.0.0.0/8").contains(subnets[i].address));
    for (std::size_t j = i + 1; j < subnets.size(); ++j) EXPECT_FALSE(subnets[i].overlaps(subnets[j]));
  }
}

TEST(Ipv4, prefixes_and_addresses_are_parsed_strictly) {
  for (const char* bad : {"", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.4 ", "01.2.3.4", "a.b.c.d"}) EXPECT_FALSE(linux::parse_ipv4(bad).ok()) << bad;
  for (const char* bad : {"10.0.0.0", "10.0.0.0/33", "10.0.0.1/24", "10.0.0.0/", "10.0.0.0/-1", "/8"}) EXPECT_FALSE(linux::parse_ipv4_prefix(bad).ok()) << bad;
  EXPECT_TRUE(prefix("0.0.0.0/0").contains(ip("8.8.8.8")));
  EXPECT_TRUE(prefix("172.16.0.0/12").overlaps(prefix("172.30.0.0/16")));
  EXPECT_FALSE(prefix("172.29.0.0/16").overlaps(prefix("172.30.0.0/16")));
  EXPECT_EQ(linux::to_string(mac_of(ip("172.30.0.2"))), "02:42:ac:1e:00:02");
  EXPECT_EQ(linux::to_string(*linux::parse_mac("02:00:00:0a:ff:07")), "02:00:00:0a:ff:07");
  for (const char* bad : {"", "02:00:00:00:00", "02:00:00:00:00:0g", "2:0:0:0:0:7", "01:00:00:00:00:07"}) EXPECT_FALSE(linux::parse_mac(bad).ok()) << bad;
}

std::vector<PublishedPort> some_ports() {
  PortBinding everywhere;
  everywhere.host_port = 8080;
  everywhere.container_port = 80;
  PortBinding local = everywhere;
  local.protocol = Protocol::udp;
  local.host_ip = "127.0.0.1";
  local.host_port = 53;
  local.container_port = 5353;
  return {{everywhere, ip("172.30.0.2")}, {local, ip("172.30.0.3")}};
}

BridgeRules some_bridge() {
  BridgeRules rules;
  rules.bridge = "caisson0";
  rules.subnet = prefix("172.30.0.0/16");
  return rules;
}

TEST(Firewall, the_ruleset_names_table_bridges_subnets_and_ports) {
  FirewallPlan plan;
  plan.table = "caisson";
  plan.bridges = {some_bridge()};
  std::string text = ruleset_text(plan, some_ports());
  EXPECT_EQ(text.rfind("table ip caisson {}\ndelete table ip caisson\ntable inet caisson {}\ndelete table inet caisson\ntable inet caisson {\n", 0), 0U)
      << "one transaction replaces the table";
  EXPECT_THAT(text, HasSubstr("iifname @bridges ip daddr 127.0.0.0/8 counter drop"));
  EXPECT_THAT(text, HasSubstr("oifname != @bridges ip saddr @masqueraded masquerade"));
  EXPECT_THAT(text, HasSubstr("add element inet caisson bridges { \"caisson0\" }\n"));
  EXPECT_THAT(text, HasSubstr("add element inet caisson talking { \"caisson0\" . \"caisson0\" }\n"));
  EXPECT_THAT(text, HasSubstr("add element inet caisson masqueraded { 172.30.0.0/16 }\n"));
  EXPECT_THAT(text, HasSubstr("add element inet caisson published { tcp . 8080 : 172.30.0.2 . 80 }\n"));
  EXPECT_THAT(text, HasSubstr("add element inet caisson published_on { 127.0.0.1 . udp . 53 : 172.30.0.3 . 5353 }\n"));
  EXPECT_THAT(text, testing::Not(HasSubstr("{table}")));
  EXPECT_THAT(text, testing::Not(HasSubstr("{admission}")));
}

TEST(Firewall, an_internal_bridge_has_no_way_out_and_an_isolated_one_no_neighbours) {
  BridgeRules rules = some_bridge();
  rules.internal = true;
  rules.isolates_containers = true;
  rules.subnet6 = *linux::parse_ipv6_prefix("fd00::/64");
  EXPECT_EQ(add_bridge_text("t", rules),
            "add element inet t bridges { \"caisson0\" }\nadd element inet t internal { \"caisson0\" }\nadd element inet t subnets { 172.30.0.0/16 }\n"
            "add element inet t subnets6 { fd00::/64 }\n");
  EXPECT_EQ(delete_bridge_text("t", rules), replace_all(add_bridge_text("t", rules), "add element", "delete element"));
}

TEST(Firewall, a_declared_policy_names_who_may_open_published_ports) {
  FirewallPlan plan;
  plan.table = "t";
  EXPECT_THAT(ruleset_text(plan, {}), HasSubstr("chain admission {\n    accept\n  }"));
  plan.published.allowed_sources = {"192.168.0.0/16", "fd00::/8"};
  plan.published.allowed_interfaces = {"lan0"};
  EXPECT_THAT(ruleset_text(plan, {}), HasSubstr("chain admission {\n    iifname @bridges accept\n    ip saddr { 192.168.0.0/16 } accept\n    ip6 saddr { fd00::/8 } accept\n"
                                                "    iifname { \"lan0\" } accept\n    counter drop\n  }"));
  EXPECT_TRUE(check_port_policy(plan.published).ok());
  for (const char* bad : {"192.168.0.1/16", "everybody", "10.0.0.0", "fd00::"}) {
    PortPolicy policy;
    policy.allowed_sources = {bad};
    EXPECT_EQ(check_port_policy(policy).error().kind(), ErrorKind::invalid) << bad;
  }
  PortPolicy policy;
  policy.allowed_interfaces = {"a\"b"};
  EXPECT_FALSE(check_port_policy(policy).ok());
}

TEST(Firewall, a_relay_asks_the_same_policy) {
  const std::vector<std::string> sources = {"192.168.0.0/16", "fd00::/8"};
  auto admits = [&](const char* address) { return is_allowed_source(sources, *linux::SocketAddress::parse(address, 4711)); };
  EXPECT_TRUE(admits("192.168.3.4"));
  EXPECT_TRUE(admits("fd12::1"));
  for (const char* outside : {"192.169.0.1", "127.0.0.1", "fe80::1", "::1", "2001:db8::1"}) EXPECT_FALSE(admits(outside)) << outside;
}

TEST(Firewall, answers_to_a_relay_are_marked_only_where_there_is_one) {
  FirewallPlan plan;
  plan.table = "t";
  EXPECT_THAT(ruleset_text(plan, {}), testing::Not(testing::AnyOf(HasSubstr("chain relayed"), HasSubstr("{relays}"))));
  plan.relays = true;
  EXPECT_THAT(ruleset_text(plan, {}), HasSubstr("chain relayed {\n    type filter hook output priority mangle; policy accept;\n    meta mark 3390373889 ct mark set 3390373890\n  }"));
  EXPECT_THAT(ruleset_text(plan, {}), HasSubstr("ct direction reply ct mark 3390373890 meta mark set ct mark\n"));
}

TEST(Firewall, a_port_of_both_families_has_an_element_in_each) {
  auto ports = some_ports();
  for (auto& port : ports) port.container6 = *linux::parse_ipv6("fd00::2");
  auto elements = port_elements(ports);
  ASSERT_EQ(elements.size(), 3U) << "127.0.0.1 is of one family";
  EXPECT_EQ(elements[1].map, "published6");
  EXPECT_EQ(to_hex(elements[1].key.bytes()), "060000001f900000");
  EXPECT_EQ(to_hex(elements[1].value.bytes()), "fd0000000000000000000000000000020050" "0000");
  FirewallPlan plan;
  plan.table = "t";
  EXPECT_THAT(ruleset_text(plan, ports), HasSubstr("add element inet t published6 { tcp . 8080 : fd00::2 . 80 }\n"));
}

TEST(Firewall, map_elements_are_the_same_as_the_rulesets_lines) {
  auto elements = port_elements(some_ports());
  ASSERT_EQ(elements.size(), 2U);
  EXPECT_EQ(elements[0].map, "published");
  EXPECT_EQ(to_hex(elements[0].key.bytes()), "060000001f900000");
  EXPECT_EQ(to_hex(elements[0].value.bytes()), "ac1e000200500000");
  EXPECT_EQ(elements[1].map, "published_on");
  EXPECT_EQ(to_hex(elements[1].key.bytes()), "7f0000011100000000350000");
  EXPECT_EQ(to_hex(elements[1].value.bytes()), "ac1e000314e90000");
  EXPECT_EQ(elements[1].what, "published port 127.0.0.1:53/udp");
}

TEST(Firewall, names_that_would_need_quoting_are_refused) {
  for (const char* good : {"caisson", "caisson_2", "c"}) EXPECT_TRUE(check_table_name(good).ok()) << good;
  for (const char* bad : {"", "2c", "a b", "a;b", "a{", "fwd", "filter", "a\n", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}) EXPECT_FALSE(check_table_name(bad).ok()) << bad;
  for (const char* good : {"eth0", "caisson0", "br-1.2"}) EXPECT_TRUE(check_interface_name(good).ok()) << good;
  for (const char* bad : {"", ".", "..", "-x", "a/b", "a b", "a\"", "eth%d", "sixteen_letters_"}) EXPECT_FALSE(check_interface_name(bad).ok()) << bad;
}

TEST(Ports, an_address_is_of_the_families_that_the_endpoint_has) {
  PortBinding binding;
  EXPECT_TRUE(host_addresses(binding, false)->ipv4 && !host_addresses(binding, false)->ipv6);
  EXPECT_TRUE(host_addresses(binding, true)->ipv4 && host_addresses(binding, true)->ipv6);
  binding.host_ip = "0.0.0.0";
  EXPECT_FALSE(host_addresses(binding, true)->ipv6);
  binding.host_ip = "fd00::1";
  EXPECT_EQ(host_addresses(binding, false).error().kind(), ErrorKind::unsupported);
  EXPECT_FALSE(host_addresses(binding, true)->ipv4);
  binding.host_ip = "::1";
  EXPECT_TRUE(is_forwarded(binding) && !host_addresses(binding, false)->ipv4 && !host_addresses(binding, false)->ipv6);
  binding.host_ip = "nonsense";
  EXPECT_EQ(host_addresses(binding, true).error().kind(), ErrorKind::invalid);
}

TEST(Records, endpoints_and_networks_come_back_as_they_were) {
  EndpointRecord record;
  record.endpoint = {"e1", "n1", "bridge", "eth0", "172.30.0.2", 16, "172.30.0.1", "02:42:ac:1e:00:02", {}, "fd00::2", 64, "fd00::1"};
  record.gateway_priority = -3;
  record.sequence = 2;
  for (const auto& port : some_ports()) record.endpoint.ports.push_back(port.binding);
  record.host_interface = "veth1234567";
  auto copy = endpoint_from_text(to_text(record), "k");
  ASSERT_TRUE(copy.ok()) << copy.error().text();
  EXPECT_EQ(to_text(*copy), to_text(record));
  EXPECT_EQ(copy->endpoint.ports, record.endpoint.ports);
  Network network;
  network.id = "n1";
  network.name = "bridge";
  network.subnets = {{"172.30.0.0/16", "172.30.0.1", "172.30.4.0/24", {{"router", "172.30.0.9"}}}, {"fd00::/64", "fd00::1", "", {}}};
  network.internal = network.ipv6 = network.keeps_source = true;
  network.options = {{"a", "b"}};
  network.created = 1234567890123456789;
  auto same = network_from_text(to_text(network), "k");
  ASSERT_TRUE(same.ok()) << same.error().text();
  EXPECT_EQ(to_text(*same), to_text(network));
}

TEST(Records, a_damaged_record_names_key_and_field) {
  auto broken = endpoint_from_text(R"({"ports":[{"protocol":"carrier pigeon"}]})", "network/endpoint/c1");
  ASSERT_FALSE(broken.ok());
  EXPECT_EQ(broken.error().kind(), ErrorKind::corrupt);
  EXPECT_THAT(broken.error().text(), HasSubstr("network/endpoint/c1.ports[0]"));
  EXPECT_EQ(network_from_text("[", "k").error().kind(), ErrorKind::corrupt);
}

}  // namespace
}  // namespace caisson::network
