// rtnetlink messages about IPv6 addresses and routes.
#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>

#include <cstring>

#include "base/strings.hpp"
#include "linux/rtnetlink.hpp"

namespace caisson::linux {

void add_ipv6_address(NetlinkBatch& batch, std::uint32_t index, const Ipv6& address, std::uint8_t prefix_length) {
  batch.begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, concat("adding address ", to_string(address), "/", prefix_length));
  ifaddrmsg header{};
  header.ifa_family = AF_INET6;
  header.ifa_prefixlen = prefix_length;
  header.ifa_scope = RT_SCOPE_UNIVERSE;
  // Nobody else may have it, by our own records; looking for a duplicate would keep it from use for a second.
  header.ifa_flags = IFA_F_NODAD;
  header.ifa_index = index;
  batch.header(header);
  const auto bytes = address.bytes();
  batch.attribute(IFA_LOCAL, std::span<const std::uint8_t>(bytes));
  batch.attribute(IFA_ADDRESS, std::span<const std::uint8_t>(bytes));
}

void replace_ipv6_default_route(NetlinkBatch& batch, std::uint32_t index, const Ipv6& gateway) {
  batch.begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, concat("setting the default route to ", to_string(gateway)));
  rtmsg header{};
  header.rtm_family = AF_INET6;
  header.rtm_table = RT_TABLE_MAIN;
  header.rtm_protocol = RTPROT_BOOT;
  header.rtm_scope = RT_SCOPE_UNIVERSE;
  header.rtm_type = RTN_UNICAST;
  batch.header(header);
  const auto bytes = gateway.bytes();
  batch.attribute(RTA_GATEWAY, std::span<const std::uint8_t>(bytes));
  batch.attribute_u32(RTA_OIF, index);
}

}  // namespace caisson::linux
