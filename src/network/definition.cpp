// The definition of a network from what a user asked for.
#include "network/definition.hpp"

#include <algorithm>

#include "base/ids.hpp"
#include "base/strings.hpp"
#include "network/address_pool.hpp"
#include "network/firewall.hpp"

namespace caisson::network {
namespace {

bool is_ipv6_text(std::string_view text) { return text.find(':') != std::string_view::npos; }

Error invalid(std::string text) { return {ErrorKind::invalid, std::move(text)}; }

/// As Go's strconv.ParseBool, which docker reads these options with.
Result<bool> parse_switch(const std::string& option, const std::string& value) {
  const std::string word = lower(value);
  if (word == "1" || word == "t" || word == "true") return true;
  if (word == "0" || word == "f" || word == "false") return false;
  return invalid(concat("option ", option, ": \"", value, "\" is neither true nor false"));
}

Status apply_bridge_option(Network& network, const std::string& key, const std::string& value) {
  if (key == "com.docker.network.bridge.name") {
    TRY(check_interface_name(value), concat("option ", key));
    network.bridge_interface = value;
  } else if (key == "com.docker.network.bridge.enable_icc") {
    network.isolates_containers = !TRY_PLAIN(parse_switch(key, value));
  } else if (key == "com.docker.network.bridge.enable_ip_masquerade") {
    network.keeps_source = !TRY_PLAIN(parse_switch(key, value));
  } else if (key == "com.docker.network.bridge.host_binding_ipv4") {
    auto address = TRY(linux::parse_ipv4(value), concat("option ", key));
    if (address.value != 0) network.host_binding = value;
  }
  return {};
}

Status apply_options(Network& network) {
  for (const auto& [key, value] : network.options) {
    if (key == "com.docker.network.driver.mtu") {
      auto mtu = parse_integer<std::uint32_t>(value);
      if (!mtu || *mtu < 68 || *mtu > 65535) return invalid(concat("option ", key, ": \"", value, "\" is not 68 to 65535"));
      network.mtu = *mtu;
    } else if (network.driver == "bridge") {
      TRY_PLAIN(apply_bridge_option(network, key, value));
    } else if (key == "parent") {
      TRY(check_interface_name(value), "option parent");
      network.parent = value;
    }
  }
  if (network.driver != "macvlan") return {};
  TRY_PLAIN(macvlan_mode(network));
  if (network.parent.empty())
    return Error(ErrorKind::unsupported, "a macvlan network without a parent interface is not supported").with_hint("name one: -o parent=eth0");
  return {};
}

Status check_network_name(const std::string& name) {
  const bool has_control = std::any_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
  if (trim(name).empty() || has_control || name.find('/') != std::string::npos || name.size() > 255) return invalid(concat("invalid name: \"", name, "\""));
  if (is_predefined(name) || name == "default")
    return Error(ErrorKind::denied, concat("operation is not permitted on predefined ", name, " network"));
  return {};
}

Status check_driver(const std::string& driver) {
  if (driver == "bridge" || driver == "macvlan") return {};
  if (driver == "host" || driver == "null") return Error(ErrorKind::denied, concat("only one instance of \"", driver, "\" network is allowed"));
  return Error(ErrorKind::not_found, concat("plugin \"", driver, "\" not found"));
}

Status complete_subnet(Subnet& subnet) {
  if (subnet.cidr.empty()) {
    if (!subnet.gateway.empty()) return invalid(concat("no matching subnet for gateway ", subnet.gateway));
    if (!subnet.range.empty()) return invalid(concat("no matching subnet for range ", subnet.range));
    if (!subnet.reserved.empty()) return invalid(concat("no matching subnet for aux-address ", subnet.reserved.begin()->second));
    return {};
  }
  if (subnet.gateway.empty()) subnet.gateway = TRY_PLAIN(first_address(subnet.cidr));
  if (is_ipv6_text(subnet.cidr)) {
    TRY_PLAIN(AddressPool6::create(subnet));
    return {};
  }
  auto pool = TRY_PLAIN(AddressPool::create(subnet));
  if (pool.subnet().length > 31 || pool.subnet().length < 8) return invalid(concat("subnet ", subnet.cidr, ": the prefix length must be 8 to 31"));
  return {};
}

Status take_subnets(Network& network, const std::vector<Subnet>& subnets) {
  std::size_t count[2] = {0, 0};
  for (Subnet subnet : subnets) {
    TRY_PLAIN(complete_subnet(subnet));
    if (subnet.cidr.empty()) continue;
    Network alone;
    alone.subnets = {subnet};
    TRY_PLAIN(check_overlaps(alone, network));
    ++count[is_ipv6_text(subnet.cidr) ? 1 : 0];
    network.subnets.push_back(std::move(subnet));
  }
  if (network.driver == "bridge" && (count[0] > 1 || count[1] > 1)) return invalid("a bridge network has one subnet of each family");
  return {};
}

const Subnet* subnet_of_family(const Network& network, bool ipv6) {
  auto found = std::find_if(network.subnets.begin(), network.subnets.end(), [&](const Subnet& subnet) { return is_ipv6_text(subnet.cidr) == ipv6; });
  return found == network.subnets.end() ? nullptr : &*found;
}

template <typename Prefixes>
bool any_overlap(const Prefixes& some, const Prefixes& others) {
  return std::any_of(some.begin(), some.end(), [&](const auto& one) {
    return std::any_of(others.begin(), others.end(), [&](const auto& other) { return one.overlaps(other); });
  });
}

}  // namespace

bool is_predefined(std::string_view name) { return name == "bridge" || name == "host" || name == "none"; }

bool precedes(const GatewayClaim& a, const GatewayClaim& b) {
  if (a.internal != b.internal) return b.internal;
  if (a.priority != b.priority) return a.priority > b.priority;
  return a.network_name < b.network_name;
}

Result<std::string> first_address(const std::string& cidr) {
  if (is_ipv6_text(cidr)) {
    auto prefix = TRY_PLAIN(linux::parse_ipv6_prefix(cidr));
    return linux::to_string(linux::Ipv6{prefix.address.high, prefix.address.low + 1});
  }
  auto prefix = TRY_PLAIN(linux::parse_ipv4_prefix(cidr));
  return linux::to_string(linux::Ipv4{prefix.address.value + 1});
}

std::vector<linux::Ipv4Prefix> ipv4_subnets(const Network& network) {
  std::vector<linux::Ipv4Prefix> prefixes;
  for (const auto& subnet : network.subnets)
    if (auto prefix = linux::parse_ipv4_prefix(subnet.cidr)) prefixes.push_back(*prefix);
  return prefixes;
}

std::vector<linux::Ipv6Prefix> ipv6_subnets(const Network& network) {
  std::vector<linux::Ipv6Prefix> prefixes;
  for (const auto& subnet : network.subnets)
    if (auto prefix = linux::parse_ipv6_prefix(subnet.cidr)) prefixes.push_back(*prefix);
  return prefixes;
}

const Subnet* ipv4_subnet(const Network& network) { return subnet_of_family(network, false); }
const Subnet* ipv6_subnet(const Network& network) { return network.ipv6 ? subnet_of_family(network, true) : nullptr; }

Status check_overlaps(const Network& network, const Network& other) {
  if (!any_overlap(ipv4_subnets(network), ipv4_subnets(other)) && !any_overlap(ipv6_subnets(network), ipv6_subnets(other))) return {};
  return Error(ErrorKind::denied, "Pool overlaps with other one on this address space");
}

Result<std::uint32_t> macvlan_mode(const Network& network) {
  auto option = network.options.find("macvlan_mode");
  const std::string mode = option == network.options.end() || option->second.empty() ? "bridge" : option->second;
  for (const auto& [name, value] : {std::pair("bridge", MACVLAN_MODE_BRIDGE), std::pair("private", MACVLAN_MODE_PRIVATE), std::pair("vepa", MACVLAN_MODE_VEPA),
                                    std::pair("passthru", MACVLAN_MODE_PASSTHRU)})
    if (mode == name) return static_cast<std::uint32_t>(value);
  return invalid(concat("option macvlan_mode: \"", mode, "\" is not bridge, private, vepa or passthru"));
}

bool can_publish(const Network& network) { return network.driver == "bridge" && !network.internal; }

Result<Network> define_network(const NetworkRequest& request) {
  Network network;
  network.id = random_id();
  network.name = request.name;
  network.driver = request.driver.empty() || request.driver == "default" ? "bridge" : request.driver;
  network.mtu = 0;
  network.internal = request.internal;
  network.attachable = request.attachable;
  network.ipv6 = request.ipv6;
  network.labels = request.labels;
  network.options = request.options;
  network.ipam_options = request.ipam_options;
  network.created = now_ns();
  TRY_PLAIN(check_network_name(network.name));
  TRY_PLAIN(check_driver(network.driver));
  if (!request.ipam_driver.empty() && request.ipam_driver != "default")
    return Error(ErrorKind::not_found, concat("plugin \"", request.ipam_driver, "\" not found"));
  if (network.driver == "bridge") network.bridge_interface = concat("br-", network.id.substr(0, 12));
  TRY(apply_options(network), concat("network ", network.name));
  TRY(take_subnets(network, request.subnets), concat("network ", network.name));
  return network;
}

}  // namespace caisson::network
