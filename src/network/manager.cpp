// Networks of one host: definitions, and how bridge and firewall come and go.
#include "network/manager.hpp"

#include <algorithm>

#include "base/ids.hpp"
#include "base/strings.hpp"

namespace caisson::network {
namespace {

Network plain_definition(std::string name, std::string driver) {
  Network network;
  network.id = random_id();
  network.name = std::move(name);
  network.driver = std::move(driver);
  network.mtu = 0;
  network.created = now_ns();
  return network;
}

/// Our own gateway of a subnet: its first address, as docker has it.
linux::Ipv4 gateway_of(const linux::Ipv4Prefix& subnet) { return linux::Ipv4{subnet.address.value + 1}; }

Result<linux::Ipv4Prefix> subnet_around(const Endpoint& endpoint) {
  linux::Ipv4Prefix subnet;
  subnet.length = endpoint.prefix_length;
  subnet.address = TRY_PLAIN(linux::parse_ipv4(endpoint.ipv4));
  subnet.address.value &= subnet.mask();
  return subnet;
}

}  // namespace

Result<std::unique_ptr<NetworkManager>> create_network_manager(state::Store& store, const Options& options) {
  return HostNetworkManager::create(store, options);
}

Result<std::unique_ptr<NetworkManager>> HostNetworkManager::create(state::Store& store, const Options& options) {
  TRY(check_interface_name(options.bridge_interface), "network options: bridge");
  TRY(check_table_name(options.nft_table), "network options: nft table");
  if (!options.subnet.empty()) {
    auto subnet = TRY(linux::parse_ipv4_prefix(options.subnet), "network options");
    if (subnet.length > 29 || subnet.length < 8)
      return Error(ErrorKind::invalid, concat("network options: subnet ", options.subnet, ": the prefix length must be 8 to 29"));
  }
  if (options.mtu != 0 && (options.mtu < 68 || options.mtu > 65535))
    return Error(ErrorKind::invalid, concat("network options: mtu ", options.mtu, " is not 68 to 65535"));
  std::unique_ptr<HostNetworkManager> manager(new HostNetworkManager(store, options));
  TRY(manager->load_records(), "reading the records of networks");
  return std::unique_ptr<NetworkManager>(std::move(manager));
}

Status HostNetworkManager::load_records() {
  for (const auto& entry : TRY_PLAIN(store_.list(definition_prefix))) {
    auto network = network_from_text(entry.value, entry.key);
    if (!network) unreadable_[entry.key] = network.error().text();
    else if (entry.key == definition_key("bridge")) bridge_ = std::move(*network);
  }
  for (const auto& entry : TRY_PLAIN(store_.list(endpoint_prefix))) {
    auto record = endpoint_from_text(entry.value, entry.key);
    if (record) records_[entry.key.substr(endpoint_prefix.size())] = std::move(*record);
    else unreadable_[entry.key] = record.error().text();
  }
  return {};
}

Result<Network> HostNetworkManager::make_bridge_definition() {
  linux::NetlinkSocket socket = TRY_PLAIN(linux::open_rtnetlink());
  linux::Ipv4Prefix subnet;
  Network network = plain_definition("bridge", "bridge");
  if (!records_.empty()) {
    // The definition was lost while containers run: their endpoints know what it was.
    const Endpoint& endpoint = records_.begin()->second.endpoint;
    network.id = endpoint.network_id;
    subnet = TRY_PLAIN(subnet_around(endpoint));
  } else if (options_.subnet.empty()) {
    subnet = TRY_PLAIN(choose_subnet(socket, options_.bridge_interface));
  } else {
    subnet = TRY_PLAIN(linux::parse_ipv4_prefix(options_.subnet));
  }
  network.bridge_interface = options_.bridge_interface;
  network.mtu = options_.mtu != 0 ? options_.mtu : TRY_PLAIN(default_mtu(socket));
  Subnet pool;
  pool.cidr = linux::to_string(subnet);
  pool.gateway = linux::to_string(gateway_of(subnet));
  network.subnets.push_back(std::move(pool));
  return network;
}

/// The stored definition, or a new one. It is made anew when the options name another subnet or bridge, or when a route
/// of the host has come to touch its subnet, as long as no endpoint uses it.
Result<Network> HostNetworkManager::bridge_definition() {
  if (bridge_ && (bridge_state_ || !records_.empty())) return *bridge_;
  Network fresh = TRY(make_bridge_definition(), "network bridge");
  if (bridge_) {
    fresh.id = bridge_->id;
    fresh.created = bridge_->created;
    fresh.labels = bridge_->labels;
    fresh.options = bridge_->options;
    if (options_.subnet.empty() && !bridge_->subnets.empty()) {
      // Keep the subnet of before where it is still free, so that addresses do not wander with every start.
      auto before = linux::parse_ipv4_prefix(bridge_->subnets.front().cidr);
      linux::NetlinkSocket socket = TRY_PLAIN(linux::open_rtnetlink());
      if (before && TRY_PLAIN(is_subnet_free(socket, *before, options_.bridge_interface))) fresh.subnets = bridge_->subnets;
    }
  }
  if (!bridge_ || to_text(fresh) != to_text(*bridge_)) {
    state::Transaction transaction;
    transaction.put(definition_key("bridge"), to_text(fresh));
    TRY(store_.commit(transaction), "network bridge: recording its definition");
  }
  bridge_ = fresh;
  pool_.reset();
  firewall_.reset();
  return fresh;
}

Status HostNetworkManager::ensure_pool() {
  Network network = TRY_PLAIN(bridge_definition());
  if (pool_ && firewall_) return {};
  if (network.subnets.empty()) return Error(ErrorKind::corrupt, "network bridge: its record has no subnet");
  auto subnet = TRY(linux::parse_ipv4_prefix(network.subnets.front().cidr), "network bridge");
  AddressPool pool(subnet, gateway_of(subnet));
  for (const auto& [container_id, record] : records_) {
    auto address = TRY(linux::parse_ipv4(record.endpoint.ipv4), concat("endpoint of container ", container_id));
    TRY(pool.take(address), concat("endpoint of container ", container_id));
  }
  FirewallPlan plan;
  plan.table = options_.nft_table;
  plan.bridge = network.bridge_interface;
  plan.subnet = subnet;
  pool_ = std::move(pool);
  ++pool_generation_;
  firewall_ = std::move(plan);
  return {};
}

std::vector<PublishedPort> HostNetworkManager::all_ports() const {
  std::vector<PublishedPort> ports;
  for (const auto& [container_id, record] : records_) {
    auto address = linux::parse_ipv4(record.endpoint.ipv4);
    if (!address) continue;  // ensure_pool has refused such a record already
    for (const auto& binding : record.endpoint.ports) ports.push_back({binding, *address});
  }
  return ports;
}

Status HostNetworkManager::rebuild_table() { return install_table(*firewall_, all_ports()); }

Status HostNetworkManager::ensure_ready() {
  if (bridge_state_) return {};
  TRY_PLAIN(ensure_pool());
  linux::NetlinkSocket socket = TRY_PLAIN(linux::open_rtnetlink());
  BridgePlan plan;
  plan.name = bridge_->bridge_interface;
  plan.subnet = firewall_->subnet;
  plan.gateway = gateway_of(plan.subnet);
  plan.mtu = bridge_->mtu;
  const bool existed = TRY(interface_exists(socket, plan.name), "network bridge");
  // The table first: the bridge must never forward without its default-deny.
  TRY(rebuild_table(), "network bridge");
  auto state = ensure_bridge(socket, plan);
  std::vector<std::string> changes;
  Status opened;
  if (state) {
    auto chains = open_forward_chains(*firewall_);
    if (chains) changes = std::move(*chains);
    else opened = std::move(chains).error();
  }
  if (!state || !opened) {
    // The first error is the one to report.
    if (!existed) {
      ignore(close_forward_chains(*firewall_));
      ignore(remove_bridge(socket, plan.name));
      ignore(remove_table(*firewall_));
    }
    return (state ? std::move(opened).error() : std::move(state).error()).in("network bridge");
  }
  if (state->enabled_forwarding) changes.push_back("net.ipv4.ip_forward was 0 and was set to 1");
  if (!changes.empty()) {
    // Remembered where an administrator looks: `network inspect bridge`.
    for (std::size_t i = 0; i < changes.size(); ++i) bridge_->options[concat("host_change.", i)] = changes[i];
    state::Transaction transaction;
    transaction.put(definition_key("bridge"), to_text(*bridge_));
    TRY(store_.commit(transaction), "network bridge: recording changes of the host");
  }
  bridge_state_ = *state;
  return {};
}

Result<std::vector<Network>> HostNetworkManager::definitions() {
  std::vector<Network> networks;
  if (options_.enabled) networks.push_back(TRY_PLAIN(bridge_definition()));
  for (const auto& [name, driver] : {std::pair("host", "host"), std::pair("none", "null")}) {
    auto entry = store_.get(definition_key(name));
    if (entry) {
      networks.push_back(TRY_PLAIN(network_from_text(entry->value, entry->key)));
      continue;
    }
    if (entry.error().kind() != ErrorKind::not_found) return std::move(entry).error();
    Network network = plain_definition(name, driver);
    state::Transaction transaction;
    transaction.require_absent(definition_key(name)).put(definition_key(name), to_text(network));
    TRY(store_.commit(transaction), concat("network ", name, ": recording its definition"));
    networks.push_back(std::move(network));
  }
  return networks;
}

Result<std::vector<Network>> HostNetworkManager::list() {
  std::lock_guard lock(mutex_);
  return definitions();
}

Result<Network> HostNetworkManager::find(const std::string& name_or_id) {
  std::lock_guard lock(mutex_);
  auto networks = TRY_PLAIN(definitions());
  for (const auto& network : networks)
    if (network.name == name_or_id || network.id == name_or_id) return network;
  std::vector<Network> matches;
  for (const auto& network : networks)
    if (!name_or_id.empty() && network.id.rfind(name_or_id, 0) == 0) matches.push_back(network);
  if (matches.size() == 1) return matches.front();
  if (matches.size() > 1) return Error(ErrorKind::invalid, concat("network ", name_or_id, " is ambiguous: it begins ", matches.size(), " ids"));
  return Error(ErrorKind::not_found, concat("network ", name_or_id, " not found"));
}

Status HostNetworkManager::shut_down() {
  std::lock_guard lock(mutex_);
  if (!records_.empty() || !bridge_ || !options_.enabled) return {};
  TRY_PLAIN(ensure_pool());
  TRY_PLAIN(close_forward_chains(*firewall_));
  linux::NetlinkSocket socket = TRY_PLAIN(linux::open_rtnetlink());
  // The bridge before the table: it never forwards without its default-deny.
  TRY_PLAIN(remove_bridge(socket, bridge_->bridge_interface));
  TRY_PLAIN(remove_table(*firewall_));
  bridge_state_.reset();
  std::erase_if(bridge_->options, [](const auto& option) { return option.first.rfind("host_change.", 0) == 0; });
  state::Transaction transaction;
  transaction.put(definition_key("bridge"), to_text(*bridge_));
  TRY(store_.commit(transaction), "network bridge: recording its end");
  return {};
}

}  // namespace caisson::network
