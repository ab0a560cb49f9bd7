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
constexpr std::uint8_t link_local_length = 16;   // 169.254.0.0/16 (RFC 3927)
constexpr std::uint8_t link_local_length6 = 64;  // fe80::/64 (RFC 4291, 2.5.6)

/// Sets a switch under /proc/sys/net of this thread's network namespace; true when it was another value before.
Result<bool> set_sysctl(const std::string& path, std::string_view value) {
  auto before = TRY_PLAIN(linux::read_file(path));
  if (trim(before) == value) return false;
  TRY_PLAIN(linux::write_kernel_file(path, value));
  return true;
}

/// br_netfilter hands bridged packets to the IP hooks when this is on; without the module the file is missing.
bool bridge_is_filtered(const char* family_switch) {
  auto value = linux::read_file(concat("/proc/sys/net/bridge/", family_switch));
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

Result<bool> has_ipv6_address(linux::NetlinkSocket& socket, std::uint32_t index, const linux::Ipv6& wanted) {
  const auto bytes = wanted.bytes();
  const std::string text(bytes.begin(), bytes.end());
  for (const auto& address : TRY_PLAIN(linux::list_global_addresses(socket, index)))
    if (address.local == text) return true;
  return false;
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
  if (!bridge.is_up && !plan.gateway6) linux::disable_ipv6_autoconf(batch, bridge.index);
  if (!has_address) linux::add_ipv4_address(batch, bridge.index, plan.gateway, plan.subnet.length);
  if (plan.gateway6 && !TRY_PLAIN(has_ipv6_address(socket, bridge.index, *plan.gateway6)))
    linux::add_ipv6_address(batch, bridge.index, *plan.gateway6, plan.subnet6->length);
  if (!bridge.is_up) linux::set_link_up(batch, bridge.index);
  if (batch.empty()) return {};
  return socket.execute(batch);
}

/// A host that learns its own default route from router advertisements stops listening to them when it forwards, unless told to go on
/// (Documentation/networking/ip-sysctl.rst, accept_ra).
Status keep_listening_to_routers(linux::NetlinkSocket& socket, std::vector<std::string>& changes) {
  for (const auto& link : TRY_PLAIN(linux::list_links(socket))) {
    const std::string path = concat("/proc/sys/net/ipv6/conf/", link.name, "/accept_ra");
    auto value = linux::read_file(path);
    if (!value.ok() || trim(*value) != "1" || !link.kind.empty() || link.name == "lo") continue;  // "kind": interfaces that software made
    TRY_PLAIN(linux::write_kernel_file(path, "2"));
    changes.push_back(concat("net.ipv6.conf.", link.name, ".accept_ra was 1 and was set to 2, because a host that forwards ignores routers otherwise"));
  }
  return {};
}

Status enable_forwarding(linux::NetlinkSocket& socket, const BridgePlan& plan, std::vector<std::string>& changes) {
  if (plan.internal) return {};
  if (TRY(set_sysctl("/proc/sys/net/ipv4/ip_forward", "1"), "net.ipv4.ip_forward")) changes.emplace_back("net.ipv4.ip_forward was 0 and was set to 1");
  if (!plan.gateway6) return {};
  const std::string all = "/proc/sys/net/ipv6/conf/all/forwarding";
  auto before = TRY(linux::read_file(all), "net.ipv6.conf.all.forwarding");
  if (trim(before) == "1") return {};
  TRY(keep_listening_to_routers(socket, changes), "net.ipv6.conf");
  TRY(linux::write_kernel_file(all, "1"), "net.ipv6.conf.all.forwarding");
  changes.emplace_back("net.ipv6.conf.all.forwarding was 0 and was set to 1");
  return {};
}

Result<BridgeState> configure_bridge(linux::NetlinkSocket& socket, const BridgePlan& plan, const linux::LinkInfo& bridge) {
  // The bridge is a router: it takes no routes from others. Before its address, which a host without IPv6 refuses.
  if (plan.gateway6) {
    TRY(set_sysctl(concat("/proc/sys/net/ipv6/conf/", plan.name, "/disable_ipv6"), "0"), "disable_ipv6");
    TRY(set_sysctl(concat("/proc/sys/net/ipv6/conf/", plan.name, "/accept_ra"), "0"), "accept_ra");
  }
  TRY_PLAIN(ensure_address(socket, plan, bridge));
  TRY(set_sysctl(concat("/proc/sys/net/ipv4/conf/", plan.name, "/route_localnet"), "1"), "route_localnet");
  BridgeState state;
  state.index = bridge.index;
  TRY_PLAIN(enable_forwarding(socket, plan, state.host_changes));
  state.needs_hairpin = bridge_is_filtered("bridge-nf-call-iptables");
  state.shows_bridged = state.needs_hairpin && (!plan.gateway6 || bridge_is_filtered("bridge-nf-call-ip6tables"));
  return state;
}

void add_default_routes(linux::NetlinkBatch& batch, std::uint32_t index, const Attachment& attachment) {
  if (attachment.gateway) linux::replace_default_route(batch, index, *attachment.gateway);
  if (attachment.gateway6) linux::replace_ipv6_default_route(batch, index, *attachment.gateway6);
}

/// The container's side: everything in one batch.
Status configure_inside(const Attachment& attachment) {
  linux::NetlinkSocket socket = TRY_PLAIN(linux::open_rtnetlink_in(attachment.netns_fd, attachment.sysctls));
  auto link = TRY_PLAIN(linux::find_link(socket, attachment.interface));
  linux::NetlinkBatch batch;
  linux::set_link_up(batch, loopback_index);
  // No link-local address where the network has no IPv6: duplicate address detection costs each start packets and time.
  if (!attachment.address6) linux::disable_ipv6_autoconf(batch, link.index);
  linux::add_ipv4_address(batch, link.index, attachment.address, attachment.prefix_length);
  for (const auto& address : attachment.link_local) linux::add_ipv4_address(batch, link.index, address, link_local_length);
  if (attachment.address6) linux::add_ipv6_address(batch, link.index, *attachment.address6, attachment.prefix_length6);
  for (const auto& address : attachment.link_local6) linux::add_ipv6_address(batch, link.index, address, link_local_length6);
  linux::set_link_up(batch, link.index);
  add_default_routes(batch, link.index, attachment);
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
  linux::NetlinkBatch batch;
  if (attachment.isolated) linux::set_isolated(batch, link.index);
  if (attachment.hairpin) linux::set_hairpin(batch, link.index);
  if (batch.empty()) return {};
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

/// 0 when there is no such interface.
std::uint32_t index_of(linux::NetlinkSocket& socket, const std::string& name) {
  if (name.empty()) return 0;
  auto link = linux::find_link(socket, name);
  return link ? link->index : 0;
}

bool is_untouched(const std::vector<linux::RouteInfo>& routes, const linux::Ipv4Prefix& subnet, std::uint32_t own_index) {
  return std::none_of(routes.begin(), routes.end(), [&](const linux::RouteInfo& route) {
    return route.destination.length > 0 && (own_index == 0 || route.output_index != own_index) && route.destination.overlaps(subnet);
  });
}

}  // namespace

Result<bool> is_subnet_free(linux::NetlinkSocket& socket, const linux::Ipv4Prefix& subnet, const std::string& own_bridge, const SubnetCheck& is_free_on_host) {
  const std::uint32_t own_index = index_of(socket, own_bridge);
  if (!is_untouched(TRY_PLAIN(linux::list_ipv4_routes(socket)), subnet, own_index)) return false;
  return is_free_on_host ? is_free_on_host(subnet) : Result<bool>(true);
}

Result<linux::Ipv4Prefix> choose_subnet(linux::NetlinkSocket& socket, const std::string& own_bridge, const std::vector<linux::Ipv4Prefix>& taken, const SubnetCheck& is_free_on_host) {
  const std::uint32_t own_index = index_of(socket, own_bridge);
  const auto routes = TRY_PLAIN(linux::list_ipv4_routes(socket));
  for (const auto& candidate : default_subnets()) {
    const bool is_ours = std::any_of(taken.begin(), taken.end(), [&](const linux::Ipv4Prefix& other) { return other.overlaps(candidate); });
    if (is_ours || !is_untouched(routes, candidate, own_index)) continue;
    if (!is_free_on_host || TRY(is_free_on_host(candidate), "routes of the host")) return candidate;
  }
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

Status attach_to_parent(const Attachment& attachment, std::uint32_t parent_index, std::uint32_t mode) {
  linux::NetlinkSocket host = TRY_PLAIN(linux::open_rtnetlink());
  linux::Macvlan macvlan;
  macvlan.name = attachment.interface;
  macvlan.parent = parent_index;
  macvlan.netns_fd = attachment.netns_fd;
  macvlan.mode = mode;
  macvlan.mac = attachment.mac;
  macvlan.mtu = attachment.mtu;
  linux::NetlinkBatch batch;
  linux::add_macvlan(batch, macvlan);
  TRY_PLAIN(host.execute(batch));
  Status configured = configure_inside(attachment);
  if (!configured) ignore(remove_interface_in(attachment.netns_fd, attachment.interface));  // the first error is the one to report
  return configured;
}

Result<std::uint32_t> ensure_parent(linux::NetlinkSocket& socket, const std::string& name, bool& made) {
  made = false;
  auto link = linux::find_link(socket, name);
  if (link) return link->index;
  if (link.error().kind() != ErrorKind::not_found) return std::move(link).error();
  Halves halves = split_last(name, '.');
  auto id = parse_integer<std::uint16_t>(halves.after);
  if (!halves.found || !id || *id == 0 || *id > 4094) return Error(ErrorKind::not_found, concat("this host has no interface ", name));
  auto parent = TRY(linux::find_link(socket, halves.before), concat("interface ", name));
  linux::NetlinkBatch batch;
  linux::add_vlan(batch, name, parent.index, *id);
  TRY_PLAIN(socket.execute(batch));
  made = true;
  return TRY_PLAIN(linux::find_link(socket, name)).index;
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

Status enable_hairpin(const std::string& host_interface) {
  linux::NetlinkSocket host = TRY_PLAIN(linux::open_rtnetlink());
  linux::NetlinkBatch batch;
  linux::set_hairpin(batch, TRY_PLAIN(linux::find_link(host, host_interface)).index);
  return host.execute(batch);
}

Status remove_interface(const std::string& name) {
  linux::NetlinkSocket host = TRY_PLAIN(linux::open_rtnetlink());
  return remove_interface_by(host, name);
}

Status remove_interface_in(int netns_fd, const std::string& name) {
  linux::NetlinkSocket socket = TRY_PLAIN(linux::open_rtnetlink_in(netns_fd));
  return remove_interface_by(socket, name);
}

Status set_default_routes(int netns_fd, const DefaultRoutes& routes) {
  if (!routes.gateway && !routes.gateway6) return {};
  linux::NetlinkSocket socket = TRY_PLAIN(linux::open_rtnetlink_in(netns_fd));
  linux::NetlinkBatch batch;
  if (routes.gateway) linux::replace_default_route(batch, TRY_PLAIN(linux::find_link(socket, routes.interface)).index, *routes.gateway);
  if (routes.gateway6) linux::replace_ipv6_default_route(batch, TRY_PLAIN(linux::find_link(socket, routes.interface6)).index, *routes.gateway6);
  return socket.execute(batch);
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
