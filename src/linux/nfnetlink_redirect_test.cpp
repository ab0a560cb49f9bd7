// Tests of the port redirect: what nft reads out of the kernel, in a network namespace of their own.
#include "linux/nfnetlink_redirect.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <thread>

#include "linux/fault.hpp"
#include "linux/spawn.hpp"
#include "linux/testing.hpp"

namespace caisson::linux {
namespace {

void in_new_netns(const std::function<void()>& body) {
  std::thread([&] {
    ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
    body();
  }).join();
}

std::string ruleset() {
  auto output = run_program({"nft", "list", "ruleset"});
  return output ? output->standard_output : output.error().text();
}

Status run_well(const std::vector<std::string>& argv) {
  auto output = TRY_PLAIN(run_program(argv));
  if (output.status.exit_code() != 0) return Error(ErrorKind::io, output.standard_error);
  return {};
}

PortRedirect redirect() {
  PortRedirect out;
  out.table = "caisson_dns";
  out.address = Ipv4{0x7f00000b};
  out.port = 53;
  out.udp_port = 40001;
  out.tcp_port = 40002;
  return out;
}

constexpr const char* expected = R"(table ip caisson_dns {
	comment "port 53 of 127.0.0.11: udp 40001, tcp 40002"
	chain output {
		type filter hook output priority raw; policy accept;
		ip daddr 127.0.0.11 udp dport 53 udp dport set 40001
		ip daddr 127.0.0.11 tcp dport 53 tcp dport set 40002
	}

	chain postrouting {
		type filter hook postrouting priority filter; policy accept;
		ip saddr 127.0.0.11 udp sport 40001 udp sport set 53
		ip saddr 127.0.0.11 tcp sport 40002 tcp sport set 53
	}
}
)";

TEST(PortRedirect, it_reads_back_as_the_rules_one_would_write_by_hand) {
  if (!has_capability(CAP_NET_ADMIN)) GTEST_SKIP() << "needs CAP_NET_ADMIN";
  in_new_netns([] {
    must(install_port_redirect(redirect()));
    EXPECT_EQ(ruleset(), expected);
  });
}

TEST(PortRedirect, putting_it_in_again_replaces_it) {
  if (!has_capability(CAP_NET_ADMIN)) GTEST_SKIP() << "needs CAP_NET_ADMIN";
  in_new_netns([] {
    PortRedirect old = redirect();
    old.udp_port = 50001;
    old.tcp_port = 50002;
    must(install_port_redirect(old));
    must(install_port_redirect(redirect()));
    EXPECT_EQ(ruleset(), expected);
  });
}

TEST(PortRedirect, one_that_is_there_already_is_left_alone) {
  if (!has_capability(CAP_NET_ADMIN)) GTEST_SKIP() << "needs CAP_NET_ADMIN";
  in_new_netns([] {
    must(install_port_redirect(redirect()));
    must(run_well({"nft", "add", "chain", "ip", "caisson_dns", "beside"}));
    must(install_port_redirect(redirect()));
    EXPECT_THAT(ruleset(), testing::HasSubstr("chain beside")) << "replacing it would make the caller wait for the kernel";
  });
}

TEST(PortRedirect, a_refusal_names_the_table_and_leaves_what_was_there) {
  if (!has_capability(CAP_NET_ADMIN)) GTEST_SKIP() << "needs CAP_NET_ADMIN";
  in_new_netns([] {
    must(install_port_redirect(redirect()));
    PortRedirect wrong = redirect();
    wrong.table = std::string(300, 'x');  // longer than the kernel allows
    auto refused = install_port_redirect(wrong);
    ASSERT_FALSE(refused.ok());
    EXPECT_THAT(refused.error().text(), testing::HasSubstr("nftables table xxx"));
    EXPECT_EQ(ruleset(), expected);
  });
}

TEST(PortRedirect, a_kernel_without_nftables_is_unsupported) {
  ScopedFault fault("netlink_socket", EPROTONOSUPPORT);
  EXPECT_EQ(install_port_redirect(redirect()).error().kind(), ErrorKind::unsupported);
}

}  // namespace
}  // namespace caisson::linux
