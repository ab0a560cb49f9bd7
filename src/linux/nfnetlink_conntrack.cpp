// ctnetlink: a filtered dump of tracked flows, and their removal.
#include "linux/nfnetlink_conntrack.hpp"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <netinet/in.h>

#include <cerrno>
#include <cstring>

#include "linux/netlink.hpp"

namespace caisson::linux {
namespace {

constexpr std::uint16_t conntrack_type(std::uint16_t message) { return static_cast<std::uint16_t>(NFNL_SUBSYS_CTNETLINK << 8 | message); }

nfgenmsg header_of(std::uint8_t family) {
  nfgenmsg header{};
  header.nfgen_family = family;
  header.version = NFNETLINK_V0;
  return header;
}

const NetlinkAttribute* find(const std::vector<NetlinkAttribute>& attributes, std::uint16_t type) {
  for (const auto& attribute : attributes)
    if (attribute.type == type) return &attribute;
  return nullptr;
}

std::uint32_t network_number(const NetlinkAttribute* attribute) {
  if (attribute == nullptr) return 0;
  std::uint32_t value = 0;
  for (char octet : attribute->value) value = value << 8 | static_cast<std::uint8_t>(octet);
  return value;
}

/// The original tuple of a dumped flow as it stands in the message, when it is one of those sought.
std::optional<std::string_view> matching_tuple(std::string_view message, std::uint16_t port, std::optional<Ipv4> address) {
  constexpr std::size_t attributes_at = sizeof(nlmsghdr) + sizeof(nfgenmsg);
  if (message.size() < attributes_at) return std::nullopt;
  auto attributes = parse_netlink_attributes(message.substr(attributes_at));
  const NetlinkAttribute* tuple = find(attributes, CTA_TUPLE_ORIG);
  if (tuple == nullptr) return std::nullopt;
  auto parts = parse_netlink_attributes(tuple->value);
  const NetlinkAttribute* ip = find(parts, CTA_TUPLE_IP);
  const NetlinkAttribute* protocol = find(parts, CTA_TUPLE_PROTO);
  if (ip == nullptr || protocol == nullptr) return std::nullopt;
  auto protocol_parts = parse_netlink_attributes(protocol->value);
  if (network_number(find(protocol_parts, CTA_PROTO_NUM)) != IPPROTO_UDP) return std::nullopt;
  if (network_number(find(protocol_parts, CTA_PROTO_DST_PORT)) != port) return std::nullopt;
  if (address && network_number(find(parse_netlink_attributes(ip->value), CTA_IP_V4_DST)) != address->value) return std::nullopt;
  return tuple->value;
}

/// Asks for UDP flows to `port` only; a kernel older than 5.8 ignores the filter and sends all, so answers are checked too.
NetlinkBatch dump_request(std::uint8_t family, std::uint16_t port) {
  constexpr std::uint32_t by_protocol_and_destination_port = 1U << 3 | 1U << 5;  // CTA_FILTER_F_CTA_PROTO_{NUM,DST_PORT}
  NetlinkBatch batch;
  batch.begin(conntrack_type(IPCTNL_MSG_CT_GET), NLM_F_DUMP, "listing tracked flows", NetlinkBatch::Ack::none);
  batch.header(header_of(family));
  std::size_t tuple = batch.open_nest(CTA_TUPLE_ORIG);
  std::size_t protocol = batch.open_nest(CTA_TUPLE_PROTO);
  batch.attribute_u8(CTA_PROTO_NUM, IPPROTO_UDP);
  batch.attribute_u16_network(CTA_PROTO_DST_PORT, port);
  batch.close_nest(protocol);
  batch.close_nest(tuple);
  std::size_t filter = batch.open_nest(CTA_FILTER);
  batch.attribute_u32(CTA_FILTER_ORIG_FLAGS, by_protocol_and_destination_port);
  batch.attribute_u32(CTA_FILTER_REPLY_FLAGS, 0);
  batch.close_nest(filter);
  return batch;
}

/// `address`: of IPv4 flows only.
Result<std::size_t> forget_flows(std::uint8_t family, std::uint16_t port, std::optional<Ipv4> address) {
  NetlinkSocket socket = TRY(NetlinkSocket::open(NETLINK_NETFILTER), "connection tracking");
  auto dump = socket.request(dump_request(family, port));
  if (!dump) {
    // nfnetlink's words for "no such subsystem" (nfnetlink.c) where ctnetlink is not built or not loaded.
    int number = dump.error().error_number();
    if (number == EINVAL || number == EOPNOTSUPP) return std::size_t{0};
    return std::move(dump).error().in("connection tracking");
  }
  NetlinkBatch removals;
  for (const auto& message : *dump) {
    auto tuple = matching_tuple(message, port, address);
    if (!tuple) continue;
    removals.begin(conntrack_type(IPCTNL_MSG_CT_DELETE), 0, "forgetting a tracked flow");
    removals.header(header_of(family));
    removals.attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, std::span(reinterpret_cast<const std::uint8_t*>(tuple->data()), tuple->size()));
  }
  if (removals.empty()) return std::size_t{0};
  auto answers = TRY(socket.exchange(removals), "connection tracking");
  std::size_t forgotten = 0;
  for (const auto& answer : answers) {
    if (answer.error_number == 0) ++forgotten;
    else if (answer.error_number != ENOENT) return netlink_error(answer).in("connection tracking");  // ENOENT: it ended meanwhile
  }
  return forgotten;
}

}  // namespace

Result<std::size_t> forget_udp_flows(std::uint16_t port, std::optional<Ipv4> address) { return forget_flows(AF_INET, port, address); }
Result<std::size_t> forget_udp6_flows(std::uint16_t port) { return forget_flows(AF_INET6, port, std::nullopt); }

}  // namespace caisson::linux
