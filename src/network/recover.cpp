// Finding networks and endpoints again after a restart of the daemon.
#include <algorithm>

#include "base/ids.hpp"
#include "base/strings.hpp"
#include "network/definition.hpp"
#include "network/manager.hpp"

namespace caisson::network {

/// Ports that cannot be had again are dropped from the endpoint, and said; the container runs on.
Status HostNetworkManager::reserve_again(const std::string& container_id, EndpointRecord& record, std::vector<std::string>& repairs) {
  std::vector<PortBinding> kept;
  for (const auto& binding : record.endpoint.ports) {
    std::vector<PortBinding> one = {binding};
    Status reserved = reservations_.reserve(container_id, one, !record.endpoint.ipv6.empty());
    if (reserved && is_forwarded(binding)) reserved = forward_port(container_id, record.endpoint, one.front());
    if (reserved && options_.bind_on_host) reserved = relay_port(container_id, record.endpoint, one.front());
    if (reserved && !is_forwarded(binding) && answers_on_loopback(record.endpoint, binding)) {
      Status forwarded = forward_port(container_id, record.endpoint, one.front());
      if (!forwarded) repairs.push_back(concat("container ", container_id.substr(0, 12), ": ", forwarded.error().text(), "; its other addresses are published as before"));
    }
    if (reserved) kept.push_back(binding);
    else repairs.push_back(concat("container ", container_id.substr(0, 12), ": ", reserved.error().text(), "; the port is not published any more"));
  }
  if (kept.size() == record.endpoint.ports.size()) return {};
  record.endpoint.ports = kept;
  state::Transaction transaction;
  transaction.put(record.key, to_text(record));
  TRY(store_.commit(transaction), "recording the endpoint");
  return {};
}

/// Unreadable records would come up again at every start, and forbid their container a new endpoint.
Status HostNetworkManager::forget_unreadable(std::vector<std::string>& repairs) {
  for (const auto& [key, reason] : unreadable_) {
    state::Transaction transaction;
    transaction.erase(key);
    TRY(store_.commit(transaction), concat("removing the unreadable record ", key));
    repairs.push_back(concat("the record ", key, " cannot be read (", reason, ") and was removed"));
  }
  unreadable_.clear();
  return {};
}

Status HostNetworkManager::forget_dead(const std::set<std::string>& live, std::vector<std::string>& repairs) {
  std::vector<std::string> gone;
  for (const auto& [container_id, records] : records_)
    if (!live.contains(container_id)) gone.push_back(container_id);
  for (const auto& container_id : gone) {
    const Records records = records_[container_id];
    TRY(forget(container_id), concat("network of container ", container_id.substr(0, 12)));
    for (const auto& record : records)
      repairs.push_back(concat("removed the network endpoint ", record.endpoint.ipv4, " of container ", container_id.substr(0, 12), ", which does not run"));
  }
  return {};
}

/// A network whose definition was lost while containers hang on it is what its endpoints know of it. The default bridge is made anew by
/// default_bridge(), which knows more.
Status HostNetworkManager::restore_definitions(std::vector<std::string>& repairs) {
  for (const auto& [container_id, records] : records_) {
    for (const auto& record : records) {
      const Endpoint& endpoint = record.endpoint;
      if (endpoint.network_name == "bridge" || known_by_id(endpoint.network_id) != nullptr || record.host_interface.empty()) continue;
      Network definition = TRY(definition_around(record), concat("network ", endpoint.network_name));
      linux::NetlinkSocket socket = TRY_PLAIN(linux::open_rtnetlink());
      definition.mtu = TRY_PLAIN(usual_mtu(socket));
      if (networks_.contains(definition.name)) definition.name += concat("_", definition.id.substr(0, 12));
      TRY_PLAIN(save(definition));
      repairs.push_back(concat("the definition of network ", definition.name, " was lost; it was made anew from an endpoint of container ", container_id.substr(0, 12)));
      networks_[definition.name].definition = std::move(definition);
    }
  }
  return {};
}

/// A container that runs without a readable endpoint record, but whose address lease names it, gets a new record: nobody else may be
/// given its address. Its published ports were known by the lost record alone. False when the lease is nobody's.
Result<bool> HostNetworkManager::adopt(const state::Entry& lease, const std::set<std::string>& live, std::vector<std::string>& repairs) {
  auto container_id = container_of_lease(lease.value, lease.key);
  if (!container_id || !options_.enabled || !live.contains(*container_id)) return false;
  const Halves key = split_last(lease.key, '/');
  const std::string network_id(split_last(key.before, '/').after);
  const Records& others = records_[*container_id];
  const bool is_connected = std::any_of(others.begin(), others.end(), [&](const auto& other) { return other.endpoint.network_id == network_id; });
  Known* network = known_by_id(network_id);
  auto address = linux::parse_ipv4(key.after);
  if (is_connected || network == nullptr || !address || network->definition.driver != "bridge" || ipv4_subnet(network->definition) == nullptr) {
    if (others.empty()) records_.erase(*container_id);
    return false;
  }
  EndpointRecord record;
  Endpoint& endpoint = record.endpoint;
  endpoint.ipv4 = key.after;
  endpoint.endpoint_id = random_id();
  endpoint.network_id = network_id;
  endpoint.network_name = network->definition.name;
  endpoint.interface = free_interface(*container_id);
  endpoint.prefix_length = TRY_PLAIN(linux::parse_ipv4_prefix(ipv4_subnet(network->definition)->cidr)).length;
  if (!network->definition.internal) endpoint.gateway = ipv4_subnet(network->definition)->gateway;
  endpoint.mac = linux::to_string(mac_of(*address));
  record.sequence = others.empty() ? 1 : others.back().sequence + 1;
  record.key = endpoint_key(*container_id, network_id);
  state::Transaction transaction;
  transaction.put(record.key, to_text(record));
  TRY(store_.commit(transaction), "recording the endpoint");
  repairs.push_back(concat("container ", container_id->substr(0, 12), ": its network endpoint was made anew from its address ", endpoint.ipv4,
                           "; ports it had published are not published any more until it starts again"));
  records_[*container_id].push_back(std::move(record));
  network->pool.reset();  // it does not know the address yet
  return true;
}

/// Leases without an endpoint: written by nobody, but a store put back from a backup may have them.
Status HostNetworkManager::settle_leases(const std::set<std::string>& live, std::vector<std::string>& repairs) {
  std::set<std::string> leased;
  for (const auto& [container_id, records] : records_)
    for (const auto& record : records)
      for (const auto& address : {record.endpoint.ipv4, record.endpoint.ipv6}) leased.insert(address_key(record.endpoint.network_id, address));
  for (const auto& entry : TRY(store_.list(address_prefix), "reading address leases")) {
    if (leased.contains(entry.key) || TRY_PLAIN(adopt(entry, live, repairs))) continue;
    state::Transaction transaction;
    transaction.erase(entry.key);
    TRY(store_.commit(transaction), "removing an address lease");
    repairs.push_back(concat("removed the address lease ", entry.key.substr(address_prefix.size()), ", which no endpoint uses"));
  }
  return {};
}

Result<std::vector<std::string>> HostNetworkManager::recover(const std::vector<std::string>& live_container_ids) {
  std::lock_guard lock(mutex_);
  std::vector<std::string> repairs;
  const std::set<std::string> live(live_container_ids.begin(), live_container_ids.end());
  TRY_PLAIN(forget_unreadable(repairs));
  TRY_PLAIN(forget_dead(live, repairs));
  TRY_PLAIN(restore_definitions(repairs));
  if (options_.enabled && !live.empty()) TRY_PLAIN(default_bridge());  // leases may be of its addresses
  TRY_PLAIN(settle_leases(live, repairs));
  if (records_.empty()) return repairs;
  for (auto& [container_id, records] : records_) {
    release_ports(container_id);  // recover() may be called twice
    for (auto& record : records) TRY(reserve_again(container_id, record, repairs), concat("network of container ", container_id.substr(0, 12)));
  }
  if (!options_.enabled) return repairs;
  for (auto& [name, network] : networks_)
    if (network.definition.driver == "bridge" && has_endpoints(network.definition.id)) TRY_PLAIN(ensure_ready(network));
  return repairs;
}

}  // namespace caisson::network
