// Firewall: our nftables table (translation of published ports, masquerading, default-deny) and, where the host drops
// forwarded packets, marked accepts in the host's own chains.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "linux/nfnetlink.hpp"
#include "linux/rtnetlink.hpp"
#include "network/network.hpp"

namespace caisson::network {

struct FirewallPlan {
  std::string table;   ///< of family ip
  std::string bridge;  ///< interface name
  linux::Ipv4Prefix subnet;
};

/// A published port and where it leads.
struct PublishedPort {
  PortBinding binding;
  linux::Ipv4 container;
};

/// Input of `nft -f`: replaces the whole table, with all published ports, in one transaction. Pure.
/// Precondition: names have passed check_table_name and check_interface_name.
std::string ruleset_text(const FirewallPlan& plan, const std::vector<PublishedPort>& ports);

/// The map elements of published ports. Precondition: their addresses are IPv4 (host_address has accepted them).
std::vector<linux::NftElement> port_elements(const std::vector<PublishedPort>& ports);

/// Letters, digits and "_", a letter first, no keyword of nft. Errors: invalid.
Status check_table_name(std::string_view name);
/// At most 15 bytes of letters, digits, "_", "-" and ".", so that it needs no quoting anywhere. Errors: invalid.
Status check_interface_name(std::string_view name);

/// Replaces our table. Errors: unavailable (nft is not installed), unsupported or io with nft's words.
Status install_table(const FirewallPlan& plan, const std::vector<PublishedPort>& ports);
/// A table that is not there is no error.
Status remove_table(const FirewallPlan& plan);

/// Where a chain of the host on the forward hook has policy drop (dockerd and ufw set it), an accept in our table does not
/// help: a packet must be accepted by every table. Appends accepts, marked with a comment that names our table, to those
/// chains: behind the host's own rules, so that they decide first and only the policy is overridden. Returns one
/// sentence per chain that was changed. Safe to repeat.
Result<std::vector<std::string>> open_forward_chains(const FirewallPlan& plan);
/// Removes what open_forward_chains has added. Safe to repeat.
Status close_forward_chains(const FirewallPlan& plan);

/// The host's chains on the forward hook that drop what nobody accepts, by name; what open_forward_chains would open. Changes nothing.
Result<std::vector<std::string>> dropping_forward_chains();

}  // namespace caisson::network
