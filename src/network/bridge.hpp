// The bridge of a network in the kernel: choosing its subnet, making it, and plugging containers into it.
#pragma once

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
  std::uint32_t mtu = 1500;
};

/// The first of default_subnets() that no route of the host touches; routes through `own_bridge` do not count.
/// Errors: unavailable when the host has routes into all of them.
Result<linux::Ipv4Prefix> choose_subnet(linux::NetlinkSocket& socket, const std::string& own_bridge);
/// Whether no route of the host touches `subnet`; routes through `own_bridge` do not count.
Result<bool> is_subnet_free(linux::NetlinkSocket& socket, const linux::Ipv4Prefix& subnet, const std::string& own_bridge);
/// The MTU of the interface of the default route, 1500 without one.
Result<std::uint32_t> default_mtu(linux::NetlinkSocket& socket);

struct BridgeState {
  std::uint32_t index = 0;
  bool enabled_forwarding = false;  ///< net.ipv4.ip_forward was 0 before
  bool needs_hairpin = false;       ///< br_netfilter translates on the bridge
};
/// Makes the bridge unless it is there, gives it its address, brings it up, sets route_localnet on it (127.0.0.1 reaches
/// published ports) and net.ipv4.ip_forward. Safe to repeat. Errors: conflict when an interface of that name is no bridge or has
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
  std::string host_interface;
  std::string interface;  ///< inside
  int netns_fd = -1;      ///< borrowed
  linux::MacAddress mac{};
  linux::Ipv4 address;
  std::uint8_t prefix_length = 0;
  linux::Ipv4 gateway;
  std::map<std::string, std::string> sysctls;
};
/// veth, addresses, routes, `lo`. On error the veth is removed again. Errors: conflict (the name inside is taken),
/// not_found (ENODEV: the bridge is gone), by errno.
Status attach_container(const Attachment& attachment);
/// What attach_container() leaves to do for a link made ahead: checks that it still hangs on the bridge, and the hairpin mode. On error it
/// is removed. Errors: not_found when link or bridge are gone.
Status complete_attachment(const Attachment& attachment);
/// For undoing an attachment; a veth that is not there is no error.
Status remove_interface(const std::string& name);
/// Brings `lo` up in a network namespace.
Status bring_up_loopback_in(int netns_fd);

/// 02:42 and the address: the same address always has the same MAC, so that neighbour caches never hold a stale one.
linux::MacAddress mac_of(linux::Ipv4 address);

}  // namespace caisson::network
