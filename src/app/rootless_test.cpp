// What an engine without root is given: ids, and the words that start its uplink.
#include "app/rootless.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "app/rootless_uplink.hpp"

namespace caisson::app {
namespace {

TEST(Rootless, the_user_is_root_inside_and_the_subordinate_ids_follow) {
  auto map = rootless_id_map("anna:100000:65536\n", "anna:200000:65536\n", "anna", 1000, 1001);
  ASSERT_TRUE(map.ok()) << map.error().text();
  EXPECT_EQ(map->uids, (std::vector<linux::IdMapping>{{0, 1000, 1}, {1, 100000, 65535}}));
  EXPECT_EQ(map->gids, (std::vector<linux::IdMapping>{{0, 1001, 1}, {1, 200000, 65535}}));
}

TEST(Rootless, missing_and_too_few_ids_are_refused_with_what_mends_it) {
  auto none = rootless_id_map("bert:100000:65536\n", "anna:1:65536\n", "anna", 1000, 1000);
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().kind(), ErrorKind::not_found);
  EXPECT_EQ(none.error().text(), "/etc/subuid: no range of ids for anna");
  EXPECT_NE(none.error().hint().find("usermod --add-subuids"), std::string::npos);
  auto few = rootless_id_map("anna:100000:65536\n", "anna:100000:65533\n", "anna", 1000, 1000);
  ASSERT_FALSE(few.ok());
  EXPECT_EQ(few.error().text(), "/etc/subgid: gives anna 65533 ids, and containers need 65534");
  EXPECT_NE(few.error().hint().find("--add-subgids"), std::string::npos);
  EXPECT_TRUE(rootless_id_map("anna:1:999\nanna:1001:64535\n", "anna:1:999\nanna:1001:64535\n", "anna", 1000, 1000).ok()) << "all that a container with 65536 ids leaves to a user in it";
  EXPECT_TRUE(rootless_id_map("1000:100000:65535\n", "1000:100000:65535\n", "", 1000, 1000).ok()) << "by number, for who stands in no file";
}

TEST(Rootless, an_uplink_forwards_nothing_by_itself_and_keeps_the_hosts_loopback_closed) {
  const auto pasta = uplink_command({RootlessNetwork::pasta, "/usr/bin/pasta"}, 42, true);
  auto has = [&](std::vector<std::string> words) { return std::search(pasta.begin(), pasta.end(), words.begin(), words.end()) != pasta.end(); };
  EXPECT_EQ(pasta.front(), "/usr/bin/pasta");
  for (const char* option : {"-t", "-u", "-T", "-U"}) EXPECT_TRUE(has({option, "none"})) << option;
  EXPECT_TRUE(has({"--no-map-gw"}));
  EXPECT_TRUE(has({"--dns-forward", uplink_resolver(RootlessNetwork::pasta)}));
  const auto plain = uplink_command({RootlessNetwork::pasta, "/usr/bin/pasta"}, 42, false);
  EXPECT_EQ(std::count(plain.begin(), plain.end(), "--dns-forward"), 0) << "a resolver that is reached by itself is asked by itself";
  EXPECT_TRUE(has({"--netns", "/proc/42/ns/net"}));
  EXPECT_EQ(uplink_command({RootlessNetwork::slirp4netns, "/usr/bin/slirp4netns"}, 42, true),
            (std::vector<std::string>{"/usr/bin/slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback", "42", "uplink"}));
}

TEST(Rootless, a_resolver_is_asked_for_containers_by_its_ipv4_address) {
  EXPECT_TRUE(has_ipv4_nameserver("# x\nnameserver ::1\nsearch example.org\nnameserver  127.0.0.53 \n"));
  EXPECT_FALSE(has_ipv4_nameserver("nameserver ::1\nnameserver\nnameserver x\n#nameserver 127.0.0.1\n"));
}

TEST(Rootless, a_default_route_is_seen_in_either_family) {
  constexpr const char* head = "Iface\tDestination\tGateway \tFlags\n";
  EXPECT_TRUE(has_default_route(std::string(head) + "uplink\t00000000\t010200C0\t0003\n", ""));
  EXPECT_FALSE(has_default_route(std::string(head) + "uplink\t000200C0\t00000000\t0001\n", ""));
  constexpr const char* all = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 ";
  EXPECT_TRUE(has_default_route("", std::string(all) + "fd000000000000000000000000000001 00000400 00000001 00000000 00000003   uplink\n"));
  EXPECT_FALSE(has_default_route("", std::string(all) + "00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n")) << "the kernel's own";
  EXPECT_FALSE(has_default_route("", ""));
}

}  // namespace
}  // namespace caisson::app
