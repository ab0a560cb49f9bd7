// Bridge, veth and addresses by rtnetlink.
#include "network/bridge.hpp"

#include <algorithm>
#include <cerrno>

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "network/address_pool.hpp"

namespace caisson::network {
namespace {

constexpr std::uint32_t loopback_index = 1;  // in every network namespace, fixed by the kernel

/// Sets a switch under /proc/sys/net of this thread's network namespace; true when it was another value before.
Result<bool> set_sysctl(const std::string& path, std::string_view value) {
  auto before = TRY_PLAIN(linux::read_file(path));
  if (trim(before) == value) return false;
  TRY_PLAIN(linux::write_kernel_file(path, value));
  return true;
}

/// br_netfilter hands bridged packets to the IP hooks when this is on; without the module the file is missing.
bool bridge_is_filtered() {
  auto value = linux::read_file("/proc/sys/net/bridge/bridge-nf-call-iptables");
  return value.ok() && trim(*value) == "1";
}

/// The bridge's index; makes it when there is none.
Result<linux::LinkInfo> find_or_make_bridge(linux::NetlinkSocket& socket, const BridgePlan& plan) {
  auto found = linux::find_link(socket, plan.name);
  if (found) {
    if (found->kind != "bridge") return Error(ErrorKind::conflict, concat("interface ", plan.name, " exists and is no bridge"));
    return found;
  }
  if (found.error().kind() != ErrorKind::not_found) return std::move(found).error();
  linux::NetlinkBatch batch;
  linux::add_bridge(batch, plan.name, mac_of(plan.gateway), plan.mtu);
  TRY_PLAIN(socket.execute(batch));
  return linux::find_link(socket, plan.name);
}

Status ensure_address(linux::NetlinkSocket& socket, const BridgePlan& plan, const linux::LinkInfo& bridge) {
  bool has_address = false;
  for (const auto& address : TRY_PLAIN(linux::list_ipv4_addresses(socket))) {
    if (address.index != bridge.index) continue;
    if (address.address != plan.gateway || address.prefix_length != plan.subnet.length)
      return Error(ErrorKind::conflict, concat("interface ", plan.name, " has the address ", linux::to_string(address.address), "/", address.prefix_length,
                                               ", not ", linux::to_string(plan.gateway), "/", plan.subnet.length))
          .with_hint(concat("remove it (ip link delete ", plan.name, ") or choose another bridge name"));
    has_address = true;
  }
  linux::NetlinkBatch batch;
  if (!bridge.is_up) linux::disable_ipv6_autoconf(batch, bridge.index);
  if (!has_address) linux::add_ipv4_address(batch, bridge.index, plan.gateway, plan.subnet.length);
  if (!bridge.is_up) linux::set_link_up(batch, bridge.index);
  if (batch.empty()) return {};
  return socket.execute(batch);
}

Result<BridgeState> configure_bridge(linux::NetlinkSocket& socket, const BridgePlan& plan, const linux::LinkInfo& bridge) {
  TRY_PLAIN(ensure_address(socket, plan, bridge));
  TRY(set_sysctl(concat("/proc/sys/net/ipv4/conf/", plan.name, "/route_localnet"), "1"), "route_localnet");
  BridgeState state;
  state.index = bridge.index;
  state.enabled_forwarding = TRY(set_sysctl("/proc/sys/net/ipv4/ip_forward", "1"), "net.ipv4.ip_forward");
  state.needs_hairpin = bridge_is_filtered();
  return state;
}

/// The container's side: everything in one batch.
Status configure_inside(const Attachment& attachment) {
  linux::NetlinkSocket socket = TRY_PLAIN(linux::open_rtnetlink_in(attachment.netns_fd, attachment.sysctls));
  auto link = TRY_PLAIN(linux::find_link(socket, attachment.interface));
  linux::NetlinkBatch batch;
  linux::set_link_up(batch, loopback_index);
  // No link-local address: this network has no IPv6, and duplicate address detection costs each start packets and time.
  linux::disable_ipv6_autoconf(batch, link.index);
  linux::add_ipv4_address(batch, link.index, attachment.address, attachment.prefix_length);
  linux::set_link_up(batch, link.index);
  linux::add_default_route(batch, link.index, attachment.gateway);
  return socket.execute(batch);
}

Status make_veth(linux::NetlinkSocket& host, const Attachment& attachment) {
  linux::VethPair pair;
  pair.name = attachment.host_interface;
  pair.master = attachment.bridge_index;
  pair.peer_name = attachment.interface;
  pair.peer_netns_fd = attachment.netns_fd;
  pair.peer_mac = attachment.mac;
  pair.mtu = attachment.mtu;
  linux::NetlinkBatch batch;
  linux::add_veth(batch, pair);
  Status made = host.execute(batch);
  if (!made && made.error().error_number() == ENODEV) return std::move(made).error().with_kind(ErrorKind::not_found);
  return made;
}

/// The host's side once the container's end is up: packets flow when this returns.
Status finish_outside(linux::NetlinkSocket& host, const Attachment& attachment) {
  auto link = TRY_PLAIN(linux::find_link(host, attachment.host_interface));  // its port takes effect, as by settle_carrier
  TRY_PLAIN(linux::settle_carrier(host, attachment.bridge_index));  // the first port gives the bridge its carrier
  if (!attachment.hairpin) return {};
  linux::NetlinkBatch batch;
  linux::set_hairpin(batch, link.index);
  return host.execute(batch);
}

Status remove_interface_by(linux::NetlinkSocket& socket, const std::string& name) {
  auto link = linux::find_link(socket, name);
  if (!link) {
    if (link.error().kind() == ErrorKind::not_found) return {};
    return std::move(link).error();
  }
  linux::NetlinkBatch batch;
  linux::delete_link(batch, link->index);
  Status removed = socket.execute(batch);
  if (!removed && removed.error().error_number() == ENODEV) return {};  // its namespace ended meanwhile
  return removed;
}

}  // namespace

Result<bool> is_subnet_free(linux::NetlinkSocket& socket, const linux::Ipv4Prefix& subnet, const std::string& own_bridge) {
  std::uint32_t own_index = 0;
  if (auto link = linux::find_link(socket, own_bridge)) own_index = link->index;
  auto routes = TRY_PLAIN(linux::list_ipv4_routes(socket));
  return std::none_of(routes.begin(), routes.end(), [&](const linux::RouteInfo& route) {
    return route.destination.length > 0 && route.output_index != own_index && route.destination.overlaps(subnet);
  });
}

Result<linux::Ipv4Prefix> choose_subnet(linux::NetlinkSocket& socket, const std::string& own_bridge) {
  for (const auto& candidate : default_subnets())
    if (TRY_PLAIN(is_subnet_free(socket, candidate, own_bridge))) return candidate;
  return Error(ErrorKind::unavailable, "this host has routes into all subnets that would be used for containers").with_hint("set a subnet of your own in the engine's configuration");
}

Result<std::uint32_t> default_mtu(linux::NetlinkSocket& socket) {
  constexpr std::uint32_t ethernet_mtu = 1500;
  auto routes = TRY_PLAIN(linux::list_ipv4_routes(socket));
  auto route = std::find_if(routes.begin(), routes.end(), [](const linux::RouteInfo& r) { return r.destination.length == 0 && r.output_index != 0; });
  if (route == routes.end()) return ethernet_mtu;
  for (const auto& link : TRY_PLAIN(linux::list_links(socket)))
    if (link.index == route->output_index && link.mtu != 0) return link.mtu;
  return ethernet_mtu;
}

Result<BridgeState> ensure_bridge(linux::NetlinkSocket& socket, const BridgePlan& plan) {
  const bool existed = TRY_PLAIN(interface_exists(socket, plan.name));
  auto bridge = find_or_make_bridge(socket, plan);
  Result<BridgeState> state = bridge ? configure_bridge(socket, plan, *bridge) : Result<BridgeState>(bridge.error());
  if (!state && !existed) ignore(remove_interface_by(socket, plan.name));  // the first error is the one to report
  return state;
}

Result<bool> interface_exists(linux::NetlinkSocket& socket, const std::string& name) {
  auto link = linux::find_link(socket, name);
  if (link) return true;
  if (link.error().kind() == ErrorKind::not_found) return false;
  return std::move(link).error();
}

Status remove_bridge(linux::NetlinkSocket& socket, const std::string& name) { return remove_interface_by(socket, name); }

Status attach_container(const Attachment& attachment) {
  linux::NetlinkSocket host = TRY_PLAIN(linux::open_rtnetlink());
  Status status = make_veth(host, attachment);
  if (!status && status.error().kind() == ErrorKind::conflict) return status;  // a name is taken: not ours to remove
  if (status) status = configure_inside(attachment);
  if (status) status = finish_outside(host, attachment);
  if (!status) ignore(remove_interface_by(host, attachment.host_interface));  // the first error is the one to report
  return status;
}

Status complete_attachment(const Attachment& attachment) {
  linux::NetlinkSocket host = TRY_PLAIN(linux::open_rtnetlink());
  auto link = TRY_PLAIN(linux::find_link(host, attachment.host_interface));
  Status status;
  if (link.master != attachment.bridge_index)
    status = Error(ErrorKind::not_found, concat("interface ", attachment.host_interface, " is not on the bridge any more"));
  if (status && attachment.hairpin) {
    linux::NetlinkBatch batch;
    linux::set_hairpin(batch, link.index);
    status = host.execute(batch);
  }
  if (!status) ignore(remove_interface_by(host, attachment.host_interface));  // the first error is the one to report
  return status;
}

Status remove_interface(const std::string& name) {
  linux::NetlinkSocket host = TRY_PLAIN(linux::open_rtnetlink());
  return remove_interface_by(host, name);
}

Status bring_up_loopback_in(int netns_fd) {
  linux::NetlinkSocket socket = TRY_PLAIN(linux::open_rtnetlink_in(netns_fd));
  linux::NetlinkBatch batch;
  linux::set_link_up(batch, loopback_index);
  return socket.execute(batch);
}

linux::MacAddress mac_of(linux::Ipv4 address) {
  linux::MacAddress mac{0x02, 0x42};
  for (std::size_t i = 0; i < 4; ++i) mac[i + 2] = static_cast<std::uint8_t>(address.value >> (24 - 8 * i));
  return mac;
}

}  // namespace caisson::network
