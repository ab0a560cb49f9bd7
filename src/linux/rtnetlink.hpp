// rtnetlink: links, addresses and routes as messages, for the current or another network namespace (rtnetlink(7)).
#pragma once

#include <linux/if_link.h>

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "linux/ipv6.hpp"
#include "linux/netlink.hpp"

namespace caisson::linux {

/// An IPv4 address in host byte order, so that arithmetic on it is plain.
struct Ipv4 {
  std::uint32_t value = 0;
  auto operator<=>(const Ipv4&) const = default;
};
/// "172.30.0.2", strictly four decimal numbers. Errors: invalid.
Result<Ipv4> parse_ipv4(std::string_view text);
std::string to_string(Ipv4 address);

struct Ipv4Prefix {
  Ipv4 address;  ///< bits beyond `length` are 0
  std::uint8_t length = 0;
  [[nodiscard]] std::uint32_t mask() const { return length == 0 ? 0 : ~std::uint32_t{0} << (32 - length); }
  [[nodiscard]] bool contains(Ipv4 other) const { return (other.value & mask()) == address.value; }
  /// True when one contains the other.
  [[nodiscard]] bool overlaps(const Ipv4Prefix& other) const;
  bool operator==(const Ipv4Prefix&) const = default;
};
/// "172.30.0.0/16"; host bits must be 0. Errors: invalid.
Result<Ipv4Prefix> parse_ipv4_prefix(std::string_view text);
std::string to_string(const Ipv4Prefix& prefix);

using MacAddress = std::array<std::uint8_t, 6>;
/// "02:42:ac:1e:00:02"; unicast only. Errors: invalid.
Result<MacAddress> parse_mac(std::string_view text);
std::string to_string(const MacAddress& mac);

/// A rtnetlink socket in the calling thread's network namespace.
Result<NetlinkSocket> open_rtnetlink();

/// A rtnetlink socket in the network namespace `netns_fd` (borrowed). A thread of its own enters the namespace, writes `sysctls`
/// ("net.ipv4.ip_unprivileged_port_start" → value; only net.* belongs to that namespace) and ends, so no thread of the
/// caller ever changes its namespace. Privilege: CAP_SYS_ADMIN over the namespace. Errors: invalid (a sysctl's name or
/// value), denied, by errno.
Result<NetlinkSocket> open_rtnetlink_in(int netns_fd, const std::map<std::string, std::string>& sysctls = {});

// --- messages; all are pure and take effect when the batch is executed ---------------------------------------------

struct VethPair {
  std::string name;          ///< at most 15 bytes
  std::uint32_t master = 0;  ///< index of the bridge, 0: none
  std::string peer_name;
  int peer_netns_fd = -1;  ///< where the peer is born
  std::optional<MacAddress> peer_mac;
  std::uint32_t mtu = 1500;  ///< of both ends
};
/// One message: both ends exist afterwards, ours is up and in its bridge, the peer is down. Errors: conflict (EEXIST: a name).
void add_veth(NetlinkBatch& batch, const VethPair& pair);
/// A bridge with a fixed MAC, so that its MAC does not change with its ports (containers would keep a stale neighbour).
void add_bridge(NetlinkBatch& batch, std::string_view name, const MacAddress& mac, std::uint32_t mtu);
/// Brings the link up.
void set_link_up(NetlinkBatch& batch, std::uint32_t index);
/// No link-local IPv6 address will be made; takes effect only while the link is down.
void disable_ipv6_autoconf(NetlinkBatch& batch, std::uint32_t index);
/// Lets the bridge send a frame back out of the port it came in by (a container that reaches its own published port while
/// br_netfilter translates on the bridge).
void set_hairpin(NetlinkBatch& batch, std::uint32_t index);
/// Ports that are isolated from each other exchange no frames; the bridge itself still reaches them (4.18).
void set_isolated(NetlinkBatch& batch, std::uint32_t index);
void add_ipv4_address(NetlinkBatch& batch, std::uint32_t index, Ipv4 address, std::uint8_t prefix_length);
/// Without duplicate address detection.
void add_ipv6_address(NetlinkBatch& batch, std::uint32_t index, const Ipv6& address, std::uint8_t prefix_length);
/// Takes the place of a default route that is there.
void replace_default_route(NetlinkBatch& batch, std::uint32_t index, Ipv4 gateway);
void replace_ipv6_default_route(NetlinkBatch& batch, std::uint32_t index, const Ipv6& gateway);

/// What carries the firewall mark comes to us, whatever address it is for: a rule, and a table (1 to 252) with one route that is local, for AF_INET or
/// AF_INET6. A relay that speaks under its client's address gets its answers so (tproxy.rst). Errors: conflict (EEXIST: they are there already).
void add_local_delivery(NetlinkBatch& batch, std::uint8_t family, std::uint32_t mark, std::uint8_t table);

/// An interface of its own MAC on a parent's wire (macvlan), born in another namespace.
struct Macvlan {
  std::string name;          ///< inside
  std::uint32_t parent = 0;  ///< index, in the socket's namespace
  int netns_fd = -1;         ///< where it is born; borrowed
  std::uint32_t mode = 0;    ///< MACVLAN_MODE_*
  std::optional<MacAddress> mac;
  std::uint32_t mtu = 0;     ///< 0: the parent's
};
/// Errors: conflict (EEXIST: the name; EBUSY: the parent is a bridge's port), unsupported (a kernel without macvlan).
void add_macvlan(NetlinkBatch& batch, const Macvlan& macvlan);
/// A tagged subinterface (802.1Q) of `parent`. Errors: unsupported (a kernel without 8021q).
void add_vlan(NetlinkBatch& batch, std::string_view name, std::uint32_t parent, std::uint16_t id);
/// Moves a link into the network namespace `netns_fd` (borrowed) and names it there: conflict (EEXIST) when the name is taken, unless
/// it holds %d, for which the kernel takes a free number. The kernel brings the link down and drops its addresses.
void move_link(NetlinkBatch& batch, std::uint32_t index, int netns_fd, std::string_view name);
/// Removes a link; for a veth both ends. Takes 15–50 ms (measured): for undoing and shutting down only.
void delete_link(NetlinkBatch& batch, std::uint32_t index);

// --- questions -----------------------------------------------------------------------------------------------------

struct LinkInfo {
  std::uint32_t index = 0;
  std::string name;
  std::string kind;  ///< "bridge", "veth"; empty for hardware and lo
  std::uint32_t mtu = 0;
  std::uint32_t master = 0;
  bool is_up = false;
};
struct AddressInfo {
  std::uint32_t index = 0;
  Ipv4 address;
  std::uint8_t prefix_length = 0;
};
struct RouteInfo {
  Ipv4Prefix destination;  ///< 0.0.0.0/0: the default route
  std::uint32_t output_index = 0;
  std::uint32_t table = 0;
};
/// Errors: not_found.
Result<LinkInfo> find_link(NetlinkSocket& socket, std::string_view name);
/// Makes a carrier that has just come up take effect now. The kernel otherwise activates a bridge port or a queue from a work queue
/// some time later and drops packets until then; a lost SYN costs its sender a second. Asking for a link makes it catch
/// up first (rtnl_getlink() since 6.8); on older kernels this has no effect and the work queue runs as always.
Status settle_carrier(NetlinkSocket& socket, std::uint32_t index);
Result<std::vector<LinkInfo>> list_links(NetlinkSocket& socket);
Result<std::vector<AddressInfo>> list_ipv4_addresses(NetlinkSocket& socket);
/// An address of any family as the kernel gives it; what add_address needs to make it again elsewhere.
struct LinkAddress {
  std::uint8_t family = 0;
  std::uint8_t prefix_length = 0;
  std::uint32_t flags = 0;  ///< IFA_F_*
  std::string local;        ///< bytes in network order; of IFA_LOCAL, else IFA_ADDRESS
  std::string address;      ///< the peer's where it has one
  std::string broadcast;    ///< empty: none
};
/// Permanent addresses of global scope of one link.
Result<std::vector<LinkAddress>> list_global_addresses(NetlinkSocket& socket, std::uint32_t index);
void add_address(NetlinkBatch& batch, std::uint32_t index, const LinkAddress& address);
/// Unicast routes of all tables but `local`.
Result<std::vector<RouteInfo>> list_ipv4_routes(NetlinkSocket& socket);

}  // namespace caisson::linux
