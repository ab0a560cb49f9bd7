// Tests of the table of names that the embedded DNS server asks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/name_table.hpp"
#include "engine/network_files.hpp"

namespace caisson::engine {
namespace {

using testing::HasSubstr;

network::Endpoint endpoint_of(const std::string& network, const std::string& ipv4, const std::string& ipv6 = "") {
  network::Endpoint endpoint;
  endpoint.network_name = network;
  endpoint.network_id = "id-of-" + network;
  endpoint.ipv4 = ipv4;
  endpoint.ipv6 = ipv6;
  return endpoint;
}

std::string id_of(char digit) { return std::string(64, digit); }

class Names : public testing::Test {
 protected:
  std::string ask(char container, std::string_view name) {
    auto found = table.addresses_of(id_of(container), name);
    std::string text;
    for (const auto& address : found.ipv4) text += (text.empty() ? "" : " ") + linux::to_string(address);
    for (const auto& address : found.ipv6) text += (text.empty() ? "" : " ") + linux::to_string(linux::Ipv6::from_bytes(address));
    return text;
  }
  void put(char container, const std::string& name, std::vector<EndpointSpec> wanted, const std::vector<network::Endpoint>& endpoints) {
    NetworkSpec spec;
    spec.endpoints = std::move(wanted);
    table.put(id_of(container), name, spec, endpoints);
  }
  NameTable table;
};

TEST_F(Names, a_container_is_known_by_name_alias_and_short_id_on_its_networks_only) {
  put('a', "Web", {{.network = "front", .aliases = {"WWW"}}}, {endpoint_of("front", "10.1.0.2", "fd00::2")});
  put('b', "db", {{.network = "front"}, {.network = "back"}}, {endpoint_of("front", "10.1.0.3"), endpoint_of("back", "10.2.0.3")});
  put('c', "far", {{.network = "back"}}, {endpoint_of("back", "10.2.0.4")});
  for (const char* name : {"web", "www", "aaaaaaaaaaaa", "web.front", "www.front"}) EXPECT_EQ(ask('b', name), "10.1.0.2 fd00::2") << name;
  EXPECT_EQ(ask('c', "web"), "");
  EXPECT_EQ(ask('c', "db"), "10.2.0.3");
  EXPECT_EQ(ask('a', "db"), "10.1.0.3");
  EXPECT_EQ(ask('a', "db.back"), "") << "not on that network";
  EXPECT_EQ(ask('a', "web"), "10.1.0.2 fd00::2") << "its own name";
  EXPECT_EQ(ask('d', "web"), "") << "nobody";
  EXPECT_EQ(table.name_of(id_of('b'), *linux::parse_ipv4("10.1.0.2")), "Web.front");
  EXPECT_EQ(table.name_of(id_of('b'), linux::parse_ipv6("fd00::2")->bytes()), "Web.front");
  EXPECT_EQ(table.name_of(id_of('c'), *linux::parse_ipv4("10.1.0.2")), "");
}

TEST_F(Names, containers_that_share_an_alias_answer_together) {
  put('a', "one", {{.network = "n", .aliases = {"web"}}}, {endpoint_of("n", "10.1.0.2")});
  put('b', "two", {{.network = "n", .aliases = {"web"}}}, {endpoint_of("n", "10.1.0.3")});
  EXPECT_EQ(ask('a', "web"), "10.1.0.2 10.1.0.3");
  table.erase(id_of('a'));
  EXPECT_EQ(ask('b', "web"), "10.1.0.3");
  EXPECT_EQ(ask('a', "web"), "") << "it is gone";
}

TEST_F(Names, a_link_is_a_name_that_its_container_alone_knows) {
  put('a', "db", {{.network = "n"}}, {endpoint_of("n", "10.1.0.2")});
  put('b', "web", {{.network = "n", .links = {"db:Database"}}}, {endpoint_of("n", "10.1.0.3")});
  put('c', "other", {{.network = "n"}}, {endpoint_of("n", "10.1.0.4")});
  EXPECT_EQ(ask('b', "database"), "10.1.0.2");
  EXPECT_EQ(ask('c', "database"), "");
}

TEST_F(Names, names_follow_renames_and_disconnects) {
  put('a', "old", {{.network = "n"}}, {endpoint_of("n", "10.1.0.2")});
  put('b', "asker", {{.network = "n"}}, {endpoint_of("n", "10.1.0.3")});
  put('a', "new", {{.network = "n"}}, {endpoint_of("n", "10.1.0.2")});
  EXPECT_EQ(ask('b', "old"), "");
  EXPECT_EQ(ask('b', "new"), "10.1.0.2");
  put('a', "new", {}, {});
  EXPECT_EQ(ask('b', "new"), "");
  EXPECT_EQ(table.name_of(id_of('b'), *linux::parse_ipv4("10.1.0.2")), "");
}

TEST_F(Names, the_default_bridge_has_no_names) {
  put('a', "web", {{.network = "bridge"}}, {endpoint_of("bridge", "172.30.0.2")});
  EXPECT_EQ(ask('a', "web"), "");
  EXPECT_FALSE(has_embedded_dns({endpoint_of("bridge", "172.30.0.2")}));
  EXPECT_TRUE(has_embedded_dns({endpoint_of("bridge", "172.30.0.2"), endpoint_of("n", "10.1.0.2")}));
}

TEST(EmbeddedDns, the_resolver_file_names_it_with_dockers_options) {
  const std::string host = "nameserver 127.0.0.53\nnameserver 9.9.9.9\nsearch lan\noptions edns0\n";
  EXPECT_EQ(resolv_conf_text(host, {}, true), "nameserver 127.0.0.11\nsearch lan\noptions edns0 ndots:0\n");
  ContainerSpec own;
  own.dns = {"1.2.3.4"};
  own.dns_options = {"ndots:2"};
  EXPECT_EQ(resolv_conf_text("", own, true), "nameserver 127.0.0.11\noptions ndots:2\n");
}

TEST(EmbeddedDns, it_asks_the_users_servers_else_the_hosts_else_public_ones) {
  ContainerSpec own;
  own.dns = {"1.2.3.4"};
  own.dns_options = {"ndots:2"};
  auto config = dns_config("nameserver 127.0.0.53\n", own, false);
  ASSERT_TRUE(config.ok()) << config.error().text();
  ASSERT_EQ(config->upstreams.size(), 1U);
  EXPECT_EQ(config->upstreams[0].address.text(), "1.2.3.4:53");
  EXPECT_FALSE(config->forwards);
  EXPECT_TRUE(config->keeps_single_labels);
  auto host = dns_config("nameserver 127.0.0.53\nnameserver 9.9.9.9\n", {}, true);
  ASSERT_EQ(host->upstreams.size(), 2U);
  EXPECT_TRUE(host->upstreams[0].from_host);
  EXPECT_FALSE(host->upstreams[1].from_host);
  EXPECT_TRUE(host->forwards);
  EXPECT_FALSE(host->keeps_single_labels);
  EXPECT_EQ(dns_config("", {}, true)->upstreams.size(), 2U);
}

}  // namespace
}  // namespace caisson::engine
