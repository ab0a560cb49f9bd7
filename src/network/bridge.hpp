// The bridge of a network in the kernel: choosing its subnet, making it, and plugging containers into it.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "linux/rtnetlink.hpp"

namespace caisson::network {

struct BridgePlan {
  std::string name;
  linux::Ipv4Prefix subnet;
  linux::Ipv4 gateway;
  std::optional<linux::Ipv6Prefix> subnet6;
  std::optional<linux::Ipv6> gateway6;
  std::uint32_t mtu = 1500;
  bool internal = false;  ///< nothing is forwarded out of it, so the host's switches stay as they are
};

/// The first of default_subnets() that no route of the host touches and that overlaps none of `taken`; routes through `own_bridge` do not
/// count. `is_free_on_host`: Options::is_free_on_host. Errors: unavailable when there is none.
using SubnetCheck = std::function<Result<bool>(const linux::Ipv4Prefix&)>;
Result<linux::Ipv4Prefix> choose_subnet(linux::NetlinkSocket& socket, const std::string& own_bridge, const std::vector<linux::Ipv4Prefix>& taken, const SubnetCheck& is_free_on_host);
/// Whether no route of the host touches `subnet`; routes through `own_bridge` do not count.
Result<bool> is_subnet_free(linux::NetlinkSocket& socket, const linux::Ipv4Prefix& subnet, const std::string& own_bridge, const SubnetCheck& is_free_on_host = {});
/// The MTU of the interface of the default route, 1500 without one.
Result<std::uint32_t> default_mtu(linux::NetlinkSocket& socket);

struct BridgeState {
  std::uint32_t index = 0;
  std::vector<std::string> host_changes;  ///< one sentence per switch of the host that was changed
  bool needs_hairpin = false;       ///< br_netfilter translates on the bridge
  bool shows_bridged = false;       ///< and our table sees what containers send each other, of every family the bridge has
};
/// Makes the bridge unless it is there, gives it its addresses, brings it up, sets route_localnet on it (127.0.0.1 reaches
/// published ports) and, for a bridge with a way out, the host's forwarding of the families it has. Safe to repeat. Errors: conflict when an interface of that name is no bridge or has
/// another address. On error a bridge made here is removed again.
Result<BridgeState> ensure_bridge(linux::NetlinkSocket& socket, const BridgePlan& plan);
/// Whether there is an interface of that name. An error is not "no": what exists is never removed on error paths.
Result<bool> interface_exists(linux::NetlinkSocket& socket, const std::string& name);
/// A bridge that is not there is no error.
Status remove_bridge(linux::NetlinkSocket& socket, const std::string& name);

struct Attachment {
  std::uint32_t bridge_index = 0;
  std::uint32_t mtu = 1500;
  bool hairpin = false;
  bool isolated = false;  ///< from the bridge's other containers
  std::string host_interface;
  std::string interface;  ///< inside
  int netns_fd = -1;      ///< borrowed
  linux::MacAddress mac{};
  linux::Ipv4 address;
  std::uint8_t prefix_length = 0;
  std::optional<linux::Ipv4> gateway;  ///< set: the default route leads there
  std::optional<linux::Ipv6> address6;
  std::uint8_t prefix_length6 = 0;
  std::optional<linux::Ipv6> gateway6;
  std::vector<linux::Ipv4> link_local;
  std::vector<linux::Ipv6> link_local6;
  std::map<std::string, std::string> sysctls;
};
/// veth, addresses, routes, `lo`. On error the veth is removed again. Errors: conflict (the name inside is taken),
/// not_found (ENODEV: the bridge is gone), by errno.
Status attach_container(const Attachment& attachment);
/// The same on the wire of a host's interface (macvlan) instead of a bridge. `mode`: MACVLAN_MODE_*.
Status attach_to_parent(const Attachment& attachment, std::uint32_t parent_index, std::uint32_t mode);
/// The index of a host's interface; "eth0.10" is made, as a tagged subinterface of eth0, where it is missing (`made` says so). Errors:
/// not_found, unsupported (a kernel without 8021q).
Result<std::uint32_t> ensure_parent(linux::NetlinkSocket& socket, const std::string& name, bool& made);
/// What attach_container() leaves to do for a link made ahead: checks that it still hangs on the bridge, and the hairpin mode. On error it
/// is removed. Errors: not_found when link or bridge are gone.
Status complete_attachment(const Attachment& attachment);
/// Hairpin mode of a container's port that comes to publish something later.
Status enable_hairpin(const std::string& host_interface);
/// For undoing an attachment; a veth that is not there is no error.
Status remove_interface(const std::string& name);
/// The same inside a network namespace.
Status remove_interface_in(int netns_fd, const std::string& name);
struct DefaultRoutes {
  std::string interface;  ///< of `gateway`
  std::optional<linux::Ipv4> gateway;
  std::string interface6;  ///< of `gateway6`
  std::optional<linux::Ipv6> gateway6;
};
/// Sets the default routes of a network namespace; a family without a gateway is left as it is.
Status set_default_routes(int netns_fd, const DefaultRoutes& routes);
/// Brings `lo` up in a network namespace.
Status bring_up_loopback_in(int netns_fd);

/// 02:42 and the address: the same address always has the same MAC, so that neighbour caches never hold a stale one.
linux::MacAddress mac_of(linux::Ipv4 address);

}  // namespace caisson::network
