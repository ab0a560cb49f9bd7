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

TEST(Firewall, the_ruleset_names_table_bridge_subnet_and_ports) {
  FirewallPlan plan;
  plan.table = "caisson";
  plan.bridge = "caisson0";
  plan.subnet = prefix("172.30.0.0/16");
  std::string text = ruleset_text(plan, some_ports());
  EXPECT_EQ(text.rfind("table ip caisson {}\ndelete table ip caisson\ntable ip caisson {\n", 0), 0U) << "one transaction replaces the table";
  EXPECT_THAT(text, HasSubstr("iifname \"caisson0\" ip daddr 127.0.0.0/8 counter drop"));
  EXPECT_THAT(text, HasSubstr("oifname != \"caisson0\" ip saddr 172.30.0.0/16 masquerade"));
  EXPECT_THAT(text, HasSubstr("add element ip caisson published { tcp . 8080 : 172.30.0.2 . 80 }\n"));
  EXPECT_THAT(text, HasSubstr("add element ip caisson published_on { 127.0.0.1 . udp . 53 : 172.30.0.3 . 5353 }\n"));
  EXPECT_THAT(text, testing::Not(HasSubstr("{table}")));
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

TEST(Ports, an_ipv6_address_is_said_to_be_unsupported) {
  PortBinding binding;
  binding.host_ip = "::1";
  EXPECT_EQ(host_address(binding).error().kind(), ErrorKind::unsupported);
}

TEST(Records, endpoints_and_networks_come_back_as_they_were) {
  EndpointRecord record;
  record.endpoint = {"e1", "n1", "bridge", "eth0", "172.30.0.2", 16, "172.30.0.1", "02:42:ac:1e:00:02", {}};
  for (const auto& port : some_ports()) record.endpoint.ports.push_back(port.binding);
  record.host_interface = "veth1234567";
  auto copy = endpoint_from_text(to_text(record), "k");
  ASSERT_TRUE(copy.ok()) << copy.error().text();
  EXPECT_EQ(to_text(*copy), to_text(record));
  EXPECT_EQ(copy->endpoint.ports, record.endpoint.ports);
  Network network;
  network.id = "n1";
  network.name = "bridge";
  network.subnets = {{"172.30.0.0/16", "172.30.0.1"}};
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
