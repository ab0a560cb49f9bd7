// rtnetlink messages and questions.
#include "linux/rtnetlink.hpp"

#include <arpa/inet.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sys/socket.h>

#include <cstring>
#include <thread>

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"

namespace caisson::linux {
namespace {

constexpr std::uint16_t create_exclusively = NLM_F_CREATE | NLM_F_EXCL;

ifinfomsg link_header(std::uint32_t index, unsigned flags = 0, unsigned change = 0) {
  ifinfomsg header{};
  header.ifi_family = AF_UNSPEC;
  header.ifi_index = static_cast<int>(index);
  header.ifi_flags = flags;
  header.ifi_change = change;
  return header;
}

template <typename Header>
Header header_of(std::string_view message) {
  Header header{};
  if (message.size() >= sizeof(nlmsghdr) + sizeof header) std::memcpy(&header, message.data() + sizeof(nlmsghdr), sizeof header);
  return header;
}

template <typename Header>
std::vector<NetlinkAttribute> attributes_of(std::string_view message) {
  constexpr std::size_t begin = sizeof(nlmsghdr) + NLMSG_ALIGN(sizeof(Header));
  return message.size() < begin ? std::vector<NetlinkAttribute>{} : parse_netlink_attributes(message.substr(begin));
}

Ipv4 from_network(std::uint32_t value) { return Ipv4{ntohl(value)}; }

LinkInfo link_of(std::string_view message) {
  auto header = header_of<ifinfomsg>(message);
  auto attributes = attributes_of<ifinfomsg>(message);
  LinkInfo link;
  link.index = static_cast<std::uint32_t>(header.ifi_index);
  link.is_up = (header.ifi_flags & IFF_UP) != 0;
  link.name = attribute_text(attributes, IFLA_IFNAME);
  link.mtu = attribute_number(attributes, IFLA_MTU);
  link.master = attribute_number(attributes, IFLA_MASTER);
  for (const auto& attribute : attributes)
    if (attribute.type == IFLA_LINKINFO) link.kind = attribute_text(parse_netlink_attributes(attribute.value), IFLA_INFO_KIND);
  return link;
}

/// "net.ipv4.conf.all.x" or with slashes → "/proc/sys/net/ipv4/conf/all/x". Errors: invalid.
Result<std::string> sysctl_path(std::string_view name) {
  std::string path(name);
  if (path.find('/') == std::string::npos) path = replace_all(path, ".", "/");
  bool climbs = path.find("..") != std::string::npos || path.find('\0') != std::string::npos;
  if (climbs || path.rfind("net/", 0) != 0)
    return Error(ErrorKind::invalid, concat("sysctl ", name, ": does not belong to a network namespace"));
  return concat("/proc/sys/", path);
}

Result<NetlinkSocket> enter_and_open(int netns_fd, const std::map<std::string, std::string>& sysctls) {
  TRY(setns(netns_fd, CLONE_NEWNET), "entering the network namespace");
  for (const auto& [name, value] : sysctls) {
    std::string path = TRY_PLAIN(sysctl_path(name));
    TRY(write_kernel_file(path, value), concat("sysctl ", name, "=", value));
  }
  return open_rtnetlink();
}

}  // namespace

Result<MacAddress> parse_mac(std::string_view text) {
  auto bad = [&] { return Error(ErrorKind::invalid, concat("\"", text, "\" is not a MAC address (as in 02:42:ac:1e:00:02)")); };
  auto pieces = split(text, ':');
  if (pieces.size() != 6) return bad();
  MacAddress mac{};
  for (std::size_t i = 0; i < mac.size(); ++i) {
    auto octet = parse_integer<std::uint8_t>(pieces[i], 16);
    if (!octet || pieces[i].size() != 2) return bad();
    mac[i] = *octet;
  }
  if ((mac[0] & 1) != 0) return Error(ErrorKind::invalid, concat("MAC address \"", text, "\" is a multicast address"));
  return mac;
}

std::string to_string(const MacAddress& mac) {
  std::string text;
  for (std::uint8_t octet : mac) text += concat(text.empty() ? "" : ":", to_hex(std::span(&octet, 1)));
  return text;
}

Result<NetlinkSocket> open_rtnetlink() { return NetlinkSocket::open(NETLINK_ROUTE); }

Result<NetlinkSocket> open_rtnetlink_in(int netns_fd, const std::map<std::string, std::string>& sysctls) {
  Result<NetlinkSocket> result = Error(ErrorKind::internal, "the helper thread did not run");
  std::thread([&] { result = enter_and_open(netns_fd, sysctls); }).join();
  return result;
}

void add_veth(NetlinkBatch& batch, const VethPair& pair) {
  batch.begin(RTM_NEWLINK, create_exclusively, concat("creating interface ", pair.name));
  batch.header(link_header(0, IFF_UP, IFF_UP));
  batch.attribute(IFLA_IFNAME, pair.name);
  batch.attribute_u32(IFLA_MTU, pair.mtu);
  if (pair.master != 0) batch.attribute_u32(IFLA_MASTER, pair.master);
  std::size_t info = batch.open_nest(IFLA_LINKINFO);
  batch.attribute(IFLA_INFO_KIND, "veth");
  std::size_t data = batch.open_nest(IFLA_INFO_DATA);
  std::size_t peer = batch.open_nest(VETH_INFO_PEER);
  batch.header(link_header(0));
  batch.attribute(IFLA_IFNAME, pair.peer_name);
  batch.attribute_u32(IFLA_MTU, pair.mtu);
  if (pair.peer_mac) batch.attribute(IFLA_ADDRESS, std::span<const std::uint8_t>(*pair.peer_mac));
  batch.attribute_u32(IFLA_NET_NS_FD, static_cast<std::uint32_t>(pair.peer_netns_fd));
  batch.close_nest(peer);
  batch.close_nest(data);
  batch.close_nest(info);
}

void add_bridge(NetlinkBatch& batch, std::string_view name, const MacAddress& mac, std::uint32_t mtu) {
  batch.begin(RTM_NEWLINK, create_exclusively, concat("creating bridge ", name));
  batch.header(link_header(0));
  batch.attribute(IFLA_IFNAME, name);
  batch.attribute_u32(IFLA_MTU, mtu);
  batch.attribute(IFLA_ADDRESS, std::span<const std::uint8_t>(mac));
  std::size_t info = batch.open_nest(IFLA_LINKINFO);
  batch.attribute(IFLA_INFO_KIND, "bridge");
  batch.close_nest(info);
}

void set_link_up(NetlinkBatch& batch, std::uint32_t index) {
  batch.begin(RTM_NEWLINK, 0, concat("bringing up interface ", index));
  batch.header(link_header(index, IFF_UP, IFF_UP));
}

void disable_ipv6_autoconf(NetlinkBatch& batch, std::uint32_t index) {
  constexpr std::uint8_t mode_none = 1;  // IN6_ADDR_GEN_MODE_NONE, linux/if_link.h
  batch.begin(RTM_NEWLINK, 0, concat("turning off IPv6 address generation of interface ", index));
  batch.allow_failure();  // EAFNOSUPPORT on a kernel without IPv6, where there is nothing to turn off
  batch.header(link_header(index));
  std::size_t families = batch.open_nest(IFLA_AF_SPEC);
  std::size_t inet6 = batch.open_nest(AF_INET6);
  batch.attribute_u8(IFLA_INET6_ADDR_GEN_MODE, mode_none);
  batch.close_nest(inet6);
  batch.close_nest(families);
}

namespace {
void set_port_switch(NetlinkBatch& batch, std::uint32_t index, std::uint16_t attribute, std::string_view what) {
  batch.begin(RTM_SETLINK, 0, concat(what, " of bridge port ", index));
  ifinfomsg header = link_header(index);
  header.ifi_family = PF_BRIDGE;
  batch.header(header);
  std::size_t port = batch.open_nest(IFLA_PROTINFO);
  batch.attribute_u8(attribute, 1);
  batch.close_nest(port);
}
}  // namespace

void set_hairpin(NetlinkBatch& batch, std::uint32_t index) { set_port_switch(batch, index, IFLA_BRPORT_MODE, "hairpin mode"); }
void set_isolated(NetlinkBatch& batch, std::uint32_t index) { set_port_switch(batch, index, IFLA_BRPORT_ISOLATED, "isolation"); }

void add_macvlan(NetlinkBatch& batch, const Macvlan& macvlan) {
  batch.begin(RTM_NEWLINK, create_exclusively, concat("creating macvlan interface ", macvlan.name));
  batch.header(link_header(0));
  batch.attribute(IFLA_IFNAME, macvlan.name);
  batch.attribute_u32(IFLA_LINK, macvlan.parent);
  batch.attribute_u32(IFLA_NET_NS_FD, static_cast<std::uint32_t>(macvlan.netns_fd));
  if (macvlan.mtu != 0) batch.attribute_u32(IFLA_MTU, macvlan.mtu);
  if (macvlan.mac) batch.attribute(IFLA_ADDRESS, std::span<const std::uint8_t>(*macvlan.mac));
  std::size_t info = batch.open_nest(IFLA_LINKINFO);
  batch.attribute(IFLA_INFO_KIND, "macvlan");
  std::size_t data = batch.open_nest(IFLA_INFO_DATA);
  batch.attribute_u32(IFLA_MACVLAN_MODE, macvlan.mode);
  batch.close_nest(data);
  batch.close_nest(info);
}

void add_vlan(NetlinkBatch& batch, std::string_view name, std::uint32_t parent, std::uint16_t id) {
  batch.begin(RTM_NEWLINK, create_exclusively, concat("creating vlan interface ", name));
  batch.header(link_header(0, IFF_UP, IFF_UP));
  batch.attribute(IFLA_IFNAME, name);
  batch.attribute_u32(IFLA_LINK, parent);
  std::size_t info = batch.open_nest(IFLA_LINKINFO);
  batch.attribute(IFLA_INFO_KIND, "vlan");
  std::size_t data = batch.open_nest(IFLA_INFO_DATA);
  const std::uint8_t bytes[2] = {static_cast<std::uint8_t>(id & 0xff), static_cast<std::uint8_t>(id >> 8)};  // host order: little-endian (x86-64, arm64)
  batch.attribute(IFLA_VLAN_ID, std::span<const std::uint8_t>(bytes));
  batch.close_nest(data);
  batch.close_nest(info);
}

void add_ipv4_address(NetlinkBatch& batch, std::uint32_t index, Ipv4 address, std::uint8_t prefix_length) {
  batch.begin(RTM_NEWADDR, create_exclusively, concat("adding address ", to_string(address), "/", prefix_length));
  ifaddrmsg header{};
  header.ifa_family = AF_INET;
  header.ifa_prefixlen = prefix_length;
  header.ifa_scope = RT_SCOPE_UNIVERSE;
  header.ifa_index = index;
  batch.header(header);
  batch.attribute_u32_network(IFA_LOCAL, address.value);
  batch.attribute_u32_network(IFA_ADDRESS, address.value);
  if (prefix_length < 31) batch.attribute_u32_network(IFA_BROADCAST, address.value | (~std::uint32_t{0} >> prefix_length));
}

void replace_default_route(NetlinkBatch& batch, std::uint32_t index, Ipv4 gateway) {
  batch.begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, concat("setting the default route to ", to_string(gateway)));
  rtmsg header{};
  header.rtm_family = AF_INET;
  header.rtm_table = RT_TABLE_MAIN;
  header.rtm_protocol = RTPROT_BOOT;
  header.rtm_scope = RT_SCOPE_UNIVERSE;
  header.rtm_type = RTN_UNICAST;
  batch.header(header);
  batch.attribute_u32_network(RTA_GATEWAY, gateway.value);
  batch.attribute_u32(RTA_OIF, index);
}

void add_local_delivery(NetlinkBatch& batch, std::uint8_t family, std::uint32_t mark, std::uint8_t table) {
  constexpr std::uint32_t loopback_index = 1;  // of lo in every network namespace
  constexpr std::uint32_t priority = 100;      // before the main table's
  batch.begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, concat("routing marked packets to ourselves by table ", table + 0));
  rtmsg route{};
  route.rtm_family = family;
  route.rtm_table = table;
  route.rtm_protocol = RTPROT_BOOT;
  route.rtm_scope = RT_SCOPE_HOST;
  route.rtm_type = RTN_LOCAL;
  batch.header(route);
  batch.attribute_u32(RTA_OIF, loopback_index);
  batch.begin(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, concat("routing marked packets by table ", table + 0));
  fib_rule_hdr rule{};
  rule.family = family;
  rule.table = table;
  rule.action = FR_ACT_TO_TBL;
  batch.header(rule);
  batch.attribute_u32(FRA_PRIORITY, priority);  // without one each would be a new rule
  batch.attribute_u32(FRA_FWMARK, mark);
}

void move_link(NetlinkBatch& batch, std::uint32_t index, int netns_fd, std::string_view name) {
  batch.begin(RTM_NEWLINK, 0, concat("moving interface ", index, " as ", name));
  batch.header(link_header(index));
  batch.attribute_u32(IFLA_NET_NS_FD, static_cast<std::uint32_t>(netns_fd));
  batch.attribute(IFLA_IFNAME, name);
}

void delete_link(NetlinkBatch& batch, std::uint32_t index) {
  batch.begin(RTM_DELLINK, 0, concat("removing interface ", index));
  batch.header(link_header(index));
}

Result<LinkInfo> find_link(NetlinkSocket& socket, std::string_view name) {
  NetlinkBatch batch;
  batch.begin(RTM_GETLINK, 0, concat("looking up interface ", name), NetlinkBatch::Ack::none);
  batch.header(link_header(0));
  batch.attribute(IFLA_IFNAME, name);
  batch.attribute_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  auto messages = socket.request(batch);
  if (!messages) {
    if (messages.error().error_number() == ENODEV) return std::move(messages).error().with_kind(ErrorKind::not_found);
    return std::move(messages).error();
  }
  return link_of(messages->front());
}

Status settle_carrier(NetlinkSocket& socket, std::uint32_t index) {
  NetlinkBatch batch;
  batch.begin(RTM_GETLINK, 0, concat("looking at interface ", index), NetlinkBatch::Ack::none);
  batch.header(link_header(index));
  batch.attribute_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  auto messages = socket.request(batch);
  if (!messages) return std::move(messages).error();
  return {};
}

Result<std::vector<LinkInfo>> list_links(NetlinkSocket& socket) {
  NetlinkBatch batch;
  batch.begin(RTM_GETLINK, NLM_F_DUMP, "listing interfaces", NetlinkBatch::Ack::none);
  batch.header(link_header(0));
  auto messages = TRY_PLAIN(socket.request(batch));
  std::vector<LinkInfo> links;
  for (const auto& message : messages) links.push_back(link_of(message));
  return links;
}

Result<std::vector<AddressInfo>> list_ipv4_addresses(NetlinkSocket& socket) {
  NetlinkBatch batch;
  batch.begin(RTM_GETADDR, NLM_F_DUMP, "listing addresses", NetlinkBatch::Ack::none);
  ifaddrmsg header{};
  header.ifa_family = AF_INET;
  batch.header(header);
  auto messages = TRY_PLAIN(socket.request(batch));
  std::vector<AddressInfo> addresses;
  for (const auto& message : messages) {
    auto found = header_of<ifaddrmsg>(message);
    auto attributes = attributes_of<ifaddrmsg>(message);
    AddressInfo address;
    address.index = found.ifa_index;
    address.prefix_length = found.ifa_prefixlen;
    address.address = from_network(attribute_number(attributes, IFA_LOCAL, attribute_number(attributes, IFA_ADDRESS)));
    addresses.push_back(address);
  }
  return addresses;
}

Result<std::vector<LinkAddress>> list_global_addresses(NetlinkSocket& socket, std::uint32_t index) {
  NetlinkBatch batch;
  batch.begin(RTM_GETADDR, NLM_F_DUMP, "listing addresses", NetlinkBatch::Ack::none);
  batch.header(ifaddrmsg{});
  auto messages = TRY_PLAIN(socket.request(batch));
  std::vector<LinkAddress> out;
  for (const auto& message : messages) {
    const auto header = header_of<ifaddrmsg>(message);
    const auto attributes = attributes_of<ifaddrmsg>(message);
    LinkAddress address;
    address.flags = attribute_number(attributes, IFA_FLAGS, header.ifa_flags);
    if (header.ifa_index != index || header.ifa_scope != RT_SCOPE_UNIVERSE || (address.flags & IFA_F_PERMANENT) == 0) continue;
    address.family = header.ifa_family;
    address.prefix_length = header.ifa_prefixlen;
    for (const auto& attribute : attributes) {
      if (attribute.type == IFA_LOCAL) address.local = attribute.value;
      if (attribute.type == IFA_ADDRESS) address.address = attribute.value;
      if (attribute.type == IFA_BROADCAST) address.broadcast = attribute.value;
    }
    if (address.local.empty()) address.local = address.address;
    out.push_back(std::move(address));
  }
  return out;
}

void add_address(NetlinkBatch& batch, std::uint32_t index, const LinkAddress& address) {
  auto bytes = [](const std::string& text) { return std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()); };
  // The rest are states of the kernel's own (IFA_F_PERMANENT, IFA_F_TENTATIVE …), which it sets anew.
  constexpr std::uint32_t kept = IFA_F_NODAD | IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN;
  batch.begin(RTM_NEWADDR, create_exclusively, concat("adding an address to interface ", index));
  ifaddrmsg header{};
  header.ifa_family = address.family;
  header.ifa_prefixlen = address.prefix_length;
  header.ifa_scope = RT_SCOPE_UNIVERSE;
  header.ifa_index = index;
  batch.header(header);
  batch.attribute(IFA_LOCAL, bytes(address.local));
  batch.attribute(IFA_ADDRESS, bytes(address.address));
  if (!address.broadcast.empty()) batch.attribute(IFA_BROADCAST, bytes(address.broadcast));
  batch.attribute_u32(IFA_FLAGS, address.flags & kept);
}

Result<std::vector<RouteInfo>> list_ipv4_routes(NetlinkSocket& socket) {
  NetlinkBatch batch;
  batch.begin(RTM_GETROUTE, NLM_F_DUMP, "listing routes", NetlinkBatch::Ack::none);
  rtmsg header{};
  header.rtm_family = AF_INET;
  batch.header(header);
  auto messages = TRY_PLAIN(socket.request(batch));
  std::vector<RouteInfo> routes;
  for (const auto& message : messages) {
    auto found = header_of<rtmsg>(message);
    auto attributes = attributes_of<rtmsg>(message);
    RouteInfo route;
    route.table = attribute_number(attributes, RTA_TABLE, found.rtm_table);
    if (route.table == RT_TABLE_LOCAL || found.rtm_type != RTN_UNICAST) continue;
    route.destination.address = from_network(attribute_number(attributes, RTA_DST));
    route.destination.length = found.rtm_dst_len;
    route.output_index = attribute_number(attributes, RTA_OIF);
    routes.push_back(route);
  }
  return routes;
}

}  // namespace caisson::linux
