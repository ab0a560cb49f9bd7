// Networks of one host: what is known of them, and the end.
#include "network/manager.hpp"

#include <algorithm>

#include "base/ids.hpp"
#include "base/strings.hpp"
#include "network/definition.hpp"

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

Result<linux::Ipv4Prefix> subnet_around(const Endpoint& endpoint) {
  linux::Ipv4Prefix subnet;
  subnet.length = endpoint.prefix_length;
  subnet.address = TRY_PLAIN(linux::parse_ipv4(endpoint.ipv4));
  subnet.address.value &= subnet.mask();
  return subnet;
}

void forget_host_changes(Network& network) {
  std::erase_if(network.options, [](const auto& option) { return option.first.rfind("host_change.", 0) == 0; });
}

}  // namespace

Result<std::unique_ptr<NetworkManager>> create_network_manager(state::Store& store, const Options& options) {
  return HostNetworkManager::create(store, options);
}

Result<std::unique_ptr<NetworkManager>> HostNetworkManager::create(state::Store& store, const Options& options) {
  TRY(check_interface_name(options.bridge_interface), "network options: bridge");
  TRY(check_table_name(options.nft_table), "network options: nft table");
  TRY(check_port_policy(options.published), "network options");
  if (!options.subnet.empty()) {
    auto subnet = TRY(linux::parse_ipv4_prefix(options.subnet), "network options");
    if (subnet.length > 29 || subnet.length < 8)
      return Error(ErrorKind::invalid, concat("network options: subnet ", options.subnet, ": the prefix length must be 8 to 29"));
  }
  if (options.mtu != 0 && (options.mtu < 68 || options.mtu > 65535))
    return Error(ErrorKind::invalid, concat("network options: mtu ", options.mtu, " is not 68 to 65535"));
  std::unique_ptr<HostNetworkManager> manager(new HostNetworkManager(store, options));
  TRY(manager->load_records(), "reading the records of networks");
  if (options.bind_on_host && !options.published.allowed_interfaces.empty())
    return Error(ErrorKind::unsupported, "network options: published-interfaces: without root nobody sees through which interface a connection came").with_hint("say published-sources instead");
  if (options.bind_on_host) manager->keeps_sources_ = deliver_answers().ok();  // else containers see the bridge's address
  return std::unique_ptr<NetworkManager>(std::move(manager));
}

Status HostNetworkManager::load_records() {
  for (const auto& entry : TRY_PLAIN(store_.list(definition_prefix))) {
    auto network = network_from_text(entry.value, entry.key);
    if (!network) unreadable_[entry.key] = network.error().text();
    else networks_[entry.key.substr(definition_prefix.size())].definition = std::move(*network);
  }
  for (const auto& entry : TRY_PLAIN(store_.list(endpoint_prefix))) {
    auto record = endpoint_from_text(entry.value, entry.key);
    if (!record) {
      unreadable_[entry.key] = record.error().text();
      continue;
    }
    record->key = entry.key;
    const std::string owner = entry.key.substr(endpoint_prefix.size());
    records_[owner.substr(0, owner.find('/'))].push_back(std::move(*record));
  }
  for (auto& [container_id, records] : records_)
    std::stable_sort(records.begin(), records.end(), [](const auto& a, const auto& b) { return a.sequence < b.sequence; });
  return {};
}

Result<Network> definition_around(const EndpointRecord& record) {
  const Endpoint& endpoint = record.endpoint;
  Network network = plain_definition(endpoint.network_name, "bridge");
  network.id = endpoint.network_id;
  network.bridge_interface = concat("br-", network.id.substr(0, 12));
  Subnet subnet;
  subnet.cidr = linux::to_string(TRY_PLAIN(subnet_around(endpoint)));
  subnet.gateway = endpoint.gateway.empty() ? TRY_PLAIN(first_address(subnet.cidr)) : endpoint.gateway;
  network.internal = endpoint.gateway.empty();
  network.subnets.push_back(std::move(subnet));
  if (endpoint.ipv6.empty()) return network;
  linux::Ipv6Prefix prefix{TRY_PLAIN(linux::parse_ipv6(endpoint.ipv6)), endpoint.ipv6_prefix_length};
  prefix.address = {prefix.address.high & prefix.mask().high, prefix.address.low & prefix.mask().low};
  Subnet subnet6;
  subnet6.cidr = linux::to_string(prefix);
  subnet6.gateway = endpoint.ipv6_gateway.empty() ? TRY_PLAIN(first_address(subnet6.cidr)) : endpoint.ipv6_gateway;
  network.ipv6 = true;
  network.subnets.push_back(std::move(subnet6));
  return network;
}

Result<Network> HostNetworkManager::make_bridge_definition() {
  linux::NetlinkSocket socket = TRY_PLAIN(linux::open_rtnetlink());
  Network network = plain_definition("bridge", "bridge");
  const EndpointRecord* in_use = nullptr;
  for (const auto& [container_id, records] : records_)
    for (const auto& record : records)
      if (record.endpoint.network_name == "bridge") in_use = &record;
  if (in_use != nullptr) {
    // The definition was lost while containers run: their endpoints know what it was.
    network = TRY_PLAIN(definition_around(*in_use));
  } else {
    std::vector<linux::Ipv4Prefix> taken;
    for (const auto& [name, other] : networks_) {
      if (name == "bridge") continue;
      auto prefixes = ipv4_subnets(other.definition);
      taken.insert(taken.end(), prefixes.begin(), prefixes.end());
    }
    Subnet pool;
    pool.cidr = options_.subnet.empty() ? linux::to_string(TRY_PLAIN(choose_subnet(socket, options_.bridge_interface, taken, options_.is_free_on_host))) : options_.subnet;
    pool.gateway = TRY_PLAIN(first_address(pool.cidr));
    network.subnets.push_back(std::move(pool));
  }
  network.bridge_interface = options_.bridge_interface;
  network.mtu = TRY_PLAIN(usual_mtu(socket));
  return network;
}

Result<std::uint32_t> HostNetworkManager::usual_mtu(linux::NetlinkSocket& socket) const {
  if (options_.mtu != 0) return options_.mtu;
  return default_mtu(socket);
}

/// The stored definition, or a new one. It is made anew when the options name another subnet or bridge, or when a route
/// of the host has come to touch its subnet, as long as no endpoint uses it.
Result<HostNetworkManager::Known*> HostNetworkManager::default_bridge() {
  auto found = networks_.find("bridge");
  const bool is_known = found != networks_.end();
  if (is_known && (found->second.bridge || has_endpoints(found->second.definition.id))) return &found->second;
  Network fresh = TRY(make_bridge_definition(), "network bridge");
  if (is_known) {
    const Network& before = found->second.definition;
    fresh.id = before.id;
    fresh.created = before.created;
    fresh.labels = before.labels;
    fresh.options = before.options;
    if (options_.subnet.empty() && !before.subnets.empty()) {
      // Keep the subnet of before where it is still free, so that addresses do not wander with every start.
      auto subnet = linux::parse_ipv4_prefix(before.subnets.front().cidr);
      linux::NetlinkSocket socket = TRY_PLAIN(linux::open_rtnetlink());
      if (subnet && TRY_PLAIN(is_subnet_free(socket, *subnet, options_.bridge_interface, options_.is_free_on_host))) fresh.subnets = before.subnets;
    }
  }
  if (!is_known || to_text(fresh) != to_text(found->second.definition)) TRY_PLAIN(save(fresh));
  Known& network = networks_["bridge"];
  network = Known{};
  network.definition = std::move(fresh);
  return &network;
}

Status HostNetworkManager::save(const Network& definition) {
  state::Transaction transaction;
  transaction.put(definition_key(definition.name), to_text(definition));
  TRY(store_.commit(transaction), concat("network ", definition.name, ": recording its definition"));
  return {};
}

Status HostNetworkManager::ensure_predefined() {
  if (options_.enabled) TRY_PLAIN(default_bridge());
  for (const auto& [name, driver] : {std::pair("host", "host"), std::pair("none", "null")}) {
    if (networks_.contains(name)) continue;
    Network network = plain_definition(name, driver);
    TRY_PLAIN(save(network));
    networks_[name].definition = std::move(network);
  }
  return {};
}

bool HostNetworkManager::has_endpoints(const std::string& network_id) const {
  return std::any_of(records_.begin(), records_.end(), [&](const auto& entry) {
    return std::any_of(entry.second.begin(), entry.second.end(), [&](const auto& record) { return record.endpoint.network_id == network_id; });
  });
}

HostNetworkManager::Known* HostNetworkManager::known_by_id(const std::string& id) {
  for (auto& [name, network] : networks_)
    if (network.definition.id == id) return &network;
  return nullptr;
}

Result<HostNetworkManager::Known*> HostNetworkManager::resolve(const std::string& name_or_id) {
  // What every start asks for; the bridge alone may have to be made anew.
  if (name_or_id == "bridge" && options_.enabled) return default_bridge();
  TRY_PLAIN(ensure_predefined());
  std::vector<Known*> matches;
  for (auto& [name, network] : networks_) {
    if (name == "bridge" && !options_.enabled) continue;
    if (network.definition.id == name_or_id || name == name_or_id) return &network;
    if (!name_or_id.empty() && network.definition.id.rfind(name_or_id, 0) == 0) matches.push_back(&network);
  }
  if (matches.size() == 1) return matches.front();
  if (matches.size() > 1) return Error(ErrorKind::invalid, concat("network ", name_or_id, " is ambiguous: it begins ", matches.size(), " ids"));
  return Error(ErrorKind::not_found, concat("network ", name_or_id, " not found"));
}

Result<std::vector<Network>> HostNetworkManager::list() {
  std::lock_guard lock(mutex_);
  TRY_PLAIN(ensure_predefined());
  std::vector<Network> networks;
  for (const auto& [name, network] : networks_)
    if (name != "bridge" || options_.enabled) networks.push_back(network.definition);
  return networks;
}

Result<Network> HostNetworkManager::find(const std::string& name_or_id) {
  std::lock_guard lock(mutex_);
  return TRY_PLAIN(resolve(name_or_id))->definition;
}

Status HostNetworkManager::shut_down() {
  std::lock_guard lock(mutex_);
  if (!records_.empty() || !options_.enabled) return {};
  bool any = false;
  for (auto& [name, network] : networks_) {
    if (network.definition.driver != "bridge") continue;
    any = true;
    // The bridges before the table: none ever forwards without its default-deny.
    TRY_PLAIN(take_down(network));
    forget_host_changes(network.definition);
    TRY_PLAIN(save(network.definition));
  }
  if (!any) return {};
  TRY_PLAIN(remove_table(options_.nft_table));
  table_is_there_ = false;
  return {};
}

}  // namespace caisson::network
