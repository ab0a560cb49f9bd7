// Tests of netlink messages (bytes) and of rtnetlink and nfnetlink against the kernel in a network namespace of their own.
#include "linux/rtnetlink.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "base/strings.hpp"
#include "linux/fault.hpp"
#include "linux/nfnetlink.hpp"
#include "linux/spawn.hpp"

namespace caisson::linux {
namespace {

using testing::HasSubstr;

std::string hex(const NetlinkBatch& batch) {
  auto bytes = batch.bytes();
  return to_hex(std::span(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()));
}

TEST(NetlinkBatch, a_veth_is_one_message_with_its_peer_inside) {
  VethPair pair;
  pair.name = "vethA";
  pair.master = 7;
  pair.peer_name = "eth0";
  pair.peer_netns_fd = 5;
  pair.peer_mac = MacAddress{2, 0x42, 0xac, 0x1e, 0, 2};
  pair.mtu = 1500;
  NetlinkBatch batch;
  add_veth(batch, pair);
  EXPECT_EQ(hex(batch),
            "8c0000001000050600000000" "00000000"                    // length 140, RTM_NEWLINK, REQUEST|ACK|EXCL|CREATE
            "00000000" "00000000" "01000000" "01000000"              // ifinfomsg: IFF_UP set and changed
            "0a000300" "7665746841000000"                            // IFLA_IFNAME vethA
            "08000400" "dc050000"                                    // IFLA_MTU 1500
            "08000a00" "07000000"                                    // IFLA_MASTER 7
            "50001280"                                               // IFLA_LINKINFO
            "09000100" "7665746800000000"                            // IFLA_INFO_KIND veth
            "40000280" "3c000180"                                    // IFLA_INFO_DATA, VETH_INFO_PEER
            "00000000" "00000000" "00000000" "00000000"              // ifinfomsg of the peer
            "09000300" "6574683000000000"                            // IFLA_IFNAME eth0
            "08000400" "dc050000"                                    // IFLA_MTU
            "0a000100" "0242ac1e00020000"                            // IFLA_ADDRESS
            "08001c00" "05000000");                                  // IFLA_NET_NS_FD 5
}

TEST(NetlinkBatch, addresses_and_routes_are_in_network_byte_order) {
  NetlinkBatch batch;
  add_ipv4_address(batch, 2, Ipv4{0xac1e0002}, 16);
  replace_default_route(batch, 2, Ipv4{0xac1e0001});
  EXPECT_EQ(batch.message_count(), 2U);
  EXPECT_EQ(hex(batch),
            "30000000" "1400" "0506" "00000000" "00000000" "02100000" "02000000" "08000200" "ac1e0002" "08000100" "ac1e0002" "08000400" "ac1effff"
            "2c000000" "1800" "0505" "00000000" "00000000" "02000000" "fe030001" "00000000" "08000500" "ac1e0001" "08000400" "02000000");
}

TEST(NetlinkBatch, marked_packets_are_delivered_to_ourselves_by_a_table_and_a_rule) {
  NetlinkBatch batch;
  add_local_delivery(batch, 2 /* AF_INET */, 0xca150002, 202);
  EXPECT_EQ(hex(batch),
            "24000000" "1800" "0506" "00000000" "00000000" "02000000" "ca03fe02" "00000000" "08000400" "01000000"   // RTM_NEWROUTE, RTN_LOCAL of table 202 by lo
            "2c000000" "2000" "0506" "00000000" "00000000" "02000000" "ca000001" "00000000" "08000600" "64000000" "08000a00" "020015ca");  // RTM_NEWRULE, FRA_FWMARK
}

TEST(NetlinkBatch, an_nftables_transaction_frames_its_elements) {
  NftElement element;
  element.map = "published";
  element.key.protocol(6).port(8080);
  element.value.ipv4(0xac1e0002).port(80);
  EXPECT_EQ(hex(add_elements_batch("cs", {element})),
            "14000000" "1000" "0100" "00000000" "00000000" "0000000a"    // NFNL_MSG_BATCH_BEGIN for nftables
            "54000000" "0c0a" "0504" "00000000" "00000000" "01000000"    // NFT_MSG_NEWSETELEM, REQUEST|ACK|CREATE, family inet
            "07000100" "63730000" "0e000200" "7075626c6973686564000000"  // table cs, map published
            "28000380" "24000180"                                        // elements, one element
            "10000180" "0c000100" "060000001f900000"                     // key
            "10000280" "0c000100" "ac1e000200500000"                     // data
            "14000000" "1100" "0100" "00000000" "00000000" "0000000a");
  EXPECT_THAT(hex(delete_elements_batch("cs", {element})), HasSubstr("0e0a0500"));
}

TEST(NetlinkAttributes, broken_lengths_end_the_list) {
  using namespace std::string_literals;
  EXPECT_EQ(parse_netlink_attributes("\x08\x00\x01\x00\x2a\x00\x00\x00"s).size(), 1U);
  EXPECT_EQ(parse_netlink_attributes("\x09\x00\x01\x00\x2a\x00\x00\x00"s).size(), 0U);
  EXPECT_EQ(parse_netlink_attributes("\x03\x00\x01\x00"s).size(), 0U);
  EXPECT_EQ(parse_netlink_attributes("\x08\x00"s).size(), 0U);
  const std::string two = "\x08\x00\x01\x80\x2a\x00\x00\x00\x07\x00\x02\x00" "ab\x00\x00"s;
  auto attributes = parse_netlink_attributes(two);
  ASSERT_EQ(attributes.size(), 2U);
  EXPECT_EQ(attribute_number(attributes, 1), 42U);
  EXPECT_EQ(attribute_text(attributes, 2), "ab");
  EXPECT_EQ(attribute_number(attributes, 9, 7), 7U);
}

class RtnetlinkTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root (network namespaces)";
    original_.reset(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
    if (::unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "needs CAP_SYS_ADMIN (unshare of the network)";
    auto opened = open_rtnetlink();
    ASSERT_TRUE(opened.ok()) << opened.error().text();
    socket_.emplace(std::move(*opened));
  }
  void TearDown() override {
    if (original_) {
      ASSERT_EQ(::setns(original_.get(), CLONE_NEWNET), 0);
    }
  }
  UniqueFd original_;
  std::optional<NetlinkSocket> socket_;
};

TEST_F(RtnetlinkTest, links_addresses_and_routes_are_made_and_seen) {
  UniqueFd other;
  std::thread([&] {
    if (::unshare(CLONE_NEWNET) == 0) other.reset(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  }).join();
  NetlinkBatch batch;
  add_bridge(batch, "br7", MacAddress{2, 0, 0, 0, 0, 7}, 1400);
  ASSERT_TRUE(socket_->execute(batch).ok());
  auto bridge = find_link(*socket_, "br7");
  ASSERT_TRUE(bridge.ok());
  EXPECT_EQ(bridge->kind, "bridge");
  EXPECT_EQ(bridge->mtu, 1400U);
  EXPECT_FALSE(bridge->is_up);
  NetlinkBatch more;
  add_ipv4_address(more, bridge->index, Ipv4{0x0a070001}, 24);
  set_link_up(more, bridge->index);
  VethPair pair;
  pair.name = "vethB";
  pair.master = bridge->index;
  pair.peer_name = "eth0";
  pair.peer_netns_fd = other.get();
  add_veth(more, pair);
  ASSERT_TRUE(socket_->execute(more).ok());
  auto veth = find_link(*socket_, "vethB");
  ASSERT_TRUE(veth.ok());
  EXPECT_EQ(veth->master, bridge->index);
  EXPECT_EQ(veth->kind, "veth");
  EXPECT_TRUE(veth->is_up);
  auto addresses = list_ipv4_addresses(*socket_);
  ASSERT_TRUE(addresses.ok());
  EXPECT_EQ(to_string(addresses->front().address), "10.7.0.1");
  auto routes = list_ipv4_routes(*socket_);
  ASSERT_TRUE(routes.ok());
  ASSERT_EQ(routes->size(), 1U);
  EXPECT_EQ(to_string(routes->front().destination), "10.7.0.0/24");
  EXPECT_EQ(list_links(*socket_)->size(), 3U);

  auto inside = open_rtnetlink_in(other.get(), {{"net.ipv4.ip_forward", "1"}});
  ASSERT_TRUE(inside.ok()) << inside.error().text();
  EXPECT_TRUE(find_link(*inside, "eth0").ok());
  EXPECT_EQ(find_link(*inside, "br7").error().kind(), ErrorKind::not_found);
  NetlinkBatch removal;
  delete_link(removal, veth->index);
  EXPECT_TRUE(socket_->execute(removal).ok());
  EXPECT_EQ(find_link(*socket_, "vethB").error().kind(), ErrorKind::not_found);
}

TEST_F(RtnetlinkTest, the_first_failure_of_a_batch_is_reported_with_the_kernels_words) {
  NetlinkBatch batch;
  set_link_up(batch, 1);
  replace_default_route(batch, 1, Ipv4{0x0a000001});
  Status status = socket_->execute(batch);
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.error().text(), HasSubstr("setting the default route to 10.0.0.1"));
  EXPECT_THAT(status.error().text(), HasSubstr("("));
  auto answers = socket_->exchange(batch);
  ASSERT_TRUE(answers.ok());
  EXPECT_EQ((*answers)[0].error_number, 0) << "rtnetlink goes on: the first message took effect";
  NetlinkBatch twice;
  add_bridge(twice, "br7", MacAddress{2, 0, 0, 0, 0, 7}, 1500);
  add_bridge(twice, "br7", MacAddress{2, 0, 0, 0, 0, 7}, 1500);
  EXPECT_EQ(socket_->execute(twice).error().kind(), ErrorKind::conflict);
}

TEST_F(RtnetlinkTest, a_foreign_sysctl_is_refused) {
  UniqueFd here(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  for (const char* name : {"kernel.hostname", "net/../kernel/hostname", "", "vm.swappiness"}) {
    auto opened = open_rtnetlink_in(here.get(), {{name, "1"}});
    ASSERT_FALSE(opened.ok()) << name;
    EXPECT_EQ(opened.error().kind(), ErrorKind::invalid) << name;
  }
  EXPECT_FALSE(open_rtnetlink_in(-1).ok());
}

TEST_F(RtnetlinkTest, every_wrapper_can_be_made_to_fail) {
  for (const char* name : {"netlink_socket", "netlink_setsockopt"}) {
    ScopedFault fault(name, ENOBUFS);
    EXPECT_EQ(open_rtnetlink().error().error_number(), ENOBUFS) << name;
  }
  for (const char* name : {"netlink_send", "netlink_receive"}) {
    ScopedFault fault(name, ENOBUFS);
    EXPECT_EQ(find_link(*socket_, "lo").error().error_number(), ENOBUFS) << name;
  }
  EXPECT_TRUE(find_link(*socket_, "lo").ok()) << "an answer left over from a failed exchange must not confuse the next";
}

TEST_F(RtnetlinkTest, nftables_elements_are_added_all_or_none_and_removed_even_when_some_are_gone) {
  auto made = run_program({"sh", "-c", "printf 'table inet cs { map published { type inet_proto . inet_service : ipv4_addr . inet_service; }\n}\n' | nft -f -"});
  if (!made.ok() || made->status.exit_code() != 0) GTEST_SKIP() << "needs nft";
  auto element = [](std::uint16_t port, std::uint16_t to) {
    NftElement e;
    e.map = "published";
    e.key.protocol(6).port(port);
    e.value.ipv4(0xac1e0002).port(to);
    e.what = concat("port ", port);
    return e;
  };
  auto listing = [] { return run_program({"nft", "list", "map", "inet", "cs", "published"})->standard_output; };
  ASSERT_TRUE(add_nft_elements("cs", {element(1, 80), element(2, 80)}).ok());
  EXPECT_THAT(listing(), HasSubstr("tcp . 1 : 172.30.0.2 . 80"));
  EXPECT_TRUE(add_nft_elements("cs", {element(1, 80)}).ok()) << "the same once more";
  Status clash = add_nft_elements("cs", {element(3, 80), element(2, 81)});
  ASSERT_FALSE(clash.ok());
  EXPECT_THAT(clash.error().text(), HasSubstr("port 2"));
  EXPECT_THAT(listing(), testing::Not(HasSubstr("tcp . 3 "))) << "none of a failed transaction";
  EXPECT_TRUE(delete_nft_elements("cs", {element(9, 80), element(1, 80), element(8, 80)}).ok());
  EXPECT_THAT(listing(), testing::Not(HasSubstr("tcp . 1 ")));
  EXPECT_THAT(listing(), HasSubstr("tcp . 2 "));
  EXPECT_TRUE(delete_nft_elements("no_such_table", {element(1, 80)}).ok());
  EXPECT_EQ(add_nft_elements("no_such_table", {element(1, 80)}).error().kind(), ErrorKind::not_found);
  std::vector<NftElement> many;
  for (std::uint16_t port = 1000; port < 3000; ++port) many.push_back(element(port, 80));
  EXPECT_TRUE(add_nft_elements("cs", many).ok()) << "2,000 answers fit the receive buffer";
  EXPECT_TRUE(delete_nft_elements("cs", many).ok());
}

}  // namespace
}  // namespace caisson::linux
