// What a user asks a network to be, checked and turned into its definition. Pure.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "linux/ipv6.hpp"
#include "linux/rtnetlink.hpp"
#include "network/network.hpp"

namespace caisson::network {

/// The definition of what was asked for, but for addresses and MTU that are left to choose: a family the request names no subnet of has
/// none, `mtu` is 0 unless asked for. Gateways are filled in. Errors: invalid (names the option or subnet), denied (a name of ours),
/// not_found (a driver that does not exist), unsupported.
Result<Network> define_network(const NetworkRequest& request);

/// The first address of a subnet: its gateway, as docker has it. Errors: invalid.
Result<std::string> first_address(const std::string& cidr);

/// The subnets of a family, parsed; one that cannot be read is left out.
std::vector<linux::Ipv4Prefix> ipv4_subnets(const Network& network);
std::vector<linux::Ipv6Prefix> ipv6_subnets(const Network& network);
/// The one that endpoints get their address from.
const Subnet* ipv4_subnet(const Network& network);
const Subnet* ipv6_subnet(const Network& network);
/// Errors: denied, in docker's words, when two networks share addresses.
Status check_overlaps(const Network& network, const Network& other);

/// MACVLAN_MODE_* of the option macvlan_mode. Errors: invalid.
Result<std::uint32_t> macvlan_mode(const Network& network);
/// Whether published ports of its containers can be reached.
bool can_publish(const Network& network);

}  // namespace caisson::network
