// Firewall: our nftables table (translation of published ports, masquerading, default-deny) and, where the host drops
// forwarded packets, marked accepts in the host's own chains.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "linux/nfnetlink.hpp"
#include "linux/rtnetlink.hpp"
#include "network/network.hpp"

namespace caisson::network {

/// What the table holds of one bridge.
struct BridgeRules {
  std::string bridge;  ///< interface name
  linux::Ipv4Prefix subnet;
  std::optional<linux::Ipv6Prefix> subnet6;
  bool internal = false;
  bool isolates_containers = false;
  bool keeps_source = false;  ///< packets to the outside keep the container's address
};

struct FirewallPlan {
  std::string table;   ///< of family inet
  PortPolicy published;
  std::vector<BridgeRules> bridges;
  bool relays = false;  ///< published ports are relayed under their clients' addresses (local_relay.hpp)
};

/// A published port and where it leads.
struct PublishedPort {
  PortBinding binding;
  linux::Ipv4 container;
  std::optional<linux::Ipv6> container6;
};

/// Input of `nft -f`: replaces the whole table, with all bridges and published ports, in one transaction. Pure.
/// Precondition: names have passed check_table_name and check_interface_name.
std::string ruleset_text(const FirewallPlan& plan, const std::vector<PublishedPort>& ports);
/// Input of `nft -f`: one bridge more, or one less. Pure; the same preconditions.
std::string add_bridge_text(const std::string& table, const BridgeRules& rules);
std::string delete_bridge_text(const std::string& table, const BridgeRules& rules);

/// The map elements of published ports, those of one that both families have twice. Precondition: host_addresses() has accepted them.
std::vector<linux::NftElement> port_elements(const std::vector<PublishedPort>& ports);

/// Letters, digits and "_", a letter first, no keyword of nft. Errors: invalid.
Status check_table_name(std::string_view name);
/// At most 15 bytes of letters, digits, "_", "-" and ".", so that it needs no quoting anywhere. Errors: invalid.
Status check_interface_name(std::string_view name);

/// Replaces our table. Errors: invalid (a policy that names no address or interface), unavailable (nft is not installed), unsupported or
/// io with nft's words.
Status install_table(const FirewallPlan& plan, const std::vector<PublishedPort>& ports);
/// Errors: as install_table(), also when the table is not there.
Status run_table_change(const std::string& table, const std::string& text);
/// A table that is not there is no error.
Status remove_table(const std::string& table);
/// Errors: invalid, naming the text.
Status check_port_policy(const PortPolicy& policy);
/// Whether an address lies in one of these networks, which check_port_policy() has accepted. Pure.
bool is_allowed_source(const std::vector<std::string>& sources, const linux::SocketAddress& address);

/// Where a chain of the host on the forward hook has policy drop (dockerd and ufw set it), an accept in our table does not
/// help: a packet must be accepted by every table. Appends accepts, marked with a comment, to those
/// chains: behind the host's own rules, so that they decide first and only the policy is overridden. Returns one
/// sentence per chain that was changed. Safe to repeat.
struct ForwardPlan {
  std::string table;   ///< our own, which is left alone
  std::string bridge;
  std::string mark;    ///< the comment; of this bridge alone
  bool ipv6 = false;
};
Result<std::vector<std::string>> open_forward_chains(const ForwardPlan& plan);
/// Removes what open_forward_chains has added. Safe to repeat.
Status close_forward_chains(const ForwardPlan& plan);

/// The host's chains on the forward hook that drop what nobody accepts, by name; what open_forward_chains would open. Changes nothing.
Result<std::vector<std::string>> dropping_forward_chains();

}  // namespace caisson::network
