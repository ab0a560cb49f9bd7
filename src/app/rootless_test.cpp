// What an engine without root is given: ids, and the words that start its uplink.
#include "app/rootless.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "app/rootless_host.hpp"
#include "app/rootless_uplink.hpp"
#include "base/codec.hpp"
#include "linux/event.hpp"
#include "linux/process.hpp"

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

// ---- what an engine may ask of its supervisor ----

HostRequest request_of(HostTask task, std::int32_t pid = 0, std::string address = "") {
  HostRequest request;
  request.task = task;
  request.pid = pid;
  request.address = std::move(address);
  return request;
}

TEST(HostServices, what_is_no_request_ends_the_conversation) {
  HostServices services({});
  const std::string whole = encode(request_of(HostTask::is_of_host, 1));
  HostRequest unknown = request_of(static_cast<HostTask>(static_cast<int>(HostTask::end_fetch) + 1));
  HostRequest strange = request_of(HostTask::bind_port, 0, "127.0.0.1");
  strange.protocol = static_cast<network::Protocol>(3);
  for (const auto& bytes : {std::string(), std::string("/bin/sh"), whole.substr(0, whole.size() - 1), whole + "x", encode(unknown), encode(strange)}) {
    auto answered = services.answer(bytes);
    ASSERT_FALSE(answered.ok()) << bytes.size();
    EXPECT_EQ(answered.error().kind(), ErrorKind::corrupt);
  }
  EXPECT_TRUE(services.answer(whole).ok());
}

TEST(HostServices, a_process_that_it_has_not_started_is_never_ended) {
  HostServices services({});
  auto bystander = linux::fork_with_pidfd(0);
  ASSERT_TRUE(bystander.ok());
  if (bystander->pid == 0)
    for (;;) ignore(linux::poll({}, -1));
  for (const int pid : {0, -1, 1, bystander->pid, linux::getpid()}) {
    auto answered = services.answer(encode(request_of(HostTask::end_fetch, pid)));
    ASSERT_TRUE(answered.ok());
    EXPECT_FALSE(answered->answer.is_yes) << pid;
    EXPECT_EQ(answered->answer.kind, ErrorKind::not_found);
  }
  EXPECT_FALSE(linux::pidfd_has_ended(bystander->pidfd.get()).value_or(true));
  linux::kill_and_reap(bystander->pidfd.get());
}

TEST(HostServices, nothing_is_fetched_with_the_users_own_id_or_without_the_program) {
  image::FetchOptions fetch;
  fetch.path = "/usr/bin/yes";
  auto answered = HostServices(fetch).answer(encode(request_of(HostTask::start_fetch)));
  ASSERT_TRUE(answered.ok());
  EXPECT_FALSE(answered->answer.is_yes);
  EXPECT_EQ(answered->answer.text, "there are no ids for a process that speaks to registries");
  fetch.path = "/nonexistent/caisson-fetch";
  fetch.id_map = {{{65534, 165533, 1}}, {{65534, 165533, 1}}};
  answered = HostServices(fetch).answer(encode(request_of(HostTask::start_fetch, 0, "/usr/bin/yes")));
  ASSERT_TRUE(answered.ok());
  EXPECT_FALSE(answered->answer.is_yes);
  EXPECT_NE(answered->answer.text.find("/nonexistent/caisson-fetch is not installed"), std::string::npos) << answered->answer.text;
  EXPECT_TRUE(answered->fds.empty());
}

TEST(HostServices, what_it_has_started_it_ends_once) {
  if (linux::geteuid() != 0) GTEST_SKIP() << "needs root: ids of its own for the process";
  image::FetchOptions fetch;
  fetch.path = "/usr/bin/yes";  // runs until it is killed, whatever its channel says
  fetch.host_id = 65534;
  fetch.id_map = {{{65534, 165533, 1}}, {{65534, 165533, 1}}};
  HostServices services(fetch);
  auto started = services.answer(encode(request_of(HostTask::start_fetch)));
  ASSERT_TRUE(started.ok());
  ASSERT_TRUE(started->answer.is_yes) << started->answer.text;
  ASSERT_EQ(started->fds.size(), 2U);
  const int pidfd = started->fds[1].get();
  services.reap_fetches();
  EXPECT_EQ(services.fetch_pidfds().size(), 1U) << "it runs";
  const auto request = encode(request_of(HostTask::end_fetch, started->answer.pid));
  auto ended = services.answer(request);
  ASSERT_TRUE(ended.ok());
  EXPECT_TRUE(ended->answer.is_yes) << ended->answer.text;
  EXPECT_TRUE(linux::wait_readable(pidfd, -1).value_or(false));
  services.reap_fetches();
  EXPECT_TRUE(services.fetch_pidfds().empty());
  ended = services.answer(request);
  ASSERT_TRUE(ended.ok());
  EXPECT_FALSE(ended->answer.is_yes) << "its number may be another's by now";
}

TEST(HostServices, addresses_and_subnets_that_are_none_are_refused) {
  HostServices services({});
  for (const auto& [task, address] : {std::pair{HostTask::bind_port, "example.org"}, {HostTask::bind_port, ""}, {HostTask::is_subnet_free, "10.0.0.0"}, {HostTask::is_subnet_free, "10.0.0.1/8"}}) {
    auto answered = services.answer(encode(request_of(task, 0, address)));
    ASSERT_TRUE(answered.ok());
    EXPECT_FALSE(answered->answer.is_yes);
    EXPECT_EQ(answered->answer.kind, ErrorKind::invalid) << address;
    EXPECT_FALSE(answered->answer.text.empty());
    EXPECT_TRUE(answered->fds.empty());
  }
}

TEST(HostServices, a_fetch_process_has_nobodys_id_alone) {
  auto map = fetch_id_map({{{0, 1000, 1}, {1, 100000, 65535}}, {{0, 1001, 1}, {1, 200000, 65535}}});
  ASSERT_TRUE(map.ok());
  EXPECT_EQ(map->uids, (std::vector<linux::IdMapping>{{65534, 165533, 1}}));
  EXPECT_EQ(map->gids, (std::vector<linux::IdMapping>{{65534, 265533, 1}}));
  EXPECT_FALSE(fetch_id_map({{{0, 1000, 1}}, {{0, 1000, 1}}}).ok()) << "the user's own id is not given to it";
}

}  // namespace
}  // namespace caisson::app
